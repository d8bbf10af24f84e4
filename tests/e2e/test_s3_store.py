"""MLflow with its artifacts in S3, which moto plays: multipart uploads and presigned downloads through the proxy.

The calls that order them go through the proxy; the bytes go to S3 directly. An upload that does not use them is copied
by MLflow to S3 after its last byte, a download comes without a length. `make test-s3` installs moto and runs this.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.artifacts import ARTIFACTS, AUTHORIZED, artifact_client, digest, digests, fill
from tests.support.auth_service import AuthService
from tests.support.client import RawResponse, request
from tests.support.mlflow_server import MlflowServer
from tests.support.moto_server import CREDENTIALS, moto
from tests.support.process import REPOSITORY
from tests.support.proxy import Proxy

pytestmark = pytest.mark.s3

ENVIRONMENT = REPOSITORY / ".venv-s3"
STORE = "/api/2.0/mlflow-artifacts"
BUCKET = "models"
MEBIBYTE = 2**20
PART_BYTES = 5 * MEBIBYTE  # the least that S3 takes for a part that is not the last
SIZE = 4 * PART_BYTES + 12345
MULTIPART = {
    "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1",
    "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(PART_BYTES),
    "MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE": str(PART_BYTES),
}


@dataclass(frozen=True)
class Bucket:
    """A bucket of the moto server on this port, which asks for a signature and looks at none."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, key: str) -> RawResponse:
        signed = "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
        return request(self.port, "GET", f"/{BUCKET}/{key}", [("Authorization", signed)], timeout=30)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    assert ENVIRONMENT.is_dir(), f"{ENVIRONMENT} is missing: run `make test-s3`"
    with moto((str(ENVIRONMENT / "bin" / "moto_server"),)) as environ:
        port = int(environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
        assert request(port, "PUT", f"/{BUCKET}", [("Content-Length", "0")]).status == 200
        yield Bucket(port)


@pytest.fixture(scope="module")
def server(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """MLflow's own environment has no boto3: it finds moto's."""
    packages = tmp_path_factory.mktemp("packages")
    (site,) = ENVIRONMENT.glob("lib/python3.*/site-packages")
    for name in ("boto3", "botocore", "s3transfer", "jmespath"):
        (packages / name).symlink_to(site / name)
    env = {**CREDENTIALS, "PYTHONPATH": str(packages), "MLFLOW_S3_ENDPOINT_URL": bucket.url}
    options = ["--artifacts-destination", f"s3://{BUCKET}/store"]
    with MlflowServer(tmp_path_factory.mktemp("mlflow"), options, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(server: MlflowServer, session_auth_service: AuthService) -> Iterator[Proxy]:
    with Proxy({"MLFLOW_SERVER_URL": server.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}) as one:
        yield one


def ask(proxy: Proxy, method: str, path: str, body: Any = None) -> RawResponse:
    sent = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = [*AUTHORIZED, ("Content-Type", "application/json")]
    return request(proxy.port, method, "/api/mlflow" + path, headers, sent, timeout=60)


def test_the_client_learns_through_the_proxy_that_mlflow_can_do_multipart(proxy: Proxy) -> None:
    info = ask(proxy, "GET", "/api/3.0/mlflow/server-info").json()
    assert (info["multipart_uploads_enabled"], info["multipart_downloads_enabled"]) == (True, True)


def test_a_file_goes_up_in_parts_and_comes_down_in_ranges_and_is_whole(
    proxy: Proxy, bucket: Bucket, tmp_path: Path
) -> None:
    source, folder, target = tmp_path / "a model.bin", f"parts-{secrets.token_hex(4)}", tmp_path / "got"
    source.write_bytes(secrets.token_bytes(SIZE))
    target.mkdir()
    base = proxy.url + "/api/mlflow"
    seen = artifact_client("multipart", base, env=MULTIPART, source=source, folder=folder, target=target)
    stored = bucket.get(f"store/{folder}/a%20model.bin")
    assert hashlib.sha256(stored.body).hexdigest() == digest(source) == digest(target / source.name)
    assert seen["listed"] == [[source.name, SIZE]]
    calls = [call.replace(base + STORE, "PROXY").replace(bucket.url, "S3") for call in seen["calls"] if folder in call]
    key = f"S3/{BUCKET}/store/{folder}/a%20model.bin"
    assert calls[0] == f"POST PROXY/mpu/create/{folder}"
    assert calls[1:6] == [f"PUT {key}"] * 5
    assert calls[6] == f"POST PROXY/mpu/complete/{folder}"
    assert [call for call in calls[7:] if "/artifacts" not in call] == [
        f"GET PROXY/presigned/{folder}/a model.bin",
        *[f"GET {key}"] * 5,
    ]
    assert f"PUT PROXY/artifacts/{folder}/{source.name}" not in calls


def test_an_upload_that_is_called_off_leaves_nothing(proxy: Proxy, bucket: Bucket) -> None:
    folder = f"aborted-{secrets.token_hex(4)}"
    made = ask(proxy, "POST", f"{STORE}/mpu/create/{folder}", {"path": "x.bin", "num_parts": 2}).json()
    assert [part["part_number"] for part in made["credentials"]] == [1, 2]
    given_up = {"path": "x.bin", "upload_id": made["upload_id"]}
    assert ask(proxy, "POST", f"{STORE}/mpu/abort/{folder}", given_up).status == 200
    part = {"part_number": 1, "etag": '"0"', "url": made["credentials"][0]["url"]}
    late = ask(proxy, "POST", f"{STORE}/mpu/complete/{folder}", {**given_up, "parts": [part]})
    assert late.status >= 400 and "error_code" in late.json()
    assert bucket.get(f"store/{folder}/x.bin").status == 404
    assert f"{folder}/x.bin" not in bucket.get("?uploads").body.decode()


@pytest.mark.parametrize("size", [0, 1, SIZE])
def test_a_file_that_mlflow_copies_to_s3_and_back_is_whole(proxy: Proxy, bucket: Bucket, size: int) -> None:
    path, content = f"copied-{secrets.token_hex(4)}/model.bin", secrets.token_bytes(size)
    assert ask(proxy, "PUT", f"{ARTIFACTS}/{path}", content).status == 200
    assert bucket.get(f"store/{path}").body == content
    down = ask(proxy, "GET", f"{ARTIFACTS}/{path}")
    assert (down.status, down.complete, down.framing, down.body == content) == (200, True, "chunked", True)


def test_names_files_listing_and_delete_work_as_with_a_local_store(
    proxy: Proxy, bucket: Bucket, tmp_path: Path
) -> None:
    names = ["two words.bin", "a+b.bin", "100%.bin", "a&b=c;d'e~.bin", "caf\u00e9/\u6a21\u578b.bin", ".hidden"]
    source, target = fill(tmp_path / "source", {name: secrets.token_bytes(1000) for name in names}), tmp_path / "got"
    target.mkdir()
    seen = artifact_client("round_trip", proxy.url + "/api/mlflow", source=source, target=target)
    assert digests(target) == digests(source)
    assert seen["listed"] == dict.fromkeys(names, 1000)
    prefix = seen["artifact_uri"].partition(":/")[2].lstrip("/")
    assert ask(proxy, "DELETE", f"{ARTIFACTS}/{prefix}/a+b.bin").status == 200
    assert bucket.get(f"store/{prefix}/a%2Bb.bin").status == 404
    assert bucket.get(f"store/{prefix}/two%20words.bin").status == 200


def test_what_is_not_there_has_the_status_that_mlflow_gives_it_in_json(proxy: Proxy, server: MlflowServer) -> None:
    """MLflow makes a 500 in plain text of a missing file in S3, and a 404 where it is asked for a presigned URL."""
    for path, status in ((f"{ARTIFACTS}/nowhere/x.bin", 500), (f"{STORE}/presigned/nowhere/x.bin", 404)):
        missing = ask(proxy, "GET", path)
        assert missing.status == request(server.port, "GET", path, timeout=30).status == status
        assert missing.json()["error_code"] in ("INTERNAL_ERROR", "RESOURCE_DOES_NOT_EXIST")
