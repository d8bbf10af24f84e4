# What scripts, docs and other repositories ask for. No output holds a secret.

output "alb_dns_name" {
  description = "The load balancer's name, for the DNS records of registry_host and auth_host."
  value       = aws_lb.main.dns_name
}

output "alb_arn" {
  description = "The load balancer."
  value       = aws_lb.main.arn
}

output "https_listener_arn" {
  description = "The listener whose rules scripts/check_live_rules.py compares."
  value       = aws_lb_listener.https.arn
}

output "cluster_name" {
  description = "The ECS cluster."
  value       = aws_ecs_cluster.main.name
}

output "proxy_service_name" {
  description = "The proxy's ECS service."
  value       = aws_ecs_service.proxy.name
}

output "proxy_task_family" {
  description = "The family of the proxy's task definitions."
  value       = aws_ecs_task_definition.proxy.family
}

output "proxy_task_definition" {
  description = "The revision that was made here last. The service may run another one: the deployment script makes its own."
  value       = aws_ecs_task_definition.proxy.arn
}

output "proxy_target_group_arn" {
  description = "The proxy's target group."
  value       = aws_lb_target_group.proxy.arn
}

output "proxy_log_group" {
  description = "Where the proxy logs."
  value       = aws_cloudwatch_log_group.proxy.name
}

output "tracking_uri" {
  description = "What users set as MLFLOW_TRACKING_URI."
  value       = "https://${var.registry_host}/api/mlflow"
}

output "mlflow_server_url" {
  description = "Where the proxy finds MLflow, inside the VPC."
  value       = local.own_environment.MLFLOW_SERVER_URL
}

output "alb_security_group_id" {
  description = "Whom the API and auth services must admit."
  value       = aws_security_group.alb.id
}

output "mlflow_security_group_id" {
  description = "Whom MLflow's database must admit."
  value       = aws_security_group.mlflow.id
}

output "redis_replication_group_id" {
  description = "Redis, to set its password by hand (README.md)."
  value       = aws_elasticache_replication_group.redis.replication_group_id
}

output "rollback_alarm_names" {
  description = "The alarms that roll a deployment of the proxy back."
  value       = local.rollback_alarm_names
}
