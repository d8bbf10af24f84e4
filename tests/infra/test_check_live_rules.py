"""The live rules against the repository's, with real boto3 and an ELB that moto plays.

moto keeps rules as they are given and routes nothing; what a rule would do to requests is searched, not tried.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.driver import Driver, driving
from tests.support.moto_server import INFRA, ROOT, missing, moto
from tests.support.process import clean_environment

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "moto is there")
WEIGHT = 25  # amid a rollout


@dataclass
class Balancer:
    """A load balancer with the repository's rules."""

    environ: dict[str, str]
    driver: Driver
    arns: dict[str, str]

    def ask(self, *question: Any) -> Any:
        return self.driver.ask(*question)

    def check(self, *options: str) -> tuple[int, str]:
        """Run the script: exit code, and all that it wrote."""
        groups = [f"{name}_target_group_arn={self.arns[name]}" for name in ("api", "auth")]
        given = ["--environment", "development", *(word for pair in groups for word in ("--var", pair)), *options]
        code, written = self.ask("check", given)
        return code, written

    def differences(self, *options: str) -> list[dict[str, Any]]:
        """What --json tells; the exit code must fit."""
        code, written = self.check("--json", *options)
        report = json.loads(written)
        assert (code, report["same"]) in ((0, True), (1, False))
        found: list[dict[str, Any]] = report["differences"]
        return found

    def rule(self, priority: int) -> dict[str, Any]:
        """A live rule of the HTTPS listener."""
        found = self.ask("elb", "describe_rules", {"ListenerArn": self.arns["https"]})["Rules"]
        return next(rule for rule in found if rule["Priority"] == str(priority))

    def add(self, priority: int, conditions: list[Any], actions: list[Any]) -> None:
        """Make a rule."""
        fields = {"Priority": priority, "Conditions": conditions, "Actions": actions}
        self.ask("elb", "create_rule", {"ListenerArn": self.arns["https"], **fields})

    def change(self, priority: int, **fields: Any) -> None:
        """Change a rule."""
        self.ask("elb", "modify_rule", {"RuleArn": self.rule(priority)["RuleArn"], **fields})

    def remove(self, priority: int) -> None:
        """Remove a rule."""
        self.ask("elb", "delete_rule", {"RuleArn": self.rule(priority)["RuleArn"]})

    def to(self, target: str) -> list[dict[str, Any]]:
        """The action that forwards to a target."""
        return [{"Type": "forward", "TargetGroupArn": self.arns[target]}]


FIXED = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}]


def paths(*values: str) -> dict[str, Any]:
    return {"Field": "path-pattern", "PathPatternConfig": {"Values": list(values)}}


def hosts(*values: str) -> dict[str, Any]:
    return {"Field": "host-header", "HostHeaderConfig": {"Values": list(values)}}


@pytest.fixture(scope="module")
def driven() -> Iterator[Balancer]:
    with moto() as environ, driving(environ) as driver:
        yield Balancer(environ, driver, {})


@pytest.fixture
def balancer(driven: Balancer) -> Balancer:
    driven.arns = driven.ask("make", "development", WEIGHT)
    return driven


def test_the_same_rules_amid_a_rollout(balancer: Balancer) -> None:
    code, written = balancer.check()
    assert code == 0
    assert "The live rules are those of the repository." in written
    assert "Of 100 requests for MLflow the proxy gets: 25." in written


def test_another_weight_than_the_one_that_must_be(balancer: Balancer) -> None:
    found = balancer.differences("--proxy-weight", "100")
    assert {one["rule"] for one in found} == {"api_mlflow", "native", "native_traces", "mlflow"}
    assert {(one["part"], one["repository"], one["live"]) for one in found} == {
        ("targets", "proxy", "api 75% proxy 25%")
    }
    assert balancer.differences("--proxy-weight", "25") == []


def test_a_missing_rule(balancer: Balancer) -> None:
    balancer.remove(40)
    (found,) = balancer.differences()
    assert (found["what"], found["rule"], found["priority"]) == ("missing", "mlflow", 40)
    assert found["repository"] == "paths /mlflow /mlflow/* -> api 75% proxy 25%"


def test_a_changed_condition(balancer: Balancer) -> None:
    balancer.change(40, Conditions=[paths("/mlflow/*")])
    (found,) = balancer.differences()
    assert (found["what"], found["rule"], found["part"]) == ("changed", "mlflow", "paths")
    assert (found["repository"], found["live"]) == ("/mlflow /mlflow/*", "/mlflow/*")


def test_a_condition_that_the_repository_does_not_know(balancer: Balancer) -> None:
    header = {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "Values": ["b"]}}
    balancer.change(40, Conditions=[paths("/mlflow", "/mlflow/*"), header])
    (found,) = balancer.differences()
    assert (found["part"], found["live"]) == ("beyond", "condition http-header")


def test_another_target(balancer: Balancer) -> None:
    balancer.change(100, Actions=balancer.to("auth"))
    (found,) = balancer.differences()
    assert (found["rule"], found["part"], found["repository"], found["live"]) == ("api", "targets", "api", "auth")


def test_one_rule_that_did_not_follow_the_rollout(balancer: Balancer) -> None:
    balancer.change(30, Actions=balancer.to("proxy"))
    code, written = balancer.check()
    assert code == 1 and "the rules do not agree on how many" in written


def test_an_action_that_does_not_forward(balancer: Balancer) -> None:
    balancer.change(50, Actions=FIXED)
    found = {one["part"]: one["live"] for one in balancer.differences()}
    assert found == {"targets": "none", "beyond": "action fixed-response"}


