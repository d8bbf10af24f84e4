"""app/incoming.py: the body of MLflow's answer as it comes, and never one that broke off and looks whole."""

from __future__ import annotations

import gzip
import random
import threading
import zlib
from typing import Any

import pytest
from urllib3.exceptions import HTTPError

from app.chunks import CRUMBS
from app.incoming import BrokenOff, Incoming
from tests.unit.answering import CHUNKED, CONTINUE, OK, OTHER, Ends, Script, both_ends, cut, scripted, whole

ends = pytest.fixture(both_ends)


# --- heads and bodies ---

BODIES: dict[str, tuple[bytes, bytes]] = {
    "of a length": (b"Content-Length: 11\r\n\r\nhello world", b"hello world"),
    "of no bytes": (b"Content-Length: 0\r\n\r\n", b""),
    "in chunks": (CHUNKED + b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX: y\r\n\r\n", b"hello world"),
    "in no chunk": (CHUNKED + b"0\r\n\r\n", b""),
    "until the end": (b"\r\nhello world", b"hello world"),
    "of nothing until the end": (b"\r\n", b""),
}


@pytest.mark.parametrize("most", [1, 3, 100_000])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 1000])
@pytest.mark.parametrize("interim", [b"", CONTINUE, CONTINUE * 3, b"HTTP/1.1 100 \r\nX: y\r\n\r\n"])
@pytest.mark.parametrize(("wire", "body"), BODIES.values(), ids=BODIES)
def test_an_answer_is_the_same_however_its_bytes_come(
    wire: bytes, body: bytes, interim: bytes, size: int, most: int
) -> None:
    released: list[bool] = []
    answer = scripted(*cut(interim + OK + b"A: 1\r\nA: 2\r\n" + wire, size), released=released)
    assert (answer.status, list(answer.headers.items())[:2]) == (200, [("A", "1"), ("A", "2")])
    assert (whole(answer, most), answer.read1(9), answer.length_remaining) == (body, b"", 0)
    answer.release_conn()
    assert released == [not wire.startswith(b"\r\n")], "what ends with the connection ends it"


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_without_a_body_has_ended_with_its_head(method: str, status: int, size: int) -> None:
    released: list[bool] = []
    wire = b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\n" % status
    answer = scripted(*cut(wire, size), TimeoutError("nothing more comes"), method=method, released=released)
    assert (answer.read1(9), answer.length_remaining) == (b"", 0)
    answer.release_conn()
    assert released == [True]


def test_an_interim_answer_other_than_100_is_an_answer(ends: Ends) -> None:
    """The real one follows, so nobody may read on from there: app/upstream.py closes."""
    assert ends.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OTHER).status == 103


def test_a_block_is_given_as_it_comes_and_what_is_left_is_known(ends: Ends) -> None:
    answer = ends.answer(OK + b"Content-Length: 11\r\n\r\nhel")
    found = [(answer.read1(100), answer.length_remaining)]
    for part, most in ((b"lo", 100), (b" world", 4), (b"", 100)):
        ends.mlflow.sendall(part)
        found.append((answer.read1(most), answer.length_remaining))
    assert found == [(b"hel", 8), (b"lo", 6), (b" wor", 2), (b"ld", 0)]


def test_a_chunk_is_given_as_it_comes_but_its_size_alone_is_no_end(ends: Ends) -> None:
    answer = ends.answer(OK + CHUNKED, b"10000\r\nab")
    assert (answer.read1(100), answer.length_remaining) == (b"ab", None)
    ends.mlflow.sendall(b"c")
    assert answer.read1(100) == b"c"
    ends.mlflow.sendall(b"x" * 0xFFFD + b"\r\n1\r\n")
    threading.Timer(0.05, ends.mlflow.sendall, [b"d\r\n0\r\n\r\n"]).start()
    assert (b"".join(iter(lambda: answer.read1(70_000), b"")), answer.length_remaining) == (b"x" * 0xFFFD + b"d", 0)


class Asked(Script):
    """Notes how much is asked for."""

    def __init__(self, *steps: bytes | Exception) -> None:
        super().__init__(*steps)
        self.sizes: list[int] = []

    def recv(self, size: int) -> bytes:
        self.sizes.append(size)
        return super().recv(size)


def test_a_large_chunk_is_read_in_large_blocks_and_crumbs_in_small_ones() -> None:
    sock = Asked(OK + CHUNKED, b"20000\r\n", b"x" * 0x20000, b"\r\n1\r\nx\r\n0\r\n\r\n")
    answer = Incoming(sock, None, 5.0, lambda _: None).read_head("GET")
    assert whole(answer, 0x18000) == b"x" * 0x20001
    assert sock.sizes[1:] == [CRUMBS, 0x18000, 0x8000, CRUMBS]


# --- answers that break off ---


