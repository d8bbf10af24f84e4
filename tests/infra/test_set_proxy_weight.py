"""Turning the weight of a gradual rollout: what is refused, what is asked, and that nothing but weights is applied.

Terraform is a stub that shows a plan; in the last test it is real, and the load balancer is moto's.
"""

from __future__ import annotations

import copy
import json
import os
import pty
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts.alb.rules import read_rules
from tests.support import terraform
from tests.support.driver import driving
from tests.support.moto_server import INFRA, missing, moto
from tests.support.process import clean_environment
from tests.support.stub_aws import Stubs, answer

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "set_proxy_weight.sh"
WEIGHTED = {f"aws_lb_listener_rule.{rule.name}" for rule in read_rules() if len(rule.targets) > 1}
MODULE = terraform.MODULE
VARIABLES = ("terraform.tfvars", "own.auto.tfvars")
PROVIDER = """
provider "aws" {
  region                      = "us-east-1"
  max_retries                 = 2
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}
"""
REASON = missing() or terraform.missing()


def action(weight: int) -> list[dict[str, Any]]:
    """A weighted action as Terraform shows it; as a set, in an order of its own."""
    groups = [{"arn": "arn-of-the-api", "weight": 100 - weight}, {"arn": "arn-of-the-proxy", "weight": weight}]
    ordered = groups if weight % 2 else groups[::-1]
    return [{"type": "forward", "forward": [{"stickiness": [], "target_group": ordered}]}]


def plan(now: int, then: int) -> dict[str, Any]:
    """What `terraform show -json` says of a plan that turns the weight."""
    state, changes = [{"address": "aws_lb_target_group.proxy", "values": {"arn": "arn-of-the-proxy"}}], []
    for address in sorted(WEIGHTED):
        before, after = ({"priority": 30, "tags": {}, "action": action(weight)} for weight in (now, then))
        state.append({"address": address, "values": before})
        actions = ["no-op"] if now == then else ["update"]
        changes.append({"address": address, "change": {"actions": actions, "before": before, "after": after}})
    return {"prior_state": {"values": {"root_module": {"resources": state}}}, "resource_changes": changes}


