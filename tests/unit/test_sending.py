"""app/sending.py: a request is written as it comes, and no longer than MLflow wants it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from app.errors import ClientGone
from tests.unit.answering import CONTINUE, OTHER, Ends, both_ends, whole
from tests.unit.requesting import HEAD, MUCH, Line, later, take

ends = pytest.fixture(both_ends)

Block = bytes | memoryview


@pytest.fixture
def line(ends: Ends) -> Line:
    return Line(ends)


# --- what goes out ---


@pytest.mark.parametrize(
    ("body", "chunked", "sent"),
    [
        (None, False, b""),
        ([], False, b""),
        ([], True, b"0\r\n\r\n"),
        ([b"abc", b"def"], False, b"abcdef"),
        ([b"abc", memoryview(b"xdefgx")[1:5]], True, b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"),
        ([b"a" * 31], True, b"1f\r\n" + b"a" * 31 + b"\r\n0\r\n\r\n"),
        ([b"", b"abc", b"", memoryview(b""), b"d"], True, b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"),
        ([b"", b"abc", b""], False, b"abc"),
    ],
    ids=["no body", "an empty one", "no chunk", "blocks", "chunks", "a longer one", "empty chunks", "empty blocks"],
)
def test_a_request_is_sent_as_it_is(line: Line, body: list[Block] | None, chunked: bool, sent: bytes) -> None:
    """An empty block is no chunk of its own: it would be the last."""
    assert line.send(body, chunked)
    assert line.sent == sent


def test_a_block_goes_out_before_the_next_is_asked_for(line: Line) -> None:
    seen: list[bytes] = []

    def body() -> Iterator[bytes]:
        yield b"abc"
        seen.append(line.sent)
        yield b"def"

    assert line.send(body())
    assert seen == [b"abc"]


def test_a_body_larger_than_any_buffer_is_sent_whole(line: Line) -> None:
    taken: list[int] = []
    reader = threading.Thread(target=take, args=(line.ends.mlflow, len(HEAD) + 2 * len(MUCH), taken))
    reader.start()
    assert line.send([MUCH, memoryview(MUCH)])
    reader.join()
    assert taken == [len(HEAD) + 2 * len(MUCH)]


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("error", [RuntimeError("the client went away"), ClientGone("gone"), KeyboardInterrupt()])
def test_a_body_that_breaks_is_never_ended_as_if_it_were_whole(line: Line, error: BaseException, chunked: bool) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"abc"
        raise error

    with pytest.raises(type(error)) as raised:
        line.send(breaking(), chunked)
    assert raised.value is error
    assert line.sent == (b"3\r\nabc\r\n" if chunked else b"abc")


# --- an answer before the end ---


@pytest.mark.parametrize("answer", [OTHER, OTHER[:20], b"garbage", CONTINUE + OTHER], ids=repr)
def test_an_answer_that_comes_early_stops_the_sending(line: Line, answer: bytes) -> None:
    def body() -> Iterator[bytes]:
        yield b"abc"
        line.ends.mlflow.sendall(answer)
        yield b"def"

    assert not line.send(body(), chunked=True)
    assert line.sent == b"3\r\nabc\r\n"


def test_an_answer_that_came_early_can_be_read(line: Line) -> None:
    line.ends.mlflow.sendall(CONTINUE + OTHER)
    assert not line.send([b"abc"])
    assert whole(line.answer.read_head("PUT")) == b"other"


def test_an_end_of_the_connection_stops_the_sending(line: Line) -> None:
    def body() -> Iterator[bytes]:
        yield b"abc"
        line.ends.mlflow.shutdown(socket.SHUT_WR)
        yield b"def"

    assert not line.send(body())
    assert line.sent == b"abc"


@pytest.mark.parametrize("body", [None, [MUCH]], ids=["no body", "a body"])
def test_an_upstream_that_has_gone_is_left_to_the_reading(line: Line, body: list[bytes] | None) -> None:
    line.ends.mlflow.close()
    assert not line.send(body)


def test_an_upstream_that_goes_amid_a_block_is_left_to_the_reading(line: Line) -> None:
    later(line.ends.mlflow.close)
    assert not line.send([MUCH])


def test_an_unasked_100_does_not_end_the_sending(line: Line) -> None:
    def body() -> Iterator[bytes]:
        for part in (CONTINUE[:10], CONTINUE[10:], CONTINUE):
            line.ends.mlflow.sendall(part)
            yield b"abc"

    assert line.send(body())
    assert line.sent == b"abc" * 3
    line.ends.mlflow.sendall(OTHER)
    assert whole(line.answer.read_head("PUT")) == b"other"