@pytest.mark.parametrize("end", [b"", ConnectionResetError("reset")], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 2", OK, OK + b"X: y\r\n", OK + b"Content-Le", CONTINUE, CONTINUE + OK]
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_head_that_was_cut_off_is_no_answer_without_a_body(head: bytes, end: Any, size: int) -> None:
    with pytest.raises(OSError) as raised:
        scripted(*cut(head, size), end)
    assert isinstance(raised.value, ConnectionResetError if end else BrokenOff)


@pytest.mark.parametrize("end", [b"", ConnectionResetError("reset")], ids=["FIN", "RST"])
@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    "wire",
    [
        *(b"Content-Length: 5\r\n\r\n" + b"hello"[:end] for end in range(5)),
        *(CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"[:end] for end in range(21)),
    ],
    ids=repr,
)
def test_a_body_that_was_cut_off_never_ends_well(wire: bytes, size: int, end: Any) -> None:
    released: list[bool] = []
    answer = scripted(*cut(OK + wire, size), end, released=released)
    with pytest.raises(OSError) as raised:
        whole(answer)
    assert isinstance(raised.value, ConnectionResetError if end else BrokenOff)
    assert answer.length_remaining != 0
    answer.release_conn()
    assert released == [False]


def test_a_body_without_an_end_of_its_own_ends_well_with_a_fin_alone() -> None:
    assert whole(scripted(OK + b"\r\nsome", b" more")) == b"some more"
    answer = scripted(OK + b"\r\nsome", ConnectionResetError("reset"))
    assert answer.read1(9) == b"some"
    with pytest.raises(ConnectionResetError):
        answer.read1(9)


@pytest.mark.parametrize(
    "bad", [b"zz\r\n", b"\r\n", b"-1\r\n", b"3\n", b"2\r\nokay\r\n", b"0\r\nBad\r\n\r\n", b"0\r\n\n"]
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_chunk_that_is_none_breaks_the_answer_off(bad: bytes, size: int) -> None:
    answer = scripted(*cut(OK + CHUNKED, size), *cut(b"2\r\nok\r\n", size), *cut(bad, size), TimeoutError("waited"))
    with pytest.raises(BrokenOff):
        whole(answer, 8 if size == 1000 else 1)
    assert answer.length_remaining is None


# --- pages that are read here ---


def coded(body: bytes, coding: bytes, framing: str) -> bytes:
    frame = b"Content-Length: %d\r\n\r\n" % len(body) + body
    if framing == "chunked":
        frame = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*cut(body, 700), b""))
    return OK + b"X: y\r\n" + coding + frame


PAGE = b"<p>no such page</p>" * 1000
NOISE = random.Random(3).randbytes(30_000)  # larger when compressed


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("coding", "code"),
    [
        (b"", bytes),
        (b"Content-Encoding: gzip\r\n", gzip.compress),
        (b"content-encoding: GZIP\r\n", gzip.compress),
        (b"Content-Encoding: deflate\r\n", zlib.compress),
    ],
    ids=["plain", "gzip", "GZIP", "deflate"],
)
@pytest.mark.parametrize("page", [PAGE, NOISE, b"short", b""], ids=["a page", "noise", "a word", "nothing"])
@pytest.mark.parametrize("size", [4096, 16384, 100_000])
def test_a_page_is_read_up_to_a_size_and_decoded(
    page: bytes, coding: bytes, code: Any, framing: str, size: int
) -> None:
    answer = scripted(*cut(coded(code(page), coding, framing), 1000))
    found = answer.read(size)
    assert found == page[: len(found)], "decoded"
    assert len(found) >= min(size - 100, len(page)) and len(found) <= size


def test_a_page_can_be_read_as_it_came() -> None:
    body = gzip.compress(PAGE)
    answer = scripted(coded(body, b"Content-Encoding: gzip\r\n", "length"))
    assert answer.read(100_000, decode_content=False) == body


def test_a_page_that_does_not_decode_is_one_of_the_librarys_errors() -> None:
    with pytest.raises(HTTPError):
        scripted(coded(b"no gzip", b"Content-Encoding: gzip\r\n", "length")).read(1000)


def test_a_page_that_breaks_off_is_an_error() -> None:
    with pytest.raises(BrokenOff):
        scripted(OK + b"Content-Length: 9\r\n\r\nshort").read(1000)
    assert scripted(OK + b"Content-Length: 9\r\n\r\nshort").read(3) == b"sho"


def test_a_block_is_never_decoded() -> None:
    body = gzip.compress(b"page")
    answer = scripted(coded(body, b"Content-Encoding: gzip\r\n", "length"))
    assert answer.read1(1000, decode_content=True) == body


@pytest.mark.parametrize(
    ("wire", "here"),
    [
        (b"Content-Length: 2\r\n\r\nab", True),
        (b"Content-Length: 0\r\n\r\n", True),
        (b"Content-Length: 2\r\n\r\na", False),
        (CHUNKED + b"0\r\n\r\n", False),
        (b"\r\nab", False),
    ],
    ids=["all of it", "nothing to come", "a part", "chunks", "until the end"],
)
def test_whether_reading_on_would_wait(wire: bytes, here: bool) -> None:
    assert scripted(OK + wire, released=[]).is_here is here