class Rollout:
    """The script before a Terraform that is written down. `shown` is its plan."""

    def __init__(self, folder: Path) -> None:
        self.stubs = Stubs(folder / "stubs", ("terraform",))
        self.module = folder / "module"
        (self.module / ".terraform").mkdir(parents=True)
        shutil.copy2(ROOT / "infrastructure" / "terraform" / "alb-listener-rules.tf", self.module)
        self.stubs.on("terraform plan", "Plan: 0 to add, 4 to change, 0 to destroy.\n")
        self.stubs.on("terraform apply", "Apply complete!\n")

    def shows(self, shown: dict[str, Any]) -> None:
        """Have Terraform plan this."""
        self.stubs.on("terraform show", shown)

    def run(self, *options: str, says: str = "") -> tuple[int, str]:
        """Run it at a terminal on which somebody types `says`, or without one: exit code, and what was written."""
        env = clean_environment({"PATH": f"{self.stubs.bin}{os.pathsep}{os.environ['PATH']}", "HOME": os.sep})
        master, slave = pty.openpty()
        os.write(master, f"{says}\n".encode())
        command = [str(SCRIPT), "--folder", str(self.module), *options]
        stdin = slave if says else subprocess.DEVNULL
        try:
            done = subprocess.run(
                command, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        finally:
            os.close(master)
            os.close(slave)
        return done.returncode, done.stdout

    def applied(self) -> bool:
        """Whether Terraform was told to apply."""
        return bool(self.stubs.calls("terraform apply"))


@pytest.fixture
def rollout(tmp_path: Path) -> Rollout:
    return Rollout(tmp_path)


@pytest.mark.parametrize("weight", ["", "-1", "101", "2.5", "05", "5%", "1e1", "five", "5 25"])
def test_what_is_no_weight_is_refused(rollout: Rollout, weight: str) -> None:
    code, written = rollout.run(weight, "--yes")
    assert code == 2 and "the weight must be a whole number from 0 to 100" in written
    assert rollout.stubs.calls() == []


def test_a_step_up(rollout: Rollout) -> None:
    rollout.shows(plan(0, 5))
    code, written = rollout.run("5", says="y")
    assert code == 0, written
    (planned,), (applied,) = rollout.stubs.calls("terraform plan"), rollout.stubs.calls("terraform apply")
    assert {word.removeprefix("-target=") for word in planned["argv"] if word.startswith("-target=")} == WEIGHTED
    assert "-var=proxy_weight=5" in planned["argv"]
    assert f"-out={applied['argv'][-1]}" in planned["argv"], "the plan that was looked at is the one applied"
    assert "write proxy_weight = 5 into terraform.tfvars" in written
    assert "To go back:  scripts/set_proxy_weight.sh 0" in written


@pytest.mark.parametrize(
    ("now", "then", "fits"),
    [
        *((0, 5, True), (0, 3, True), (0, 6, False), (0, 25, False), (0, 100, False), (3, 5, True), (3, 25, False)),
        *((5, 25, True), (5, 26, False), (5, 100, False), (25, 100, True), (24, 26, False), (99, 100, True)),
        *((100, 0, True), (100, 5, True), (25, 5, True), (25, 0, True), (5, 4, True)),
    ],
)
def test_no_step_is_left_out_without_saying_so(rollout: Rollout, now: int, then: int, fits: bool) -> None:
    rollout.shows(plan(now, then))
    code, written = rollout.run(str(then), says="y")
    assert (code == 0, rollout.applied()) == (fits, fits), written
    if not fits:
        assert code == 2 and "leaves out a step" in written
        assert rollout.run(str(then), "--yes")[0] == 0


@pytest.mark.parametrize("says", ["n", "", "perhaps"])
def test_nothing_without_a_yes(rollout: Rollout, says: str) -> None:
    rollout.shows(plan(0, 5))
    code, written = rollout.run("5", says=says or " ")
    assert code == 2 and "not confirmed" in written
    assert not rollout.applied()


def test_where_nobody_can_be_asked(rollout: Rollout) -> None:
    assert rollout.run("5")[0] == 2
    assert rollout.stubs.calls() == []


def test_nothing_to_do(rollout: Rollout) -> None:
    rollout.shows(plan(25, 25))
    code, written = rollout.run("25", "--yes")
    assert code == 0 and "the proxy gets 25 of 100 already" in written
    assert not rollout.applied()


def change(shown: dict[str, Any], **fields: Any) -> None:
    """Change what the first rule would become."""
    shown["resource_changes"][0]["change"]["after"] |= fields


def more(shown: dict[str, Any], actions: list[str]) -> None:
    shown["resource_changes"].append({"address": "aws_lb.main", "change": {"actions": actions}})


def other_target(shown: dict[str, Any]) -> None:
    made = copy.deepcopy(shown["resource_changes"][0]["change"]["after"]["action"])
    made[0]["forward"][0]["target_group"][0]["arn"] = "arn-of-another"
    change(shown, action=made)


def replacement(shown: dict[str, Any]) -> None:
    shown["resource_changes"][0]["change"]["actions"] = ["delete", "create"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda shown: change(shown, priority=31),
        lambda shown: more(shown, ["update"]),
        lambda shown: more(shown, ["delete", "create"]),
        other_target,
        replacement,
    ],
    ids=["priority", "another resource", "a replacement elsewhere", "another target", "a replacement"],
)
def test_a_plan_that_holds_more_than_weights_is_not_applied(rollout: Rollout, spoil: Any) -> None:
    shown = plan(0, 5)
    spoil(shown)
    rollout.shows(shown)
    code, written = rollout.run("5", "--yes")
    assert code == 3 and "would change more than weights" in written
    assert re.search(r"aws_lb(_listener_rule)?\.\w+: ", written)
    assert not rollout.applied()


