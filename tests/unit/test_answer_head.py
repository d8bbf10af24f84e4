"""app/answer_head.py: the head of MLflow's answer, read strictly. On the wire: functional/test_upstream_faults.py."""

from __future__ import annotations

import pytest

from app.answer_head import MOST_HEADERS, MOST_LINE, BadHead, Head, parse_head

OK = b"HTTP/1.1 200 OK"


def read(headers: bytes, method: str = "GET", first: bytes = OK) -> Head:
    """The head with these header lines, each with its line end; it comes without the empty line."""
    return parse_head((first + b"\r\n" + headers).removesuffix(b"\r\n"), method)


@pytest.mark.parametrize(
    ("headers", "pairs"),
    [
        (b"Content-Length: 2\r\n", [("Content-Length", "2")]),
        (b"Content-Length:2 \r\n", [("Content-Length", "2")]),
        (b"Content-Length:\t 2\t\r\n", [("Content-Length", "2")]),
        (b"transfer-encoding: Chunked\r\n", [("transfer-encoding", "Chunked")]),
        (b"", []),
        (b"X: a\r\nX: b\r\nSet-Cookie: c\r\n", [("X", "a"), ("X", "b"), ("Set-Cookie", "c")]),
        (b"X: caf\xe9\ttab\r\n", [("X", "caf\xe9\ttab")]),
        (b"X:\r\nY: \r\nZ: :a: b\r\n", [("X", ""), ("Y", ""), ("Z", ":a: b")]),
        (b"!#$%&'*+-.^_`|~9z: y\r\n", [("!#$%&'*+-.^_`|~9z", "y")]),
        (b"X: \x85\xa0y\xa0\x85\r\n", [("X", "\x85\xa0y\xa0\x85")]),
        (
            b"Content-Type: multipart/mixed; boundary=b\r\nContent-Length: 2\r\n",
            [("Content-Type", "multipart/mixed; boundary=b"), ("Content-Length", "2")],
        ),
        (
            b"Content-Type: multipart/mixed\r\nContent-Length: 2\r\n",
            [("Content-Type", "multipart/mixed"), ("Content-Length", "2")],
        ),
    ],
)
def test_a_head_that_says_one_thing_is_read_as_it_is(headers: bytes, pairs: list[tuple[str, str]]) -> None:
    head = read(headers)
    assert (head.status, head.pairs) == (200, pairs)


@pytest.mark.parametrize(
    ("headers", "length", "chunked"),
    [
        (b"Content-Length: 0\r\n", 0, False),
        (b"Content-Length: 2\r\n", 2, False),
        (b"CONTENT-LENGTH: 0002\r\n", 2, False),
        (b"Content-Length: 999999999999999999\r\n", 10**18 - 1, False),
        (b"Transfer-Encoding: chunked\r\n", None, True),
        (b"transfer-encoding: CHUNKED \r\n", None, True),
        (b"X: y\r\n", None, False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("status", [200, 201, 206, 301, 404, 500, 599, 600, 999])
def test_a_body_is_framed_by_its_headers(
    headers: bytes, length: int | None, chunked: bool, method: str, status: int
) -> None:
    head = read(headers, method, b"HTTP/1.1 %d X" % status)
    assert (head.status, head.length, head.chunked) == (status, length, chunked)
    assert head.keeps == (length is not None or chunked), "what ends with the connection ends it"


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        (b"Content-Length: 2\r\nContent-Length: 2\r\n", "contradictory framing"),
        (b"Content-Length: 2\r\ncontent-length: 3\r\n", "contradictory framing"),
        (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "contradictory framing"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "contradictory framing"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "contradictory framing"),
        (b"Transfer-Encoding: gzip, chunked\r\n", "unknown transfer coding"),
        (b"Transfer-Encoding: chunked, chunked\r\n", "unknown transfer coding"),
        (b"Transfer-Encoding: gzip\r\n", "unknown transfer coding"),
        (b"Transfer-Encoding: identity\r\n", "unknown transfer coding"),
        (b"Transfer-Encoding: chunked;a=b\r\n", "unknown transfer coding"),
        (b"Transfer-Encoding: \xa0chunked\r\n", "unknown transfer coding"),
        (b"Transfer-Encoding:\r\n", "unknown transfer coding"),
        (b"Content-Length: -2\r\n", "length that is no number"),
        (b"Content-Length: +2\r\n", "length that is no number"),
        (b"Content-Length: 2, 2\r\n", "length that is no number"),
        (b"Content-Length: many\r\n", "length that is no number"),
        (b"Content-Length: 0x2\r\n", "length that is no number"),
        (b"Content-Length: 1_0\r\n", "length that is no number"),
        (b"Content-Length: 1 0\r\n", "length that is no number"),
        (b"Content-Length: 2.0\r\n", "length that is no number"),
        (b"Content-Length: \xb2\r\n", "length that is no number"),
        (b"Content-Length: \xa02\r\n", "length that is no number"),
        (b"Content-Length:\r\n", "length that is no number"),
        (b"Content-Length: 1000000000000000000\r\n", "length that is no number"),
        (b"Content-Length: 0000000000000000002\r\n", "length that is no number"),
        (b"X: a\x00b\r\n", "control character in a header"),
        (b"X: a\x1bb\r\n", "control character in a header"),
        (b"X: a\x7fb\r\n", "control character in a header"),
        (b"X: a\rContent-Length: 2\r\n", "control character in a header"),
        (b"X: a\nContent-Length: 2\r\n", "control character in a header"),
        (b"X: a\r\r\n", "control character in a header"),
        (b"X\x00: a\r\n", "control character in a header"),
        (b"X A: b\r\nY: c\r\n", "unreadable header"),
        (b"X : b\r\n", "unreadable header"),
        (b" X: b\r\n", "unreadable header"),
        (b"X: a\r\n folded\r\n", "unreadable header"),
        (b"X: a\r\n\tY: b\r\n", "unreadable header"),
        (b": b\r\n", "unreadable header"),
        (b"X\r\n", "unreadable header"),
        (b"X\xe4: b\r\n", "unreadable header"),
        (b"X: y\r\n" * 101, "too many headers"),
        (b"X: " + b"y" * (MOST_LINE - 2) + b"\r\n", "too many headers"),
    ],
    ids=lambda value: value.decode("latin-1")[:60] if isinstance(value, bytes) else value,
)
@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 500)])
def test_a_head_in_doubt_is_refused(headers: bytes, fault: str, method: str, status: int) -> None:
    with pytest.raises(BadHead, match=f"^{fault}$"):
        read(headers, method, b"HTTP/1.1 %d X" % status)


