"""A large download, which the kernel moves past gunicorn: the same to both sides as one that was copied."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from tests.functional.exchanges import OK, wait_until
from tests.functional.keyed import ARTIFACT, begun, head
from tests.support.client import read_response
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream

MIB = 1024 * 1024
BODY = os.urandom(5 * MIB + 123)
GET = head("GET", f"/mlflow{ARTIFACT}")


def whole(conn: socket.socket, _: Recorded) -> None:
    conn.sendall(OK + b"Content-Length: %d\r\nETag: x\r\n\r\n" % len(BODY) + BODY)


def test_every_byte_arrives_and_both_connections_live_on(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    upstream.script(whole)
    with begun(shared_proxy, GET) as sock:
        for _ in range(3):
            response = read_response(sock)
            assert (response.status, response.complete, response.header("ETag")) == (200, True, "x")
            assert response.body == BODY
            sock.sendall(GET)
        read_response(sock)
    connections = {seen.connection for seen in upstream.wait_for(4)}
    assert len(connections) <= 2, "an upstream connection is used again, by each worker"


def test_the_access_line_counts_what_was_moved(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    upstream.script(whole)
    with begun(shared_proxy, head("GET", f"/mlflow{ARTIFACT}", ("X-Request-ID", "spliced-1"))) as sock:
        assert read_response(sock).complete
    line = shared_proxy.wait_line(lambda line: line.get("request_id") == "spliced-1")
    assert (line["bytes_out"], line["outcome"], line["status"]) == (len(BODY), "ok", 200)


@pytest.mark.parametrize("sent", [MIB + 5, 4 * MIB], ids=["amid the first", "later"])
def test_an_upstream_that_ends_early_resets_the_client(
    shared_proxy: Proxy, upstream: RecordingUpstream, sent: int
) -> None:
    def short(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:sent])
        conn.close()

    upstream.script(short)
    with begun(shared_proxy, head("GET", f"/mlflow{ARTIFACT}", ("X-Request-ID", f"spliced-{sent}"))) as sock:
        response = read_response(sock)
    assert response.reset and not response.complete
    assert BODY.startswith(response.body)
    line = shared_proxy.wait_line(lambda line: line.get("request_id") == f"spliced-{sent}")
    assert line["outcome"] == "upstream_aborted"


def test_surplus_behind_a_moved_body_is_nobodys(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    def more(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + OK + b"Content-Length: 6\r\n\r\nSECRET")

    upstream.script(more)
    with begun(shared_proxy, GET) as sock:
        assert read_response(sock).body == BODY
        upstream.script(whole)
        sock.sendall(GET)
        assert read_response(sock).body == BODY


def test_no_descriptor_stays_behind(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    def is_pipe(descriptor: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            return str(descriptor.readlink()).startswith("pipe:")
        return False

    def pipes() -> int:
        return sum(is_pipe(found) for pid in shared_proxy.pids() for found in Path(f"/proc/{pid}/fd").iterdir())

    before = pipes()
    upstream.script(whole)
    for _ in range(5):
        with begun(shared_proxy, GET) as sock:
            sock.recv(1000)  # and leaves
    wait_until(lambda: pipes() == before, 3.0, "all pipes given back")


def test_a_length_that_the_upstream_names_as_its_connections_own_is_the_bodys_all_the_same(
    shared_proxy: Proxy, upstream: RecordingUpstream
) -> None:
    """Without it gunicorn would send chunks, and what the kernel moves would be read as their sizes."""
    listed = b"Connection: keep-alive, Content-Length\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    upstream.script(lambda conn, _: conn.sendall(OK + listed + BODY))
    with begun(shared_proxy, GET) as sock:
        response = read_response(sock)
    assert (response.complete, response.header("Content-Length"), response.body) == (True, str(len(BODY)), BODY)
