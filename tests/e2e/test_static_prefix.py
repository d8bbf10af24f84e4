"""A real MLflow that was started with `--static-prefix /mlflow`: the prefix is MLFLOW_SERVER_URL's path.

MLflow's streaming routes for artifacts are the exception: GET and PUT of them stay at its root, whatever its prefix.
Under the prefix both answer as well, by way of its Flask application, which holds a whole upload in memory. What goes
where, and what that costs MLflow, is measured here.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.auth_service import GOOD_KEY, AuthService
from tests.support.client import RawResponse, request
from tests.support.fleet import fleet
from tests.support.memory import GroupMemory
from tests.support.mlflow_server import MlflowServer, run_client
from tests.support.process import REPOSITORY
from tests.support.proxy import Proxy

PREFIX = "/mlflow"
API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
HEADERS = [("Authorization", f"Bearer {GOOD_KEY}"), ("Content-Type", "application/json")]
MOUNTS = ("/api/mlflow", "/mlflow", "")
BIG_BLOCKS, BLOCK_BYTES = 300, 2**20
MOST_GROWTH_KB = 64 * 1024  # of MLflow, while 300 MiB go through it
# method, path behind the mount, body: what this release of MLflow moves with the prefix, although it is of artifacts
MOVING = [
    ("HEAD", f"{ARTIFACTS}/{{}}", None),
    ("GET", f"{ARTIFACTS}?path={{}}", None),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/create/folder", {"path": "{}", "num_parts": 1}),
    ("GET", "/api/2.0/mlflow-artifacts/presigned/{}", None),
    ("DELETE", f"{ARTIFACTS}/{{}}", None),
]


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    directory = tmp_path_factory.mktemp("prefixed")
    with MlflowServer(directory, ["--static-prefix", PREFIX], health_path=f"{PREFIX}/health") as server:
        yield server


@pytest.fixture(scope="module")
def proxies(prefixed: MlflowServer, session_auth_service: AuthService) -> Iterator[dict[str, Proxy]]:
    """One for each way to set MLFLOW_NATIVE_ARTIFACTS; "" is not to set it."""
    env = {"MLFLOW_SERVER_URL": prefixed.url + PREFIX, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    with fleet() as start:
        yield {
            setting: start({**env, **({"MLFLOW_NATIVE_ARTIFACTS": setting} if setting else {})})
            for setting in ("", "true", "false")
        }


@pytest.fixture(scope="module")
def proxy(proxies: dict[str, Proxy]) -> Proxy:
    return proxies[""]


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


def blocks() -> Iterator[bytes]:
    """300 MiB, no block like another."""
    for number in range(BIG_BLOCKS):
        yield hashlib.sha256(b"%d" % number).digest() * (BLOCK_BYTES // 32)


def upload(proxy: Proxy, path: str) -> RawResponse:
    headers = [*HEADERS, ("Content-Length", str(BIG_BLOCKS * BLOCK_BYTES))]
    return request(proxy.port, "PUT", f"/api/mlflow{ARTIFACTS}/{path}", headers, blocks(), timeout=60)


def upstream_path(proxy: Proxy, answer: RawResponse) -> str:
    return str(proxy.access_line(answer.header("X-Request-ID") or "")["upstream_path"])


@pytest.mark.parametrize("setting", ["", "true"])
def test_300_megabytes_go_up_and_down_past_the_prefix_and_mlflow_does_not_grow(
    prefixed: MlflowServer, proxies: dict[str, Proxy], setting: str
) -> None:
    proxy, path, got = proxies[setting], f"big/{secrets.token_hex(4)}.bin", hashlib.sha256()
    stored, sent = prefixed.artifacts / path, hashlib.sha256()
    for block in blocks():
        sent.update(block)
    memory = GroupMemory(prefixed.pid)
    try:
        up = upload(proxy, path)
        down = request(proxy.port, "GET", f"/api/mlflow{ARTIFACTS}/{path}", HEADERS, timeout=60, sink=got.update)
    finally:
        stored.unlink(missing_ok=True)
    assert memory.growth_kb() < MOST_GROWTH_KB
    assert (up.status, down.status, down.complete, got.digest()) == (200, 200, True, sent.digest())
    assert [upstream_path(proxy, answer) for answer in (up, down)] == [f"{ARTIFACTS}/{path}"] * 2


def test_switched_off_they_go_by_the_prefix_where_mlflow_holds_them_in_memory(
    prefixed: MlflowServer, proxies: dict[str, Proxy]
) -> None:
    """What the setting is for, and that the measurement above can fail."""
    proxy, path = proxies["false"], f"big/{secrets.token_hex(4)}.bin"
    memory = GroupMemory(prefixed.pid)
    try:
        up = upload(proxy, path)
        part = request(proxy.port, "GET", f"/api/mlflow{ARTIFACTS}/{path}", [*HEADERS, ("Range", "bytes=0-31")])
    finally:
        (prefixed.artifacts / path).unlink(missing_ok=True)
    assert memory.growth_kb() > BIG_BLOCKS * BLOCK_BYTES // 1024
    assert (up.status, part.status, part.body) == (200, 206, next(blocks())[:32])
    assert [upstream_path(proxy, answer) for answer in (up, part)] == [f"{PREFIX}{ARTIFACTS}/{path}"] * 2


@pytest.mark.parametrize("setting", ["", "true", "false"])
@pytest.mark.parametrize(("method", "path", "body"), MOVING, ids=lambda value: str(value)[:50])
def test_what_has_no_native_route_goes_by_the_prefix(
    prefixed: MlflowServer, proxies: dict[str, Proxy], setting: str, method: str, path: str, body: dict[str, Any] | None
) -> None:
    name = f"moving/{secrets.token_hex(4)}.bin"
    stored = prefixed.artifacts / name
    stored.parent.mkdir(exist_ok=True)
    stored.write_bytes(b"12345")
    answer = ask(proxies[setting], method, "/api/mlflow" + path.format(name), body)
    assert upstream_path(proxies[setting], answer) == PREFIX + path.format(name).partition("?")[0]
    assert answer.status == (501 if "/mpu/" in path or "/presigned/" in path else 200)


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
