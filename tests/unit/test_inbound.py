"""app/inbound.py over gunicorn's own readers: the body on its way in, and the ways in which a client can vanish."""

from __future__ import annotations

import io
from typing import Any

import pytest
from gunicorn.http import errors as parse

from app.errors import BadRequest, BodyTooLarge, ClientGone
from app.inbound import BLOCK, Body, announced_length
from app.scope import RequestScope
from tests.unit import samples
from tests.unit.arriving import CHUNKED, Client, chunked, framed, gunicorn_request, of_length

NEXT = b"GET /mlflow/version HTTP/1.1\r\nHost: h\r\n\r\n"


def arrive(
    framing: str, *packets: bytes | Exception, most: int | None = None, ahead: bytes = b""
) -> tuple[Body, RequestScope, Any, Client]:
    """A body with its scope, gunicorn's request and the client's socket."""
    request, client = gunicorn_request(framing, *packets, ahead=ahead)
    scope = samples.scope("PUT")
    return Body(framed(framing, request), scope, most), scope, request, client


def whole(body: Body) -> bytes:
    """All of a body; a block is valid until the next one is asked for."""
    return b"".join(bytes(block) for block in body)


@pytest.mark.parametrize(
    ("environ", "length"),
    [
        ({}, 0),
        ({"CONTENT_LENGTH": ""}, 0),
        ({"CONTENT_LENGTH": "0"}, 0),
        ({"CONTENT_LENGTH": "12"}, 12),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, None),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}, None),
    ],
    ids=str,
)
def test_the_length_is_what_was_announced_and_none_when_chunked(environ: dict[str, str], length: int | None) -> None:
    assert announced_length(environ) == length


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
@pytest.mark.parametrize("read_ahead", [0, 1, 1000], ids=lambda count: f"{count} bytes with the head")
def test_a_body_of_known_length_comes_out_as_it_went_in_and_is_counted(length: int, read_ahead: int) -> None:
    sent = (bytes(range(256)) * (length // 256 + 1))[:length]
    body, scope, _, _ = arrive(of_length(length), sent[read_ahead:], ahead=sent[:read_ahead])
    assert whole(body) == sent
    assert (scope.bytes_in, body.length) == (length, length)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000, BLOCK, 10 * BLOCK], ids=lambda size: f"packets of {size}")
def test_a_chunked_body_comes_out_as_it_went_in_however_its_packets_are_cut(size: int) -> None:
    chunks = [b"a", b"bc" * 50, b"x" * (3 if size < 1000 else 2 * BLOCK + 1)]
    wire = chunked(*chunks)
    packets = [wire[start : start + size] for start in range(0, len(wire), size)]
    body, scope, _, _ = arrive(CHUNKED, *packets)
    assert whole(body) == b"".join(chunks)
    assert (scope.bytes_in, body.length) == (len(b"".join(chunks)), None)


def test_a_chunks_size_may_come_in_a_packet_of_its_own() -> None:
    """Then there is nothing to give yet: that is not the end of the body."""
    assert (
        whole(arrive(CHUNKED, b"5\r\n", b"hello\r\n", b"6\r\n", b" world", b"\r\n", b"0\r\n\r\n")[0]) == b"hello world"
    )
    assert whole(arrive(CHUNKED, b"hello\r\n0\r\n\r\n", ahead=b"5\r\n")[0]) == b"hello"


def test_an_empty_chunked_body_is_empty() -> None:
    body, scope, _, _ = arrive(CHUNKED, b"0\r\n\r\n")
    assert (whole(body), scope.bytes_in) == (b"", 0)


@pytest.mark.parametrize(
    ("framing", "packets"),
    [
        (of_length(3), [b"abc" + NEXT]),
        (of_length(3), [b"a", b"bc", NEXT]),
        (of_length(0), [NEXT]),
        (CHUNKED, [chunked(b"abc") + NEXT]),
        (CHUNKED, [b"3\r\n", b"abc\r\n0\r\n\r\n", NEXT]),
        (CHUNKED, [b"3\r\nabc\r\n0\r\n", b"X: y\r\n\r\n" + NEXT[:9], NEXT[9:]]),
        (CHUNKED, [chunked(b"abc"), NEXT]),
    ],
    ids=[
        "in one packet",
        "in packets of its own",
        "after no body",
        "after chunks",
        "after a lone size",
        "in part with the trailers",
        "in its own packet after chunks",
    ],
)
@pytest.mark.parametrize("with_head", [True, False], ids=["with the head", "after the head"])
def test_what_follows_on_the_connection_is_the_next_request(
    framing: str, packets: list[bytes], with_head: bool
) -> None:
    ahead, later = (packets[0], packets[1:]) if with_head else (b"", packets)
    body, scope, request, client = arrive(framing, *later, ahead=ahead)
    found = whole(body)
    assert (found, scope.bytes_in) == ((b"abc", 3) if framing != of_length(0) else (b"", 0))
    assert request.unreader.take_buffered() + client.left == NEXT


def test_what_a_client_has_sent_goes_on_at_once() -> None:
    body, scope, _, client = arrive(of_length(9), b"abc", b"def", b"ghi")
    blocks = iter(body)
    assert (bytes(next(blocks)), scope.bytes_in, client.left) == (b"abc", 3, b"defghi")
    body, scope, _, client = arrive(CHUNKED, b"3\r\nabc\r\n4\r\nd", chunked(b"def"))
    blocks = iter(body)
    assert (bytes(next(blocks)), scope.bytes_in, client.left) == (b"abcd", 4, chunked(b"def"))


