# What tasks get when they start, and may not be read in a task definition. The secrets themselves are made by hand: only
# their ARNs are known here.

locals {
  # The address is known only when Redis is there. As a value it would make the whole task definition unknown until then,
  # and no plan could be read; as the name of a parameter it does not.
  proxy_secrets = merge(
    var.proxy_secrets,
    { REDIS_HOST = aws_ssm_parameter.redis_host.name },
    var.redis_auth_secret_arn == "" ? {} : { REDIS_AUTH_TOKEN = var.redis_auth_secret_arn },
  )

  mlflow_secrets = { MLFLOW_BACKEND_STORE_URI = var.database_secret_arn }
}

resource "aws_ssm_parameter" "redis_host" {
  name        = "/${var.project}/${var.environment}/mlflow-proxy/redis-host"
  description = "The address of the proxy's Redis"
  type        = "String"
  value       = aws_elasticache_replication_group.redis.primary_endpoint_address
}