def test_the_same_rule_in_another_place(balancer: Balancer) -> None:
    rule = balancer.rule(40)
    balancer.remove(40)
    balancer.add(41, [paths("/mlflow", "/mlflow/*")], rule["Actions"])
    (found,) = balancer.differences()
    assert (found["part"], found["repository"], found["live"]) == ("priority", "40", "41")


def test_a_priority_that_another_repository_took(balancer: Balancer) -> None:
    balancer.remove(40)
    balancer.add(40, [hosts("shop.hokus.ai")], balancer.to("auth"))
    found = {one["what"]: one for one in balancer.differences()}
    assert found["missing"]["live"] == "its priority is taken by: hosts shop.hokus.ai -> auth"
    assert "both have priority 40" in found["refused"]["live"]


def test_a_rule_of_another_repository_that_takes_nothing_from_ours(balancer: Balancer) -> None:
    balancer.add(5, [hosts("shop.hokus.ai")], balancer.to("auth"))
    balancer.add(200, [paths("/api/mlflow/*")], balancer.to("auth"))
    balancer.add(300, [hosts("shop.hokus.ai")], balancer.to("auth"))
    code, written = balancer.check()
    # The first takes /api* of its host from the API; the second is never asked; the third takes what nobody else does.
    assert code == 1 and written.count("takes from ours") == 1
    assert "Not of this repository: priority 200, paths /api/mlflow/* -> auth" in written
    balancer.remove(5)
    assert balancer.check()[0] == 0


def test_a_rule_of_another_repository_that_takes_requests_from_ours(balancer: Balancer) -> None:
    balancer.add(25, [paths("/api/2.0/*")], balancer.to("auth"))
    (found,) = balancer.differences()
    assert (found["what"], found["rule"], found["priority"]) == ("takes from ours", "paths /api/2.0/* -> auth", 25)
    assert found["live"].endswith("-> auth") and "/api/2.0/" in found["live"]


def test_a_rule_that_leads_straight_to_mlflow(balancer: Balancer) -> None:
    balancer.add(300, [hosts("tracking.hokus.ai")], balancer.to("mlflow"))
    assert "past the proxy" in "".join(one["live"] for one in balancer.differences())


def test_a_listener_too_many_and_one_that_ends_otherwise(balancer: Balancer) -> None:
    new = {"LoadBalancerArn": balancer.arns["balancer"], "Protocol": "HTTP", "Port": 8080, "DefaultActions": FIXED}
    balancer.ask("elb", "create_listener", new)
    balancer.ask("elb", "modify_listener", {"ListenerArn": balancer.arns["http"], "DefaultActions": FIXED})
    found = {one["rule"]: (one["what"], one["repository"], one["live"]) for one in balancer.differences()}
    assert found == {
        "HTTP:8080": ("listener", "no such", "fixed-response"),
        "http": ("listener", "redirect", "fixed-response"),
    }


def run(options: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str]:
    """The script as a process of its own."""
    command = [str(INFRA / "python"), str(ROOT / "scripts" / "check_live_rules.py"), *options]
    done = subprocess.run(command, cwd=os.sep, env=clean_environment(environ), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def environ(balancer: Balancer) -> dict[str, str]:
    """The environment in which the script, started by itself, finds everything."""
    groups = {f"TF_VAR_{name}_target_group_arn": balancer.arns[name] for name in ("api", "auth")}
    return {**balancer.environ, **groups, "TF_VAR_environment": "development", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.mark.parametrize(
    ("options", "more", "reason"),
    [
        ((), {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "Could not connect"),
        ((), {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "credentials"),
        ((), {"TF_VAR_api_target_group_arn": ""}, "api_target_group_arn"),
        (("--environment", "production"), {}, "about the environment development"),
        (("--var-file", "/nowhere.tfvars"), {}, "/nowhere.tfvars"),
        (("--var-file", "/etc/passwd"), {}, "/etc/passwd"),
        (("--folder", "/etc"), {}, "/etc"),
        ((), {"TF_VAR_environment": "staging"}, "there is no load balancer hokusai-registry-staging"),
    ],
    ids=["AWS", "credentials", "ARN", "environment", "file", "variables", "folder", "balancer"],
)
def test_it_says_when_it_cannot_tell(
    environ: dict[str, str], options: tuple[str, ...], more: dict[str, str], reason: str
) -> None:
    """Never with the code that means: they differ."""
    code, written = run(options, environ | more)
    assert code == 2, written
    assert "cannot tell" in written and reason in written and "Traceback" not in written


def test_it_finds_everything_in_the_environment(environ: dict[str, str]) -> None:
    code, written = run((), environ)
    assert code == 0, written


def test_variables_from_a_file_go_before_the_environment(environ: dict[str, str], tmp_path: Path) -> None:
    names = ("api_target_group_arn", "auth_target_group_arn")
    file = tmp_path / "x.tfvars"
    file.write_text("".join(f'{name} = "{environ[f"TF_VAR_{name}"]}"\n' for name in names))
    wrong = {f"TF_VAR_{name}": "wrong" for name in names}
    assert run(("--var-file", str(file)), environ | wrong)[0] == 0
    assert run((), environ | wrong)[0] == 1


def test_json_beside_the_table(balancer: Balancer, tmp_path: Path) -> None:
    code, written = balancer.check("--json", str(tmp_path / "report"))
    report = json.loads((tmp_path / "report").read_text())
    assert (code, report["same"], report["proxy_weight"]) == (0, True, WEIGHT)
    assert "The live rules are those of the repository." in written
