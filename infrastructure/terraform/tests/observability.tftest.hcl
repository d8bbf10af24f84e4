# A plan in which is known what AWS would make up and alarms, dashboard and scaling refer to. A plain plan shows nothing of
# a dashboard that holds one unknown word. tests/infra/observed.py reads this plan and judges it; here it must be possible.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

run "observed" {
  command = plan

  assert {
    condition     = aws_appautoscaling_policy.requests.target_tracking_scaling_policy_configuration[0].predefined_metric_specification[0].resource_label == "app/mocked/0123456789abcdef/targetgroup/mocked/fedcba9876543210"
    error_message = "The policy on requests must name the load balancer and the proxy's target group by their suffixes."
  }
}

run "one_task_is_refused" {
  command = plan

  variables {
    autoscaling_min_tasks = 1
  }

  expect_failures = [var.autoscaling_min_tasks]
}

run "no_room_to_grow_is_refused" {
  command = plan

  variables {
    autoscaling_min_tasks = 6
    autoscaling_max_tasks = 6
  }

  expect_failures = [var.autoscaling_max_tasks]
}
