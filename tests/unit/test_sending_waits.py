"""app/sending.py: waiting for the upstream to take bytes, and for the client to send some. An answer ends both."""

from __future__ import annotations

import itertools
import ssl
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from app.errors import ClientGone
from app.incoming import Incoming
from app.sending import RECORD, Sending
from app.turns import ENDING
from tests.unit.answering import CONTINUE, OTHER, Ends, Secured, both_ends, secured, whole
from tests.unit.requesting import HEAD, MUCH, Line, later, take

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ends = pytest.fixture(both_ends)


@pytest.fixture
def line(ends: Ends) -> Line:
    return Line(ends)


# --- while the upstream takes nothing ---


@pytest.mark.parametrize("body", [itertools.repeat(MUCH), [MUCH]], ids=["endless", "one block"])
def test_an_upstream_that_takes_no_more_bytes_is_waited_for_as_long_as_writing_may_take(
    ends: Ends, body: Iterable[bytes]
) -> None:
    with pytest.raises(TimeoutError):
        Line(ends, timeout=0.05).send(body)


def test_whoever_is_given_up_stands_in_line(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds are given up at once: shown whole by tests/faults, C05."""
    stood: list[str] = []
    monkeypatch.setattr(ENDING, "stand", lambda: stood.append("in line"))
    line.ends.client.settimeout(0.05)
    with pytest.raises(ClientGone):
        line.send(Pausing(line.ends))
    assert stood == ["in line"]
    with pytest.raises(TimeoutError):
        Line(line.ends, timeout=0.05).send([MUCH])
    assert stood == ["in line"] * 2


def test_an_upstream_that_takes_a_byte_now_and_then_is_not_given_up(ends: Ends) -> None:
    """The write timeout is about one byte, not about the body."""
    taken: list[int] = []
    line = Line(ends, timeout=0.5)

    def slowly() -> None:
        while len(taken) < 5:
            threading.Event().wait(0.15)
            take(ends.mlflow, 1 << 20, taken)
        ends.mlflow.sendall(OTHER)

    reader = threading.Thread(target=slowly)
    reader.start()
    assert not line.send(itertools.repeat(MUCH))
    reader.join()


@pytest.mark.parametrize("body", [itertools.repeat(MUCH), [MUCH]], ids=["endless", "one block"])
def test_an_upstream_that_takes_no_more_bytes_but_answers_is_listened_to(line: Line, body: Iterable[bytes]) -> None:
    later(line.ends.mlflow.sendall, OTHER)
    assert not line.send(body)
    assert whole(line.answer.read_head("PUT")) == b"other"


def test_an_unasked_100_is_no_answer_while_the_upstream_takes_nothing(ends: Ends) -> None:
    taken: list[int] = []

    def hesitate() -> None:
        ends.mlflow.sendall(CONTINUE)
        threading.Event().wait(0.05)
        take(ends.mlflow, len(HEAD) + len(MUCH), taken)

    reader = later(hesitate)
    assert Line(ends).send([MUCH])
    reader.join()
    assert taken == [len(HEAD) + len(MUCH)]


# --- while the client pauses ---


class Pausing:
    """A body whose next block can only come from the client's socket."""

    def __init__(self, ends: Ends, most: int = 9) -> None:
        self._ends = ends
        self._most = most
        self.asked = 0

    def awaits_client(self) -> bool:
        return self.asked < self._most

    def __iter__(self) -> Iterator[bytes]:
        while self.asked < self._most:
            self.asked += 1
            yield self._ends.client.recv(1000)


def test_a_client_that_pauses_does_not_hold_an_answer_back(line: Line) -> None:
    line.ends.browser.sendall(b"abc")
    body = Pausing(line.ends)
    later(line.ends.mlflow.sendall, OTHER)
    assert not line.send(body)
    assert (body.asked, line.sent) == (1, b"abc")
    assert whole(line.answer.read_head("PUT")) == b"other"


def test_a_client_that_pauses_does_not_hold_the_upstreams_end_back(line: Line) -> None:
    body = Pausing(line.ends)
    later(line.ends.mlflow.close)
    assert not line.send(body)
    assert body.asked == 0


def test_a_client_that_has_sent_more_is_not_waited_for(line: Line) -> None:
    line.ends.client.settimeout(0.0)
    line.ends.browser.sendall(b"abc")
    assert line.send(Pausing(line.ends, most=1))
    assert line.sent == b"abc"


def test_a_client_that_pauses_too_long_has_stalled(line: Line) -> None:
    line.ends.client.settimeout(0.05)
    with pytest.raises(ClientGone) as raised:
        line.send(Pausing(line.ends))
    assert (raised.value.kind, line.sent) == ("client_stalled", b"")


def test_a_client_may_pause_for_longer_than_writing_may_take(ends: Ends) -> None:
    ends.client.settimeout(5.0)
    later(ends.browser.sendall, b"abc")
    line = Line(ends, timeout=0.001)
    assert line.send(Pausing(ends, most=1))
    assert line.sent == b"abc"


def test_a_client_that_goes_on_after_a_pause_is_heard_and_a_100_meanwhile_is_not(line: Line) -> None:
    body = Pausing(line.ends, most=1)

    def go_on() -> None:
        line.ends.mlflow.sendall(CONTINUE)
        later(line.ends.browser.sendall, b"abc")

    later(go_on)
    assert line.send(body)
    assert line.sent == b"abc"


def test_a_client_that_left_is_the_bodys_business(line: Line) -> None:
    line.ends.browser.close()
    body = Pausing(line.ends, most=1)
    assert line.send(body) and body.asked == 1


def test_without_a_client_to_watch_the_body_is_simply_asked(ends: Ends) -> None:
    ends.browser.sendall(b"abc")
    line = Line(ends, watches=False)
    assert line.send(Pausing(ends, most=1))
    assert line.sent == b"abc"


# --- over TLS ---


class Writing(Secured):
    """Takes what it is given, or does what a script says, number of bytes or error; notes it all."""

    def begin(self, *steps: int | Exception) -> Writing:
        self.steps = list(steps)
        self.records: list[bytes] = []
        return self

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        given = bytes(data)
        step = self.steps.pop(0) if self.steps else len(given)
        if isinstance(step, Exception):
            raise step
        self.records.append(given[:step])
        return min(step, len(given))


def over_tls(ends: Ends, *steps: int | Exception, says: tuple[bytes | Exception, ...] = ()) -> tuple[Sending, Writing]:
    _, sock = secured(ends, *says, kind=Writing)
    assert isinstance(sock, Writing)
    answer = Incoming(sock, None, 5.0, ends.released.append)
    return Sending(sock, answer, None, 0.2), sock.begin(*steps)


def test_over_tls_a_request_goes_out_record_by_record(ends: Ends) -> None:
    sending, sock = over_tls(ends, 5, ssl.SSLWantWriteError(), 7, ssl.SSLWantReadError())
    assert sending.send(HEAD, [MUCH[:100_000]], True)
    assert b"".join(sock.records) == HEAD + b"186a0\r\n" + MUCH[:100_000] + b"\r\n0\r\n\r\n"
    assert max(map(len, sock.records)) == RECORD and set(sock.timeouts) == {0.0}


def test_over_tls_an_answer_amid_a_block_stops_the_sending(ends: Ends) -> None:
    """OpenSSL reads no more once a write has failed, so it is looked for before each record."""
    sending, sock = over_tls(ends, says=(ssl.SSLWantReadError(), ssl.SSLWantReadError(), OTHER))
    ends.mlflow.sendall(b"readable")
    assert not sending.send(HEAD, [MUCH], False)
    assert b"".join(sock.records) == HEAD


def test_over_tls_a_session_ticket_is_no_answer(ends: Ends) -> None:
    sending, sock = over_tls(ends, says=(*[ssl.SSLWantReadError()] * 9,))
    ends.mlflow.sendall(b"ticket")
    assert sending.send(HEAD, [b"abc", b"def"], False)
    assert b"".join(sock.records) == HEAD + b"abcdef"


@pytest.mark.parametrize(
    "error",
    [ssl.SSLEOFError(8, "EOF"), BrokenPipeError(), ConnectionResetError()],
    ids=lambda error: type(error).__name__,
)
def test_over_tls_an_upstream_that_takes_no_more_is_left_to_the_reading(ends: Ends, error: OSError) -> None:
    sending, _ = over_tls(ends, 10, error)
    assert not sending.send(HEAD, None, False)


def test_over_tls_any_other_error_is_one(ends: Ends) -> None:
    sending, _ = over_tls(ends, ssl.SSLError(1, "bad record"))
    with pytest.raises(ssl.SSLError):
        sending.send(HEAD, None, False)
