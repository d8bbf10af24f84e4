# The proxy's tasks, and the service that keeps them running.

locals {
  cluster_name       = "${var.project}-${var.environment}"
  proxy_service_name = "${var.project}-mlflow-proxy-${var.environment}"

  # A deployment during which one of these goes off is rolled back.
  rollback_alarm_names = ["${local.proxy_service_name}-5xx", "${local.proxy_service_name}-no-healthy-task"]

  # The dimension of its metrics: environments that share an account must not share their series.
  metrics_service = local.proxy_service_name

  # What the proxy must be told to stand where it stands.
  own_environment = {
    API_HOST          = "0.0.0.0"
    API_PORT          = "8001"
    MLFLOW_SERVER_URL = "http://${aws_service_discovery_service.mlflow.name}.${aws_service_discovery_private_dns_namespace.main.name}:5000"
    PUBLIC_HOSTS      = join(",", distinct(concat([var.registry_host], var.other_public_hosts, [var.auth_host])))
    PROXY_WORKERS     = tostring(var.proxy_workers)
    # The load balancer alone appends to X-Forwarded-For.
    TRUSTED_PROXY_HOPS = "1"

    HOKUSAI_AUTH_SERVICE_URL = var.auth_service_url

    ALB_IDLE_TIMEOUT_SECONDS      = tostring(var.alb_idle_timeout)
    ARTIFACT_READ_TIMEOUT_SECONDS = tostring(var.artifact_read_timeout)
    READ_TIMEOUT_SECONDS          = tostring(var.read_timeout)

    REDIS_PORT        = "6379"
    REDIS_TLS_ENABLED = "true"

    METRICS_EMF     = "true"
    METRICS_SERVICE = local.metrics_service
    METRICS_PORT    = tostring(var.metrics_port)
  }

  proxy_environment = merge(var.proxy_environment, local.own_environment)

  # What both containers have, this one's and MLflow's.
  container = {
    essential              = true
    readonlyRootFilesystem = true

    linuxParameters = {
      # As process 1, gunicorn would not hear a SIGTERM that comes before it has its handlers.
      initProcessEnabled = true
      capabilities       = { drop = ["ALL"], add = [] }
    }

    # Two sockets for each of the 10,000 connections that a worker takes (gunicorn.conf.py), and a pool.
    ulimits = [{ name = "nofile", softLimit = 65535, hardLimit = 65535 }]
  }

  log_options = {
    awslogs-region = var.region
    # A CloudWatch that is slow must not stop the proxy: above 25 MB of lines that wait, lines are lost.
    mode            = "non-blocking"
    max-buffer-size = "25m"
  }
}

resource "aws_ecs_cluster" "main" {
  name = local.cluster_name

  # The alarms on running tasks stand on it.
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_task_definition" "proxy" {
  family                   = local.proxy_service_name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.proxy_cpu
  memory                   = var.proxy_memory
  execution_role_arn       = aws_iam_role.proxy_execution.arn

  # A rollback may want the revision before this one.
  skip_destroy = true

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }

  # Nothing is written but gunicorn's heartbeats, into /dev/shm, which every container has as a tmpfs of its own.
  container_definitions = jsonencode([merge(local.container, {
    name  = "mlflow-proxy"
    image = var.proxy_image
    user  = "10001"

    portMappings = [{ name = "http", containerPort = 8001, hostPort = 8001, protocol = "tcp" }]
    environment  = [for name, value in local.proxy_environment : { name = name, value = value }]
    secrets      = [for name, arn in local.proxy_secrets : { name = name, valueFrom = arn }]

    # The longest that Fargate waits between SIGTERM and SIGKILL; gunicorn is done after 110 s.
    stopTimeout = 120

    # As in the Dockerfile, which ECS does not read. It does not ask MLflow.
    healthCheck = {
      command     = ["CMD", "python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['API_PORT'] + '/health', timeout=4)"]
      interval    = 30
      timeout     = 5
      startPeriod = 10
      retries     = 3
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = merge(local.log_options, {
        awslogs-group         = aws_cloudwatch_log_group.proxy.name
        awslogs-stream-prefix = "proxy"
      })
    }
  })])

  lifecycle {
    precondition {
      condition     = length(setintersection(keys(var.proxy_environment), concat(keys(local.own_environment), keys(local.proxy_secrets)))) == 0
      error_message = "proxy_environment must not hold what this module sets, or a secret of the same name: one of the two would be ignored."
    }
  }
}

resource "aws_ecs_service" "proxy" {
  name             = local.proxy_service_name
  cluster          = aws_ecs_cluster.main.id
  task_definition  = aws_ecs_task_definition.proxy.arn
  desired_count    = var.autoscaling_min_tasks
  launch_type      = "FARGATE"
  platform_version = "LATEST"
  propagate_tags   = "SERVICE"

  # The old tasks go when the new ones are healthy.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  availability_zone_rebalancing      = "ENABLED"
  health_check_grace_period_seconds  = 60

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  alarms {
    enable      = true
    rollback    = true
    alarm_names = local.rollback_alarm_names
  }

  network_configuration {
    subnets          = var.private_subnet_ids
    security_groups  = [aws_security_group.proxy.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.proxy.arn
    container_name   = "mlflow-proxy"
    container_port   = 8001
  }

  lifecycle {
    # desired_count belongs to autoscaling. task_definition belongs to the deployment script, which makes revisions with
    # new images: an apply would put the image of terraform.tfvars back. So what is changed in the task definition here
    # becomes a revision at once, and runs when the service is told to take it (README.md).
    ignore_changes = [desired_count, task_definition]
  }

  # ECS refuses a target group that no load balancer knows yet.
  # The rules, or the target group has no load balancer yet; the alarms, for they are named here, not referred to.
  depends_on = [
    aws_lb_listener_rule.api_mlflow,
    aws_cloudwatch_metric_alarm.plain,
    aws_cloudwatch_metric_alarm.math,
  ]
}
