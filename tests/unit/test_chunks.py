"""app/chunks.py: chunked bodies taken apart strictly, and the same way however their bytes are cut."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from app.chunks import CRUMBS, LAST_CHUNK, MOST_LINE, MOST_TRAILERS, BadChunk, Chunks, chunk

NEXT = b"GET / HTTP/1.1\r\n\r\n"  # what follows a body
LONG = bytes(range(256)) * 20


def fed(wire: bytes, sizes: Iterator[int]) -> tuple[bytes, bool, bytes]:
    """Data, whether the body ended, and what lay behind it, of a wire cut into pieces of these sizes."""
    chunks, found, rest = Chunks(), [], wire
    while rest and not chunks.ended:
        size = next(sizes)
        piece, rest = rest[:size], rest[size:]
        found.append(bytes(chunks.feed(piece)))
    return b"".join(found), chunks.ended, chunks.surplus + rest


def pieces_of(size: int) -> Iterator[int]:
    return itertools.repeat(size)


def in_every_way(wire: bytes) -> Iterator[Iterator[int]]:
    """Ways to cut: pieces of one size, from one byte to the whole, and two pieces with the cut at every place."""
    yield from (pieces_of(size) for size in range(1, len(wire) + 1) if size < 70 or len(wire) % size < 3)
    yield from (iter([first, len(wire)]) for first in range(1, len(wire)) if len(wire) < 300)


# --- bodies ---

BODIES: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"0\r\n\r\n", b""),
    "one chunk": (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    "several": (b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", b"abcdef"),
    "sizes in hexadecimal": (b"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", b"01234567890123456789a"),
    "leading zeros": (b"0003\r\nabc\r\n000\r\n\r\n", b"abc"),
    "fifteen digits": (b"00000000000000a\r\n0123456789\r\n000000000000000\r\n\r\n", b"0123456789"),
    "line ends and chunks inside": (b"c\r\n\r\n0\r\n\r\n3\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n3\r\n\r\n"),
    "a long one": (b"1400\r\n" + LONG + b"\r\n0\r\n\r\n", LONG),
    "extensions": (b'3;a;b=c; d = "e\\"f;\t" ;g\r\nabc\r\n0 \t;z\r\n\r\n', b"abc"),
    "an extension of other letters": (b'3;a="\xe4\\\t"\r\nabc\r\n0\r\n\r\n', b"abc"),
    "a line as long as may be": (b"3;" + b"e" * (MOST_LINE - 4) + b"\r\nabc\r\n0\r\n\r\n", b"abc"),
    "trailers": (b"3\r\nabc\r\n0\r\nX: y\r\nEmpty:\r\nz:\t\xe4 \r\n\r\n", b"abc"),
    "as many trailers as may be": (b"0\r\n" + b"X: y\r\n" * MOST_TRAILERS + b"\r\n", b""),
}


@pytest.mark.parametrize("behind", [b"", NEXT, b"\r\n", b"0\r\n\r\n"], ids=["", "a request", "a line", "a chunk"])
@pytest.mark.parametrize(("wire", "data"), BODIES.values(), ids=BODIES)
def test_a_body_is_the_same_however_its_bytes_are_cut(wire: bytes, data: bytes, behind: bytes) -> None:
    for sizes in in_every_way(wire + behind):
        assert fed(wire + behind, sizes) == (data, True, behind)


@pytest.mark.parametrize("wire", [body for body, _ in BODIES.values()], ids=BODIES)
def test_a_body_has_not_ended_before_its_last_byte(wire: bytes) -> None:
    for end in {*range(min(len(wire), 300)), len(wire) - 2, len(wire) - 1}:
        assert not fed(wire[:end], pieces_of(len(wire)))[1]
    assert not fed(wire[:-1], pieces_of(1))[1]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_was_put_into_chunks_comes_out_as_it_was(seed: int) -> None:
    dice = random.Random(seed)
    blocks = [dice.randbytes(dice.choice([1, 2, 15, 16, 17, 255, 4096, 5000])) for _ in range(dice.randrange(12))]
    wire = b"".join(chunk(block) for block in blocks) + LAST_CHUNK + NEXT
    for most in (1, 3, 50, 5000):
        sizes = (dice.randrange(1, most + 1) for _ in itertools.count())
        assert fed(wire, sizes) == (b"".join(blocks), True, NEXT)


def test_data_go_on_at_once_and_uncopied() -> None:
    chunks = Chunks()
    assert bytes(chunks.feed(b"5\r\nhe")) == b"he"
    block = chunks.feed(b"llo")
    assert isinstance(block, memoryview) and bytes(block) == b"llo"
    assert [bytes(chunks.feed(piece)) for piece in (b"\r", b"\n2\r\n", b"12\r\n1\r\n3\r\n")] == [b"", b"", b"123"]
    assert not chunks.feed(b"0\r\n") and not chunks.ended
    assert not chunks.feed(b"\r\n") and chunks.ended


# --- what is none ---

REFUSED: dict[str, bytes] = {
    "no size": b"\r\nabc\r\n",
    "no number": b"zz\r\nabc\r\n",
    "a number and more": b"3z\r\nabc\r\n",
    "a plus": b"+3\r\nabc\r\n",
    "a minus": b"-3\r\nabc\r\n",
    "a minus before nothing": b"-0\r\n\r\n",
    "0x": b"0x3\r\nabc\r\n",
    "an underscore": b"1_0\r\n0123456789abcdef\r\n",
    "a full stop": b"3.0\r\nabc\r\n",
    "a digit of another script": "\u0663\r\nabc\r\n".encode(),
    "a space before the size": b" 3\r\nabc\r\n",
    "a tab before the size": b"\t3\r\nabc\r\n",
    "a space behind the size": b"3 \r\nabc\r\n",
    "a tab behind the size": b"3\t\r\nabc\r\n",
    "a space in the size": b"1 0\r\n0123456789abcdef\r\n",
    "sixteen digits": b"0000000000000003\r\nabc\r\n",
    "more than a machine's word": b"10000000000000003\r\nabc\r\n",
    "a line before the size": b"\r\n3\r\nabc\r\n",
    "a bare LF behind the size": b"3\nabc\r\n",
    "a bare LF behind the last size": b"3\r\nabc\r\n0\n\r\n",
    "a bare CR behind the size": b"3\rabc\r\n",
    "two CR behind the size": b"3\r\r\nabc\r\n",
    "NUL in the size": b"3\x00\r\nabc\r\n",
    "a bare LF behind the data": b"3\r\nabc\n0\r\n\r\n",
    "a bare CR behind the data": b"3\r\nabc\r0\r\n\r\n",
    "LF and CR behind the data": b"3\r\nabc\n\r0\r\n\r\n",
    "no line end behind the data": b"3\r\nabc0\r\n\r\n",
    "more data than the size": b"3\r\nabcdef\r\n",
    "fewer data than the size": b"5\r\nabc\r\n0\r\n\r\n",
    "an empty line between chunks": b"3\r\nabc\r\n\r\n0\r\n\r\n",
    "an extension without a name": b"3;\r\nabc\r\n",
    "an extension with a name that is none": b"3;a/b\r\nabc\r\n",
    "an extension with no value": b"3;a=\r\nabc\r\n",
    "an extension with two values": b"3;a=b c\r\nabc\r\n",
    "an extension with an open string": b'3;a="b\r\nabc\r\n',
    "an extension with something behind its string": b'3;a="b"c\r\nabc\r\n',
    "a space behind an extension": b"3;a \r\nabc\r\n",
    "a control character in an extension": b"3;\x01\r\nabc\r\n",
    "a control character in a string": b'3;a="\x01"\r\nabc\r\n',
    "a bare LF in an extension": b"3;a\nb\r\nabc\r\n",
    "a bare LF in a string": b'3;a="\n"\r\nabc\r\n',
    "a bare CR in a string": b'3;a="\r"\r\nabc\r\n',
    "an extension without its semicolon": b"3 a\r\nabc\r\n",
    "a line longer than may be": b"3;" + b"e" * (MOST_LINE - 3) + b"\r\nabc\r\n",
    "a line without an end": b"3;" + b"e" * (MOST_LINE - 2),
    "spaces without an end": b"3" + b" " * (MOST_LINE - 1),
    "a trailer without a colon": b"0\r\nBad\r\n\r\n",
    "a trailer without a name": b"0\r\n: y\r\n\r\n",
    "a trailer with a space in its name": b"0\r\nX : y\r\n\r\n",
    "a trailer with a control character": b"0\r\nX: \x00\r\n\r\n",
    "a trailer with a bare CR": b"0\r\nX: a\rb\r\n\r\n",
    "a trailer with a bare LF": b"0\r\nX: a\nb: c\r\n\r\n",
    "a trailer that is folded": b"0\r\nX: a\r\n b\r\n\r\n",
    "a bare LF instead of trailers": b"0\r\n\n",
    "a bare CR instead of trailers": b"0\r\n\rGET",
    "a chunk behind the last one": b"0\r\n3\r\nabc\r\n",
    "a trailer longer than may be": b"0\r\nX: " + b"y" * MOST_LINE + b"\r\n\r\n",
    "a trailer without an end": b"0\r\nX: " + b"y" * (MOST_LINE - 3),
    "too many trailers": b"0\r\n" + b"X: y\r\n" * (MOST_TRAILERS + 1) + b"\r\n",
}


@pytest.mark.parametrize("wire", REFUSED.values(), ids=REFUSED)
def test_what_is_no_chunk_is_refused_however_its_bytes_are_cut(wire: bytes) -> None:
    for before in (b"", b"2\r\nok\r\n") if len(wire) < 300 else (b"",):
        for sizes in in_every_way(before + wire):
            with pytest.raises(BadChunk):
                fed(before + wire, sizes)


@pytest.mark.parametrize("wire", [b"3\n", b"g", b"-", b"3 \r\n", b"3;\x01", b"0\r\n\n", b"0\r\nBad\r", b"1\r\nab"])
def test_what_cannot_become_a_chunk_is_not_waited_for(wire: bytes) -> None:
    with pytest.raises(BadChunk):
        fed(wire, pieces_of(1))


# --- how much to read ---


@pytest.mark.parametrize(
    ("wire", "left"),
    [
        (b"", 0),
        (b"10", 0),
        (b"3\r\n", 3),
        (b"100000\r\n", 0x100000),
        (b"100000\r\n" + b"x" * 0xFFFFF, 1),
        (b"100000\r\n" + b"x" * 0x100000, 0),
        (b"5000\r\nx", 0x4FFF),
        (b"5000\r\n" + b"x" * 0x5000 + b"\r\n", 0),
        (b"0\r\n", 0),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else f"{value} left",
)
@pytest.mark.parametrize("most", [1, CRUMBS - 1, CRUMBS, 256 * 1024])
def test_a_chunk_is_read_as_a_whole_but_not_what_follows_it(wire: bytes, left: int, most: int) -> None:
    chunks = Chunks()
    chunks.feed(wire)
    assert chunks.appetite(most) == min(most, max(left, CRUMBS))


# --- the other direction ---


@pytest.mark.parametrize("block", [b"a", b"x" * 16, memoryview(b"abc")[1:], b"\r\n", b"x" * 70_000], ids=len)
def test_a_block_is_one_chunk(block: bytes | memoryview) -> None:
    made = chunk(block)
    assert made == hex(len(block))[2:].encode() + b"\r\n" + bytes(block) + b"\r\n"
    assert fed(made + LAST_CHUNK, pieces_of(len(made))) == (bytes(block), True, b"")
