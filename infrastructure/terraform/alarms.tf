# Who is told when. One row for each alarm: in local.alarms those on one metric, in local.math_alarms those on several.
# Each is a sentence and a section of docs/runbook.md of the same name. What has page = true cannot wait: the alarm
# "page" at the end is on while one of them is.
#
# A metric exists only with the dimensions it is published with: an alarm with one too many never goes off. An ALB and
# our own metrics are silent where nothing happens, so silence is good there (notBreaching) and bad where something must
# be heard (breaching).
#
# points = [2, 3]: two of three periods. In a sum and in a comparison, a metric without a value counts as 0.

locals {
  load_balancer      = aws_lb.main.arn_suffix
  proxy_target_group = aws_lb_target_group.proxy.arn_suffix

  # Published by the proxy in its access lines (METRICS_EMF), and by the filters of queries.tf from the same lines.
  emf_namespace  = "Hokusai/MLflowProxy"
  line_namespace = "Hokusai/MLflowProxy/${var.environment}"

  on_load_balancer = { LoadBalancer = local.load_balancer }
  on_target_group  = { LoadBalancer = local.load_balancer, TargetGroup = local.proxy_target_group }
  on_proxy         = { ClusterName = local.cluster_name, ServiceName = local.proxy_service_name }
  on_mlflow        = { ClusterName = local.cluster_name, ServiceName = local.mlflow_service_name }
  # A value for each task, so that a maximum is that of the busiest one. The family is called like the service.
  on_each_task = { ClusterName = local.cluster_name, TaskDefinitionFamily = local.proxy_service_name }
  on_emf       = { service = local.metrics_service }
  on_checks    = { service = local.metrics_service, family = "health" }
  on_log_group = { LogGroupName = aws_cloudwatch_log_group.proxy.name }

  # The calls that clients make all the time, none of which moves a file. Five: an alarm takes ten metrics.
  common_families = ["tracking.runs", "tracking.experiments", "tracking.metrics", "registry.models", "registry.versions"]

  alarms = {
    no-healthy-task = {
      says       = "No task of the proxy passes the load balancer's health check, so nobody reaches MLflow."
      page       = true
      namespace  = "AWS/ApplicationELB"
      metric     = "HealthyHostCount"
      dimensions = local.on_target_group
      stat       = "Minimum"
      period     = 60
      is         = "LessThanThreshold"
      threshold  = 1
      points     = [2, 2]
      silence    = "breaching"
    }

    unhealthy-task = {
      says       = "A task of the proxy has failed the load balancer's health check for five minutes and was not replaced."
      page       = false
      namespace  = "AWS/ApplicationELB"
      metric     = "UnHealthyHostCount"
      dimensions = local.on_target_group
      stat       = "Maximum"
      period     = 60
      is         = "GreaterThanOrEqualToThreshold"
      threshold  = 1
      points     = [5, 5]
      silence    = "notBreaching"
    }

    connection-errors = {
      says       = "The load balancer cannot connect to a task that it believes healthy."
      page       = false
      namespace  = "AWS/ApplicationELB"
      metric     = "TargetConnectionErrorCount"
      dimensions = local.on_target_group
      stat       = "Sum"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 0
      points     = [2, 3]
      silence    = "notBreaching"
    }

    # Scanners send some all the time; a flood of them is somebody at work on the edge.
    desync = {
      says       = "Many requests break HTTP's rules in ways that are used to smuggle others past a proxy."
      page       = false
      namespace  = "AWS/ApplicationELB"
      metric     = "DesyncMitigationMode_NonCompliant_Request_Count"
      dimensions = local.on_load_balancer
      stat       = "Sum"
      period     = 300
      is         = "GreaterThanThreshold"
      threshold  = 100
      points     = [2, 3]
      silence    = "notBreaching"
    }

    mlflow-unreachable = {
      says       = "The proxy finds no connection to MLflow."
      page       = true
      namespace  = local.emf_namespace
      metric     = "UpstreamUnreachable"
      dimensions = local.on_emf
      stat       = "Sum"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 0
      points     = [3, 5]
      silence    = "notBreaching"
    }

    auth-unavailable = {
      says       = "The auth service does not answer, so only keys that were seen lately are let in."
      page       = false
      namespace  = local.emf_namespace
      metric     = "AuthUnavailable"
      dimensions = local.on_emf
      stat       = "Sum"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 0
      points     = [3, 5]
      silence    = "notBreaching"
    }

    auth-denied = {
      says       = "Far more requests than usual come with a key that is refused."
      page       = false
      namespace  = local.emf_namespace
      metric     = "AuthDenied"
      dimensions = local.on_emf
      stat       = "Sum"
      period     = 300
      is         = "GreaterThanThreshold"
      threshold  = var.alarm_auth_denied
      points     = [1, 1]
      silence    = "notBreaching"
    }

    cpu = {
      says       = "The proxy's tasks have used more than 80 % of their processors for five minutes, and scaling has not helped."
      page       = false
      namespace  = "AWS/ECS"
      metric     = "CPUUtilization"
      dimensions = local.on_proxy
      stat       = "Average"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 80
      points     = [5, 5]
      silence    = "missing"
    }

    memory = {
      says       = "The proxy's tasks have used more than 80 % of their memory for five minutes, though bodies are never held."
      page       = false
      namespace  = "AWS/ECS"
      metric     = "MemoryUtilization"
      dimensions = local.on_proxy
      stat       = "Average"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 80
      points     = [5, 5]
      silence    = "missing"
    }

    mlflow-cpu = {
      says       = "MLflow has used more than 80 % of its processors for five minutes."
      page       = false
      namespace  = "AWS/ECS"
      metric     = "CPUUtilization"
      dimensions = local.on_mlflow
      stat       = "Average"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 80
      points     = [5, 5]
      silence    = "missing"
    }

    mlflow-memory = {
      says       = "MLflow has used more than 80 % of its memory for five minutes and is killed when there is none left."
      page       = false
      namespace  = "AWS/ECS"
      metric     = "MemoryUtilization"
      dimensions = local.on_mlflow
      stat       = "Average"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 80
      points     = [5, 5]
      silence    = "missing"
    }

    tasks-missing = {
      says       = "Fewer tasks of the proxy run than the least there should be."
      page       = false
      namespace  = "ECS/ContainerInsights"
      metric     = "RunningTaskCount"
      dimensions = local.on_proxy
      stat       = "Minimum"
      period     = 60
      is         = "LessThanThreshold"
      threshold  = var.autoscaling_min_tasks
      points     = [3, 5]
      silence    = "breaching"
    }

    scaling-ceiling = {
      says       = "As many tasks of the proxy run as there may be, so more load makes everything slower."
      page       = false
      namespace  = "ECS/ContainerInsights"
      metric     = "RunningTaskCount"
      dimensions = local.on_proxy
      stat       = "Maximum"
      period     = 60
      is         = "GreaterThanOrEqualToThreshold"
      threshold  = var.autoscaling_max_tasks
      points     = [15, 15]
      silence    = "notBreaching"
    }

    # The load balancer's health checks leave a line each: a proxy that runs is never silent.
    logs-stopped = {
      says       = "The proxy has logged nothing for ten minutes, though health checks alone leave lines."
      page       = false
      namespace  = "AWS/Logs"
      metric     = "IncomingLogEvents"
      dimensions = local.on_log_group
      stat       = "Sum"
      period     = 60
      is         = "LessThanThreshold"
      threshold  = 1
      points     = [10, 10]
      silence    = "breaching"
    }

    # Each worker says it once, when it notices; so once is enough, and "OK" a minute later says nothing.
    redis-away = {
      says       = "A worker has lost Redis and counts rate limits by itself."
      page       = false
      namespace  = local.line_namespace
      metric     = "RateLimitStorageDown"
      dimensions = {}
      stat       = "Sum"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 0
      points     = [1, 1]
      silence    = "notBreaching"
    }

    bug = {
      says       = "The proxy met an error that it does not know, and answered 500."
      page       = false
      namespace  = local.line_namespace
      metric     = "UnhandledExceptions"
      dimensions = {}
      stat       = "Sum"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 0
      points     = [1, 1]
      silence    = "notBreaching"
    }

    # Published twice a day, and no more once the certificate has ended. AWS renews its own 60 days before: with less
    # than 30 left, that has failed.
    certificate = {
      says       = "The load balancer's certificate ends in less than 30 days, or has ended."
      page       = false
      namespace  = "AWS/CertificateManager"
      metric     = "DaysToExpiry"
      dimensions = { CertificateArn = var.certificate_arn }
      stat       = "Minimum"
      period     = 86400
      is         = "LessThanThreshold"
      threshold  = 30
      points     = [1, 1]
      silence    = "breaching"
    }
  }

  math_alarms = {
    "5xx" = {
      says       = "More than ${var.alarm_5xx_percent} of a hundred answers of the proxy are 5xx."
      page       = true
      expression = "IF(requests > ${var.alarm_minimum_requests}, 100 * FILL(errors, 0) / requests, 0)"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = var.alarm_5xx_percent
      points     = [3, 5]
      silence    = "notBreaching"
      metrics = {
        requests = ["AWS/ApplicationELB", "RequestCount", "Sum", local.on_target_group]
        errors   = ["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "Sum", local.on_target_group]
      }
    }

    # Of all services behind this load balancer: it does not say which one's requests they were.
    alb-5xx = {
      says       = "The load balancer itself answers 502, 503 or 504: a task broke off, there is none, or it is too slow."
      page       = true
      expression = "bad_gateway + no_target + too_slow"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 5
      points     = [2, 3]
      silence    = "notBreaching"
      metrics = {
        bad_gateway = ["AWS/ApplicationELB", "HTTPCode_ELB_502_Count", "Sum", local.on_load_balancer]
        no_target   = ["AWS/ApplicationELB", "HTTPCode_ELB_503_Count", "Sum", local.on_load_balancer]
        too_slow    = ["AWS/ApplicationELB", "HTTPCode_ELB_504_Count", "Sum", local.on_load_balancer]
      }
    }

    slow = {
      says = "One of the common families of calls takes more than ${var.alarm_slow_ms} ms for one call in twenty."
      page = false
      # Counts the families that are slow. Not MAX: an alarm asks for more periods than it judges.
      expression = join(" + ", [
        for at, family in local.common_families :
        "IF(n${at} > ${var.alarm_minimum_requests} AND p${at} > ${var.alarm_slow_ms}, 1, 0)"
      ])
      period    = 60
      is        = "GreaterThanThreshold"
      threshold = 0
      points    = [5, 5]
      silence   = "notBreaching"
      metrics = merge(
        { for at, family in local.common_families :
        "n${at}" => [local.emf_namespace, "Requests", "Sum", { service = local.metrics_service, family = family }] },
        { for at, family in local.common_families :
        "p${at}" => [local.emf_namespace, "LatencyMs", "p95", { service = local.metrics_service, family = family }] },
      )
    }

    # Health checks tell of transfers while none of them ends.
    transfers = {
      says       = "A worker has nearly as many artifact transfers under way as it takes, and soon answers 503 to more."
      page       = false
      expression = "IF(at_ends > ${var.alarm_transfers_in_flight} OR at_checks > ${var.alarm_transfers_in_flight}, 1, 0)"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 0
      points     = [5, 5]
      silence    = "missing"
      metrics = {
        at_ends   = [local.emf_namespace, "TransfersInFlight", "Maximum", local.on_emf]
        at_checks = [local.emf_namespace, "TransfersInFlight", "Maximum", local.on_checks]
      }
    }

    # The one limit that no scaling policy sees: a task whose network is full has little to calculate.
    network = {
      says       = "A task of the proxy moves about as many bytes as its network can, so transfers go slower."
      page       = false
      expression = "IF(received > ${var.alarm_network_bytes} OR sent > ${var.alarm_network_bytes}, 1, 0)"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 0
      points     = [10, 10]
      silence    = "missing"
      metrics = {
        received = ["ECS/ContainerInsights", "NetworkRxBytes", "Maximum", local.on_each_task]
        sent     = ["ECS/ContainerInsights", "NetworkTxBytes", "Maximum", local.on_each_task]
      }
    }

    metrics-broken = {
      says       = "CloudWatch cannot read the metrics in the proxy's lines, so alarms that stand on them are blind."
      page       = false
      expression = "invalid + unreadable"
      period     = 60
      is         = "GreaterThanThreshold"
      threshold  = 0
      points     = [1, 1]
      silence    = "notBreaching"
      metrics = {
        invalid    = ["AWS/Logs", "EMFValidationErrors", "Sum", local.on_log_group]
        unreadable = ["AWS/Logs", "EMFParsingErrors", "Sum", local.on_log_group]
      }
    }

    # Lines are counted twice, by EMF and by a filter; EMF may count one twice. It has health checks apart from the rest:
    # they alone are more than 20 lines in five minutes, so this looks where nobody works, too.
    metrics-missing = {
      says       = "The proxy's lines tell of twice as many requests or failures as its metrics, so alarms that stand on them are blind."
      page       = false
      expression = "IF((lines > 20 AND requests + checks < lines / 2) OR (failed_lines > 5 AND failures < failed_lines / 2), 1, 0)"
      period     = 300
      is         = "GreaterThanThreshold"
      threshold  = 0
      points     = [2, 3]
      silence    = "notBreaching"
      metrics = {
        lines        = [local.line_namespace, "Lines", "Sum", {}]
        failed_lines = [local.line_namespace, "FailedLines", "Sum", {}]
        requests     = [local.emf_namespace, "Requests", "Sum", local.on_emf]
        checks       = [local.emf_namespace, "Requests", "Sum", local.on_checks]
        failures     = [local.emf_namespace, "Failures", "Sum", local.on_emf]
      }
    }
  }

  # What cannot wait, by name. In the same order each time.
  page_worthy = sort(concat(
    [for what, row in local.alarms : aws_cloudwatch_metric_alarm.plain[what].alarm_name if row.page],
    [for what, row in local.math_alarms : aws_cloudwatch_metric_alarm.math[what].alarm_name if row.page],
  ))
}

resource "aws_cloudwatch_metric_alarm" "plain" {
  for_each = local.alarms

  alarm_name          = "${local.proxy_service_name}-${each.key}"
  alarm_description   = "${each.value.says} What to do: docs/runbook.md#${each.key}"
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.stat
  period              = each.value.period
  comparison_operator = each.value.is
  threshold           = each.value.threshold
  datapoints_to_alarm = each.value.points[0]
  evaluation_periods  = each.value.points[1]
  treat_missing_data  = each.value.silence
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]

  # The composite alarm must have let go of it first: AWS deletes none that another one stands on.
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudwatch_metric_alarm" "math" {
  for_each = local.math_alarms

  alarm_name          = "${local.proxy_service_name}-${each.key}"
  alarm_description   = "${each.value.says} What to do: docs/runbook.md#${each.key}"
  comparison_operator = each.value.is
  threshold           = each.value.threshold
  datapoints_to_alarm = each.value.points[0]
  evaluation_periods  = each.value.points[1]
  treat_missing_data  = each.value.silence
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]

  metric_query {
    id          = "result"
    expression  = each.value.expression
    label       = each.key
    return_data = true
  }

  dynamic "metric_query" {
    for_each = each.value.metrics

    content {
      id = metric_query.key

      metric {
        namespace   = metric_query.value[0]
        metric_name = metric_query.value[1]
        stat        = metric_query.value[2]
        dimensions  = metric_query.value[3]
        period      = each.value.period
      }
    }
  }

  # The composite alarm must have let go of it first: AWS deletes none that another one stands on.
  lifecycle {
    create_before_destroy = true
  }
}

# One alarm for one night's sleep: it says once that something cannot wait, however many of them go off.
resource "aws_cloudwatch_composite_alarm" "page" {
  alarm_name        = "${local.proxy_service_name}-page"
  alarm_description = "Users are turned away right now, and one of the alarms below this one says how. What to do: docs/runbook.md#page"
  alarm_rule        = join(" OR ", [for name in local.page_worthy : "ALARM(\"${name}\")"])
  alarm_actions     = concat([aws_sns_topic.alerts.arn], compact([var.pager_topic_arn]))
  ok_actions        = concat([aws_sns_topic.alerts.arn], compact([var.pager_topic_arn]))
}
