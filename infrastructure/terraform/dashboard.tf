# What an engineer on call reads, from the top: is it up, who suffers, whose fault is it, then what surrounds it.
#
# local.rows is the page. A row has a heading and widgets of one width beside each other; where each stands is computed
# at the end. What is the same for all widgets of a type is in local.widget_defaults.

locals {
  # A metric in a widget is a list: namespace, name, dimensions, options. These are the dimensions of alarms.tf as lists.
  of = {
    for what, dimensions in {
      load_balancer = local.on_load_balancer
      target_group  = local.on_target_group
      proxy         = local.on_proxy
      mlflow        = local.on_mlflow
      each_task     = local.on_each_task
      emf           = local.on_emf
      checks        = local.on_checks
      log_group     = local.on_log_group
    } : what => flatten([for name, value in dimensions : [name, value]])
  }

  # Each family that has been asked for, as it comes.
  by_family = "{\"${local.emf_namespace}\",service,family} service=\"${local.metrics_service}\""
  # Health checks would hide the others in every percentile. Nor does a transfer last as long as the server is slow: it
  # lasts as long as the file is large.
  no_checks    = "NOT family=\"health\""
  no_transfers = "NOT family=artifacts"

  # The nodes of a replication group have its name and a number; the primary may be any of them.
  redis_nodes = [
    for node in range(1, aws_elasticache_replication_group.redis.num_cache_clusters + 1) :
    format("%s-%03d", aws_elasticache_replication_group.redis.replication_group_id, node)
  ]

  recent_failures = <<-QL
    filter event = "proxy_request" and (status >= 500 or outcome = "upstream_aborted")
    | fields @timestamp, status, outcome, error_kind, family, action, user_id, duration_ms, upstream_ms, request_id
    | sort @timestamp desc
    | limit 50
  QL

  who_suffers = <<-QL
    filter event = "proxy_request" and (status >= 500 or outcome = "upstream_aborted")
    | stats count(*) as failures, latest(@timestamp) as last by user_id, family, outcome
    | sort failures desc
    | limit 20
  QL

  complaints = <<-QL
    filter event != "proxy_request" and level in ["WARNING", "ERROR", "CRITICAL"]
    | fields @timestamp, level, event, @message
    | sort @timestamp desc
    | limit 50
  QL

  widget_defaults = {
    metric = { region = var.region, view = "timeSeries", period = 60, stacked = false, yAxis = { left = { min = 0 } } }
    log    = { region = var.region, view = "table" }
    alarm  = { sortBy = "stateUpdatedTimestamp" }
  }

  rows = [
    {
      heading = "# Is it up?\nEach alarm is a section of docs/runbook.md. If `page` is on, users are turned away now."
      height  = 6
      widgets = [
        {
          type = "alarm"
          properties = {
            title = "Alarms"
            alarms = concat(
              [aws_cloudwatch_composite_alarm.page.arn],
              [for what in keys(local.math_alarms) : aws_cloudwatch_metric_alarm.math[what].arn],
              [for what in keys(local.alarms) : aws_cloudwatch_metric_alarm.plain[what].arn],
            )
          }
        },
        {
          type = "metric"
          properties = {
            title = "Tasks that pass the health check"
            metrics = [
              concat(["AWS/ApplicationELB", "HealthyHostCount"], local.of.target_group, [{ stat = "Minimum", label = "healthy" }]),
              concat(["AWS/ApplicationELB", "UnHealthyHostCount"], local.of.target_group, [{ stat = "Maximum", label = "unhealthy" }]),
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Answers that are no 5xx, %"
            yAxis = { left = { max = 100 } }
            metrics = [
              [{ expression = "100 - 100 * FILL(errors, 0) / requests", label = "good", id = "good" }],
              concat(["AWS/ApplicationELB", "RequestCount"], local.of.target_group, [{ stat = "Sum", id = "requests", visible = false }]),
              concat(["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count"], local.of.target_group, [{ stat = "Sum", id = "errors", visible = false }]),
            ]
            annotations = { horizontal = [{ label = "alarm", value = 100 - var.alarm_5xx_percent }] }
          }
        },
      ]
    },

    {
      heading = "# Who suffers?"
      height  = 6
      widgets = [
        {
          type = "metric"
          properties = {
            title   = "Failures by family"
            metrics = [[{ expression = "SEARCH('${local.by_family} MetricName=\"Failures\" ${local.no_checks}', 'Sum', 60)", id = "failures", label = "" }]]
          }
        },
        {
          type = "metric"
          properties = {
            title       = "95 of 100 calls take at most, ms, by family"
            metrics     = [[{ expression = "SEARCH('${local.by_family} MetricName=\"LatencyMs\" ${local.no_checks} ${local.no_transfers}', 'p95', 60)", id = "latency", label = "" }]]
            annotations = { horizontal = [{ label = "alarm", value = var.alarm_slow_ms }] }
          }
        },
        {
          type       = "log"
          properties = { title = "Users with failures", query = "SOURCE '${aws_cloudwatch_log_group.proxy.name}' | ${local.who_suffers}" }
        },
      ]
    },

    {
      heading = "# Whose fault?\nThe time of a call is the sum of three: the auth service's, MLflow's, and the rest, which is the proxy's own and the client's who reads slowly."
      height  = 6
      widgets = [
        {
          type = "metric"
          properties = {
            title   = "Where the time of tracking.runs goes, mean ms"
            stacked = true
            metrics = [
              [local.emf_namespace, "AuthMs", "service", local.metrics_service, "family", "tracking.runs", { stat = "Average", label = "auth" }],
              [local.emf_namespace, "UpstreamMs", "service", local.metrics_service, "family", "tracking.runs", { stat = "Average", label = "MLflow" }],
              [local.emf_namespace, "OwnMs", "service", local.metrics_service, "family", "tracking.runs", { stat = "Average", label = "own" }],
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title   = "Where the time of registry.versions goes, mean ms"
            stacked = true
            metrics = [
              [local.emf_namespace, "AuthMs", "service", local.metrics_service, "family", "registry.versions", { stat = "Average", label = "auth" }],
              [local.emf_namespace, "UpstreamMs", "service", local.metrics_service, "family", "registry.versions", { stat = "Average", label = "MLflow" }],
              [local.emf_namespace, "OwnMs", "service", local.metrics_service, "family", "registry.versions", { stat = "Average", label = "own" }],
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "What the proxy blames"
            metrics = [
              concat([local.emf_namespace, "UpstreamUnreachable"], local.of.emf, [{ stat = "Sum", label = "MLflow: no connection" }]),
              concat([local.emf_namespace, "UpstreamTimeouts"], local.of.emf, [{ stat = "Sum", label = "MLflow: too slow" }]),
              concat([local.emf_namespace, "AuthUnavailable"], local.of.emf, [{ stat = "Sum", label = "auth service: no answer" }]),
              concat([local.emf_namespace, "AuthDenied"], local.of.emf, [{ stat = "Sum", label = "client: key refused" }]),
              concat([local.emf_namespace, "RateLimited"], local.of.emf, [{ stat = "Sum", label = "client: too many requests" }]),
              [local.line_namespace, "UnhandledExceptions", { stat = "Sum", label = "proxy: bug" }],
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "What the load balancer blames (all its services)"
            metrics = [
              concat(["AWS/ApplicationELB", "HTTPCode_ELB_502_Count"], local.of.load_balancer, [{ stat = "Sum", label = "502: a task broke off" }]),
              concat(["AWS/ApplicationELB", "HTTPCode_ELB_503_Count"], local.of.load_balancer, [{ stat = "Sum", label = "503: no task" }]),
              concat(["AWS/ApplicationELB", "HTTPCode_ELB_504_Count"], local.of.load_balancer, [{ stat = "Sum", label = "504: a task is too slow" }]),
              concat(["AWS/ApplicationELB", "TargetConnectionErrorCount"], local.of.target_group, [{ stat = "Sum", label = "a task of the proxy refuses connections" }]),
            ]
          }
        },
      ]
    },

    {
      heading = "# Traffic"
      height  = 6
      widgets = [
        {
          type = "metric"
          properties = {
            title   = "Requests by family"
            metrics = [[{ expression = "SEARCH('${local.by_family} MetricName=\"Requests\" ${local.no_checks}', 'Sum', 60)", id = "requests", label = "" }]]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Answers by class"
            metrics = [
              concat(["AWS/ApplicationELB", "HTTPCode_Target_2XX_Count"], local.of.target_group, [{ stat = "Sum", label = "2xx" }]),
              concat(["AWS/ApplicationELB", "HTTPCode_Target_3XX_Count"], local.of.target_group, [{ stat = "Sum", label = "3xx" }]),
              concat(["AWS/ApplicationELB", "HTTPCode_Target_4XX_Count"], local.of.target_group, [{ stat = "Sum", label = "4xx" }]),
              concat(["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count"], local.of.target_group, [{ stat = "Sum", label = "5xx" }]),
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title       = "Requests a minute and task"
            metrics     = [concat(["AWS/ApplicationELB", "RequestCountPerTarget"], local.of.target_group, [{ stat = "Sum", label = "requests" }])]
            annotations = { horizontal = [{ label = "another task", value = var.autoscaling_requests_per_task }] }
          }
        },
      ]
    },

    {
      heading = "# Transfers"
      height  = 6
      widgets = [
        {
          type = "metric"
          properties = {
            title = "Bytes a minute"
            metrics = [
              concat([local.emf_namespace, "BytesIn"], local.of.emf, [{ stat = "Sum", label = "from clients" }]),
              concat([local.emf_namespace, "BytesOut"], local.of.emf, [{ stat = "Sum", label = "to clients" }]),
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Transfers under way in the busiest worker"
            metrics = [
              concat([local.emf_namespace, "TransfersInFlight"], local.of.emf, [{ stat = "Maximum", label = "when requests ended" }]),
              concat([local.emf_namespace, "TransfersInFlight"], local.of.checks, [{ stat = "Maximum", label = "at health checks" }]),
            ]
            annotations = { horizontal = [{ label = "alarm", value = var.alarm_transfers_in_flight }] }
          }
        },
        {
          type = "metric"
          properties = {
            title = "Bytes a second of the busiest task"
            metrics = [
              concat(["ECS/ContainerInsights", "NetworkRxBytes"], local.of.each_task, [{ stat = "Maximum", label = "received" }]),
              concat(["ECS/ContainerInsights", "NetworkTxBytes"], local.of.each_task, [{ stat = "Maximum", label = "sent" }]),
            ]
            annotations = { horizontal = [{ label = "alarm", value = var.alarm_network_bytes }] }
          }
        },
        {
          type       = "log"
          properties = { title = "By user", query = "SOURCE '${aws_cloudwatch_log_group.proxy.name}' | ${local.queries["Artifact traffic by user"]}" }
        },
      ]
    },

    {
      heading = "# Saturation"
      height  = 6
      widgets = [
        {
          type = "metric"
          properties = {
            title = "The proxy, %"
            yAxis = { left = { min = 0, max = 100 } }
            metrics = [
              concat(["AWS/ECS", "CPUUtilization"], local.of.proxy, [{ stat = "Average", label = "processors" }]),
              concat(["AWS/ECS", "MemoryUtilization"], local.of.proxy, [{ stat = "Average", label = "memory" }]),
            ]
            annotations = { horizontal = [{ label = "alarm", value = 80 }, { label = "another task", value = 60 }] }
          }
        },
        {
          type = "metric"
          properties = {
            title = "MLflow, %"
            yAxis = { left = { min = 0, max = 100 } }
            metrics = [
              concat(["AWS/ECS", "CPUUtilization"], local.of.mlflow, [{ stat = "Average", label = "processors" }]),
              concat(["AWS/ECS", "MemoryUtilization"], local.of.mlflow, [{ stat = "Average", label = "memory" }]),
            ]
            annotations = { horizontal = [{ label = "alarm", value = 80 }] }
          }
        },
        {
          type = "metric"
          properties = {
            title = "Tasks of the proxy"
            metrics = [
              concat(["ECS/ContainerInsights", "DesiredTaskCount"], local.of.proxy, [{ stat = "Maximum", label = "wanted" }]),
              concat(["ECS/ContainerInsights", "RunningTaskCount"], local.of.proxy, [{ stat = "Minimum", label = "running" }]),
            ]
            annotations = { horizontal = [{ label = "most", value = var.autoscaling_max_tasks }] }
          }
        },
        {
          type = "metric"
          properties = {
            title = "The load balancer (all its services)"
            metrics = [
              concat(["AWS/ApplicationELB", "ActiveConnectionCount"], local.of.load_balancer, [{ stat = "Sum", label = "connections" }]),
              concat(["AWS/ApplicationELB", "RejectedConnectionCount"], local.of.load_balancer, [{ stat = "Sum", label = "rejected" }]),
              concat(["AWS/ApplicationELB", "DesyncMitigationMode_NonCompliant_Request_Count"], local.of.load_balancer, [{ stat = "Sum", label = "requests that break HTTP's rules" }]),
            ]
          }
        },
      ]
    },

    {
      heading = "# Redis\nHolds the rate limits. Without it each worker counts by itself; nobody is turned away for that."
      height  = 6
      widgets = [
        {
          type = "metric"
          properties = {
            title   = "Workers that lost it"
            metrics = [[local.line_namespace, "RateLimitStorageDown", { stat = "Sum", label = "lost" }]]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Processor and memory, %"
            yAxis = { left = { min = 0, max = 100 } }
            metrics = concat(
              [for node in local.redis_nodes : ["AWS/ElastiCache", "EngineCPUUtilization", "CacheClusterId", node, { stat = "Maximum", label = "processor ${node}" }]],
              [for node in local.redis_nodes : ["AWS/ElastiCache", "DatabaseMemoryUsagePercentage", "CacheClusterId", node, { stat = "Maximum", label = "memory ${node}" }]],
            )
          }
        },
        {
          type = "metric"
          properties = {
            title   = "Connections"
            metrics = [for node in local.redis_nodes : ["AWS/ElastiCache", "CurrConnections", "CacheClusterId", node, { stat = "Maximum", label = node }]]
          }
        },
      ]
    },

    {
      heading = "# Recent errors\nA request_id is the client's; the saved query `One request, end to end` tells its story."
      height  = 9
      widgets = [
        {
          type       = "log"
          properties = { title = "Requests that failed", query = "SOURCE '${aws_cloudwatch_log_group.proxy.name}' | ${local.recent_failures}" }
        },
        {
          type       = "log"
          properties = { title = "What the proxy complains about", query = "SOURCE '${aws_cloudwatch_log_group.proxy.name}' | ${local.complaints}" }
        },
      ]
    },

    {
      heading = "# Is all this true?\nMetrics come from the lines. Where lines and metrics differ, believe the lines."
      height  = 6
      widgets = [
        {
          type = "metric"
          properties = {
            title = "Requests, counted twice"
            metrics = [
              [local.line_namespace, "Lines", { stat = "Sum", label = "lines" }],
              concat([local.emf_namespace, "Requests"], local.of.emf, [{ stat = "Sum", label = "metric" }]),
              concat([local.emf_namespace, "Requests"], local.of.checks, [{ stat = "Sum", label = "metric of health checks" }]),
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Failures, counted twice"
            metrics = [
              [local.line_namespace, "FailedLines", { stat = "Sum", label = "lines" }],
              concat([local.emf_namespace, "Failures"], local.of.emf, [{ stat = "Sum", label = "metric" }]),
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Lines that CloudWatch gets, and cannot read as metrics"
            metrics = [
              concat(["AWS/Logs", "IncomingLogEvents"], local.of.log_group, [{ stat = "Sum", label = "lines" }]),
              concat(["AWS/Logs", "EMFParsingErrors"], local.of.log_group, [{ stat = "Sum", label = "no EMF" }]),
              concat(["AWS/Logs", "EMFValidationErrors"], local.of.log_group, [{ stat = "Sum", label = "wrong EMF" }]),
            ]
          }
        },
      ]
    },
  ]

  # Where each row begins: below the headings, two high, and the widgets of those before it.
  row_tops = [for at in range(length(local.rows)) : sum(concat([0], [for row in slice(local.rows, 0, at) : row.height + 2]))]

  widgets = flatten([
    for at, row in local.rows : concat(
      [{
        type       = "text"
        x          = 0
        y          = local.row_tops[at]
        width      = 24
        height     = 2
        properties = { markdown = row.heading }
      }],
      [for column, widget in row.widgets : {
        type       = widget.type
        x          = column * floor(24 / length(row.widgets))
        y          = local.row_tops[at] + 2
        width      = floor(24 / length(row.widgets))
        height     = row.height
        properties = merge(local.widget_defaults[widget.type], widget.properties)
      }],
    )
  ])
}

resource "aws_cloudwatch_dashboard" "proxy" {
  dashboard_name = local.proxy_service_name
  dashboard_body = jsonencode({ widgets = local.widgets })
}
