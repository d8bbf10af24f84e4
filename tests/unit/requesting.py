"""A request on its way to a MLflow that is the other end of a socket, or of a socket that follows a script."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from urllib3.util import Timeout

from app.incoming import Incoming
from app.outbound import Manner, Outbound
from app.sending import Sending
from app.wire import ExactPool
from tests.unit.answering import Ends

HEAD = b"PUT /x HTTP/1.1\r\nHost: h\r\n\r\n"
MUCH = b"x" * (8 << 20)  # more than the sockets' buffers hold
POOL_SIZE = 2


class Line:
    """A sending to MLflow, and the answer that it looks for."""

    def __init__(self, ends: Ends, timeout: float = 5.0, watches: bool = True) -> None:
        ends.upstream.settimeout(5.0)  # as every connection's: it never blocks below
        self.ends = ends
        self.answer = ends.incoming()
        self._sending = Sending(ends.upstream, self.answer, ends.client if watches else None, timeout)

    def send(self, body: Iterable[bytes | memoryview] | None = None, chunked: bool = False) -> bool:
        return self._sending.send(HEAD, body, chunked)

    @property
    def sent(self) -> bytes:
        """What has arrived at MLflow behind the head."""
        self.ends.mlflow.settimeout(0.0)
        try:
            data = self.ends.mlflow.recv(1 << 20)
        except BlockingIOError:
            return b""
        assert data.startswith(HEAD)
        return data.removeprefix(HEAD)


def later(what: Callable[..., object], *arguments: object) -> threading.Thread:
    """In a moment: by then the sending waits. Should it come sooner, the outcome is the same."""
    timer = threading.Timer(0.05, what, arguments)
    timer.start()
    return timer


def take(sock: socket.socket, size: int, taken: list[int]) -> None:
    """Read so many bytes, or up to the end, and note how many those were."""
    count = 0
    while count < size and (data := sock.recv(1 << 20)):
        count += len(data)
    taken.append(count)


def ask(
    pool: ExactPool, *pairs: tuple[str, str], body: object = None, read: float = 5.0, write: float = 5.0, **manner: Any
) -> Incoming:
    """The answer to a request, its body unread."""
    headers = Outbound([("Host", "h"), *pairs], Manner("/exact?", write, **manner))
    method = "GET" if body is None else "PUT"
    answer: Incoming = pool.urlopen(
        method, "/not/used", body=body, headers=headers, timeout=Timeout(connect=2.0, read=read), retries=object()
    )
    return answer
