"""A client that goes away, or seems to: C01-C03, C11, C12."""

from __future__ import annotations

import socket
import time

import pytest

from tests.faults.scenes import GET_ARTIFACT
from tests.functional.exchanges import (
    BLOCK,
    CHUNKED_CUTS,
    FRAMINGS,
    LEAVING,
    OK,
    answer_raw,
    assert_a_cut_never_ends_well,
    assert_download_cut_when_left,
    assert_upload_cut_when_left,
    leave,
    part,
    pour,
)
from tests.functional.keyed import ARTIFACTS, SEARCH, ask, begun, head
from tests.support.client import read_response
from tests.support.mlflow_server import MlflowServer
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("framing", FRAMINGS)
def test_c01_an_upload_left_with_a_fin_is_cut_upstream(hasty: Proxy, upstream: RecordingUpstream, framing: str) -> None:
    assert_upload_cut_when_left(hasty, upstream, framing, "FIN")


@pytest.mark.parametrize("cut", CHUNKED_CUTS)
def test_c01_a_chunked_upload_cut_anywhere_never_ends_well(
    hasty: Proxy, upstream: RecordingUpstream, cut: bytes
) -> None:
    assert_a_cut_never_ends_well(hasty, upstream, cut)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_c02_an_upload_left_with_a_reset_is_cut_upstream(
    hasty: Proxy, upstream: RecordingUpstream, framing: str
) -> None:
    assert_upload_cut_when_left(hasty, upstream, framing, "RST")


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_c01_c02_mlflow_itself_stores_nothing_of_an_upload_that_was_left(
    real_proxy: Proxy, mlflow_server: MlflowServer, framing: str, how: str
) -> None:
    def upload(name: str, length: int, sent: bytes) -> bytes:
        frame = ("Transfer-Encoding", "chunked") if framing == "chunked" else ("Content-Length", str(length))
        return head("PUT", f"/mlflow{ARTIFACTS}/left/{name}", frame, ("X-Request-ID", name)) + part(framing, sent)

    whole, cut = f"whole-{framing}-{how}", f"cut-{framing}-{how}"
    with begun(real_proxy, upload(whole, len(BLOCK), BLOCK) + (chunk(b"") if framing == "chunked" else b"")) as sock:
        assert read_response(sock).status == 200
    with begun(real_proxy, upload(cut, 10_000_000, BLOCK)) as sock:
        time.sleep(0.3)  # MLflow is writing
        leave(sock, how)
    assert real_proxy.access_line(cut, timeout=1.5)["outcome"] == "client_gone"
    time.sleep(0.3)  # MLflow cleans up
    stored = sorted(path.name for path in (mlflow_server.artifacts / "left").iterdir())
    assert whole in stored and [name for name in stored if "cut" in name] == []
    assert ask(real_proxy, "GET", f"/mlflow{ARTIFACTS}/left/{cut}").status == 404


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("framing", [b"Content-Length: 10000000000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_c03_a_download_that_was_left_is_cut_upstream(
    hasty: Proxy, upstream: RecordingUpstream, framing: bytes, how: str
) -> None:
    pour(upstream, framing)
    assert_download_cut_when_left(hasty, upstream, how)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_c11_a_half_closed_client_gets_its_whole_answer(hasty: Proxy, upstream: RecordingUpstream, method: str) -> None:
    """Also when MLflow takes its time: a FIN alone does not say that nobody reads any more."""

    def slow(conn: socket.socket, _: Recorded) -> None:
        upstream.stopping.wait(0.3)
        conn.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(BLOCK))
        upstream.stopping.wait(0.3)
        conn.sendall(BLOCK)

    upstream.script(slow)
    body = b"{}" if method == "POST" else b""
    with begun(hasty, head(method, f"/mlflow{SEARCH}", ("Content-Length", str(len(body)))) + body) as sock:
        sock.shutdown(socket.SHUT_WR)
        response = read_response(sock)
    assert response.complete and response.body == BLOCK


@pytest.mark.parametrize("end", ["FIN", "RST", "silence"])
@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_c12_a_client_of_http_1_0_sees_a_reset_when_mlflow_fails_amid_its_answer(
    hasty: Proxy, upstream: RecordingUpstream, framing: bytes, end: str
) -> None:
    answer_raw(upstream, OK + framing + b"\r\n" + (chunk(b"some") if b"chunked" in framing else b"some"), end=end)
    with begun(hasty, GET_ARTIFACT.replace(b"HTTP/1.1", b"HTTP/1.0", 1)) as sock:
        response = read_response(sock)
    assert response.status == 200 and response.reset and not response.complete
