"""app/chunks.py beside gunicorn's own parser: it takes no body that gunicorn would refuse or read otherwise."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from gunicorn.http.body import CHUNK_EXT_RE, ChunkedReader
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.unreader import IterUnreader

from app.chunks import BadChunk, Chunks

NEXT = b"GET / HTTP/1.1\r\n\r\n"
BODIES = [
    b"0\r\n\r\n",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n",
    b"0003\r\nabc\r\nB\r\n0123456789a\r\n000\r\n\r\n",
    b"c\r\n\r\n0\r\n\r\n3\r\n\r\n\r\n0\r\n\r\n",
    b'3;a;b=c; d = "e\\"f;\t" ;g\r\nabc\r\n0;z\r\n\r\n',
]


def taken_apart(wire: bytes) -> tuple[bytes, bool, bytes]:
    """Data, whether the body ended, and what lay behind it."""
    chunks = Chunks()
    data = bytes(chunks.feed(wire))
    return data, chunks.ended, chunks.surplus


EXTENSIONS = [b"", b";x", b" ;\tx", b";x=y", b"; x = 0 ;!#", b';x="y"', b';x="\\"\\\\\xe4" ; z', b';x=""']
PARTS = [
    b"",
    b";",
    b" ",
    b"\t",
    b"=",
    b'"',
    b"\\",
    b"x",
    b"!",
    b"(",
    b"/",
    b"\xe4",
    b"\x7f",
    b"\x01",
    b"\n",
    b"\r",
    b"\x00",
]


def test_extensions_are_those_that_gunicorn_takes() -> None:
    dice = random.Random(7)
    made = set(EXTENSIONS)
    for _ in range(4000):
        line = bytearray(dice.choice(EXTENSIONS))
        for _ in range(dice.randrange(1, 3)):
            at = dice.randrange(len(line) + 1)
            line[at : at + dice.randrange(2)] = dice.choice(PARTS)
        made.add(bytes(line))
    taken = {line for line in made if CHUNK_EXT_RE.fullmatch(line)}
    assert len(taken) > 100 and len(made - taken) > 100, "the sample says nothing"
    for extension in made:
        wire = b"3" + extension + b"\r\nabc\r\n0\r\n\r\n"
        if extension in taken:
            assert taken_apart(wire) == (b"abc", True, b"")
        else:
            with pytest.raises(BadChunk):
                taken_apart(wire)


def by_gunicorn(wire: bytes) -> tuple[bytes, bytes] | None:
    """Data and what lay behind them, as gunicorn's parser has it; None when it refuses, or misses the end."""
    unreader = IterUnreader([wire])
    request = SimpleNamespace(parse_headers=lambda *_, **__: [])
    try:
        data = b"".join(ChunkedReader(request, unreader).parse_chunked(unreader))
    except (ParseException, NoMoreData):
        return None
    return data, unreader.take_buffered()


def test_no_body_is_taken_that_gunicorn_would_refuse_or_read_otherwise() -> None:
    dice = random.Random(11)
    taken = 0
    for _ in range(6000):
        wire = bytearray(dice.choice(BODIES) + NEXT)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(wire))
            wire[at : at + dice.randrange(3)] = dice.choice([b"", b"0", b"3", b"\r", b"\n", b"\r\n", b" ", b";", b"a"])
        try:
            data, ended, behind = taken_apart(bytes(wire))
        except BadChunk:
            continue
        if ended:
            taken += 1
            assert by_gunicorn(bytes(wire)) == (data, behind), bytes(wire)
    assert taken > 100, "the sample says nothing"
