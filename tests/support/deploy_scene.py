"""A checkout with the deployment scripts, an AWS that is written down, and a registry: where the scripts are tried out.

Everything but `aws`, `docker` and the two Pythons is real: bash, git, jq, curl, and the scripts themselves.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.process import clean_environment, kill_group
from tests.support.stub_aws import Stubs, answer

ROOT = Path(__file__).resolve().parents[2]
FAMILY = SERVICE = "hokusai-mlflow-proxy-development"
REGISTRY = "ACCOUNT.dkr.ecr.us-east-1.amazonaws.com"
REPOSITORY = f"{REGISTRY}/hokusai-mlflow-proxy"
DIGEST = "sha256:" + "d" * 64
KEY = "key-of-the-smoke-test"
ALARMS = [f"{SERVICE}-5xx", f"{SERVICE}-no-healthy-task"]
GUARDS_ON = {
    "maximumPercent": 200,
    "minimumHealthyPercent": 100,
    "deploymentCircuitBreaker": {"enable": True, "rollback": True},
    "alarms": {"alarmNames": ALARMS, "enable": True, "rollback": True},
}
EXPIRED = answer(code=254, error="An error occurred (ExpiredTokenException) when calling X: the token is expired\n")
AWAY = answer(code=254, error="Could not connect to the endpoint URL\n")
REFUSED = answer(code=254, error="An error occurred (InvalidParameterException) when calling X: no\n")
READ_ONLY = {"taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities", "registeredAt"}
READ_ONLY |= {"registeredBy", "deregisteredAt", "deleteRequestedAt"}


def arn(revision: int) -> str:
    """A task definition's ARN."""
    return f"arn:aws:ecs:us-east-1:ACCOUNT:task-definition/{FAMILY}:{revision}"


def definition(revision: int, status: str = "ACTIVE", **more: Any) -> dict[str, Any]:
    """What describe-task-definition answers; with every field that registering refuses."""
    containers = [
        {"name": "mlflow-proxy", "image": f"{REPOSITORY}@sha256:{revision}", "environment": [], "stopTimeout": 120},
        {"name": "log-router", "image": "router:1"},
    ]
    made = {name: "of AWS" for name in READ_ONLY} | {"taskDefinitionArn": arn(revision), "status": status}
    rest = {"family": FAMILY, "containerDefinitions": containers, "cpu": "1024", "networkMode": "awsvpc"}
    tags = [{"key": "team", "value": "platform"}, {"key": "aws:cloudformation:x", "value": "of AWS"}]
    return {"taskDefinition": {**made, **rest, **more}, "tags": tags}


def deployment(id: str, revision: int, state: str, status: str = "PRIMARY", reason: str = "") -> dict[str, Any]:
    """A deployment of a service."""
    counts = {"desiredCount": 2, "runningCount": 1, "pendingCount": 1, "failedTasks": 0}
    says = {"rolloutState": state, "rolloutStateReason": reason}
    return {"id": id, "status": status, "taskDefinition": arn(revision), **counts, **says}