def test_nothing_is_read_before_it_is_asked_for() -> None:
    _, scope, _, client = arrive(of_length(3), b"abc")
    assert (scope.bytes_in, client.left) == (0, b"abc")


@pytest.mark.parametrize("given", [(), (b"abc",), (b"abc", b"d")], ids=["nothing", "a part", "two parts"])
def test_a_body_that_ends_early_is_a_client_that_went_away(given: tuple[bytes, ...]) -> None:
    body, _, _, _ = arrive(of_length(9), *given)
    with pytest.raises(ClientGone) as raised:
        whole(body)
    assert (raised.value.outcome, raised.value.status) == ("client_gone", 400)


@pytest.mark.parametrize("end", range(len(chunked(b"hello", b"x"))))
@pytest.mark.parametrize("in_one", [True, False], ids=["in one packet", "byte by byte"])
def test_a_chunked_body_that_ends_early_is_a_client_that_went_away(end: int, in_one: bool) -> None:
    given = chunked(b"hello", b"x")[:end]
    body, _, request, _ = arrive(CHUNKED, *([given] if in_one else (given[at : at + 1] for at in range(end))))
    with pytest.raises(ClientGone) as raised:
        whole(body)
    assert (raised.value.kind, request.body.failed) == ("client_reset", True)


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError(), BrokenPipeError(), TimeoutError(), OSError(), parse.NoMoreData()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("framing", "packet"), [(of_length(9), b"abc"), (CHUNKED, b"3\r\nabc\r\n")], ids=["of known length", "chunked"]
)
def test_no_error_of_the_clients_socket_gets_out_as_one(framing: str, packet: bytes, error: OSError) -> None:
    """urllib3 would take it for the upstream's, and swallow it."""
    blocks = iter(arrive(framing, packet, error)[0])
    assert bytes(next(blocks)) == b"abc"
    with pytest.raises(ClientGone) as raised:
        next(blocks)
    kind = "client_stalled" if isinstance(error, TimeoutError) else "client_reset"
    assert (raised.value.kind, isinstance(raised.value, OSError)) == (kind, False)


@pytest.mark.parametrize(
    "wire",
    [
        b"zz\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3\nabc\n0\n\n",
        b"-1\r\nabc\r\n",
        b"3\r\nabcdef\r\n",
        b"3;\x01\r\nabc\r\n",
        b"0\r\nBad\r\n\r\n",
    ],
    ids=[
        "no number",
        "with 0x",
        "empty",
        "with a space",
        "with bare line feeds",
        "negative",
        "more than its size",
        "bad extension",
        "bad trailer",
    ],
)
def test_a_chunk_that_is_none_is_a_malformed_request(wire: bytes) -> None:
    """All that is refused is in test_chunks.py."""
    body, _, request, _ = arrive(CHUNKED, b"3\r\nabc\r\n", wire)
    blocks = iter(body)
    assert bytes(next(blocks)) == b"abc"
    with pytest.raises(BadRequest) as raised:
        while True:
            next(blocks)
    assert (raised.value.kind, raised.value.status, raised.value.outcome) == ("bad_chunk", 400, "client_error")
    assert request.body.failed, "where the next request begins is unknown"


def test_a_body_announced_too_large_is_refused_before_anything_is_read() -> None:
    with pytest.raises(BodyTooLarge) as raised:
        arrive(of_length(11), most=10)
    assert (raised.value.status, raised.value.headers) == (413, [])
    assert "10 bytes" in raised.value.message


@pytest.mark.parametrize(
    ("framing", "wire"), [(of_length(10), b"x" * 10), (CHUNKED, chunked(b"x" * 10))], ids=["of known length", "chunked"]
)
def test_a_body_of_exactly_the_limit_passes(framing: str, wire: bytes) -> None:
    assert whole(arrive(framing, wire, most=10)[0]) == b"x" * 10


def test_a_chunked_body_is_cut_where_it_passes_the_limit() -> None:
    blocks = iter(arrive(CHUNKED, b"a\r\n" + b"x" * 10, b"\r\n" + chunked(b"y"), most=10)[0])
    assert bytes(next(blocks)) == b"x" * 10
    with pytest.raises(BodyTooLarge):
        next(blocks)
    with pytest.raises(BodyTooLarge):  # of a block beyond it nothing is given
        next(iter(arrive(CHUNKED, chunked(b"x" * 10, b"y"), most=10)[0]))


@pytest.mark.parametrize("framing", [of_length(10**15), CHUNKED], ids=["of known length", "chunked"])
def test_without_a_limit_any_length_may_come(framing: str) -> None:
    assert arrive(framing)[0].length == (None if framing == CHUNKED else 10**15)


def test_without_gunicorn_a_body_is_read_too() -> None:
    """The development server and the tests' client have streams of their own."""

    class Stream:
        def read(self, size: int) -> bytes:
            return b"x" * size

    body = Body({"CONTENT_LENGTH": "7", "wsgi.input": Stream()}, samples.scope(), None)
    assert (whole(body), list(Body({"wsgi.input": Stream()}, samples.scope(), None))) == (b"x" * 7, [])


def test_without_gunicorn_a_chunked_body_is_read_or_refused_but_never_silently_empty() -> None:
    """The same holds for a gunicorn whose readers have changed: an upload must not become an empty artifact."""
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(b"abc")}
    try:
        found = whole(Body(environ, samples.scope(), None))
    except Exception:
        return
    assert found == b"abc"
