# How many tasks of the proxy run. Two policies: the larger answer wins, and a task goes only when both agree.

resource "aws_appautoscaling_target" "proxy" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.proxy.name}"
  min_capacity       = var.autoscaling_min_tasks
  max_capacity       = var.autoscaling_max_tasks
}

# What transfers cost is processor time by the gigabyte, which no count of requests shows.
resource "aws_appautoscaling_policy" "cpu" {
  name               = "${local.proxy_service_name}-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.proxy.service_namespace
  scalable_dimension = aws_appautoscaling_target.proxy.scalable_dimension
  resource_id        = aws_appautoscaling_target.proxy.resource_id

  target_tracking_scaling_policy_configuration {
    # Room for the traffic of a task that ends, until there is a new one: 60 % on three tasks is 90 % on two.
    target_value = 60

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }

    # A task needs about a minute to be there: image, start, two health checks of 15 s. Sooner, it would be counted twice.
    scale_out_cooldown = 60
    # A task that goes first drains its transfers, which may take as long as deregistration_delay says. Training runs
    # come in waves, and the next one should find the tasks of the last.
    scale_in_cooldown = 900
  }
}

# Sees a wave of requests a minute before its processor time is seen.
resource "aws_appautoscaling_policy" "requests" {
  name               = "${local.proxy_service_name}-requests"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.proxy.service_namespace
  scalable_dimension = aws_appautoscaling_target.proxy.scalable_dimension
  resource_id        = aws_appautoscaling_target.proxy.resource_id

  target_tracking_scaling_policy_configuration {
    target_value = var.autoscaling_requests_per_task

    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = "${aws_lb.main.arn_suffix}/${aws_lb_target_group.proxy.arn_suffix}"
    }

    # As above: the two must not pull in turns.
    scale_out_cooldown = 60
    scale_in_cooldown  = 900
  }
}
