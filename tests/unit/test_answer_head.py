"""app/answer_head.py: the head of MLflow's answer, read strictly. On the wire: functional/test_upstream_faults.py."""

from __future__ import annotations

import io
from http.client import HTTPException

import pytest

from app.answer_head import StrictResponse


class Socket:
    """As much of a socket as http.client's response uses."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._data))  # type: ignore[arg-type]  # any raw stream


def read(head: bytes, method: str = "GET") -> StrictResponse:
    """The response to a method, its head read."""
    response = StrictResponse(Socket(head), method=method)  # type: ignore[arg-type]  # as much of a socket as it uses
    response.begin()
    return response


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 2\r\n",
        b"Content-Length:2 \r\n",
        b"transfer-encoding: Chunked\r\n",
        b"",
        b"X: a\r\nX: b\r\nSet-Cookie: c\r\n",
        b"X: caf\xe9\ttab\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\nContent-Length: 2\r\n",
        b"Content-Type: multipart/mixed\r\nContent-Length: 2\r\n",
    ],
)
def test_a_head_that_says_one_thing_is_read(headers: bytes) -> None:
    assert read(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n{}").status == 200


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        (b"Content-Length: 2\r\nContent-Length: 2\r\n", "contradictory framing"),
        (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "contradictory framing"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "contradictory framing"),
        (b"Transfer-Encoding: gzip, chunked\r\n", "unknown transfer coding"),
        (b"Transfer-Encoding: gzip\r\n", "unknown transfer coding"),
        (b"Content-Length: -2\r\n", "length that is no number"),
        (b"Content-Length: +2\r\n", "length that is no number"),
        (b"Content-Length: 2, 2\r\n", "length that is no number"),
        (b"Content-Length: many\r\n", "length that is no number"),
        (b"X: a\x00b\r\n", "control character in a header"),
        (b"X: a\x1bb\r\n", "control character in a header"),
        (b"X A: b\r\nY: c\r\n", "unreadable header"),
    ],
)
def test_a_head_in_doubt_is_refused(headers: bytes, fault: str) -> None:
    with pytest.raises(HTTPException, match=fault):
        read(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n{}")


@pytest.mark.parametrize(
    "cut", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"]
)
def test_a_head_that_was_cut_off_is_no_answer_without_a_body(cut: bytes) -> None:
    with pytest.raises(HTTPException):
        read(cut)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_without_a_body_is_read_as_ever(method: str, status: int) -> None:
    assert read(b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\n" % status, method).read() == b""


def test_the_body_is_read_from_the_stream_itself() -> None:
    response = read(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef")
    assert isinstance(response.fp, io.BufferedReader)
    assert response.read() == b"abc"
