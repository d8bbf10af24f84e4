# A plan in which is known what AWS would make up and alarms, dashboard and scaling refer to. A plain plan shows nothing of
# a dashboard that holds one unknown word. tests/infra/observed.py reads this plan and judges it; here it must be possible.

mock_provider "aws" {
  override_during = plan

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_resource "aws_lb" {
    defaults = {
      arn        = "arn:aws:elasticloadbalancing:us-east-1:aws:loadbalancer/app/mocked/0123456789abcdef"
      arn_suffix = "app/mocked/0123456789abcdef"
    }
  }

  mock_resource "aws_lb_target_group" {
    defaults = {
      arn        = "arn:aws:elasticloadbalancing:us-east-1:aws:targetgroup/mocked/fedcba9876543210"
      arn_suffix = "targetgroup/mocked/fedcba9876543210"
    }
  }

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:aws:mocked" }
  }

  mock_resource "aws_cloudwatch_metric_alarm" {
    defaults = { arn = "arn:aws:cloudwatch:us-east-1:aws:alarm:mocked" }
  }

  mock_resource "aws_cloudwatch_composite_alarm" {
    defaults = { arn = "arn:aws:cloudwatch:us-east-1:aws:alarm:mocked-page" }
  }
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
