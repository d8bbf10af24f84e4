# In: what `aws ecs describe-task-definition --include TAGS` answers. Out: what `aws ecs register-task-definition` takes
# for a revision that differs in the image of one container, and in nothing else. Arguments: container, image.
# What is deleted are the fields that the answer has and the request has not (the API's model, checked by a test).
# Tags that begin with aws: are AWS's own, and refused.
((.tags // []) | map(select(.key | startswith("aws:") | not))) as $tags
| .taskDefinition
| del(.taskDefinitionArn, .revision, .status, .requiresAttributes, .compatibilities)
| del(.registeredAt, .registeredBy, .deregisteredAt, .deleteRequestedAt)
| .containerDefinitions |= map(if .name == $container then .image = $image else . end)
| if $tags == [] then . else .tags = $tags end
