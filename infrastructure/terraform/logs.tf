# Where both services write, and where alarms go.

resource "aws_cloudwatch_log_group" "proxy" {
  # Class STANDARD, the default: the cheaper one finds no fields in JSON by itself, and no metrics.
  name              = "/ecs/${local.proxy_service_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn == "" ? null : var.kms_key_arn
}

resource "aws_cloudwatch_log_group" "mlflow" {
  name              = "/ecs/${local.mlflow_service_name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn == "" ? null : var.kms_key_arn
}

resource "aws_sns_topic" "alerts" {
  name = "${var.project}-mlflow-proxy-alerts-${var.environment}"
  # Not alias/aws/sns: CloudWatch may not use that key, and no alarm would arrive.
  kms_master_key_id = var.kms_key_arn == "" ? null : var.kms_key_arn
}

resource "aws_sns_topic_subscription" "email" {
  for_each = toset(var.alert_emails)

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = each.value
}
