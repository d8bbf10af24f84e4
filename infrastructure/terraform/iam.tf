# Who may do what: ECS may start the tasks with their own secrets, and MLflow may use its part of the bucket. The proxy's
# tasks have no role at all: a proxy that is taken over has nothing of AWS in hand. So there is no ECS Exec either, which
# would not work with a read-only root anyway.

data "aws_iam_policy_document" "ecs_tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

# Starting the proxy's tasks.

resource "aws_iam_role" "proxy_execution" {
  name               = "${local.proxy_service_name}-execution"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy" "proxy_execution" {
  name   = "start"
  role   = aws_iam_role.proxy_execution.id
  policy = data.aws_iam_policy_document.proxy_execution.json
}

data "aws_iam_policy_document" "proxy_execution" {
  source_policy_documents = [data.aws_iam_policy_document.pull["proxy"].json]

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.proxy.arn}:*"]
  }

  statement {
    sid       = "Parameters"
    actions   = ["ssm:GetParameters"]
    resources = [aws_ssm_parameter.redis_host.arn]
  }

  dynamic "statement" {
    for_each = length(local.proxy_secret_arns) == 0 ? [] : [local.proxy_secret_arns]

    content {
      sid       = "Secrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = statement.value
    }
  }
}

# Starting MLflow's tasks.

resource "aws_iam_role" "mlflow_execution" {
  name               = "${local.mlflow_service_name}-execution"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy" "mlflow_execution" {
  name   = "start"
  role   = aws_iam_role.mlflow_execution.id
  policy = data.aws_iam_policy_document.mlflow_execution.json
}

data "aws_iam_policy_document" "mlflow_execution" {
  source_policy_documents = [data.aws_iam_policy_document.pull["mlflow"].json]

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.mlflow.arn}:*"]
  }

  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = values(local.mlflow_secrets)
  }
}

# What MLflow itself may do.

resource "aws_iam_role" "mlflow_task" {
  name               = "${local.mlflow_service_name}-task"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy" "mlflow_task" {
  name   = "artifacts"
  role   = aws_iam_role.mlflow_task.id
  policy = data.aws_iam_policy_document.mlflow_task.json
}

data "aws_iam_policy_document" "mlflow_task" {
  statement {
    sid = "Objects"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:GetObject",
      "s3:ListMultipartUploadParts",
      "s3:PutObject",
    ]
    resources = ["arn:${local.partition}:s3:::${var.artifact_bucket}/${var.artifact_prefix}/*"]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = ["arn:${local.partition}:s3:::${var.artifact_bucket}"]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = [var.artifact_prefix, "${var.artifact_prefix}/*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.secrets_kms_key_arns) == 0 ? [] : [var.secrets_kms_key_arns]

    content {
      sid       = "Keys"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = statement.value
    }
  }
}

# What both need to start: their own image, and the keys of their secrets.

locals {
  partition         = split(":", var.certificate_arn)[1]
  proxy_secret_arns = [for arn in values(local.proxy_secrets) : arn if startswith(arn, "arn:")]

  # ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG -> the repository's ARN; nothing for an image from elsewhere.
  images = { proxy = var.proxy_image, mlflow = var.mlflow_image }
  repositories = { for name, image in local.images : name => [
    for part in regexall("^([0-9]+)\\.dkr\\.ecr\\.([a-z0-9-]+)\\.[^/]+/([^:@]+)", image) :
    "arn:${local.partition}:ecr:${part[1]}:${part[0]}:repository/${part[2]}"
  ] }
}

data "aws_iam_policy_document" "pull" {
  for_each = local.repositories

  statement {
    sid     = "SignIn"
    actions = ["ecr:GetAuthorizationToken"]
    # It is not about a repository: AWS takes no narrower one.
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = length(each.value) == 0 ? [] : [each.value]

    content {
      sid       = "Pull"
      actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = length(var.secrets_kms_key_arns) == 0 ? [] : [var.secrets_kms_key_arns]

    content {
      sid       = "Keys"
      actions   = ["kms:Decrypt"]
      resources = statement.value
    }
  }
}
