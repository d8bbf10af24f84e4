"""app/wire.py: what goes out on a connection, and what becomes of an exchange."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from collections.abc import Iterator

import pytest
from urllib3.exceptions import ProtocolError

from app.answer_head import BadHead
from app.errors import ClientGone
from app.incoming import Incoming
from app.outbound import Manner, Outbound
from app.wire import ExactConnection
from tests.unit.answering import OTHER, Ends, both_ends, whole

ends = pytest.fixture(both_ends)

# Everything that requests or urllib3 would rewrite: dot segments cannot come here, but nobody may touch them either.
TARGETS = ["/", "/a?", "/a//b", "/%2e%2E", "/a/../b", "/%41%7e", '/{x}|"<>^`', "/a?x=%zz&y=%41", "/a??b#"]


# --- the headers ---


def outbound(*pairs: tuple[str, str], target: str = "/x", write_timeout: float = 7.0) -> Outbound:
    return Outbound(list(pairs), Manner(target, write_timeout))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["GET", "PROPFIND"])
def test_the_target_goes_out_byte_for_byte_and_no_header_is_added(target: str, method: str) -> None:
    headers = outbound(("Host", "mlflow:5000"), ("A", "caf\xe9"), target=target)
    assert headers.manner == Manner(target, 7.0, fresh=False, client=None)
    assert headers.head(method) == (
        b"%b %b HTTP/1.1\r\nHost: mlflow:5000\r\nA: caf\xe9\r\n\r\n" % (method.encode(), target.encode())
    )


def test_headers_keep_spelling_order_and_repetitions() -> None:
    headers = outbound(("x-LOWER-Upper", "1"), ("A", ""), ("a", " 3 "), ("User-Agent", "u"), ("X-LOWER-UPPER", "2"))
    assert headers.head("GET").split(b"\r\n")[1:] == (
        [b"x-LOWER-Upper: 1", b"A: ", b"a:  3 ", b"User-Agent: u", b"X-LOWER-UPPER: 2", b"", b""]
    )


def test_headers_are_a_mapping_whatever_the_case_of_a_name() -> None:
    headers = outbound(("Content-Length", "6"), ("x-A", "1"), ("X-a", "2"))
    assert (list(headers), len(headers)) == (["Content-Length", "x-A", "X-a"], 3)
    assert [headers[name] for name in ("content-LENGTH", "X-A", "x-a")] == ["6", "2", "2"]
    assert ("CONTENT-length" in headers, "Transfer-Encoding" in headers) == (True, False)
    assert (headers.get("Host"), headers.get("host", "h")) == (None, "h")
    with pytest.raises(KeyError):
        headers["Host"]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n", "\n\r", "\r\n\r\n", "\r\nX: y", "\nX: y\r\n"], ids=repr)
@pytest.mark.parametrize("where", ["name", "value", "target", "method"])
def test_what_would_be_a_line_more_is_refused(end: str, where: str) -> None:
    pairs = [("A" + end * (where == "name"), "b" + end * (where == "value")), ("C", "d")]
    with pytest.raises(ValueError, match="line end inside a header"):
        outbound(*pairs, target="/" + end * (where == "target")).head("GET" + end * (where == "method"))


@pytest.mark.parametrize("text", ["\u20ac", "\U0001f600"])
def test_what_is_not_latin_1_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        outbound(("A", text)).head("GET")


# --- an exchange ---


class Line:
    """A connection to MLflow, and the exchanges on it."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self.connection = ExactConnection("mlflow", 5000)
        ends.upstream.settimeout(3.0)
        self.connection.sock = ends.upstream

    def exchange(
        self, headers: Outbound, body: object = None, method: str = "PUT", read_timeout: float = 5.0
    ) -> Incoming:
        return self.connection.exchange(method, headers, body, read_timeout, self.ends.released.append)

    @property
    def sent(self) -> bytes:
        """What has arrived at MLflow."""
        self.ends.mlflow.settimeout(0.0)
        with contextlib.suppress(BlockingIOError):
            return self.ends.mlflow.recv(1 << 20)
        return b""

    @property
    def ends_with_a_reset(self) -> bool:
        lingering = self.ends.upstream.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        return lingering == struct.pack("ii", 1, 0)


