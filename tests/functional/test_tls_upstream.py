"""MLflow behind TLS: the same transfers, where a readable socket may hold nothing but session tickets."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.keyed import ARTIFACT, SEARCH, ask, assert_refused, only
from tests.support.auth_service import AuthService
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
MAKE = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 in `cert.pem`, its key beside it in `key.pem`."""
    folder = tmp_path_factory.mktemp("tls")
    command = [*MAKE.split(), "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def secured(certificate: Path) -> Iterator[RecordingUpstream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with RecordingUpstream(tls=context) as server:
        yield server


@pytest.fixture(scope="module")
def trusting(secured: RecordingUpstream, certificate: Path, session_auth_service: AuthService) -> Iterator[Proxy]:
    urls = {"MLFLOW_SERVER_URL": secured.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    with Proxy({**urls, "MLFLOW_CA_BUNDLE_PATH": str(certificate), "ARTIFACT_READ_TIMEOUT_SECONDS": "3"}) as proxy:
        yield proxy


def test_one_handshake_serves_many_requests(trusting: Proxy, secured: RecordingUpstream) -> None:
    """First in this file, so that the connection is a new one."""
    secured.reset()
    for _ in range(3):
        assert ask(trusting, "POST", f"/mlflow{SEARCH}", (), b"{}").status == 200
    assert secured.connections <= 1


def slow_blocks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"b" * 300_000
        time.sleep(0.1)


def test_a_slow_upload_on_a_new_connection_is_whole(trusting: Proxy, secured: RecordingUpstream) -> None:
    secured.drop_connections()
    secured.reset()
    assert ask(trusting, "PUT", f"/mlflow{ARTIFACT}", (), slow_blocks(4)).status == 200
    assert only(secured).body == b"b" * 1_200_000


def test_a_download_that_breaks_off_is_cut(trusting: Proxy, secured: RecordingUpstream) -> None:
    def half(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        conn.close()

    secured.reset()
    secured.script(half)
    response = ask(trusting, "GET", f"/mlflow{ARTIFACT}")
    assert response.reset and not response.complete
    secured.reset()
    assert ask(trusting, "GET", f"/mlflow{ARTIFACT}").status == 200


def test_an_early_answer_before_a_close_ends_the_upload_at_once(trusting: Proxy, secured: RecordingUpstream) -> None:
    def refuse(conn: socket.socket, _: Recorded) -> None:
        head = b"HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\nConnection: close\r\n"
        conn.sendall(head + b"Content-Length: 2\r\n\r\n{}")
        conn.close()

    secured.reset()
    secured.script_head(refuse)
    start = time.monotonic()
    response = ask(trusting, "PUT", f"/mlflow{ARTIFACT}", (), slow_blocks(20))
    assert (response.status, response.body) == (413, b"{}")
    assert time.monotonic() - start < 3.0


def test_an_upstream_that_nobody_vouches_for_is_502(
    secured: RecordingUpstream, session_auth_service: AuthService
) -> None:
    secured.reset()
    urls = {"MLFLOW_SERVER_URL": secured.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    with Proxy(urls) as proxy:
        response = ask(proxy, "POST", f"/mlflow{SEARCH}", (), b"{}")
    body = assert_refused(response, 502, "TEMPORARILY_UNAVAILABLE")
    assert "certificate" not in body["message"] and secured.requests == []
