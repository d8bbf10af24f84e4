# The load balancer, its two listeners and the proxy's target group. Which request goes where stands in alb-listener-rules.tf.

resource "aws_lb" "main" {
  name               = "${var.project}-registry-${var.environment}"
  load_balancer_type = "application"
  internal           = false
  subnets            = var.public_subnet_ids
  security_groups    = [aws_security_group.alb.id]
  idle_timeout       = var.alb_idle_timeout

  # Names with underscores fold into those of our own headers in WSGI.
  drop_invalid_header_fields = true
  desync_mitigation_mode     = "defensive"
  xff_header_processing_mode = "append"
  enable_deletion_protection = var.deletion_protection

  dynamic "access_logs" {
    for_each = var.access_logs_bucket == "" ? [] : [var.access_logs_bucket]

    content {
      enabled = true
      bucket  = access_logs.value
      prefix  = "${var.project}-registry-${var.environment}"
    }
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.main.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.main.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn

  # What no rule takes. In the form that MLflow clients read.
  default_action {
    type = "fixed-response"

    fixed_response {
      content_type = "application/json"
      message_body = jsonencode({ error_code = "ENDPOINT_NOT_FOUND", message = "Nothing is served at this address." })
      status_code  = "404"
    }
  }
}

resource "aws_lb_target_group" "proxy" {
  name        = "${var.project}-mlproxy-${var.environment}"
  port        = 8001
  protocol    = "HTTP"
  vpc_id      = var.vpc_id
  target_type = "ip"

  # Short calls and long transfers share the targets: round robin would pile transfers up.
  load_balancing_algorithm_type = "least_outstanding_requests"
  # A transfer still running when this ends is cut with 502.
  deregistration_delay = var.deregistration_delay

  health_check {
    # Liveness. It does not ask MLflow: an MLflow that is away must not have every proxy task replaced in a loop.
    path                = "/health"
    matcher             = "200"
    interval            = 15
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}