@pytest.fixture
def line(ends: Ends) -> Line:
    return Line(ends)


LENGTH, CHUNKED = ("Content-Length", "6"), ("transfer-encoding", "chunked")


@pytest.mark.parametrize(
    ("framing", "body", "sent"),
    [
        ((), None, b""),
        ((("Content-Length", "0"),), [], b""),
        ((LENGTH,), [b"abc", b"def"], b"abcdef"),
        ((CHUNKED,), [b"abc", b"defg"], b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"),
        ((CHUNKED,), [], b"0\r\n\r\n"),
    ],
    ids=["no body", "an empty one", "of known length", "chunked", "chunked and empty"],
)
def test_a_body_is_sent_as_its_one_framing_header_says(
    line: Line, framing: tuple[tuple[str, str], ...], body: list[bytes] | None, sent: bytes
) -> None:
    def blocks() -> Iterator[bytes]:
        yield from body or []
        line.ends.mlflow.sendall(OTHER)  # not before: it would stop the sending

    if body is None:
        line.ends.mlflow.sendall(OTHER)
    answer = line.exchange(outbound(*framing), None if body is None else blocks())
    headers = b"".join(f"{name}: {value}\r\n".encode() for name, value in framing)
    assert line.sent == b"PUT /x HTTP/1.1\r\n" + headers + b"\r\n" + sent
    assert (answer.status, whole(answer), answer.cut_short, line.ends_with_a_reset) == (200, b"other", False, False)
    answer.release_conn()
    assert line.ends.released == [True]


def test_an_answer_to_head_has_no_body(line: Line) -> None:
    line.ends.mlflow.sendall(OTHER.removesuffix(b"other"))
    answer = line.exchange(outbound(), method="HEAD")
    assert (whole(answer), answer.length_remaining) == (b"", 0)


@pytest.mark.parametrize("pair", [("A", "b\r\nContent-Length: 9"), ("A\n", "b"), ("A", "b\r")])
def test_of_a_request_with_a_line_end_in_a_header_nothing_is_sent(line: Line, pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="line end inside a header"):
        line.exchange(outbound(pair, LENGTH), [b"abcdef"])
    assert line.sent == b""


def test_after_an_early_answer_the_connection_is_not_kept_but_the_answer_can_be_read(line: Line) -> None:
    line.ends.mlflow.sendall(OTHER)
    answer = line.exchange(outbound(LENGTH), [b"abcdef"])
    assert (answer.cut_short, answer.status, whole(answer), line.sent[-4:]) == (True, 200, b"other", b"\r\n\r\n")
    answer.release_conn()
    assert (line.ends.released, line.ends_with_a_reset) == ([False], True)


@pytest.mark.parametrize("error", [ClientGone("gone"), RuntimeError(), KeyboardInterrupt()], ids=repr)
def test_what_the_body_raises_passes_as_it_is_and_what_was_sent_is_reset(line: Line, error: BaseException) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"abc"
        raise error

    with pytest.raises(type(error)) as raised:
        line.exchange(outbound(CHUNKED), breaking())
    assert raised.value is error
    assert line.sent.endswith(b"\r\n\r\n3\r\nabc\r\n")
    assert line.ends_with_a_reset and line.ends.released == []


def test_an_upstream_that_takes_no_more_bytes_is_waited_for_as_long_as_writing_may_take(line: Line) -> None:
    endless = itertools.repeat(b"x" * (1 << 20))
    with pytest.raises(ProtocolError) as raised:
        line.exchange(outbound(("Content-Length", "99999999"), write_timeout=0.05), endless)
    assert isinstance(raised.value.args[-1], TimeoutError), "app/upstream.py tells it from a late answer by that"
    assert line.ends_with_a_reset


@pytest.mark.parametrize(
    ("said", "error"), [(b"garbage", BadHead), (b"HTTP/1.1 200 OK\r\nX\r\n\r\n", BadHead), (b"", TimeoutError)]
)
def test_an_answer_that_is_none_is_an_error_of_the_reading(line: Line, said: bytes, error: type[Exception]) -> None:
    line.ends.mlflow.sendall(said)
    with pytest.raises(error):
        line.exchange(outbound(), method="GET", read_timeout=0.05)
