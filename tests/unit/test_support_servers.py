"""The test servers and the raw client, tried on each other: a recorder that lies makes every other test worthless."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.client import open_connection, raw_exchange, read_response, request
from tests.support.upstream import Recorded, RecordingUpstream, chunk, reset_connection

CHUNKED_HEAD = b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def server() -> Iterator[RecordingUpstream]:
    with RecordingUpstream() as upstream:
        yield upstream


def send_and_close(server: RecordingUpstream, data: bytes, *, reset: bool = False) -> Recorded:
    """Send bytes, end the connection, and give the first record."""
    with open_connection(server.port) as sock:
        sock.sendall(data)
        if reset:
            server.wait_for(1, heads=True)
            reset_connection(sock)
    return server.wait_for(1)[0]


def test_the_line_and_the_headers_are_recorded_as_they_came(server: RecordingUpstream) -> None:
    head = b"GET /a%2fB//?x=%zz&&x HTTP/1.1\r\nhOsT: x\r\nX-Two:b\xe9 \r\nX-Two:  \x0ca\r\n\r\n"
    assert b'{"ok": true}' in raw_exchange(server.port, head)
    [recorded] = server.wait_for(1)
    assert recorded.line == b"GET /a%2fB//?x=%zz&&x HTTP/1.1"
    assert recorded.headers == [(b"hOsT", b"x"), (b"X-Two", b"b\xe9"), (b"X-Two", b"\x0ca")]
    assert (recorded.raw_head, recorded.raw_body, recorded.framing) == (head, b"", [])
    assert recorded.complete and recorded.fault is None


def test_a_chunked_body_is_recorded_raw_and_decoded(server: RecordingUpstream) -> None:
    raw = b"3;ext=1\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n"
    raw_exchange(server.port, CHUNKED_HEAD + raw)
    [recorded] = server.wait_for(1)
    assert (recorded.raw_body, recorded.body, recorded.complete) == (raw, b"abc0123456789", True)
    assert recorded.trailers == [(b"X-Sum", b"7")]


def test_bodies_of_known_and_unknown_length_arrive_as_the_client_was_told(server: RecordingUpstream) -> None:
    request(server.port, "POST", "/a", body=b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
    request(server.port, "POST", "/b", body=iter([b"ab", b"", b"c"]))
    request(server.port, "POST", "/c", [("Content-Length", "0")])
    first, second, third = server.wait_for(3)
    assert first.body == b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"
    assert second.raw_body == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert second.framing == [(b"Transfer-Encoding", b"chunked")]
    assert (third.raw_body, third.complete) == (b"", True)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "data",
    [b"PUT /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcd", CHUNKED_HEAD + b"5\r\nabcde\r\n", CHUNKED_HEAD + b"0\r\n"],
)
def test_a_body_that_ends_early_is_incomplete(server: RecordingUpstream, data: bytes, reset: bool) -> None:
    before, scripted = time.monotonic(), list[Recorded]()
    server.script(lambda conn, recorded: scripted.append(recorded))
    recorded = send_and_close(server, data, reset=reset)
    assert not recorded.complete
    assert before < recorded.wait_closed(1.0) <= time.monotonic()
    assert not scripted


def test_a_head_that_ends_early_is_recorded(server: RecordingUpstream) -> None:
    recorded = send_and_close(server, b"GET /a HTTP/1.1\r\nHos")
    assert (recorded.line, recorded.complete) == (b"GET /a HTTP/1.1", False)
    assert recorded.fault


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        CHUNKED_HEAD + b"0x5\r\nabcde\r\n0\r\n\r\n",
        CHUNKED_HEAD + b"2\r\nabcde\r\n0\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_broken_framing_is_named_and_never_complete(server: RecordingUpstream, data: bytes) -> None:
    recorded = send_and_close(server, data)
    assert recorded.fault and not recorded.complete


def test_a_smuggled_request_shows_up_as_a_second_record(server: RecordingUpstream) -> None:
    head = CHUNKED_HEAD[:-2] + b"Content-Length: 40\r\n\r\n"
    raw_exchange(server.port, head + b"0\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n", responses=2)
    first, second = server.wait_for(2)
    assert first.fault == "Content-Length beside Transfer-Encoding"
    assert (second.line, second.connection) == (b"GET /evil HTTP/1.1", first.connection)


def test_connections_are_counted_and_kept_only_when_asked(server: RecordingUpstream) -> None:
    with open_connection(server.port) as sock:
        for line in (b"GET /1 HTTP/1.1", b"GET /2 HTTP/1.1\r\nConnection: close"):
            sock.sendall(line + b"\r\n\r\n")
            assert read_response(sock).json() == {"ok": True}
        assert sock.recv(1) == b""
    request(server.port, "GET", "/3")
    assert [recorded.connection for recorded in server.wait_for(3)] == [1, 1, 2]
    assert server.connections == 2


def test_a_canned_answer_is_sent_as_it_stands(server: RecordingUpstream) -> None:
    server.respond_with(418, [("x-B", "2"), ("X-a", "\xe9"), ("Content-Length", "2")], b"ab")
    assert raw_exchange(server.port, b"GET / HTTP/1.1\r\n\r\n") == (
        b"HTTP/1.1 418 I'm a Teapot\r\nx-B: 2\r\nX-a: \xe9\r\nContent-Length: 2\r\n\r\nab"
    )
    server.respond_with(200, [], b"ab")
    response = request(server.port, "GET", "/")
    assert (response.headers, response.framing, response.body, response.complete) == ([], "close", b"ab", True)


def test_an_answer_leaves_the_connection_open_only_where_it_says_so(server: RecordingUpstream) -> None:
    server.respond_with(200, [("Content-Length", "2")], b"ab")
    with open_connection(server.port) as sock:
        sock.sendall(b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        assert read_response(sock, "HEAD").body == b""
        assert read_response(sock).body == b"ab"
    server.respond_with(200, [("Content-Length", "0"), ("Connection", "close")])
    with open_connection(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_response(sock).complete
        assert sock.recv(1) == b""


def test_expect_is_answered_with_100(server: RecordingUpstream) -> None:
    response = request(server.port, "PUT", "/", [("Expect", "100-continue")], b"ab")
    assert (response.status, response.interim) == (200, [100])


def test_large_bodies_can_be_counted_without_being_kept() -> None:
    with RecordingUpstream(keep_bodies=False) as server:
        request(server.port, "PUT", "/", body=iter([b"x" * 1_000_000] * 20))
        [recorded] = server.wait_for(1)
        assert (recorded.body_size, recorded.complete) == (20_000_000, True)
        assert recorded.sha256 == hashlib.sha256(b"x" * 20_000_000).hexdigest()
        with pytest.raises(LookupError):
            _ = recorded.body


def test_an_error_in_a_script_surfaces_and_a_connection_error_does_not() -> None:
    def broken(conn: socket.socket, recorded: Recorded) -> None:
        assert recorded.line == b"never"

    def gone(conn: socket.socket, recorded: Recorded) -> None:
        raise ConnectionResetError

    with pytest.raises(ExceptionGroup, match="recording upstream"), RecordingUpstream() as server:
        server.script(broken)
        assert request(server.port, "GET", "/").status == 0
    with RecordingUpstream() as server:
        server.script(gone)
        request(server.port, "GET", "/")


def test_the_time_of_the_peers_close_is_noted_while_a_script_is_busy(server: RecordingUpstream) -> None:
    server.script(lambda conn, recorded: server.stopping.wait(5))
    with open_connection(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        [recorded] = server.wait_for(1)
        time.sleep(0.1)
        assert recorded.closed_at is None
        left = time.monotonic()
    assert left <= recorded.wait_closed(1.0) < left + 0.5


def test_our_own_close_is_not_the_peers(server: RecordingUpstream) -> None:
    server.script(lambda conn, recorded: conn.shutdown(socket.SHUT_RDWR))
    with open_connection(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_response(sock).status == 0
        time.sleep(0.2)  # for the server's threads to see what there is to see
        assert server.wait_for(1)[0].closed_at is None


def test_an_early_answer_reaches_a_client_that_is_still_sending(server: RecordingUpstream) -> None:
    def refuse(conn: socket.socket, recorded: Recorded) -> None:
        conn.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        server.stopping.wait(5)
        conn.close()

    server.script_head(refuse)
    before = time.monotonic()
    response = request(server.port, "PUT", "/", body=iter([bytes(65536)] * 1000))
    assert (response.status, response.complete, response.reset) == (413, True, False)
    assert time.monotonic() - before < 2
    assert not server.wait_for(1, heads=True)[0].complete


CUTS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"abc"),
}


@pytest.mark.parametrize("framing", list(CUTS))
@pytest.mark.parametrize("reset", [False, True])
def test_the_client_tells_a_cut_from_a_reset(server: RecordingUpstream, framing: str, reset: bool) -> None:
    def cut(conn: socket.socket, recorded: Recorded) -> None:
        conn.sendall(CUTS[framing])
        reset_connection(conn) if reset else conn.close()

    server.script(cut)
    response = request(server.port, "GET", "/")
    assert (response.framing, response.body, response.complete) == (framing, b"abc", False)
    assert response.reset is reset


def test_the_client_reads_one_response_and_nothing_beyond(server: RecordingUpstream) -> None:
    both = b"HTTP/1.1 103 Hints\r\n\r\n" + CUTS["chunked"] + b"0\r\nT: 1\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    server.script(lambda conn, recorded: conn.sendall(both))
    with open_connection(server.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        first, second = read_response(sock), read_response(sock)
    assert (first.body, first.complete, first.interim, first.trailers) == (b"abc", True, [103], [("T", "1")])
    assert (second.status, second.complete) == (204, True)


@pytest.mark.parametrize(
    "answer", [b"garbage\r\n\r\n", b"HTTP/1.1 99999 No\r\n\r\n", CUTS["chunked"] + b"zz\r\n", CUTS["length"][:30]]
)
def test_a_response_that_breaks_the_protocol_is_never_complete(server: RecordingUpstream, answer: bytes) -> None:
    server.script(lambda conn, recorded: conn.sendall(answer))
    assert not request(server.port, "GET", "/", [("Connection", "close")]).complete


def test_an_error_of_the_bodys_iterable_reaches_the_caller(server: RecordingUpstream) -> None:
    def broken() -> Iterator[bytes]:
        yield b"abc"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        request(server.port, "PUT", "/", body=broken())
    assert not server.wait_for(1)[0].complete
