# What is made of what is given: names, the chain of timeouts, the weights of a gradual rollout.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

# The other variables are the example's, as in the other files. These are left out here, which must do as well.
variables {
  redis_auth_secret_arn = ""
  alert_emails          = []
}

run "names_and_all_of_the_weight" {
  command = plan

  variables {
    project     = "proj"
    environment = "env"
  }

  assert {
    condition     = output.mlflow_server_url == "http://mlflow.proj-env.local:5000"
    error_message = "MLflow must be found in the namespace of the environment."
  }

  assert {
    condition     = output.cluster_name == "proj-env" && output.proxy_service_name == "proj-mlflow-proxy-env"
    error_message = "Cluster and service must be named after project and environment."
  }

  assert {
    condition     = output.proxy_task_family == output.proxy_service_name && output.proxy_log_group == "/ecs/proj-mlflow-proxy-env"
    error_message = "Family and log group must be named after the service."
  }

  assert {
    condition     = aws_ecs_service.mlflow.name == "proj-mlflow-env" && aws_ecs_task_definition.mlflow.family == "proj-mlflow-env"
    error_message = "MLflow's service and family must be named after project and environment."
  }

  assert {
    condition     = output.rollback_alarm_names == ["proj-mlflow-proxy-env-5xx", "proj-mlflow-proxy-env-no-healthy-task"]
    error_message = "A deployment must be rolled back on 5xx and when no task is healthy."
  }

  # Their limits: 32 characters for a load balancer and a target group, 40 for a replication group.
  assert {
    condition     = length(aws_lb.main.name) <= 32 && length(aws_lb_target_group.proxy.name) <= 32 && length(aws_elasticache_replication_group.redis.replication_group_id) <= 40
    error_message = "A name is too long."
  }

  assert {
    condition = alltrue([
      for rule in [aws_lb_listener_rule.api_mlflow, aws_lb_listener_rule.native, aws_lb_listener_rule.native_traces, aws_lb_listener_rule.mlflow] :
      { for group in rule.action[0].forward[0].target_group : group.arn => group.weight } == {
        (aws_lb_target_group.proxy.arn) = 100
        (var.api_target_group_arn)      = 0
      }
    ])
    error_message = "All rules for MLflow must share requests out alike: 100 of a hundred to the proxy, the others to the old one."
  }
}

run "the_longest_names_and_none_of_the_weight" {
  command = plan

  variables {
    project      = "hokusai-one"
    environment  = "development"
    proxy_weight = 0
  }

  assert {
    condition     = length(aws_lb.main.name) == 32 && length(aws_lb_target_group.proxy.name) <= 32 && length(aws_elasticache_replication_group.redis.replication_group_id) <= 40
    error_message = "A name is too long."
  }

  assert {
    condition = alltrue([
      for rule in [aws_lb_listener_rule.api_mlflow, aws_lb_listener_rule.native, aws_lb_listener_rule.native_traces, aws_lb_listener_rule.mlflow] :
      { for group in rule.action[0].forward[0].target_group : group.arn => group.weight } == {
        (aws_lb_target_group.proxy.arn) = 0
        (var.api_target_group_arn)      = 100
      }
    ])
    error_message = "All rules for MLflow must share requests out alike: 0 of a hundred to the proxy, the others to the old one."
  }
}

run "the_chain_of_timeouts_and_weight_25" {
  command = plan

  variables {
    alb_idle_timeout      = 400
    artifact_read_timeout = 300
    read_timeout          = 90
    deregistration_delay  = 600
    proxy_weight          = 25
  }

  assert {
    condition     = aws_lb.main.idle_timeout == 400 && aws_lb_target_group.proxy.deregistration_delay == "600"
    error_message = "The load balancer must get its two times."
  }

  assert {
    condition = {
      for variable in jsondecode(aws_ecs_task_definition.proxy.container_definitions)[0].environment : variable.name => variable.value
      if endswith(variable.name, "_TIMEOUT_SECONDS")
      } == {
      ALB_IDLE_TIMEOUT_SECONDS      = "400"
      ARTIFACT_READ_TIMEOUT_SECONDS = "300"
      READ_TIMEOUT_SECONDS          = "90"
    }
    error_message = "The proxy must be told the same times as the load balancer."
  }

  assert {
    condition = alltrue([
      for rule in [aws_lb_listener_rule.api_mlflow, aws_lb_listener_rule.native, aws_lb_listener_rule.native_traces, aws_lb_listener_rule.mlflow] :
      { for group in rule.action[0].forward[0].target_group : group.arn => group.weight } == {
        (aws_lb_target_group.proxy.arn) = 25
        (var.api_target_group_arn)      = 75
      }
    ])
    error_message = "All rules for MLflow must share requests out alike: 25 of a hundred to the proxy, the others to the old one."
  }
}

run "weight_5" {
  command = plan

  variables {
    proxy_weight = 5
  }

  assert {
    condition = alltrue([
      for rule in [aws_lb_listener_rule.api_mlflow, aws_lb_listener_rule.native, aws_lb_listener_rule.native_traces, aws_lb_listener_rule.mlflow] :
      { for group in rule.action[0].forward[0].target_group : group.arn => group.weight } == {
        (aws_lb_target_group.proxy.arn) = 5
        (var.api_target_group_arn)      = 95
      }
    ])
    error_message = "All rules for MLflow must share requests out alike: 5 of a hundred to the proxy, the others to the old one."
  }
}
