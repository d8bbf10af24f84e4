"""The whole Terraform module, applied to an AWS that moto plays, and what is there then.

What should be there, the plan says; what is there, Terraform's state and moto say. moto forgets some of what it is told
(how long a service's health checks may fail at first, descriptions of security group rules), so a second plan sees
differences where AWS has none: judge it by the resources that you ask about.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scripts.alb.rules import Rule
from tests.support import moto_server, terraform
from tests.support.driver import Driver, driving
from tests.support.moto_server import INFRA
from tests.support.process import clean_environment

HERE = Path(__file__).parent
EXAMPLE, GIVEN = "example.tfvars", "given.tfvars"
VAR_FILES = (f"-var-file={EXAMPLE}", f"-var-file={GIVEN}")
# A call that moto does not know is answered 500, which the provider would try again for minutes.
RETRIES = 'provider "aws" {\n  max_retries = 2\n}\n'
WITH_ALL_ANSWERS = (str(INFRA / "python"), "-P", str(HERE / "moto_answers.py"))
CONDITIONS = {
    "host-header": ("hosts", "HostHeaderConfig"),
    "path-pattern": ("paths", "PathPatternConfig"),
    "http-request-method": ("methods", "HttpRequestMethodConfig"),
}


def missing() -> str:
    """Why nothing can be applied on this machine, or nothing if it can."""
    return moto_server.missing() or terraform.missing()


@dataclass
class Scene:
    """A copy of the module in `folder`, an AWS at `environ`, and `given`: the variables that name what was there."""

    folder: Path
    environ: dict[str, str]
    given: dict[str, Any]
    driver: Driver

    def terraform(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`terraform ARGUMENTS` in the copy; what moto has no answer to stands at the end of its stderr."""
        done = terraform.ask_terraform(self.folder, *arguments, environ=self.environ)
        unknown = re.findall(r"The (\w+) action has not been implemented", (self.folder / "moto.log").read_text())
        if done.returncode and unknown:
            done.stderr += f"\nmoto has no answer to {sorted(set(unknown))}: see tests/support/moto_answers.py"
        return done

    def must(self, *arguments: str) -> str:
        """What `terraform ARGUMENTS` says in the copy. Raises `TerraformFailed`."""
        done = self.terraform(*arguments)
        if done.returncode:
            raise terraform.TerraformFailed(f"terraform {arguments[0]}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def plan(self, *options: str) -> None:
        """Make a plan, for `planned` and `apply`. Raises `TerraformFailed`."""
        self.must("plan", "-input=false", "-no-color", "-out=made.tfplan", *VAR_FILES, *options)

    def planned(self) -> dict[str, Any]:
        """What `terraform show -json` says of the last plan."""
        shown: dict[str, Any] = json.loads(self.must("show", "-json", "made.tfplan"))
        return shown

    def apply(self) -> subprocess.CompletedProcess[str]:
        """Apply the last plan."""
        return self.terraform("apply", "-input=false", "-no-color", "made.tfplan")

    def destroy(self) -> subprocess.CompletedProcess[str]:
        """Destroy everything."""
        return self.terraform("destroy", "-auto-approve", "-refresh=false", "-input=false", "-no-color", *VAR_FILES)

    def state(self) -> dict[str, dict[str, Any]]:
        """Every resource that Terraform has made, by its address."""
        return managed(json.loads(self.must("show", "-json")).get("values", {}))

    def elb(self, method: str, **arguments: Any) -> Any:
        """What boto3's client of the load balancers gives."""
        return self.driver.ask("elb", method, arguments)

    def live(self, listener_arn: str) -> dict[str, dict[str, Any]]:
        """The rules of a listener as moto tells them, by ARN, without its default."""
        found = self.elb("describe_rules", ListenerArn=listener_arn)["Rules"]
        return {rule["RuleArn"]: rule for rule in found if not rule["IsDefault"]}

    def check_live_rules(self, *options: str) -> tuple[int, str]:
        """Run scripts/check_live_rules.py with the module's variables: exit code, and all that it wrote."""
        files = [word for name in (EXAMPLE, GIVEN) for word in ("--var-file", str(self.folder / name))]
        code, written = self.driver.ask("check", [*files, *options])
        return code, written


@contextmanager
def scene() -> Iterator[Scene]:
    """An initialised copy of the module, unchanged but for a provider that speaks to moto, and a moto for it alone."""
    with tempfile.TemporaryDirectory(prefix="apply-") as name:
        folder = Path(name)
        for path, content in terraform.files().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        (folder / "retries_override.tf").write_text(RETRIES)
        # Without it a policy of AWS's own is not there, and cannot be attached.
        known = {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
        with moto_server.moto(WITH_ALL_ANSWERS, folder, **known) as environ, driving(environ) as driver:
            given = {**_given(folder, environ), "deletion_protection": False}  # so that all can be destroyed again
            (folder / GIVEN).write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items()))
            made = Scene(folder, environ, given, driver)
            made.must("init", "-input=false", "-no-color")
            yield made


def managed(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The resources in `planned_values` of a plan or `values` of a state, by address; what is only read is left out."""
    found = values.get("root_module", {}).get("resources", [])
    return {one["address"]: one["values"] for one in found if one["mode"] == "managed"}


def as_rule(name: str, listener: str, live: dict[str, Any], groups: dict[str, str]) -> Rule:
    """A rule as moto tells it, in full, in the repository's words; `groups` names target groups by their ARN."""
    parts: dict[str, tuple[str, ...]] = {"hosts": (), "paths": (), "methods": ()}
    for condition in live["Conditions"]:
        part, config = CONDITIONS[condition["Field"]]
        parts[part] += tuple(condition[config]["Values"])
    (action,) = live["Actions"]
    assert action["Type"] == "forward", action
    alone = [{"TargetGroupArn": action.get("TargetGroupArn"), "Weight": 1}]
    shares = action.get("ForwardConfig", {}).get("TargetGroups") or alone
    targets = tuple((groups.get(one["TargetGroupArn"], one["TargetGroupArn"]), one["Weight"]) for one in shares)
    return in_order(Rule(name, listener, int(live["Priority"]), **parts, targets=targets))


def in_order(rule: Rule) -> Rule:
    """The same rule with sorted alternatives and targets: Terraform keeps them as sets, and sends them in any order."""
    hosts, paths, methods = sorted(rule.hosts), sorted(rule.paths), sorted(rule.methods)
    targets = tuple(sorted(rule.targets))
    return replace(rule, hosts=tuple(hosts), paths=tuple(paths), methods=tuple(methods), targets=targets)


def _given(folder: Path, environ: dict[str, str]) -> dict[str, Any]:
    """Make what the module expects to be there, with the bucket of the example; the variables about it."""
    bucket = re.search(r'^artifact_bucket\s*=\s*"(.+)"$', (folder / EXAMPLE).read_text(), re.MULTILINE)
    assert bucket, "the example names no bucket"
    command = [str(INFRA / "python"), "-P", str(HERE / "moto_given.py"), bucket[1]]
    done = subprocess.run(command, cwd=folder, env=clean_environment(environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made