def service(*deployments: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What describe-services answers."""
    primary = next(one for one in deployments if one["status"] == "PRIMARY")
    base = {"status": "ACTIVE", "desiredCount": 2, "runningCount": 2, "taskDefinition": primary["taskDefinition"]}
    rest = {"deployments": list(deployments), "events": [], "deploymentConfiguration": GUARDS_ON}
    return {"services": [{**base, **rest, **more}], "failures": []}


def updated(*deployments: dict[str, Any]) -> dict[str, Any]:
    """What update-service answers."""
    return {"service": service(*deployments)["services"][0]}


BEFORE = service(deployment("d1", 6, "COMPLETED"))
DONE = service(deployment("d2", 8, "COMPLETED"))
UNDER_WAY = service(deployment("d2", 8, "IN_PROGRESS"), deployment("d1", 6, "COMPLETED", "ACTIVE"))
BACK = service(deployment("d3", 6, "COMPLETED"), deployment("d2", 8, "COMPLETED", "ACTIVE"))


class Pages(BaseHTTPRequestHandler):
    """The registry as users see it. `broken` are beginnings of paths that answer 503, `keyless`: said without a key."""

    broken: tuple[str, ...] = ()
    keyless: tuple[int, dict[str, Any]]
    seen: list[tuple[str, str]]

    def do_GET(self) -> None:
        credential = self.headers.get("Authorization", "")
        self.seen.append((self.path, credential))
        status, content = self._answer(credential)
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, credential: str) -> tuple[int, dict[str, Any]]:
        if self.path.startswith(self.broken or ("nothing",)):
            return 503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "MLflow does not answer"}
        if "/health/mlflow" in self.path:
            return 200, {"status": "healthy", "checks": {}}
        if self.path.endswith("/health"):
            return 200, {"status": "ok", "version": "0.1.0"}
        if credential != f"Bearer {KEY}":
            return self.keyless
        return 200, {"files": []} if "artifacts" in self.path else {}

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


NO_KEY = (401, {"error_code": "UNAUTHENTICATED", "message": "no"})


@contextmanager
def registry(*broken: str, keyless: tuple[int, dict[str, Any]] = NO_KEY) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A registry on this machine: its address, and what it was asked (path, credential)."""
    seen: list[tuple[str, str]] = []
    handler = type("Handler", (Pages,), {"broken": broken, "keyless": keyless, "seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def checkout(folder: Path) -> Path:
    """A repository with one commit that holds what the scripts read, and nothing else."""
    root = folder / "checkout"
    (root / "scripts").mkdir(parents=True)
    for path in (ROOT / "scripts").glob("*.sh"):
        shutil.copy2(path, root / "scripts")
    shutil.copytree(ROOT / "scripts" / "lib", root / "scripts" / "lib")
    (root / "app").mkdir()
    (root / "app" / "__init__.py").write_text('VERSION = "0.1.0"\n')
    subprocess.run(["git", "init", "-q"], cwd=root, check=True, env=clean_environment({"HOME": str(folder)}))
    commit(root)
    return root


def commit(root: Path) -> None:
    """Commit all there is."""
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["add", "."], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *command], cwd=root, check=True, env=clean_environment({"HOME": str(root.parent)}))


@dataclass
class Scene:
    """A checkout, the stubs, and where the registry is. Unless a test says otherwise, everything goes well.

    `smoke`: the real smoke test asks the registry; without it a stub says that all is well, which is faster.
    """

    folder: Path
    url: str = "http://127.0.0.1:9"
    smoke: bool = True
    stubs: Stubs = field(init=False)
    root: Path = field(init=False)
    environ: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.root = checkout(self.folder)
        self.stubs = Stubs(self.folder / "stubs", ("aws", "docker", "infra-python", "mlflow-python", "smoke_test.sh"))
        on = self.stubs.on
        on("aws sts get-caller-identity", {"Arn": "arn:aws:iam::ACCOUNT:user/deployer"})
        on("aws ecs describe-services", BEFORE, UNDER_WAY, DONE)
        on("aws ecs describe-task-definition", definition(6))
        on("aws ecs list-task-definitions", {"taskDefinitionArns": [arn(6), arn(5)]})
        on("aws cloudwatch describe-alarms", alarms())
        repository = {"repositoryUri": REPOSITORY, "imageTagMutability": "MUTABLE"}
        on("aws ecr describe-repositories", {"repositories": [repository]})
        on("aws ecr get-login-password", "a-password")
        on("aws ecr describe-images", {"imageDetails": [{"imageDigest": DIGEST}]})
        on("aws ecs register-task-definition", {"taskDefinition": {"taskDefinitionArn": arn(8)}})
        on("aws ecs update-service", updated(deployment("d2", 8, "IN_PROGRESS")))
        on("aws ecs deregister-task-definition", {})
        on("aws ecs list-tasks", {"taskArns": []})
        for call in ("version", "build", "push", "login"):
            on(f"docker {call}", "")
        on("docker image", json.dumps([f"{REPOSITORY}@{DIGEST}"]))
        on("infra-python -c", "")
        on("infra-python scripts/check_live_rules.py", rules(100))
        on("mlflow-python -c", "")
        on("smoke_test.sh", "Smoke test passed: 1 check\n")
        if not self.smoke:
            shutil.copy2(self.stubs.bin / "smoke_test.sh", self.root / "scripts" / "smoke_test.sh")
            commit(self.root)
        on("mlflow-python test_real_registration.py", "PASSED: 21 steps\n")
        path = f"{self.stubs.bin}{os.pathsep}{os.environ['PATH']}"
        pythons = {"INFRA_PYTHON": "infra-python", "MLFLOW_PYTHON": "mlflow-python"}
        self.environ = {"PATH": path, "HOME": str(self.folder), "HOKUSAI_API_KEY": KEY, **pythons}

    def start(
        self, *options: str, script: str = "deploy_proxy_routing_fix.sh", stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """Start a script as a process group of its own; both streams into one."""
        command = [str(self.root / "scripts" / script), *options]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=clean_environment(self.environ),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @contextmanager
    def under_way(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """A deployment for as long as a with block lasts: what is left of it then is killed."""
        with self.start("--url", self.url, *options) as process:
            try:
                yield process
            finally:
                kill_group(process.pid)

    def run(self, *options: str, script: str = "deploy_proxy_routing_fix.sh") -> tuple[int, str]:
        """Run a script to its end: exit code, and all that it wrote."""
        with self.start("--url", self.url, "--poll", "0.05", *options, script=script) as process:
            try:
                written, _ = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                kill_group(process.pid)
                raise AssertionError(f"the script did not end: {process.communicate()[0]}") from None
        return process.returncode, written

    def forget(self) -> None:
        """As if nothing had been called yet: answers begin anew."""
        (self.stubs.folder / "calls.jsonl").unlink()

    def orders(self) -> list[tuple[str, Mapping[str, Any]]]:
        """What update-service was told: revision (empty: only the guards), and deployment configuration."""
        found = []
        for call in self.stubs.calls("aws ecs update-service"):
            options = dict(zip(call["argv"], call["argv"][1:], strict=False))
            revision = options.get("--task-definition", "").rpartition(":")[2]
            found.append((revision, json.loads(options["--deployment-configuration"])))
        return found

    def named(self) -> list[str]:
        """The names of all calls, in order."""
        return [call["call"] for call in self.stubs.calls()]


def rules(weight: int) -> dict[str, Any]:
    """What check_live_rules.py says when the rules are the same and give the proxy so much."""
    return answer("The live rules are those of the repository.\n", json={"same": True, "proxy_weight": weight})


def alarms(state: str = "OK") -> dict[str, Any]:
    """What describe-alarms answers."""
    return {"MetricAlarms": [{"AlarmName": name, "StateValue": state} for name in ALARMS], "CompositeAlarms": []}
