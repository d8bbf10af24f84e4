# How the proxy finds MLflow: mlflow.PROJECT-ENVIRONMENT.local, inside the VPC alone.

resource "aws_service_discovery_private_dns_namespace" "main" {
  name        = "${var.project}-${var.environment}.local"
  description = "Services of ${var.project} ${var.environment}, for each other."
  vpc         = var.vpc_id
}

# Attached to MLflow's tasks by service_registries in ecs-mlflow.tf; without that the name has no address.
resource "aws_service_discovery_service" "mlflow" {
  name        = "mlflow"
  description = "MLflow's tasks, one address each."

  dns_config {
    namespace_id   = aws_service_discovery_private_dns_namespace.main.id
    routing_policy = "MULTIVALUE"

    dns_records {
      type = "A"
      # How long the proxy may go to an address that has left: ECS does not wait for it before it stops a task.
      ttl = 10
    }
  }

  # ECS says which tasks are healthy.
  health_check_custom_config {
    failure_threshold = 1
  }
}
