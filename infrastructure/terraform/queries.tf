# What is asked of the proxy's lines: the saved queries, what is indexed, and the counters that alarms stand on.
#
# The queries' text is here and nowhere else that counts: docs/observability.md quotes it, each under the name it has
# here and beside the same question for jq, and tests/infra/test_saved_queries_in_terraform.py holds the two together.

locals {
  queries = {
    "Who registered version 7" = <<-QL
      filter event = "proxy_request" and action = "model-versions.create" and resource = "model-version:churn/7"
      | fields @timestamp, user_id, key_id, client_ip, status, request_id
    QL

    "What happened to a model" = <<-QL
      filter event = "proxy_request" and method != "GET" and resource like /^(registered-model|model-version|model-alias):churn(\/|$)/
      | fields @timestamp, user_id, action, resource, outcome
      | sort @timestamp asc
    QL

    "What did this key do" = <<-QL
      filter event = "proxy_request" and key_id = "key-of-alice"
      | stats count(*) as n, earliest(@timestamp) as first, latest(@timestamp) as last by action, resource, outcome
      | sort first asc
    QL

    "Bytes per user" = <<-QL
      filter event = "proxy_request"
      | stats sum(bytes_in) as received, sum(bytes_out) as sent, count(*) as n by user_id
      | sort sent desc
    QL

    "Error rate per family, in five minutes" = <<-QL
      filter event = "proxy_request"
      | stats count(*) as n, sum(floor(status / 500)) as errors, 100 * sum(floor(status / 500)) / count(*) as percent by family, bin(5m) as t
      | sort t desc
    QL

    "Slowest endpoints" = <<-QL
      filter event = "proxy_request"
      | stats count(*) as n, avg(duration_ms) as mean, pct(duration_ms, 95) as p95, pct(duration_ms, 99) as p99, max(duration_ms) as worst by action, method
      | sort p99 desc
    QL

    "The proxy's own time" = <<-QL
      filter event = "proxy_request" and upstream_ms > 0 and ttfb_ms > 0
      | stats pct(ttfb_ms - upstream_ms - auth_ms, 50) as p50, pct(ttfb_ms - upstream_ms - auth_ms, 99) as p99 by bin(5m)
    QL

    "What failed upstream, and how" = <<-QL
      filter event = "proxy_request" and outcome like /^upstream_/
      | stats count(*) as n by outcome, error_kind, family
      | sort n desc
    QL

    "One request, end to end" = <<-QL
      filter request_id = "REQUEST-ID" or trace_id = "TRACE-ID"
      | fields @timestamp, event, status, upstream_status, path, upstream_path, target_url, error_kind, @message
      | sort @timestamp asc
    QL

    "Paths that are asked for in vain" = <<-QL
      filter event = "proxy_request" and status = 404
      | stats count(*) as n, count_distinct(user_id) as users by method, path
      | sort n desc
      | limit 50
    QL

    "Artifact traffic by user" = <<-QL
      filter event = "proxy_request" and family like /^artifacts\./
      | stats sum(bytes_in) / 1048576 as MiB_in, sum(bytes_out) / 1048576 as MiB_out, count(*) as n by user_id, method
      | sort MiB_in desc
      | limit 20
    QL

    "Denials by address" = <<-QL
      filter event = "proxy_request" and outcome = "auth_denied"
      | stats count(*) as n, earliest(@timestamp) as first, latest(@timestamp) as last by client_ip, user_agent
      | sort n desc
      | limit 20
    QL
  }
}

resource "aws_cloudwatch_query_definition" "saved" {
  for_each = local.queries

  name            = "${local.proxy_service_name}/${each.key}"
  log_group_names = [aws_cloudwatch_log_group.proxy.name]
  query_string    = each.value
}

# Queries for one of these look only at the part of the log that has it.
resource "aws_cloudwatch_log_index_policy" "proxy" {
  log_group_name  = aws_cloudwatch_log_group.proxy.name
  policy_document = jsonencode({ Fields = ["request_id", "user_id", "outcome", "key_id"] })
}

locals {
  # What each counts. No dimensions: those take no default value, and without a 0 a quiet minute is a gap.
  line_metrics = {
    Lines = "{ $.event = \"proxy_request\" }"
    # The metric Failures, said in another language and counted by another part of CloudWatch: each checks the other. A
    # health check that answers 503 has done its work.
    FailedLines = join(" && ", [
      "{ ($.event = \"proxy_request\")",
      "($.family != \"health\")",
      "(($.status >= 500) || ($.outcome = \"upstream_*\") || ($.outcome = \"auth_unavailable\") || ($.outcome = \"proxy_error\")) }",
    ])
    RateLimitStorageDown = "{ $.event = \"rate_limit_storage_down\" }"
    UnhandledExceptions  = "{ $.event = \"unhandled_exception\" }"
  }
}

resource "aws_cloudwatch_log_metric_filter" "line" {
  for_each = local.line_metrics

  name           = "${local.proxy_service_name}-${each.key}"
  log_group_name = aws_cloudwatch_log_group.proxy.name
  pattern        = each.value

  metric_transformation {
    namespace     = local.line_namespace
    name          = each.key
    value         = "1"
    default_value = "0"
    unit          = "Count"
  }
}
