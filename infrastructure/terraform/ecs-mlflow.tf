# MLflow's tasks, and the service that keeps them running and enters their addresses into DNS.

locals {
  mlflow_service_name = "${var.project}-mlflow-${var.environment}"
  mlflow_host         = "${aws_service_discovery_service.mlflow.name}.${aws_service_discovery_private_dns_namespace.main.name}"

  # ECS does not wait for DNS before it stops a task: for the ten seconds of the TTL, and what the resolvers add, the proxy
  # still comes to this address. So it goes on serving for so long after SIGTERM, and ends then.
  mlflow_script = <<-EOT
    trap 'sleep 15; kill -TERM "$server"' TERM
    mlflow server "$@" &
    server=$!
    while kill -0 "$server" 2>/dev/null; do wait "$server"; status=$?; done
    exit "$status"
  EOT
}

resource "aws_ecs_task_definition" "mlflow" {
  family                   = local.mlflow_service_name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.mlflow_cpu
  memory                   = var.mlflow_memory
  execution_role_arn       = aws_iam_role.mlflow_execution.arn
  task_role_arn            = aws_iam_role.mlflow_task.arn
  skip_destroy             = true

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }

  ephemeral_storage {
    size_in_gib = var.mlflow_disk
  }

  # The task's own disk.
  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([merge(local.container, {
    name       = "mlflow"
    image      = var.mlflow_image
    entryPoint = ["sh", "-c", local.mlflow_script, "mlflow"]

    command = [
      "--host=0.0.0.0",
      "--port=5000",
      "--workers=${var.mlflow_workers}",
      "--serve-artifacts",
      "--artifacts-destination=s3://${var.artifact_bucket}/${var.artifact_prefix}",
      # Never s3://: clients would be told to go to S3 themselves, past the proxy, with credentials they do not have.
      "--default-artifact-root=mlflow-artifacts:/",
      # The Host headers that the proxy sends; any other is answered 403.
      "--allowed-hosts=${local.mlflow_host},${local.mlflow_host}:5000",
    ]

    environment = [
      { name = "HOME", value = "/tmp" },
      { name = "MLFLOW_DISABLE_TELEMETRY", value = "true" },
    ]
    secrets = [for name, arn in local.mlflow_secrets : { name = name, valueFrom = arn }]

    # Artifacts lie in /tmp on their way to S3.
    mountPoints  = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    portMappings = [{ name = "http", containerPort = 5000, hostPort = 5000, protocol = "tcp" }]
    stopTimeout  = 120

    healthCheck = {
      command     = ["CMD", "python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=9)"]
      interval    = 30
      timeout     = 10
      startPeriod = 120
      retries     = 3
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = merge(local.log_options, {
        awslogs-group         = aws_cloudwatch_log_group.mlflow.name
        awslogs-stream-prefix = "mlflow"
      })
    }
  })])
}

resource "aws_ecs_service" "mlflow" {
  name             = local.mlflow_service_name
  cluster          = aws_ecs_cluster.main.id
  task_definition  = aws_ecs_task_definition.mlflow.arn
  desired_count    = var.mlflow_tasks
  launch_type      = "FARGATE"
  platform_version = "LATEST"
  propagate_tags   = "SERVICE"

  # Never none: without an address the name does not exist, and resolvers remember that for minutes.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  availability_zone_rebalancing      = "ENABLED"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.private_subnet_ids
    security_groups  = [aws_security_group.mlflow.id]
    assign_public_ip = false
  }

  # What the ancestor forgot: without it the name never had an address.
  service_registries {
    registry_arn = aws_service_discovery_service.mlflow.arn
  }

  lifecycle {
    # Somebody may have added a task in an hour of need. The image is Terraform's: no script deploys MLflow.
    ignore_changes = [desired_count]
  }
}
