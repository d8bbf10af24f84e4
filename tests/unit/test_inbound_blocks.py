"""app/inbound.py: whether the next block can only come from the client, and our parser in the place of gunicorn's."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.http.errors import InvalidChunkSize, NoMoreData

from app import drain
from app.chunks import CRUMBS
from app.inbound import BLOCK, Body, ChunkedBlocks, blocks_of_chunks
from tests.unit import samples
from tests.unit.arriving import CHUNKED, Client, chunked, framed, gunicorn_request, of_length

NEXT = b"GET / HTTP/1.1\r\n\r\n"


def arrive(framing: str, *packets: bytes | Exception, ahead: bytes = b"") -> tuple[Body, Any, Client]:
    """A body, gunicorn's request and the client's socket."""
    request, client = gunicorn_request(framing, *packets, ahead=ahead)
    return Body(framed(framing, request), samples.scope("PUT"), None), request, client


# --- whether to wait for the client ---


@pytest.mark.parametrize(
    ("framing", "ahead", "awaits"),
    [
        (of_length(3), b"", True),
        (of_length(3), b"a", False),
        (of_length(3), b"abc", False),
        (of_length(0), b"", False),
        (of_length(0), NEXT, False),
        (CHUNKED, b"", True),
        (CHUNKED, b"3", False),
        (CHUNKED, b"3\r\nabc\r\n", False),
        (CHUNKED, chunked(b"abc") + NEXT, False),
    ],
)
def test_what_came_with_the_head_is_taken_before_the_client_is_waited_for(
    framing: str, ahead: bytes, awaits: bool
) -> None:
    body, _, client = arrive(framing, ahead=ahead)
    assert body.awaits_client() == awaits
    assert client.left == b"", "asking reads nothing"


@pytest.mark.parametrize(
    ("framing", "packets"),
    [(of_length(6), [b"abc", b"def"]), (CHUNKED, [b"3\r\nabc\r\n", b"3\r\ndef"])],
    ids=["of known length", "chunked"],
)
@pytest.mark.parametrize("with_head", [True, False], ids=["with the head", "after the head"])
def test_between_blocks_the_client_is_waited_for(framing: str, packets: list[bytes], with_head: bool) -> None:
    ahead, later = (packets[0], packets[1:]) if with_head else (b"", packets)
    body, _, _ = arrive(framing, *later, b"\r\n0\r\n\r\n" if framing == CHUNKED else b"", ahead=ahead)
    assert body.awaits_client() == (not with_head)
    blocks = iter(body)
    assert bytes(next(blocks)) == b"abc"
    assert body.awaits_client()
    assert bytes(next(blocks)) == b"def"
    assert body.awaits_client() == (framing == CHUNKED), "its end is still to come"
    assert b"".join(bytes(block) for block in blocks) == b""
    assert not body.awaits_client()


@pytest.mark.parametrize("begun", [b"3\r\nab", b"3\r\nabc", b"3\r\nabc\r", b"3\r\nabc\r\n3", b"3\r\nabc\r\n0\r\n"])
def test_a_chunk_of_which_a_part_is_there_waits_for_the_client(begun: bytes) -> None:
    """What is held back is no block: gunicorn's own parser would hide whether there is any."""
    body, _, _ = arrive(CHUNKED, begun)
    next(iter(body))
    assert body.awaits_client()


@pytest.mark.parametrize("wire", [chunked(b"abc"), b"3\r\nabc\r\n0\r\nX: y\r\n\r\n"])
@pytest.mark.parametrize("with_head", [True, False], ids=["with the head", "after the head"])
def test_a_last_block_that_came_with_its_end_is_not_waited_behind(wire: bytes, with_head: bool) -> None:
    """Nobody has asked for the block after it yet, so nothing else tells that there is none."""
    body, _, _ = arrive(CHUNKED, b"" if with_head else wire, ahead=wire if with_head else b"")
    blocks = iter(body)
    assert bytes(next(blocks)) == b"abc"
    assert not body.awaits_client()


