"""infrastructure/terraform as tests read it: the files themselves, always; and Terraform's plan, where there is one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hcl2
import pytest

from scripts.alb.rules import PLAIN, TERRAFORM
from tests.support import terraform

Container = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the Terraform files."""
    for path in TERRAFORM.glob("*.tf"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def files() -> dict[str, dict[str, Any]]:
    """What python-hcl2 reads in each file of the module, by the file's name. It evaluates nothing."""
    return {
        path.name: hcl2.loads(path.read_text(), serialization_options=PLAIN)
        for path in sorted(terraform.MODULE.glob("*.tf"))
    }


@pytest.fixture(scope="session")
def written(files: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every resource as it is written, by its address."""
    return {
        f"{kind}.{name}": block
        for content in files.values()
        for resource in content.get("resource", [])
        for kind, named in resource.items()
        for name, block in named.items()
    }


@pytest.fixture(scope="session")
def planned() -> dict[str, Any]:
    """Terraform's plan with the variables of terraform.tfvars.example."""
    if terraform.missing():
        pytest.skip(terraform.missing())
    return terraform.plan()


@pytest.fixture(scope="session")
def resources(planned: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every resource that the plan makes, by its address. What AWS makes up, such as an ARN, is not in it."""
    return {found["address"]: found["values"] for found in planned["planned_values"]["root_module"]["resources"]}


@pytest.fixture(scope="session")
def references(planned: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The expressions of every resource, with what they refer to, by its address."""
    return {found["address"]: found["expressions"] for found in planned["configuration"]["root_module"]["resources"]}


@pytest.fixture(scope="session")
def proxy(resources: dict[str, dict[str, Any]]) -> Container:
    """The proxy's container in its task definition."""
    return _container(resources["aws_ecs_task_definition.proxy"])


@pytest.fixture(scope="session")
def mlflow(resources: dict[str, dict[str, Any]]) -> Container:
    """MLflow's container in its task definition."""
    return _container(resources["aws_ecs_task_definition.mlflow"])


@pytest.fixture(scope="session")
def environment(proxy: Container) -> dict[str, str]:
    """The variables that the proxy's container is given in plain sight."""
    return {variable["name"]: variable["value"] for variable in proxy["environment"]}


def _container(definition: Mapping[str, Any]) -> Container:
    (container,) = json.loads(definition["container_definitions"])
    return dict(container)
