"""A client that goes away, or seems to: C01-C03, C11, C12."""

from __future__ import annotations

import socket
import time

import pytest

from tests.faults.scenes import (
    BLOCK,
    FRAMINGS,
    GET_ARTIFACT,
    OK,
    answer_raw,
    leave,
    part,
    pour,
    upload_head,
    wait_until,
)
from tests.functional.keyed import ARTIFACTS, SEARCH, ask, begun, head
from tests.support.client import read_response
from tests.support.mlflow_server import MlflowServer
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk

pytestmark = pytest.mark.faults


def assert_cut_when_left(proxy: Proxy, upstream: RecordingUpstream, framing: str, how: str) -> None:
    """Leave amid an upload: within a second MLflow's connection ends, its body does not, and the greenlet is done."""
    name = f"left-{framing}-{how}-{time.monotonic()}"
    with begun(proxy, upload_head(framing, 10_000_000, ("X-Request-ID", name)) + part(framing, BLOCK)) as sock:
        (seen,) = upstream.wait_for(1, heads=True)
        wait_until(lambda: seen.body_size >= 262_144, 3.0, "the first block upstream")
        left = time.monotonic()
        leave(sock, how)
    assert seen.wait_closed(1.5) - left < 1.0
    upstream.wait_for(1)
    assert not seen.complete and not seen.raw_body.endswith(b"0\r\n\r\n")
    line = proxy.access_line(name, timeout=1.0)
    assert (line["outcome"], line["upstream_status"]) == ("client_gone", 0)
    assert ask(proxy, "GET", "/mlflow/version").status == 200


@pytest.mark.parametrize("framing", FRAMINGS)
def test_c01_an_upload_left_with_a_fin_is_cut_upstream(hasty: Proxy, upstream: RecordingUpstream, framing: str) -> None:
    assert_cut_when_left(hasty, upstream, framing, "FIN")


@pytest.mark.parametrize("cut", [b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n", b"5"])
def test_c01_a_chunked_upload_cut_anywhere_never_ends_well(
    hasty: Proxy, upstream: RecordingUpstream, cut: bytes
) -> None:
    with begun(hasty, upload_head("chunked", 0) + chunk(BLOCK) + cut) as sock:
        upstream.wait_for(1, heads=True)
        sock.shutdown(socket.SHUT_WR)
        assert read_response(sock).status in (0, 400)
    (seen,) = upstream.wait_for(1)
    seen.wait_closed(1.0)
    assert not seen.complete and not seen.raw_body.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_c02_an_upload_left_with_a_reset_is_cut_upstream(
    hasty: Proxy, upstream: RecordingUpstream, framing: str
) -> None:
    assert_cut_when_left(hasty, upstream, framing, "RST")


@pytest.mark.parametrize("how", ["FIN", "RST"])
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


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("framing", [b"Content-Length: 10000000000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_c03_a_download_that_was_left_is_cut_upstream(
    hasty: Proxy, upstream: RecordingUpstream, framing: bytes, how: str
) -> None:
    pour(upstream, framing)
    name = f"dropped-{time.monotonic()}"
    with begun(hasty, GET_ARTIFACT[:-2] + f"X-Request-ID: {name}\r\n\r\n".encode()) as sock:
        assert sock.recv(100)
        left = time.monotonic()
        leave(sock, how)
    (seen,) = upstream.wait_for(1)
    assert seen.wait_closed(2.5) - left < 2.0
    assert hasty.access_line(name)["outcome"] == "client_gone"
    upstream.reset()
    assert ask(hasty, "GET", f"/mlflow{SEARCH}").status == 200
    assert upstream.requests[0].connection != seen.connection


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