def test_reading_and_leaving_alone_are_no_changes(rollout: Rollout) -> None:
    shown = plan(0, 5)
    more(shown, ["no-op"])
    more(shown, ["read"])
    rollout.shows(shown)
    assert rollout.run("5", "--yes")[0] == 0


def test_rules_that_do_not_exist_yet(rollout: Rollout) -> None:
    shown = plan(0, 5)
    shown["prior_state"]["values"]["root_module"] = {"resources": []}
    shown["resource_changes"] = []
    rollout.shows(shown)
    code, written = rollout.run("5", "--yes")
    assert code == 2 and "terraform apply makes them" in written


@pytest.mark.parametrize("call", ["plan", "apply"])
def test_terraform_fails(rollout: Rollout, call: str) -> None:
    rollout.shows(plan(0, 5))
    rollout.stubs.on(f"terraform {call}", answer(code=1, error="Error: no\n"))
    code, written = rollout.run("5", "--yes")
    assert code == 1 and "Error: no" in written and f"terraform could not {call}" in written


def test_a_dry_run_starts_no_terraform(rollout: Rollout) -> None:
    code, written = rollout.run("5", "--dry-run")
    assert code == 0 and rollout.stubs.calls() == []
    assert re.findall(r"\$ terraform -chdir=\S+ (\w+)", written) == ["plan", "show", "apply"]


@pytest.mark.moto
@pytest.mark.skipif(bool(REASON), reason=REASON or "moto and Terraform are there")
def test_with_the_real_terraform(tmp_path: Path) -> None:
    """The repository's own listeners and rules: 100, then 25 by the script, which the live rules then say too.

    Slow, for the provider waits a minute for a load balancer that moto makes at once.
    """
    with moto() as environ:
        module = module_for_moto(tmp_path, environ)
        env = clean_environment({**environ, "TF_CLI_CONFIG_FILE": str(module / "rc"), "PATH": os.environ["PATH"]})

        def run(*command: str | Path) -> str:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, done.stdout
            return done.stdout

        chdir = f"-chdir={module}"
        run("terraform", chdir, "init", "-backend=false", "-input=false", "-no-color")
        run("terraform", chdir, "apply", "-auto-approve", "-input=false", "-no-color")
        written = run(SCRIPT, "25", "--yes", "--folder", module)
        assert "weight now: 100; then: 25" in written and "4 changed" in written
        variables = [word for name in VARIABLES for word in ("--var-file", module / name)]
        written = run(INFRA / "python", ROOT / "scripts" / "check_live_rules.py", *variables, "--proxy-weight", "25")
        assert "The live rules are those of the repository." in written


def module_for_moto(folder: Path, environ: dict[str, str]) -> Path:
    """The load balancer's part of the module, and variables that name a network which moto has."""
    module = folder / "module"
    module.mkdir()
    names = ("alb.tf", "alb-listener-rules.tf", "versions.tf", *(path.name for path in MODULE.glob("variables*.tf")))
    for name in names:
        shutil.copy2(MODULE / name, module)
    with driving(environ) as driver:
        arns = driver.ask("make", "elsewhere", 100)
    own = {
        "environment": "development",
        "certificate_arn": arns["certificate"],
        "vpc_id": arns["vpc"],
        "public_subnet_ids": arns["subnets"].split(),
        "api_target_group_arn": arns["api"],
        "auth_target_group_arn": arns["auth"],
        "access_logs_bucket": "",
    }
    (module / "terraform.tfvars").write_text(terraform.example_variables())
    (module / "own.auto.tfvars").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in own.items()))
    (module / "network.tf").write_text('resource "aws_security_group" "alb" {\n  vpc_id = var.vpc_id\n}\n')
    (module / "provider_override.tf").write_text(PROVIDER)
    lines = (
        "disable_checkpoint = true",
        "provider_installation {",
        f'filesystem_mirror {{\n path = "{terraform.mirror()}"\n}}',
        "}",
    )
    (module / "rc").write_text("\n".join(lines) + "\n")
    return module
