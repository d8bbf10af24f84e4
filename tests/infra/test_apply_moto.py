"""The whole module applied, to an AWS that moto plays, and the listener rules read back from it. Three minutes.

Everything is applied once; a test puts back what it changes by hand, and the last ones apply another weight and destroy
everything. Not asserted: that a plan after the apply is empty. moto forgets some of what it is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any

import pytest

from scripts.alb.rules import Rule, read_rules
from tests.support.moto_apply import Scene, as_rule, in_order, managed, missing, scene

pytestmark = [
    pytest.mark.moto,
    pytest.mark.skipif(bool(missing()), reason=missing() or "moto and Terraform are there"),
]
RULE = "aws_lb_listener_rule."
WEIGHTED = {"api_mlflow", "native", "native_traces", "mlflow"}


@dataclass
class Applied:
    """The scene after the apply, with what was planned, what Terraform said, and what it believes to be there."""

    scene: Scene
    planned: dict[str, dict[str, Any]]
    done: CompletedProcess[str]
    state: dict[str, dict[str, Any]]

    def arn(self, address: str) -> str:
        return str(self.state[address]["arn"])

    def live(self) -> dict[tuple[str, str], dict[str, Any]]:
        """All rules as moto tells them, by listener and ARN."""
        return {
            (name, arn): rule
            for name in ("http", "https")
            for arn, rule in self.scene.live(self.arn(f"aws_lb_listener.{name}")).items()
        }

    def rules(self) -> list[Rule]:
        """The same in the repository's words. A rule that is not Terraform's has its ARN for a name."""
        names = {self.arn(address): address.removeprefix(RULE) for address in self.state if address.startswith(RULE)}
        groups = {
            self.arn("aws_lb_target_group.proxy"): "proxy",
            self.scene.given["api_target_group_arn"]: "api",
            self.scene.given["auth_target_group_arn"]: "auth",
        }
        found = [as_rule(names.get(arn, arn), listener, rule, groups) for (listener, arn), rule in self.live().items()]
        return sorted(found, key=lambda rule: (rule.listener, rule.priority))


@pytest.fixture(scope="module")
def applied() -> Iterator[Applied]:
    with scene() as made:
        made.plan("-refresh=false")
        planned = managed(made.planned()["planned_values"])
        done = made.apply()
        yield Applied(made, planned, done, made.state())


def written(weight: int) -> list[Rule]:
    """The rules as the files have them."""
    return [in_order(rule) for rule in read_rules(given={"proxy_weight": weight})]


def test_everything_that_is_planned_is_made(applied: Applied) -> None:
    not_made = sorted(applied.planned.keys() - applied.state.keys())
    assert not not_made, f"not made: {', '.join(not_made)}\n{applied.done.stderr}"
    assert applied.state.keys() == applied.planned.keys()
    assert (applied.done.returncode, applied.done.stderr) == (0, "")
    assert f"Resources: {len(applied.planned)} added, 0 changed, 0 destroyed." in applied.done.stdout
    assert len(applied.planned) > 50, "nothing much was planned"


def test_the_rules_are_those_of_the_files_field_by_field(applied: Applied) -> None:
    assert applied.rules() == written(100)


def test_check_live_rules_says_that_they_are_the_same(applied: Applied) -> None:
    code, said = applied.scene.check_live_rules("--proxy-weight", "100")
    assert code == 0, said
    assert "The live rules are those of the repository." in said
    assert "Of 100 requests for MLflow the proxy gets: 100." in said


def test_what_is_changed_by_hand_is_told(applied: Applied) -> None:
    """A rule that stands elsewhere, one more, and one with another target: all three in one look."""
    auth = applied.scene.given["auth_target_group_arn"]
    ours = applied.arn("aws_lb_target_group.proxy")
    with moved(applied, "mlflow", 41), added(applied, 25, "/api/2.0/*", auth), aimed(applied, "registry_api", ours):
        code, said = applied.scene.check_live_rules("--json")
    assert code == 1, said
    found = [
        tuple(one[part] for part in ("what", "rule", "priority", "part")) for one in json.loads(said)["differences"]
    ]
    assert found == [
        ("changed", "mlflow", 40, "priority"),
        ("changed", "registry_api", 50, "targets"),
        ("takes from ours", "paths /api/2.0/* -> auth", 25, ""),
    ]
    assert applied.scene.check_live_rules()[0] == 0, "put back, they must be the same again"


def test_a_priority_that_is_taken_is_planned_and_refused_by_the_apply(applied: Applied) -> None:
    """A rule that was copied and kept its priority: only AWS, and our own lint, see it."""
    before, path = applied.live(), applied.scene.folder / "alb-listener-rules.tf"
    text = path.read_text()
    copied = re.search(rf'^resource "{RULE[:-1]}" "mlflow" {{\n.*?^}}\n', text, re.MULTILINE | re.DOTALL)
    assert copied
    path.write_text(text + copied[0].replace('"mlflow"', '"copied"', 1))
    try:
        applied.scene.plan("-refresh=false", f"-target={RULE}copied")
        done = applied.scene.apply()
    finally:
        path.write_text(text)
    assert done.returncode == 1
    assert "PriorityInUse" in done.stderr
    assert applied.live() == before


def test_another_weight_changes_the_four_weighted_rules_alone(applied: Applied) -> None:
    before = applied.live()
    applied.scene.plan("-var=proxy_weight=5")
    assert changes(applied.scene.planned(), "aws_lb") == {f"{RULE}{name}": ["update"] for name in sorted(WEIGHTED)}
    done = applied.scene.apply()
    assert (done.returncode, done.stderr) == (0, "")

    after = applied.live()
    assert after.keys() == before.keys(), "a rule was made anew: for a moment there was none"
    changed = {arn for listener, arn in after if after[listener, arn] != before[listener, arn]}
    assert changed == {applied.arn(f"{RULE}{name}") for name in WEIGHTED}
    assert applied.rules() == written(5)
    code, said = applied.scene.check_live_rules("--proxy-weight", "5")
    assert (code, "Of 100 requests for MLflow the proxy gets: 5." in said) == (0, True), said


def test_destroy_leaves_nothing_of_ours_and_all_of_others(applied: Applied) -> None:
    """The last test: nothing is left after it."""
    done, given = applied.scene.destroy(), applied.scene.given
    assert (done.returncode, done.stderr) == (0, "")
    assert applied.scene.state() == {}
    assert applied.scene.elb("describe_load_balancers")["LoadBalancers"] == []
    groups = applied.scene.elb("describe_target_groups")["TargetGroups"]
    assert {one["TargetGroupArn"] for one in groups} == {given["api_target_group_arn"], given["auth_target_group_arn"]}


def changes(plan: dict[str, Any], prefix: str) -> dict[str, list[str]]:
    """What a plan does to the resources whose addresses begin so; those it leaves alone are left out."""
    found = {one["address"]: one["change"]["actions"] for one in plan["resource_changes"]}
    return {name: actions for name, actions in found.items() if name.startswith(prefix) and actions != ["no-op"]}


@contextmanager
def moved(applied: Applied, name: str, priority: int) -> Iterator[None]:
    """With another priority for a rule, by hand."""

    def move(wanted: int) -> None:
        priorities = [{"RuleArn": applied.arn(RULE + name), "Priority": wanted}]
        applied.scene.elb("set_rule_priorities", RulePriorities=priorities)

    move(priority)
    try:
        yield
    finally:
        move(int(applied.state[RULE + name]["priority"]))


@contextmanager
def added(applied: Applied, priority: int, path: str, target: str) -> Iterator[None]:
    """With a rule more, by hand."""
    made = applied.scene.elb(
        "create_rule",
        ListenerArn=applied.arn("aws_lb_listener.https"),
        Priority=priority,
        Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": [path]}}],
        Actions=[{"Type": "forward", "TargetGroupArn": target}],
    )
    try:
        yield
    finally:
        applied.scene.elb("delete_rule", RuleArn=made["Rules"][0]["RuleArn"])


@contextmanager
def aimed(applied: Applied, name: str, target: str) -> Iterator[None]:
    """With another target for a rule, by hand."""
    arn = applied.arn(RULE + name)
    before = applied.live()["https", arn]["Actions"]
    applied.scene.elb("modify_rule", RuleArn=arn, Actions=[{"Type": "forward", "TargetGroupArn": target}])
    try:
        yield
    finally:
        applied.scene.elb("modify_rule", RuleArn=arn, Actions=before)
