"""app/watch.py: the client is looked at only while MLflow is silent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from app import watch
from app.errors import ClientGone
from app.watch import await_answer


class Ends:
    """Both ends of a connection to MLflow and of one to the client."""

    def __init__(self) -> None:
        self.upstream, self.mlflow = socket.socketpair()
        self.client, self.browser = socket.socketpair()

    def close(self) -> None:
        for sock in (self.upstream, self.mlflow, self.client, self.browser):
            sock.close()


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(watch, "GRACE_SECONDS", 0.1)
    made = Ends()
    yield made
    made.close()


def later(seconds: float, what: object) -> None:
    threading.Timer(seconds, what).start()  # type: ignore[arg-type]


def test_an_answer_that_is_there_is_left_unread(ends: Ends) -> None:
    ends.upstream.settimeout(7.0)
    ends.mlflow.sendall(b"HTTP")
    await_answer(ends.upstream, ends.client, 5.0)
    assert (ends.upstream.recv(9), ends.upstream.gettimeout()) == (b"HTTP", 7.0)


def test_an_answer_that_takes_its_time_is_waited_for(ends: Ends) -> None:
    later(0.2, lambda: ends.mlflow.sendall(b"x"))
    await_answer(ends.upstream, ends.client, 5.0)
    assert ends.upstream.recv(9) == b"x"


def test_an_end_of_the_upstream_is_an_answer_too(ends: Ends) -> None:
    ends.mlflow.close()
    await_answer(ends.upstream, ends.client, 5.0)


@pytest.mark.parametrize("timeout", [0.02, 0.2])
def test_silence_ends_at_the_timeout(ends: Ends, timeout: float) -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await_answer(ends.upstream, ends.client, timeout)
    assert timeout * 0.9 <= time.monotonic() - begun < timeout + 0.5


def test_a_client_that_left_ends_the_waiting_after_a_grace(ends: Ends) -> None:
    later(0.1, ends.browser.close)
    begun = time.monotonic()
    with pytest.raises(ClientGone) as raised:
        await_answer(ends.upstream, ends.client, 5.0)
    assert raised.value.kind == "client_left"
    assert 0.15 < time.monotonic() - begun < 1.0


def test_a_client_that_only_stopped_sending_gets_an_answer_within_the_grace(ends: Ends) -> None:
    ends.browser.shutdown(socket.SHUT_WR)
    later(0.1, lambda: ends.mlflow.sendall(b"x"))
    await_answer(ends.upstream, ends.client, 5.0)
    assert ends.upstream.recv(9) == b"x"


def test_a_client_that_asks_for_more_has_not_left(ends: Ends) -> None:
    ends.browser.sendall(b"GET / HTTP/1.1")
    later(0.3, lambda: ends.mlflow.sendall(b"x"))
    await_answer(ends.upstream, ends.client, 5.0)
    assert ends.client.recv(100) == b"GET / HTTP/1.1"
