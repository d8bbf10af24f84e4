# In: what `aws ecs describe-services` answers. Out: the deployment configuration to go with an update of the service.
# Arguments: alarms (a list of names), rollback (true or false). All that is not about guards stays as it is.
#
# Forward (rollback true): the circuit breaker and the alarms end a deployment that fails, and ECS goes back by itself.
# Backward (rollback false): ECS always goes back to the last deployment that completed, and that may be the very revision
# we are leaving. So the way back is watched by the circuit breaker alone, and stops where it fails.
(.services[0].deploymentConfiguration // {})
| .deploymentCircuitBreaker = ((.deploymentCircuitBreaker // {}) + {enable: true, rollback: $rollback})
| if ($alarms | length) > 0 or has("alarms")
  then .alarms = {alarmNames: $alarms, enable: ($rollback and ($alarms | length) > 0), rollback: ($rollback and ($alarms | length) > 0)}
  else . end
