"""MLflow's answers as they come in: two ends of a connection, one that follows a script, and one over TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from app.incoming import Incoming

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OTHER = OK + b"Content-Length: 5\r\n\r\nother"


class Ends:
    """Both ends of a connection to MLflow and of one to the client, and the verdicts on the former."""

    def __init__(self) -> None:
        self.upstream, self.mlflow = socket.socketpair()
        self.client, self.browser = socket.socketpair()
        self.released: list[bool] = []

    def incoming(self, read_timeout: float = 5.0) -> Incoming:
        return Incoming(self.upstream, self.client, read_timeout, self.released.append)

    def answer(self, *parts: bytes, method: str = "GET") -> Incoming:
        """The answer to a method, its head read; what else MLflow says is there too."""
        self.mlflow.sendall(parts[0])
        made = self.incoming().read_head(method)
        for part in parts[1:]:
            self.mlflow.sendall(part)
        return made

    def close(self) -> None:
        for sock in (self.upstream, self.mlflow, self.client, self.browser):
            sock.close()


def both_ends() -> Iterator[Ends]:
    """For a fixture."""
    made = Ends()
    yield made
    made.close()


class Script:
    """A connection whose every reading is scripted: bytes, of which at most what is asked for, or an error."""

    def __init__(self, *steps: bytes | Exception) -> None:
        self._steps = list(steps)
        self.options: list[tuple[int, ...]] = []

    def settimeout(self, seconds: float) -> None: ...

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)

    def recv(self, size: int) -> bytes:
        step = self._steps.pop(0) if self._steps else b""
        if isinstance(step, Exception):
            raise step
        if step[size:]:
            self._steps.insert(0, step[size:])
        return step[:size]


def scripted(*steps: bytes | Exception, method: str = "GET", released: list[bool] | None = None) -> Incoming:
    """An answer of which each step is one reading, its head read."""
    verdicts = [] if released is None else released
    return Incoming(Script(*steps), None, 5.0, verdicts.append).read_head(method)


def cut(wire: bytes, size: int) -> list[bytes]:
    return [wire[start : start + size] for start in range(0, len(wire), size)]


def whole(answer: Incoming, size: int = 1000) -> bytes:
    """All of the body."""
    return b"".join(iter(lambda: answer.read1(size), b""))


class Secured(ssl.SSLSocket):
    """A TLS socket as far as anybody asks: a descriptor, what was decrypted and not read, and what a reading gives."""

    suppress_ragged_eofs: bool  # which every one has, though typeshed does not say so

    def __init__(self, sock: socket.socket, *steps: bytes | Exception, pending: int = 0) -> None:
        self._script = Script(*steps)
        self._descriptor = sock.fileno()
        self.held_back = pending
        self.timeouts: list[float | None] = []

    def fileno(self) -> int:
        return self._descriptor

    def pending(self) -> int:
        return self.held_back

    def settimeout(self, value: float | None) -> None:
        self.timeouts.append(value)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        return self._script.recv(buflen)

    def __del__(self) -> None: ...


def secured(
    ends: Ends, *steps: bytes | Exception, pending: int = 0, kind: type[Secured] = Secured
) -> tuple[Incoming, Secured]:
    """An answer over TLS of which each step is one reading, and the socket that it comes from."""
    sock = kind.__new__(kind)
    Secured.__init__(sock, ends.upstream, *steps, pending=pending)
    return Incoming(sock, None, 5.0, ends.released.append), sock
