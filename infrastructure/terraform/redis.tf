# In which all tasks of the proxy count requests together. It holds counters that die by themselves, with ids of keys and
# addresses, never a key. Without it each worker counts for itself; nothing fails.
#
# Its password is not set here: auth_token would stand in the state, readable for all who may plan. Nor as a user of RBAC,
# whose passwords would stand there as well; and the proxy cannot sign in by IAM. The password lies in Secrets Manager,
# where the proxy's tasks get it from, and is set at Redis once, by hand, after the first apply (README.md). Terraform does
# not read it back, so it sees no difference. Until then the proxy's AUTH is refused and limits hold for each worker alone.

resource "aws_elasticache_subnet_group" "redis" {
  name       = "${var.project}-mlflow-redis-${var.environment}"
  subnet_ids = var.private_subnet_ids
}

resource "aws_elasticache_replication_group" "redis" {
  replication_group_id = "${var.project}-mlproxy-${var.environment}"
  description          = "Rate limits of the MLflow proxy"
  engine               = "redis"
  engine_version       = "7.1"
  node_type            = var.redis_node_type
  port                 = 6379

  num_cache_clusters         = 2
  automatic_failover_enabled = true
  multi_az_enabled           = true
  subnet_group_name          = aws_elasticache_subnet_group.redis.name
  security_group_ids         = [aws_security_group.redis.id]

  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  at_rest_encryption_enabled = true
  kms_key_id                 = var.kms_key_arn == "" ? null : var.kms_key_arn
  auto_minor_version_upgrade = true
  # Counters of the last two hours are not worth a backup.
  snapshot_retention_limit = 0
}
