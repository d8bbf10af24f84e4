"""Multipart, presigned and listing calls where MLflow's store is a local folder, which can do none of the first two.

What MLflow says then has to reach the client word for word: the client looks for the sentence in the JSON, and falls
back to a plain upload or download (mlflow/store/artifact/http_artifact_repo.py, _try_multipart_upload). With a store
that can, see test_s3_store.py.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from tests.support.artifacts import ARTIFACTS, AUTHORIZED, artifact_client, digest
from tests.support.client import RawResponse, request
from tests.support.mlflow_server import MlflowServer
from tests.support.proxy import Proxy

STORE = "/api/2.0/mlflow-artifacts"
TRACKING = "/api/2.0/mlflow"
PART = {"part_number": 1, "etag": '"0"', "url": "http://127.0.0.1/"}
UPLOAD = "Multipart upload is not supported for the current artifact repository"
DOWNLOAD = "Multipart download is not supported for the current artifact repository"
UNSUPPORTED: dict[str, tuple[str, str, dict[str, Any] | None, str]] = {
    "create": ("POST", f"{STORE}/mpu/create/folder", {"path": "a b.bin", "num_parts": 3}, UPLOAD),
    "complete": ("POST", f"{STORE}/mpu/complete/folder", {"path": "x", "upload_id": "u", "parts": [PART]}, UPLOAD),
    "abort": ("POST", f"{STORE}/mpu/abort/folder", {"path": "x", "upload_id": "u"}, UPLOAD),
    "presigned": ("GET", f"{STORE}/presigned/folder/a%20b.bin", None, DOWNLOAD),
}
MOUNTS = ("/api/mlflow", "/mlflow", "")


def ask(port: int, method: str, target: str, body: dict[str, Any] | None = None) -> RawResponse:
    sent = None if body is None else json.dumps(body).encode()
    return request(port, method, target, [*AUTHORIZED, ("Content-Type", "application/json")], sent, timeout=30)


@pytest.fixture(scope="module")
def run_id(mlflow_server: MlflowServer) -> str:
    name = f"multipart {secrets.token_hex(4)}"
    experiment = ask(mlflow_server.port, "POST", f"{TRACKING}/experiments/create", {"name": name}).json()
    run = ask(mlflow_server.port, "POST", f"{TRACKING}/runs/create", experiment).json()
    return str(run["run"]["info"]["run_id"])


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("call", UNSUPPORTED)
def test_what_the_store_cannot_do_is_said_in_mlflows_own_words(real_proxy: Proxy, mount: str, call: str) -> None:
    method, path, body, message = UNSUPPORTED[call]
    answer = ask(real_proxy.port, method, mount + path, body)
    assert (answer.status, answer.header("Content-Type")) == (501, "application/json")
    assert answer.json() == {"error_code": "NOT_IMPLEMENTED", "message": message}


@pytest.mark.parametrize("call", UNSUPPORTED)
def test_and_byte_for_byte(real_proxy: Proxy, mlflow_server: MlflowServer, call: str) -> None:
    method, path, body, _ = UNSUPPORTED[call]
    direct = ask(mlflow_server.port, method, path, body)
    assert ask(real_proxy.port, method, "/api/mlflow" + path, body).body == direct.body


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_presigned_urls_of_a_run_are_refused_in_mlflows_own_words(
    real_proxy: Proxy, mlflow_server: MlflowServer, run_id: str, direction: str
) -> None:
    """Of a run whose files are under mlflow-artifacts:, MLflow hands out no URLs, whatever its store can do."""
    body, path = {"run_id": run_id, "path": "model.bin"}, f"{TRACKING}/artifacts/presigned-{direction}-url"
    answer, direct = ask(real_proxy.port, "POST", "/mlflow" + path, body), ask(mlflow_server.port, "POST", path, body)
    assert (answer.status, answer.body) == (direct.status, direct.body)
    assert (answer.status, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "presigned" in answer.json()["message"].lower()


def test_a_client_that_is_told_to_use_multipart_falls_back_and_the_file_is_whole(
    real_proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    source, folder = tmp_path / "model of mine.bin", f"fallback-{secrets.token_hex(4)}"
    source.write_bytes(secrets.token_bytes(1_000_000))
    env = {
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
        "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1",
    }
    base, target = f"{real_proxy.url}/api/mlflow", tmp_path / "got"
    target.mkdir()
    seen = artifact_client("multipart", base, env=env, source=source, folder=folder, target=target)
    stored = mlflow_server.artifacts / folder / source.name
    assert digest(source) == digest(stored) == digest(target / source.name)
    tried = [call.replace(f"{base}{STORE}", "") for call in seen["calls"] if folder in call]
    assert tried == [
        f"POST /mpu/create/{folder}",
        f"PUT /artifacts/{folder}/{source.name}",
        f"GET /presigned/{folder}/{source.name}",
        f"GET /artifacts/{folder}/{source.name}",
    ]


def test_a_client_that_is_told_nothing_does_not_try(real_proxy: Proxy, tmp_path: Path) -> None:
    """It asks server-info whether MLflow's store can; through the proxy it learns that it cannot."""
    source, folder = tmp_path / "model.bin", f"plain-{secrets.token_hex(4)}"
    source.write_bytes(b"x" * 100)
    env, target = {"MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1"}, tmp_path / "got"
    target.mkdir()
    base = real_proxy.url + "/api/mlflow"
    seen = artifact_client("multipart", base, env=env, source=source, folder=folder, target=target)
    assert f"GET {base}/api/3.0/mlflow/server-info" in seen["calls"]
    assert not [call for call in seen["calls"] if "/mpu/" in call or "/presigned/" in call]


def test_a_listing_names_what_is_there_as_without_the_proxy(real_proxy: Proxy, mlflow_server: MlflowServer) -> None:
    """The path is in the query, which goes through as it is: `+` and `%20`, an escaped slash, several keys."""
    folder = mlflow_server.artifacts / f"listing {secrets.token_hex(4)}" / "a+b"
    folder.mkdir(parents=True)
    for name in ("x y.bin", "\u00e9.bin", "+.bin"):
        (folder / name).write_bytes(b"123")
    parent = folder.parent.name
    plus = parent.replace(" ", "+")
    for query in (
        f"path={plus}%2Fa%2Bb",
        f"path={plus}/a%2Bb",
        f"path={parent.replace(' ', '%20')}",
        "path=",
        "a=1&a=2",
    ):
        answer = ask(real_proxy.port, "GET", f"/api/mlflow{ARTIFACTS}?{query}")
        direct = ask(mlflow_server.port, "GET", f"{ARTIFACTS}?{query}")
        assert (answer.status, answer.json()) == (200, direct.json())
    listed = ask(real_proxy.port, "GET", f"/api/mlflow{ARTIFACTS}?path={plus}%2Fa%2Bb").json()["files"]
    assert {file["path"]: int(file["file_size"]) for file in listed} == {"x y.bin": 3, "\u00e9.bin": 3, "+.bin": 3}


def test_a_listing_that_climbs_out_is_refused_by_mlflow_with_json(real_proxy: Proxy) -> None:
    answer = ask(real_proxy.port, "GET", f"/api/mlflow{ARTIFACTS}?path=..%2F..")
    assert (answer.status, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
