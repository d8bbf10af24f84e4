"""An upload that is refused while its client goes on sending: the refusal arrives, and nobody else pays for it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.functional.exchanges import OK, Pouring
from tests.functional.keyed import ARTIFACT, BEARER, SEARCH, ask, begun, head
from tests.support.client import open_connection, read_response, request
from tests.support.proxy import Proxy
from tests.support.response import RawResponse
from tests.support.upstream import Recorded, RecordingUpstream, chunk, reset_connection

GIGABYTES = 4_000_000_000
BLOCK = b"b" * 1_000_000
SECONDS = 1.5

REFUSALS = {
    "no key": (f"PUT /mlflow{ARTIFACT}", "", 401),
    "an unknown route": ("PUT /mlflow/no/such", "key", 404),
    "a malformed target": ("PUT /mlflow/%2e%2e/x", "key", 400),
    "a JSON body over the limit": (f"POST /mlflow{SEARCH}", "key", 413),
    "health": ("POST /health", "", 404),
}


def refused_head(case: str) -> bytes:
    line, key, _ = REFUSALS[case]
    credential = f"{BEARER[0]}: {BEARER[1]}\r\n" if key else ""
    return f"{line} HTTP/1.1\r\nHost: a\r\n{credential}Content-Length: {GIGABYTES}\r\n\r\n".encode()


@pytest.fixture
def pouring(shared_proxy: Proxy, request: pytest.FixtureRequest) -> Iterator[tuple[Pouring, RawResponse]]:
    """A refused upload under way, and its refusal."""
    with open_connection(shared_proxy.port) as sock:
        sock.sendall(refused_head(request.param))
        with Pouring(sock, lambda: BLOCK, SECONDS) as client:
            yield client, read_response(sock)


@pytest.mark.parametrize(("pouring", "case"), [(c, c) for c in REFUSALS], indirect=["pouring"], ids=list(REFUSALS))
def test_a_refused_upload_hears_of_it_and_starves_nobody(
    shared_proxy: Proxy, upstream: RecordingUpstream, pouring: tuple[Pouring, RawResponse], case: str
) -> None:
    _, response = pouring
    assert response.complete and response.status == REFUSALS[case][2]
    for _ in range(5):
        start = time.monotonic()
        assert request(shared_proxy.port, "GET", "/health").status == 200
        assert time.monotonic() - start < 0.25, "another request waited for the refused upload"
    assert upstream.requests == []


def test_a_refused_upload_is_not_read_to_its_end(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    with open_connection(shared_proxy.port) as sock:
        sock.sendall(refused_head("no key"))
        with Pouring(sock, lambda: BLOCK, SECONDS) as client:
            assert read_response(sock).status == 401
    assert client.cut_at is not None, f"{client.sent} bytes were taken of a body that nobody wants"


def test_a_small_refused_body_leaves_the_connection_usable(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    head = f"POST /mlflow{SEARCH} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode()
    with open_connection(shared_proxy.port) as sock:
        for _ in range(3):
            sock.sendall(head + b"x" * 1000)
            assert read_response(sock).status == 401


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_a_refusal_survives_what_its_client_sent_meanwhile(
    shared_proxy: Proxy, upstream: RecordingUpstream, size: int
) -> None:
    """A close with bytes unread is a RST, which can take the answer along: the client reads only after sending."""
    for _ in range(3):
        with open_connection(shared_proxy.port) as sock:
            head = f"PUT /mlflow{ARTIFACT} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
            sock.sendall(head + b"x" * size)
            time.sleep(0.1)
            assert read_response(sock).status == 401
    assert ask(shared_proxy, "GET", "/mlflow/version").status == 200


def test_an_early_answer_that_breaks_off_is_reset_though_its_upload_was_not_read(
    shared_proxy: Proxy, upstream: RecordingUpstream
) -> None:
    """To HTTP/1.0 it has no length: a FIN, which is how a refused upload is finished with, would be its end."""

    def break_off(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"begun"))
        reset_connection(conn)

    upstream.script_head(break_off)
    sent = head("PUT", f"/mlflow{ARTIFACT}", ("Content-Length", "200000")).replace(b"HTTP/1.1", b"HTTP/1.0")
    with begun(shared_proxy, sent + b"x" * 1000) as sock, pytest.raises(ConnectionResetError):
        while sock.recv(65536):
            pass
