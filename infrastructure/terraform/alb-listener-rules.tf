# Which request goes where: one static block for each rule, referring to its target directly, so that tests can read
# this file itself (tests/infra). The lowest priority is asked first; within a rule hosts and paths must both match.
# An ALB takes five values for a rule, hosts and paths together.
#
# Nothing forwards to MLflow: it is reached through the proxy alone, by Cloud Map.

# First, so that no rule on paths can take auth.hokus.ai/api/... away.
resource "aws_lb_listener_rule" "auth" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 20

  condition {
    host_header {
      values = [var.auth_host]
    }
  }

  action {
    type             = "forward"
    target_group_arn = var.auth_target_group_arn
  }
}

# The documented tracking URI. Before api, which would take it as /api*.
resource "aws_lb_listener_rule" "api_mlflow" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 30

  condition {
    path_pattern {
      values = ["/api/mlflow", "/api/mlflow/*"]
    }
  }

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.proxy.arn
        weight = var.proxy_weight
      }

      target_group {
        arn    = var.api_target_group_arn
        weight = 100 - var.proxy_weight
      }
    }
  }
}

# Clients whose tracking URI is the bare host, and the calls in which the MLflow client drops its prefix.
resource "aws_lb_listener_rule" "native" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 35

  condition {
    host_header {
      values = [var.registry_host]
    }
  }

  condition {
    path_pattern {
      values = ["/api/2.0/mlflow*", "/api/3.0/mlflow*", "/ajax-api/*"]
    }
  }

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.proxy.arn
        weight = var.proxy_weight
      }

      target_group {
        arn    = var.api_target_group_arn
        weight = 100 - var.proxy_weight
      }
    }
  }
}

# The rest of what the proxy serves at the root; a rule of its own, since the one above is full.
resource "aws_lb_listener_rule" "native_traces" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 36

  condition {
    host_header {
      values = [var.registry_host]
    }
  }

  condition {
    path_pattern {
      values = ["/v1/traces", "/version"]
    }
  }

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.proxy.arn
        weight = var.proxy_weight
      }

      target_group {
        arn    = var.api_target_group_arn
        weight = 100 - var.proxy_weight
      }
    }
  }
}

# Older users' tracking URI. Went straight to MLflow once, without a key.
resource "aws_lb_listener_rule" "mlflow" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 40

  condition {
    path_pattern {
      values = ["/mlflow", "/mlflow/*"]
    }
  }

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.proxy.arn
        weight = var.proxy_weight
      }

      target_group {
        arn    = var.api_target_group_arn
        weight = 100 - var.proxy_weight
      }
    }
  }
}

resource "aws_lb_listener_rule" "registry_api" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 50

  condition {
    host_header {
      values = [var.registry_host]
    }
  }

  action {
    type             = "forward"
    target_group_arn = var.api_target_group_arn
  }
}

# As it always was, to the letter: other services of the API live below it.
resource "aws_lb_listener_rule" "api" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 100

  condition {
    path_pattern {
      values = ["/api*"]
    }
  }

  action {
    type             = "forward"
    target_group_arn = var.api_target_group_arn
  }
}