@pytest.mark.parametrize("ahead", [b"", b"3\r\nabc\r\n"])
def test_after_the_last_chunk_nobody_is_waited_for_whatever_follows(ahead: bytes) -> None:
    wire = b"3\r\nabc\r\n0\r\n\r\n" + NEXT
    body, request, _ = arrive(CHUNKED, wire[len(ahead) :], ahead=ahead)
    for _ in body:
        pass
    assert not body.awaits_client()
    assert request.unreader.take_buffered() == NEXT


def test_where_it_is_not_known_nobody_is_waited_for() -> None:
    """Not under gunicorn, or under one whose readers are others."""
    assert not Body({"CONTENT_LENGTH": "7", "wsgi.input": object()}, samples.scope(), None).awaits_client()
    assert not Body(
        {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": object()}, samples.scope(), None
    ).awaits_client()


# --- in gunicorn's place ---


def test_one_reading_gives_one_block_and_an_empty_one_when_there_were_no_data() -> None:
    body, _, _ = arrive(CHUNKED, b"3", b"\r\nab", b"c\r\n1\r\nd\r\n", b"0\r\n", b"\r\n")
    assert [bytes(block) for block in body] == [b"", b"ab", b"cd", b"", b""]


def test_whoever_reads_on_begins_where_another_stopped() -> None:
    body, request, client = arrive(CHUNKED, b"6\r\nabc", b"def\r\n3\r\nghi", b"\r\n0\r\n\r\n" + NEXT)
    assert bytes(next(iter(body))) == b"abc"
    reader = request.body.reader
    assert isinstance(reader.parser, ChunkedBlocks)
    assert bytes(next(blocks_of_chunks(reader))) == b"defghi"
    assert drain.is_unread(request.body)
    assert [bytes(block) for block in blocks_of_chunks(reader)] == [b""]
    assert reader.parser is None and not drain.is_unread(request.body)
    assert request.unreader.take_buffered() + client.left == NEXT


def test_gunicorn_itself_reads_on_where_a_body_was_left() -> None:
    body, request, _ = arrive(CHUNKED, b"3\r\nabc", b"\r\n3\r\ndef\r\n0\r\n\r\n" + NEXT)
    assert bytes(next(iter(body))) == b"abc"
    assert (request.body.read(), request.body.reader.parser) == (b"def", None)
    assert request.unreader.take_buffered() == NEXT


class Asked(Client):
    """Notes how much is asked for."""

    def __init__(self, *packets: bytes) -> None:
        super().__init__(*packets)
        self.sizes: list[int] = []

    def recv(self, size: int) -> bytes:
        self.sizes.append(size)
        return super().recv(size)


def test_a_large_chunk_is_read_in_large_blocks_and_crumbs_in_small_ones() -> None:
    size = BLOCK + 10_000
    wire = b"%x\r\n" % size + b"x" * size + b"\r\n" + chunked(b"y")
    _, request, _ = arrive(CHUNKED)
    request.unreader.sock = client = Asked(wire)
    assert sum(len(block) for block in blocks_of_chunks(request.body.reader)) == size + 1
    assert client.sizes[:2] == [CRUMBS, BLOCK]
    assert max(client.sizes) <= BLOCK and client.sizes[-1] == CRUMBS


@pytest.mark.parametrize(
    ("packets", "error"), [((b"3\r\nab",), NoMoreData), ((b"zz\r\n",), InvalidChunkSize)], ids=["an end", "no chunk"]
)
def test_its_errors_are_gunicorns(packets: tuple[bytes, ...], error: type[Exception]) -> None:
    """app/drain.py and app/worker.py know those."""
    _, request, _ = arrive(CHUNKED, *packets)
    with pytest.raises(error):
        list(ChunkedBlocks(request.unreader))
