"""The real MLflow client at https://registry.hokus.ai, through the load balancer that HAProxy plays, on every mount.

The name leads to this machine for the client alone, and a throw-away certificate vouches for it. The proxy, MLflow and
the acceptance script are the real ones. What is not played as AWS does it: scripts/alb/haproxy.py.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.alb import NEEDS_HAPROXY, NEEDS_OPENSSL, Alb, at_the_public_hosts, make_certificate
from tests.support.artifacts import ARTIFACTS, artifact_client, digest, digests, fill
from tests.support.auth_service import GOOD_KEY
from tests.support.mlflow_server import MlflowServer, run_client
from tests.support.process import REPOSITORY
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

pytestmark = [NEEDS_HAPROXY, NEEDS_OPENSSL, pytest.mark.usefixtures("auth_service")]

PUBLIC = "https://registry.hokus.ai"
CLIENT = "mlflow-python-client"
LARGE = 5_000_001  # bytes, not a whole number of anybody's blocks


class Scene(NamedTuple):
    """The load balancer, the API beside the proxy, and what a client needs in its environment to meet them."""

    alb: Alb
    api: RecordingUpstream
    env: dict[str, str]
    certificate: Path


@pytest.fixture(scope="module")
def scene(real_proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("public")
    certificate = make_certificate(folder)
    with RecordingUpstream() as api:
        with Alb({"proxy": [real_proxy.port], "api": [api.port]}, certificate=certificate) as alb:
            yield Scene(alb, api, at_the_public_hosts(alb, certificate, folder), certificate)


@pytest.mark.parametrize("uri", ["", f"{PUBLIC}/mlflow", PUBLIC])
def test_the_acceptance_script_registers_a_model(scene: Scene, real_proxy: Proxy, uri: str) -> None:
    """Without an address it goes to the documented one, https://registry.hokus.ai/api/mlflow."""
    before = len(real_proxy.lines("proxy_request"))
    env = {**scene.env, "HOKUSAI_API_KEY": GOOD_KEY, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    run = run_client(REPOSITORY / "test_real_registration.py", {**env, **({"MLFLOW_TRACKING_URI": uri} if uri else {})})
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1].startswith("PASSED: ")
    asked = [line for line in real_proxy.lines("proxy_request")[before:] if CLIENT in line["user_agent"]]
    assert {"runs.create", "artifacts.upload", "artifacts.download", "model-versions.create"} <= {
        line["action"] for line in asked
    }
    assert (uri.removeprefix(PUBLIC) if uri else "/api/mlflow") in {line["mount"].rstrip("/") for line in asked}
    assert {line["client_ip"] for line in asked} == {"127.0.0.1"}
    assert scene.api.requests == []


def test_artifacts_come_back_as_they_were_stored(scene: Scene, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    contents = {
        "large.bin": hashlib.shake_256(b"large").digest(LARGE),
        "empty": b"",
        "a folder/naïve 100% a+b;c.txt": b"text\r\n" * 1000,
    }
    source, target = fill(tmp_path / "source", contents), tmp_path / "target"
    target.mkdir()
    uri = f"{PUBLIC}/api/mlflow"
    trip = artifact_client("round_trip", uri, env=scene.env, source=source, target=target)
    listed = {name: size or 0 for name, size in trip["listed"].items()}  # MLflow's client says None of an empty file
    assert listed == {name: len(content) for name, content in contents.items()}
    assert digests(target) == digests(source)
    kept = mlflow_server.artifacts / trip["artifact_uri"].removeprefix("mlflow-artifacts:/")
    assert digests(kept) == digests(source)


@pytest.mark.skipif(
    shutil.which("curl") is None or b"HTTP2" not in subprocess.run(["curl", "-V"], capture_output=True).stdout,
    reason="no curl that speaks HTTP/2",
)
def test_http_2_carries_transfers_too(
    scene: Scene, real_proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(hashlib.shake_256(b"second version").digest(LARGE))
    path = f"/mlflow{ARTIFACTS}/second/version.bin"
    url = f"{PUBLIC}:{scene.alb.tls_port}{path}"
    for way in (["--upload-file", str(source)], ["--output", str(target)]):
        where = ["--cacert", str(scene.certificate), "--resolve", f"registry.hokus.ai:{scene.alb.tls_port}:127.0.0.1"]
        header = ["--header", f"Authorization: Bearer {GOOD_KEY}", "--header", f"X-Request-ID: second{way[0]}"]
        told = ["--silent", "--show-error", "--http2", "--write-out", "\n%{http_version} %{http_code}"]
        run = subprocess.run(
            ["curl", *told, *where, *header, *way, url], capture_output=True, text=True, timeout=60, check=False
        )
        assert run.stdout.splitlines()[-1:] == ["2 200"], run.stdout + run.stderr
        assert real_proxy.access_line(f"second{way[0]}")["path"] == path
    assert digest(target) == digest(source) == digest(mlflow_server.artifacts / "second" / "version.bin")
