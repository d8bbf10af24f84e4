"""app/watch.py: waiting for MLflow with an eye on the client. That it is not asked earlier: test_incoming_head.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from app import watch
from app.errors import ClientGone
from app.turns import ENDING
from app.watch import await_answer
from tests.unit.answering import Ends, both_ends


class Asked:
    """The client's socket, which notes how often somebody looks into it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.times = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def recv(self, size: int, flags: int) -> bytes:
        self.times += 1
        return self._sock.recv(size, flags)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    monkeypatch.setattr(watch, "GRACE_SECONDS", 0.1)
    yield from both_ends()


def later(seconds: float, what: Callable[[], object]) -> None:
    threading.Timer(seconds, what).start()


def test_an_answer_that_is_there_is_left_unread(ends: Ends) -> None:
    ends.upstream.settimeout(7.0)
    ends.mlflow.sendall(b"HTTP")
    await_answer(ends.upstream, ends.client, 5.0)
    assert (ends.upstream.recv(9), ends.upstream.gettimeout()) == (b"HTTP", 7.0)


def test_an_answer_that_is_there_counts_more_than_a_client_that_left(ends: Ends) -> None:
    ends.browser.close()
    ends.mlflow.sendall(b"HTTP")
    await_answer(ends.upstream, ends.client, 5.0)


def test_without_a_client_only_the_upstream_is_waited_for(ends: Ends) -> None:
    later(0.05, lambda: ends.mlflow.sendall(b"x"))
    await_answer(ends.upstream, None, 5.0)
    assert ends.upstream.recv(9) == b"x"
    with pytest.raises(TimeoutError):
        await_answer(ends.upstream, None, 0.02)


def test_an_answer_that_takes_its_time_is_waited_for(ends: Ends) -> None:
    later(0.2, lambda: ends.mlflow.sendall(b"x"))
    await_answer(ends.upstream, ends.client, 5.0)
    assert ends.upstream.recv(9) == b"x"


def test_an_end_of_the_upstream_is_an_answer_too(ends: Ends) -> None:
    ends.mlflow.close()
    await_answer(ends.upstream, ends.client, 5.0)


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_when_the_time_is_over_nobody_waits(ends: Ends, timeout: float) -> None:
    with pytest.raises(TimeoutError):
        await_answer(ends.upstream, ends.client, timeout)


@pytest.mark.parametrize("timeout", [0.02, 0.2])
def test_silence_ends_at_the_timeout(ends: Ends, timeout: float) -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await_answer(ends.upstream, ends.client, timeout)
    assert timeout * 0.9 <= time.monotonic() - begun < timeout + 0.5


def test_whose_time_is_over_stands_in_line(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging MLflow ends hundreds of requests at once."""
    stood: list[str] = []
    monkeypatch.setattr(ENDING, "stand", lambda: stood.append("in line"))
    with pytest.raises(TimeoutError):
        await_answer(ends.upstream, ends.client, 0.01)
    ends.mlflow.sendall(b"x")
    await_answer(ends.upstream, ends.client, 0.01)
    assert stood == ["in line"]


def test_a_client_that_left_ends_the_waiting_after_a_grace(ends: Ends) -> None:
    later(0.1, ends.browser.close)
    begun = time.monotonic()
    with pytest.raises(ClientGone) as raised:
        await_answer(ends.upstream, ends.client, 5.0)
    assert raised.value.kind == "client_left"
    assert 0.15 < time.monotonic() - begun < 1.0


def test_a_client_that_only_stopped_sending_gets_an_answer_within_the_grace(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "GRACE_SECONDS", 5.0)
    ends.browser.shutdown(socket.SHUT_WR)
    later(0.1, lambda: ends.mlflow.sendall(b"x"))
    await_answer(ends.upstream, ends.client, 5.0)
    assert ends.upstream.recv(9) == b"x"


def test_a_client_that_asks_for_more_has_not_left(ends: Ends) -> None:
    ends.browser.sendall(b"GET / HTTP/1.1")
    later(0.3, lambda: ends.mlflow.sendall(b"x"))
    client = Asked(ends.client)
    await_answer(ends.upstream, client, 5.0)
    assert (ends.client.recv(100), client.times) == (b"GET / HTTP/1.1", 1)


def test_the_grace_ends_with_the_time_for_the_answer(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "GRACE_SECONDS", 60.0)
    ends.browser.close()
    with pytest.raises(ClientGone):
        await_answer(ends.upstream, ends.client, 0.05)


def test_a_client_whose_connection_was_reset_has_left(ends: Ends) -> None:
    ends.client.sendall(b"x")
    ends.browser.close()  # with something unread: the other end is reset
    with pytest.raises(ClientGone):
        await_answer(ends.upstream, ends.client, 5.0)
