"""What is still under way when the time to drain is over: ended by the worker itself, which says so."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.functional.exchanges import OK
from tests.functional.keyed import ARTIFACT, SEARCH, begun, head
from tests.support.client import read_response
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk

# The server waits so long; a worker five seconds less.
SOON = {"GUNICORN_CMD_ARGS": "--graceful-timeout 6"}


def request(method: str, target: str, request_id: str, version: str = "1.1") -> bytes:
    sent = head(method, f"/mlflow{target}", ("X-Request-ID", request_id))
    return sent.replace(b"HTTP/1.1", f"HTTP/{version}".encode())


@pytest.fixture
def silent(upstream: RecordingUpstream) -> RecordingUpstream:
    """Answers downloads with a beginning, and nothing else at all."""

    def begin(conn: socket.socket, seen: Recorded) -> None:
        if ARTIFACT.encode() in seen.line:
            conn.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 1000))
        upstream.stopping.wait(20)

    upstream.script(begin)
    return upstream


def test_what_was_begun_is_reset_and_what_was_not_is_answered_and_both_have_their_line(
    silent: RecordingUpstream, proxy_env: dict[str, str]
) -> None:
    with (
        Proxy({**proxy_env, **SOON}) as proxy,
        begun(proxy, request("GET", ARTIFACT, "begun", "1.0"), 20.0) as download,
        begun(proxy, request("GET", SEARCH, "waiting"), 20.0) as search,
    ):
        silent.wait_for(2)
        assert download.recv(15).endswith(b" 200 OK")
        proxy.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):  # without a length, an end would be the body's
            while download.recv(65536):
                pass
        answer = read_response(search)
        assert (answer.status, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert answer.header("Retry-After") == "1"
        proxy.wait_exit()
        for name, status in (("begun", 200), ("waiting", 503)):
            line = proxy.access_line(name)
            assert (line["status"], line["outcome"], line["error_kind"]) == (status, "proxy_error", "drained")
        assert proxy.lines("unhandled_exception") == []
