"""Clients that ask a load balancer without end, and know of every request whether it went well.

Nothing is tried again. Every request has an id of its own (X-Request-ID), by which it is found in the access lines.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import random
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.support.artifacts import ARTIFACTS

HOST = "registry.hokus.ai"
TIMEOUT_SECONDS = 30.0
TRANSFER_BYTES = 256 * 1024
WAIT_SECONDS = 120.0


@dataclass(frozen=True)
class Door:
    """How a client gets in: the port, the headers it always sends, and for TLS the certificate to trust."""

    port: int
    headers: Mapping[str, str]
    certificate: Path | None = None

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is opened by its first request, and again by one after it was closed on either side."""
        if self.certificate is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        context = _trusting(self.certificate)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS, context=context)


@functools.cache
def _trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@dataclass(frozen=True)
class Ask:
    """One request, the status it must be answered with, and what the body must be, if that is known."""

    method: str
    target: str
    body: bytes | None = None
    status: int = 200
    answer: bytes | None = None


Turn = tuple[Ask, http.client.HTTPConnection, Door]
Client = Callable[[], Iterator[Turn]]  # what a client asks, and on which connection, without end


@dataclass(frozen=True)
class Sent:
    """One request that has ended; `wrong` says what was wrong with its answer, and is empty when nothing was."""

    id: str
    wrong: str


@dataclass
class Load:
    """Context manager: each of `clients` asks in a thread of its own until the end. `sent` grows as requests end."""

    clients: Sequence[Client]
    sent: list[Sent] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Load:
        self._threads = [
            threading.Thread(target=self._run, args=(number, client), name=f"load client {number}", daemon=True)
            for number, client in enumerate(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        if error is None:
            assert not stuck, f"still running: {stuck}"

    @property
    def failures(self) -> list[str]:
        """What went wrong so far, a line for each request."""
        return [f"{sent.id}: {sent.wrong}" for sent in list(self.sent) if sent.wrong]

    def wait(self, there: Callable[[], bool], what: str) -> None:
        """Look after each request that ends; AssertionError with the failures when it does not come to that."""
        with self._changed:
            came = self._changed.wait_for(there, WAIT_SECONDS)
        assert came, f"waited {WAIT_SECONDS} s for {what}; {len(self.sent)} requests; failures: {self.failures[:5]}"

    def wait_for(self, count: int) -> None:
        """Wait until so many more requests have ended."""
        wanted = len(self.sent) + count
        self.wait(lambda: len(self.sent) >= wanted, f"{count} more requests")

    def _run(self, number: int, client: Client) -> None:
        for turn, (ask, connection, door) in enumerate(client()):
            if self._stop.is_set():
                connection.close()
                return
            request_id = f"load-{number}-{turn}"
            wrong = exchange(connection, door, ask, request_id)
            with self._changed:
                self.sent.append(Sent(request_id, wrong))
                self._changed.notify_all()


def exchange(connection: http.client.HTTPConnection, door: Door, ask: Ask, request_id: str) -> str:
    """Send one request; gives what was wrong with its answer, empty when nothing was."""
    try:
        connection.request(ask.method, ask.target, ask.body, {**door.headers, "X-Request-ID": request_id})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"{ask.method} {ask.target}: {error!r}"
    if response.status != ask.status:
        return f"{ask.method} {ask.target}: {response.status} {body[:200]!r}"
    if response.getheader("X-Request-ID") != request_id:
        return f"{ask.method} {ask.target}: the answer to {response.getheader('X-Request-ID')}"
    if ask.answer is not None and body != ask.answer:
        return f"{ask.method} {ask.target}: {len(body)} other bytes than {len(ask.answer)}"
    return ""


def kept(door: Door, asks: Sequence[Ask]) -> Client:
    """A client that asks these in turn on one connection."""

    def client() -> Iterator[Turn]:
        connection = door.connect()
        while True:
            yield from ((ask, connection, door) for ask in asks)

    return client


def anew(door: Door, asks: Sequence[Ask]) -> Client:
    """A client that opens a connection for each request."""

    def client() -> Iterator[Turn]:
        while True:
            for ask in asks:
                connection = door.connect()
                yield ask, connection, door
                connection.close()

    return client


def transferring(door: Door, mount: str, name: str) -> Client:
    """A client that stores an artifact, reads it back and compares, over and over, each time with other bytes."""
    chance = random.Random(hashlib.sha256(name.encode()).digest())

    def client() -> Iterator[Turn]:
        connection = door.connect()
        while True:
            content, target = chance.randbytes(TRANSFER_BYTES), f"{mount}{ARTIFACTS}/{name}"
            yield Ask("PUT", target, content), connection, door
            yield Ask("GET", target, answer=content), connection, door

    return client
