"""The acceptance script as users run it, against the proxy before a real MLflow: how it passes, and how it fails."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.auth_service import GOOD_KEY, AuthService, new_key
from tests.support.mlflow_server import MlflowServer, run_client
from tests.support.process import REPOSITORY
from tests.support.proxy import Proxy

SCRIPT: Path = REPOSITORY / "test_real_registration.py"
REQUEST_ID = re.compile(r"request id (\S+)")
Run = subprocess.CompletedProcess[str]


def register(proxy: Proxy, mount: str, key: str) -> Run:
    """Run the script against a mount, without the retries of the client: a failure comes soon."""
    env = {"MLFLOW_TRACKING_URI": proxy.url + mount, "HOKUSAI_API_KEY": key, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    return run_client(SCRIPT, env)


def steps(run: Run, mark: str) -> list[str]:
    """The names of the steps with this mark."""
    return re.findall(rf"^ *{mark} +([a-zA-Z ]+?)(?:  .*)?$", run.stdout, re.MULTILINE)


@pytest.fixture(scope="module")
def without_artifacts(mlflow_server: MlflowServer, session_auth_service: AuthService) -> Iterator[Proxy]:
    env = {"MLFLOW_SERVER_URL": mlflow_server.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    with Proxy({**env, "MLFLOW_SERVE_ARTIFACTS": "false"}) as proxy:
        yield proxy


@pytest.mark.usefixtures("auth_service")
@pytest.mark.parametrize("mount", ["/api/mlflow", "/mlflow", ""])
def test_a_model_is_registered_by_the_standard_client(real_proxy: Proxy, mount: str) -> None:
    run = register(real_proxy, mount, GOOD_KEY)
    assert run.returncode == 0, run.stdout + run.stderr
    verdict = run.stdout.splitlines()[-1]
    assert re.fullmatch(r"PASSED: \d+ steps in [\d.]+ s", verdict)
    assert steps(run, "✗") == []
    done = steps(run, "✓")
    for step in ("create experiment", "create run", "upload artifact", "log model", "create registered model",
                 "create version", "search registered models", "load and predict"):  # fmt: skip  # several steps a line
        assert step in done
    assert GOOD_KEY not in run.stdout + run.stderr
    mounts = {line["mount"] for line in real_proxy.lines("proxy_request") if line["action"] == "model-versions.create"}
    assert (mount or "/") in mounts


@pytest.mark.usefixtures("auth_service")
def test_a_wrong_key_fails_with_the_step_the_status_the_code_and_the_request_id(real_proxy: Proxy) -> None:
    key = new_key()
    run = register(real_proxy, "/api/mlflow", key)
    assert run.returncode == 1, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1].startswith("FAILED: ")
    assert steps(run, "✓") == []
    assert "create experiment" in steps(run, "✗")
    assert "HTTP 401" in run.stdout and "UNAUTHENTICATED" in run.stdout and "MLFLOW_TRACKING_TOKEN" in run.stdout
    named = REQUEST_ID.findall(run.stdout)
    assert named
    for request_id in named:
        line = real_proxy.access_line(request_id)
        assert (line["status"], line["error_code"], line["outcome"]) == (401, "UNAUTHENTICATED", "auth_denied")
    assert key not in run.stdout + run.stderr + real_proxy.output


@pytest.mark.usefixtures("auth_service")
def test_artifacts_that_are_switched_off_are_found_at_the_artifact_step(without_artifacts: Proxy) -> None:
    run = register(without_artifacts, "/api/mlflow", GOOD_KEY)
    assert run.returncode == 1, run.stdout + run.stderr
    assert steps(run, "✗")[0] == "upload artifact"
    assert {"create experiment", "create run", "log params", "log metrics"} <= set(steps(run, "✓"))
    assert "HTTP 503" in run.stdout and "Artifact storage is not configured" in run.stdout
    request_id = REQUEST_ID.findall(run.stdout)[0]
    assert without_artifacts.access_line(request_id)["error_kind"] == "artifacts_disabled"
