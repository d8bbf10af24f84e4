# What may not be given. Each variable in expect_failures must be refused by itself, so one run holds several; but not one
# that another's condition speaks of, which would then not be looked at.

mock_provider "aws" {
  source = "./tests/mocks"
}

run "too_little" {
  command = plan

  variables {
    environment          = "a.b"
    public_subnet_ids    = ["subnet-1", "subnet-1"]
    private_subnet_ids   = ["subnet-3"]
    proxy_weight         = -1
    alb_idle_timeout     = 0
    deregistration_delay = -1
    proxy_workers        = 0
    mlflow_tasks         = 0
    mlflow_disk          = 20
    artifact_bucket      = ""
    artifact_prefix      = ""
  }

  expect_failures = [
    var.environment,
    var.public_subnet_ids,
    var.private_subnet_ids,
    var.proxy_weight,
    var.alb_idle_timeout,
    var.deregistration_delay,
    var.proxy_workers,
    var.mlflow_tasks,
    var.mlflow_disk,
    var.artifact_bucket,
    var.artifact_prefix,
  ]
}

run "too_much" {
  command = plan

  variables {
    environment          = "sixteen-letters-"
    proxy_weight         = 101
    alb_idle_timeout     = 4001
    deregistration_delay = 3601
    mlflow_disk          = 201
  }

  expect_failures = [
    var.environment,
    var.proxy_weight,
    var.alb_idle_timeout,
    var.deregistration_delay,
    var.mlflow_disk,
  ]
}

run "of_the_wrong_form" {
  command = plan

  variables {
    project               = "Hokusai"
    proxy_weight          = 5.5
    proxy_workers         = 1.5
    mlflow_tasks          = 1.5
    certificate_arn       = "arn:aws:iam::x:server-certificate/y"
    api_target_group_arn  = "hokusai-api"
    auth_target_group_arn = "hokusai-auth"
    # A rollback could not tell one latest from the other.
    proxy_image         = "registry.example.org/mlflow-proxy:latest"
    mlflow_image        = "registry.example.org/mlflow"
    artifact_bucket     = "s3://artifacts"
    artifact_prefix     = "mlflow/"
    auth_service_url    = "http://auth.hokus.ai"
    proxy_environment   = { MLFLOW_UPSTREAM_AUTHORIZATION = "x" }
    proxy_secrets       = { MLFLOW_UPSTREAM_AUTHORIZATION = "x" }
    database_secret_arn = "arn:aws:secretsmanager:us-east-1:${format("%012d", 0)}:secret:database:url::"
    # A password in the place of its secret's name.
    redis_auth_secret_arn = "x"
    # When the MLflow client gives up.
    read_timeout = 120
  }

  expect_failures = [
    var.project,
    var.proxy_weight,
    var.proxy_workers,
    var.mlflow_tasks,
    var.certificate_arn,
    var.api_target_group_arn,
    var.auth_target_group_arn,
    var.proxy_image,
    var.mlflow_image,
    var.artifact_bucket,
    var.artifact_prefix,
    var.auth_service_url,
    var.proxy_environment,
    var.proxy_secrets,
    var.database_secret_arn,
    var.redis_auth_secret_arn,
    var.read_timeout,
  ]
}

# Names of load balancers end at 32 characters; and this one would answer before the proxy.
run "more_than_the_load_balancer_takes" {
  command = plan

  variables {
    project     = "hokusai-two"
    environment = "development2"

    alb_idle_timeout      = 900
    artifact_read_timeout = 900
  }

  expect_failures = [var.environment, var.alb_idle_timeout]
}

run "a_transfer_that_waits_no_longer_than_a_call" {
  command = plan

  variables {
    read_timeout          = 100
    artifact_read_timeout = 100
  }

  expect_failures = [var.artifact_read_timeout]
}

# One of the two would be ignored, and nobody told.
run "a_variable_of_the_proxy_that_the_module_sets" {
  command = plan

  variables {
    proxy_environment = { READ_TIMEOUT_SECONDS = "60" }
  }

  expect_failures = [aws_ecs_task_definition.proxy]
}
