"""Deploying and going back with the real `aws` and the real task definition, at an AWS that moto plays.

What it shows beyond test_deploy_scripts.py: that `aws` takes these commands, with the parameters it checks itself, and
that a revision goes through describe and register unharmed. moto starts no tasks: a deployment is completed at once.
Its describe-services knows no deployment configuration, and it has no list-service-deployments.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import terraform
from tests.support.deploy_scene import ALARMS, FAMILY, KEY, ROOT, SERVICE, registry
from tests.support.driver import driving
from tests.support.moto_server import INFRA, missing, moto
from tests.support.process import clean_environment
from tests.support.stub_aws import Stubs

CLUSTER = "hokusai-development"
MANIFEST = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []}
MANIFEST["config"] = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:0", "size": 1}
REASON = missing() or terraform.missing()
pytestmark = [
    pytest.mark.moto,
    pytest.mark.skipif(bool(REASON), reason=REASON or "moto and Terraform are there"),
]


@dataclass
class Cloud:
    """The AWS that moto plays, with the service; `stubs` has the only program that is not real, docker."""

    environ: dict[str, str]
    stubs: Stubs

    def aws(self, *arguments: Any) -> Any:
        """Call the real `aws`; what is no text goes as JSON."""
        words = [one if isinstance(one, str) else json.dumps(one) for one in arguments]
        command = [str(INFRA / "aws"), "--output", "json", *words]
        done = subprocess.run(command, env=clean_environment(self.environ), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    def run(self, url: str, script: str, *options: str) -> tuple[int, str]:
        """Run a script of this repository: exit code, and what it wrote."""
        path = os.pathsep.join((str(self.stubs.bin), str(INFRA), os.environ["PATH"]))
        pythons = {"INFRA_PYTHON": str(INFRA / "python"), "MLFLOW_PYTHON": "mlflow-python"}
        env = clean_environment({**self.environ, **pythons, "PATH": path, "HOKUSAI_API_KEY": KEY})
        command = [str(ROOT / "scripts" / script), "--yes", "--url", url, "--poll", "0.1", *options]
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.returncode, done.stdout

    def revision(self) -> int:
        """Which revision the service is to run."""
        found = self.aws("ecs", "describe-services", "--cluster", CLUSTER, "--services", SERVICE)["services"][0]
        return int(found["taskDefinition"].rpartition(":")[2])

    def definition(self, revision: int) -> Any:
        """A revision of the task definition."""
        return self.aws("ecs", "describe-task-definition", "--task-definition", f"{FAMILY}:{revision}")[
            "taskDefinition"
        ]


def planned_definition() -> dict[str, Any]:
    """The task definition that Terraform plans, as register-task-definition takes it."""
    resources = terraform.plan({"environment": "development"})["planned_values"]["root_module"]["resources"]
    found = next(one["values"] for one in resources if one["address"] == "aws_ecs_task_definition.proxy")
    return {
        "family": found["family"],
        "networkMode": found["network_mode"],
        "requiresCompatibilities": found["requires_compatibilities"],
        "cpu": found["cpu"],
        "memory": found["memory"],
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "executionRoleArn": f"arn:aws:iam::{'0' * 12}:role/execution",
        "tags": [{"key": "team", "value": "platform"}],
        "containerDefinitions": containers(found.get("container_definitions")),
    }


def containers(planned: str | None) -> Any:
    """The containers of a plan. Where ARNs are not known yet, Terraform shows none: then one with what matters here."""
    if planned:
        return json.loads(planned)
    fields = {"name": "mlflow-proxy", "image": "old", "essential": True, "readonlyRootFilesystem": True}
    secrets = [{"name": "REDIS_AUTH_TOKEN", "valueFrom": "arn:aws:secretsmanager:us-east-1:ACCOUNT:secret:x"}]
    environment = [{"name": "API_PORT", "value": "8001"}]
    return [{**fields, "stopTimeout": 120, "secrets": secrets, "environment": environment}]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with moto(MOTO_ECS_SERVICE_RUNNING="2") as environ:
        with driving(environ) as driver:
            arns = driver.ask("make", "development", 100)
        groups = {f"TF_VAR_{name}_target_group_arn": arns[name] for name in ("api", "auth")}
        cloud = Cloud({**environ, **groups}, Stubs(tmp_path / "stubs", ("docker", "mlflow-python")))
        aws = cloud.aws
        aws("ecs", "create-cluster", "--cluster-name", CLUSTER)
        aws("ecs", "register-task-definition", "--cli-input-json", planned_definition())
        place = ("--cluster", CLUSTER, "--service-name", SERVICE)
        aws("ecs", "create-service", *place, "--task-definition", FAMILY, "--desired-count", "2")
        for name in ALARMS:
            metric = ("--namespace", "N", "--metric-name", "M", "--statistic", "Sum", "--period", "60")
            when = ("--threshold", "1", "--comparison-operator", "GreaterThanThreshold", "--evaluation-periods", "1")
            aws("cloudwatch", "put-metric-alarm", "--alarm-name", name, *metric, *when)
        repository = aws("ecr", "create-repository", "--repository-name", "hokusai-mlflow-proxy")["repository"]
        put = ("--repository-name", "hokusai-mlflow-proxy", "--image-tag", "v2", "--image-manifest", MANIFEST)
        digest = aws("ecr", "put-image", *put)["image"]["imageId"]["imageDigest"]
        for word in ("version", "build", "push", "login"):
            cloud.stubs.on(f"docker {word}", "")
        cloud.stubs.on("docker image", json.dumps([f"{repository['repositoryUri']}@{digest}"]))
        for call in ("mlflow-python -c", "mlflow-python test_real_registration.py"):
            cloud.stubs.on(call, "")
        yield cloud


def deploy(cloud: Cloud, url: str) -> tuple[int, str]:
    """Deploy v2."""
    options = ("--allow-dirty", "--image-tag", "v2", "--alarms", ",".join(ALARMS))
    return cloud.run(url, "deploy_proxy_routing_fix.sh", *options)


def test_deploy_and_go_back_on_demand(cloud: Cloud) -> None:
    with registry() as (url, _):
        code, written = deploy(cloud, url)
        assert code == 0, written
        assert cloud.revision() == 2
        old, new = cloud.definition(1), cloud.definition(2)
        assert "/hokusai-mlflow-proxy@sha256:" in new["containerDefinitions"][0].pop("image")
        old["containerDefinitions"][0].pop("image")
        changes = {name for name in old | new if old.get(name) != new.get(name)}
        assert changes - {"registeredAt"} == {"revision", "taskDefinitionArn"}

        code, written = cloud.run(url, "rollback_proxy.sh")
        assert code == 0 and "gives this proxy 100 of 100 requests" in written, written
        assert cloud.revision() == 1


def test_the_smoke_test_fails_and_the_old_revision_comes_back(cloud: Cloud) -> None:
    with registry("/api/mlflow/api") as (url, _):
        code, written = deploy(cloud, url)
    assert code == 6, written
    assert cloud.revision() == 1
    assert cloud.definition(2)["status"] == "INACTIVE"
