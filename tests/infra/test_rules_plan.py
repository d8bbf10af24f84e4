"""Both readings of the rules are equal: python-hcl2's of the files, and Terraform's own of its plan."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from scripts.alb.balancer import read_balancer
from scripts.alb.planned import canonical, listeners_of_plan, rules_of_plan
from scripts.alb.rules import Unreadable, read_rules
from tests.support import terraform

pytestmark = pytest.mark.skipif(bool(terraform.missing()), reason=terraform.missing() or "terraform is here")

OTHER = {"proxy_weight": 25, "registry_host": "models.example.org", "auth_host": "keys.example.org"}


def variables(plan: dict[str, Any]) -> dict[str, Any]:
    return {name: one["value"] for name, one in plan["variables"].items() if "value" in one}


@pytest.mark.parametrize("given", [None, OTHER], ids=["as in the example", "shared, other hosts"])
def test_terraform_reads_the_same_rules(given: dict[str, Any] | None) -> None:
    plan = terraform.plan(given)
    read = read_rules(given=variables(plan))
    assert rules_of_plan(plan) == canonical(read)
    assert len(read) >= 7
    assert given is None or {host for rule in read for host in rule.hosts} == {
        OTHER["registry_host"],
        OTHER["auth_host"],
    }


def test_terraform_reads_the_same_listeners() -> None:
    read = sorted(read_balancer().listeners, key=lambda listener: listener.name)
    assert listeners_of_plan(terraform.plan()) == tuple(read)


# --- the reading of plans can itself be wrong: what it says follows what the plan says ---


def changed(name: str, **values: Any) -> dict[str, Any]:
    """The plan with other planned values for a rule."""
    plan = copy.deepcopy(terraform.plan(OTHER))
    (rule,) = [one for one in plan["planned_values"]["root_module"]["resources"] if _is(one, name)]
    rule["values"].update(values)
    return plan


def _is(resource: dict[str, Any], name: str) -> bool:
    return (resource["type"], resource["name"]) == ("aws_lb_listener_rule", name)


def test_another_plan_is_another_reading() -> None:
    paths = [{"path_pattern": [{"values": ["/x"]}], "http_request_method": [{"values": ["GET"]}], "host_header": []}]
    found = {rule.name: rule for rule in rules_of_plan(changed("mlflow", priority=41, condition=paths))}
    read = {rule.name: rule for rule in canonical(read_rules(given=OTHER))}
    assert found["mlflow"] == replace(read["mlflow"], priority=41, paths=("/x",), methods=("GET",))
    assert {name for name in read if found[name] != read[name]} == {"mlflow"}


def test_a_condition_that_is_not_understood_is_refused() -> None:
    with pytest.raises(Unreadable, match="condition source_ip"):
        rules_of_plan(changed("mlflow", condition=[{"source_ip": [{"values": ["192.0.2.0/24"]}]}]))


def test_a_rule_that_does_not_just_forward_is_refused() -> None:
    with pytest.raises(Unreadable, match="does not just forward"):
        rules_of_plan(changed("api", action=[{"type": "redirect", "forward": []}]))


def test_a_weight_that_belongs_to_another_target_is_seen() -> None:
    arn = terraform.plan(OTHER)["variables"]["api_target_group_arn"]["value"]
    swapped = [{"arn": arn, "weight": 25}, {"weight": 75}]
    action = [{"type": "forward", "forward": [{"target_group": swapped}]}]
    (found,) = [rule for rule in rules_of_plan(changed("mlflow", action=action)) if rule.name == "mlflow"]
    assert found.targets == (("api", 25), ("proxy", 75))


def test_two_targets_that_cannot_be_told_apart_are_refused() -> None:
    plan = copy.deepcopy(terraform.plan(OTHER))
    (rule,) = [one for one in plan["configuration"]["root_module"]["resources"] if _is(one, "mlflow")]
    groups = rule["expressions"]["action"][0]["forward"][0]["target_group"]
    groups[1] = groups[0]
    with pytest.raises(Unreadable, match="cannot be told apart"):
        rules_of_plan(plan)


def test_one_of_several_rules_from_one_block_is_refused() -> None:
    plan = copy.deepcopy(terraform.plan(OTHER))
    (rule,) = [one for one in plan["planned_values"]["root_module"]["resources"] if _is(one, "api")]
    rule["index"] = 0
    with pytest.raises(Unreadable, match="one of several"):
        rules_of_plan(plan)


def test_a_module_is_refused() -> None:
    plan = copy.deepcopy(terraform.plan(OTHER))
    plan["planned_values"]["root_module"]["child_modules"] = [{"resources": []}]
    with pytest.raises(Unreadable, match="modules"):
        rules_of_plan(plan)