def test_a_head_may_be_as_large_as_this() -> None:
    assert len(read(b"X: y\r\n" * MOST_HEADERS).pairs) == MOST_HEADERS == 100
    assert read(b"X: " + b"y" * (MOST_LINE - 3) + b"\r\n").pairs == [("X", "y" * (MOST_LINE - 3))]


STATUS_LINES = {
    b"HTTP/1.1 200 OK": 200,
    b"HTTP/1.1 200": 200,
    b"HTTP/1.1 200 ": 200,
    b"HTTP/1.1 404 Not Found, and \xe4\t more": 404,
    b"HTTP/1.0 200 OK": 200,
    b"HTTP/1.1 100 Continue": 100,
    b"HTTP/1.1 999 X": 999,
}


@pytest.mark.parametrize(("line", "status"), STATUS_LINES.items(), ids=repr)
def test_a_status_line_is_read(line: bytes, status: int) -> None:
    assert read(b"Content-Length: 0\r\n", first=line).status == status


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1 2",
        b"HTTP/1.1 20",
        b"HTTP/1.1 20x OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1 1000 OK",
        b"HTTP/1.1 99999 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 -20 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 2 0 OK",
        b"HTTP/1.1 \xb2\xb2\xb2 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200\tOK",
        b" HTTP/1.1 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/1.10 200 OK",
        b"HTTP/2 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/0.9 200 OK",
        b"HTTP/1,1 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 OK\nX: y",
        b"HTTP/1.1 200 OK\rX: y",
        b"HTTP/1.1 200\r",
        b"HTTP/1.1 200\n",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\x7fK",
        b"\r\nHTTP/1.1 200 OK",
        b"\xef\xbb\xbfHTTP/1.1 200 OK",
    ],
    ids=repr,
)
def test_a_status_line_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(BadHead, match="no status line"):
        read(b"Content-Length: 0\r\n", first=line)


@pytest.mark.parametrize(
    "headers", [b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n", b"X: y\r\n", b"Content-Length: 0\r\n"]
)
@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", 200), ("HEAD", 404), ("HEAD", 500), ("GET", 204), ("GET", 304), ("PUT", 204), ("GET", 101), ("GET", 199)],
)
def test_an_answer_without_a_body_has_none_whatever_its_headers_say(headers: bytes, method: str, status: int) -> None:
    head = read(headers, method, b"HTTP/1.1 %d X" % status)
    assert (head.length, head.chunked, head.keeps) == (0, False, True)
    assert len(head.pairs) == 1, "the client is told all the same"


@pytest.mark.parametrize("framing", [b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b""])
@pytest.mark.parametrize(
    ("first", "connection", "keeps"),
    [
        (b"HTTP/1.1 200 OK", b"", True),
        (b"HTTP/1.1 200 OK", b"Connection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK", b"X: close\r\n", True),
        (b"HTTP/1.1 200 OK", b"Connection: close\r\n", False),
        (b"HTTP/1.1 200 OK", b"connection: CLOSE\r\n", False),
        (b"HTTP/1.1 200 OK", b"Connection: x, close , y\r\n", False),
        (b"HTTP/1.1 200 OK", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"HTTP/1.1 200 OK", b"Connection: close\r\nConnection: x\r\n", False),
        (b"HTTP/1.0 200 OK", b"", False),
        (b"HTTP/1.0 200 OK", b"Connection: keep-alive\r\n", False),
    ],
)
def test_a_connection_is_kept_only_when_both_sides_know_where_the_answer_ends(
    first: bytes, connection: bytes, keeps: bool, framing: bytes
) -> None:
    assert read(connection + framing, first=first).keeps == (keeps and framing != b"")
