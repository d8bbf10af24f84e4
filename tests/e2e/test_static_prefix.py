"""A real MLflow that was started with `--static-prefix /mlflow`: the prefix is MLFLOW_SERVER_URL's path."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.auth_service import GOOD_KEY, AuthService
from tests.support.client import RawResponse, request
from tests.support.mlflow_server import MlflowServer, run_client
from tests.support.proxy import REPOSITORY, Proxy

PREFIX = "/mlflow"
API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
HEADERS = [("Authorization", f"Bearer {GOOD_KEY}"), ("Content-Type", "application/json")]
MOUNTS = ("/api/mlflow", "/mlflow", "")


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    directory = tmp_path_factory.mktemp("prefixed")
    with MlflowServer(directory, ["--static-prefix", PREFIX], health_path=f"{PREFIX}/health") as server:
        yield server


@pytest.fixture(scope="module")
def proxy(prefixed: MlflowServer, session_auth_service: AuthService) -> Iterator[Proxy]:
    env = {"MLFLOW_SERVER_URL": prefixed.url + PREFIX, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    with Proxy(env) as one:
        yield one


def ask(proxy: Proxy, method: str, target: str, body: dict[str, Any] | bytes | None = None) -> RawResponse:
    sent = json.dumps(body).encode() if isinstance(body, dict) else body
    return request(proxy.port, method, target, HEADERS, sent, timeout=30)


@pytest.mark.parametrize("mount", MOUNTS)
def test_version_experiments_and_registry_work_on_every_mount(proxy: Proxy, mount: str) -> None:
    name = f"prefixed-{secrets.token_hex(4)}"
    assert (ask(proxy, "GET", f"{mount}/version").status, ask(proxy, "GET", f"{mount}/version").body[:2]) == (
        200,
        b"3.",
    )
    made = ask(proxy, "POST", f"{mount}{API}/experiments/create", {"name": name})
    assert made.status == 200
    found = ask(proxy, "GET", f"{mount}{API}/experiments/get-by-name?experiment_name={name}").json()
    assert found["experiment"]["experiment_id"] == made.json()["experiment_id"]
    assert ask(proxy, "POST", f"{mount}{API}/registered-models/create", {"name": name}).status == 200
    renamed = ask(proxy, "PATCH", f"{mount}{API}/registered-models/update", {"name": name, "description": "x"})
    assert renamed.json()["registered_model"]["description"] == "x"
    assert ask(proxy, "DELETE", f"{mount}{API}/registered-models/delete", {"name": name}).status == 200
    gone = ask(proxy, "GET", f"{mount}{API}/registered-models/get?name={name}")
    assert (gone.status, gone.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("mount", MOUNTS[:2])
def test_the_probes_find_mlflow_behind_its_prefix(proxy: Proxy, mount: str) -> None:
    report = request(proxy.port, "GET", f"{mount}/health/mlflow/detailed").json()
    assert report["status"] == "healthy" and report["versions"]["mlflow"].startswith("3.")


@pytest.mark.parametrize("mount", MOUNTS)
def test_an_artifact_comes_back_as_it_was_sent(proxy: Proxy, prefixed: MlflowServer, mount: str) -> None:
    """Of these, MLflow serves the upload and the download twice: under the prefix by its Flask app, which holds bodies,
    and without it by its streaming routes (`moves_with_prefix` in the route table). Either gives the bytes back.
    """
    content, path = secrets.token_bytes(3_000_000), f"{mount}{ARTIFACTS}/prefixed/{secrets.token_hex(4)}/model.bin"
    assert ask(proxy, "PUT", path, content).status == 200
    stored = prefixed.artifacts / path.partition("/artifacts/")[2]
    assert stored.read_bytes() == content
    download = ask(proxy, "GET", path)
    assert (download.status, download.complete, download.body == content) == (200, True, True)
    listed = ask(proxy, "GET", f"{mount}{ARTIFACTS}?path={stored.parent.relative_to(prefixed.artifacts)}")
    assert [file["path"] for file in listed.json()["files"]] == ["model.bin"]
    assert ask(proxy, "DELETE", path).status == 200
    assert not stored.exists()


def test_an_artifact_that_is_not_there_is_404_in_json(proxy: Proxy) -> None:
    missing = ask(proxy, "GET", f"/mlflow{ARTIFACTS}/prefixed/none.bin")
    assert (missing.status, missing.header("Content-Type")) == (404, "application/json")


def test_the_acceptance_script_passes(proxy: Proxy) -> None:
    env = {"MLFLOW_TRACKING_URI": proxy.url + "/api/mlflow", "HOKUSAI_API_KEY": GOOD_KEY}
    run = run_client(REPOSITORY / "test_real_registration.py", env)
    assert run.returncode == 0, run.stdout + run.stderr


def test_without_the_prefix_in_the_url_mlflow_is_not_found_and_health_says_so(
    prefixed: MlflowServer, session_auth_service: AuthService
) -> None:
    env = {"MLFLOW_SERVER_URL": prefixed.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    with Proxy(env) as proxy:
        report = request(proxy.port, "GET", "/mlflow/health/mlflow")
        answer = ask(proxy, "GET", f"/mlflow{API}/experiments/search?max_results=1")
    assert (report.status, report.json()["checks"]["experiments_api"]["status"]) == (503, "unhealthy")
    assert (answer.status, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
