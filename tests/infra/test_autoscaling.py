"""How many tasks of the proxy run: between which bounds, by which figures, and that nobody else sets it."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.alb.rules import blocks_of
from tests.infra.observed import LOAD_BALANCER, PREFIX, TARGET_GROUP, instances, resources
from tests.support import terraform

needs_terraform = pytest.mark.skipif(bool(terraform.missing()), reason=terraform.missing())


def policies() -> dict[str, dict[str, Any]]:
    """Name -> each policy's configuration of target tracking, with the policy's own figures."""
    made = instances("aws_appautoscaling_policy")
    return {name: {**one, **one["target_tracking_scaling_policy_configuration"][0]} for name, one in made.items()}


@needs_terraform
def test_the_proxys_service_is_what_is_scaled() -> None:
    target = resources()["aws_appautoscaling_target.proxy"]
    assert target["resource_id"] == f"service/hokusai-production/{PREFIX}"
    for one in (target, *policies().values()):
        told = (one["resource_id"], one["scalable_dimension"], one["service_namespace"])
        assert told == (target["resource_id"], "ecs:service:DesiredCount", "ecs")


@needs_terraform
def test_it_scales_by_processors_and_by_requests() -> None:
    assert set(policies()) == {"cpu", "requests"}
    assert {one["policy_type"] for one in policies().values()} == {"TargetTrackingScaling"}
    (cpu,) = policies()["cpu"]["predefined_metric_specification"]
    assert (cpu["predefined_metric_type"], cpu["resource_label"]) == ("ECSServiceAverageCPUUtilization", None)
    assert policies()["cpu"]["target_value"] == 60
    (requests,) = policies()["requests"]["predefined_metric_specification"]
    # app/NAME/ID/targetgroup/NAME/ID: API_PredefinedMetricSpecification, which takes no ARN
    assert requests["predefined_metric_type"] == "ALBRequestCountPerTarget"
    assert requests["resource_label"] == f"{LOAD_BALANCER}/{TARGET_GROUP}"


@needs_terraform
def test_it_grows_before_the_alarms_on_what_it_scales_by() -> None:
    """An alarm below a policy's target would be on while all is as it should be."""
    alarm = instances("aws_cloudwatch_metric_alarm")["cpu"]
    assert policies()["cpu"]["target_value"] < alarm["threshold"]


@needs_terraform
def test_it_grows_fast_and_shrinks_slowly_by_both() -> None:
    cooldowns = {(one["scale_out_cooldown"], one["scale_in_cooldown"]) for one in policies().values()}
    assert cooldowns == {(60, 900)}
    assert not any(one["disable_scale_in"] for one in policies().values())
    # A task that goes is drained so long at the most: by then the next decision sees the tasks as they are.
    assert 900 >= int(resources()["aws_lb_target_group.proxy"]["deregistration_delay"])


@needs_terraform
def test_a_task_gets_what_it_was_measured_to_take() -> None:
    """docs/performance.md: about 2,000 small requests a second for a worker with a core; MLflow's part is not in it."""
    cores = int(resources()["aws_ecs_task_definition.proxy"]["cpu"]) / 1024
    assert policies()["requests"]["target_value"] / 60 <= 0.3 * 2000 * cores


@needs_terraform
def test_there_is_a_task_for_each_zone_and_room_to_grow() -> None:
    """Bounds that give neither are refused: infrastructure/terraform/tests/observability.tftest.hcl."""
    target = resources()["aws_appautoscaling_target.proxy"]
    assert (target["min_capacity"], target["max_capacity"]) == (2, 6)


def test_terraform_leaves_the_number_of_tasks_alone() -> None:
    """Otherwise each apply would undo what scaling did."""
    (service,) = [block for name, block in blocks_of(terraform.MODULE, "aws_ecs_service") if name == "proxy"]
    (lifecycle,) = service["lifecycle"]
    assert "desired_count" in str(lifecycle["ignore_changes"])
