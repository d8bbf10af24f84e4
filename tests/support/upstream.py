"""A recording HTTP/1.1 server on raw sockets, in MLflow's place: it answers as told and remembers what it got.

    with RecordingUpstream() as upstream:
        upstream.respond_with(404, [("Content-Length", "0")])
        ...
        assert upstream.wait_for(1)[0].line == b"GET /version HTTP/1.1"

Linux only (epoll). What is recorded, and how, is in recording.py.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType

from tests.support.recording import Connection, Recorded, read_body, read_head

__all__ = ["Recorded", "RecordingUpstream", "chunk", "reset_connection"]

Header = tuple[str, str]
Script = Callable[[socket.socket, Recorded], object]
_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Canned:
    """An answer sent as it stands: these headers and these bytes, nothing added."""

    status: int
    headers: Sequence[Header]
    body: bytes

    def head(self) -> bytes:
        reason = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else "Unassigned"
        lines = [f"HTTP/1.1 {self.status} {reason}", *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def leaves_open(self, method: bytes) -> bool:
        """True when the client can tell where this answer ends without a close, and was not told of a close."""
        fields = {name.lower(): value.strip().lower() for name, value in self.headers}
        if fields.get("connection") == "close":
            return False
        if method == b"HEAD" or self.status in (204, 304) or "transfer-encoding" in fields:
            return True
        length = fields.get("content-length", "")
        return length.isdigit() and len(self.body) >= int(length)


def json_answer(status: int, body: bytes) -> Canned:
    return Canned(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))], body)


def chunk(data: bytes) -> bytes:
    """One chunk as it is on the wire; `chunk(b"")` is the end of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def reset_connection(conn: socket.socket) -> None:
    """Close with a RST instead of a FIN (SO_LINGER with 0 s)."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


DEFAULT_ANSWER = json_answer(200, b'{"ok": true}')


class RecordingUpstream:
    """Context manager. `keep_bodies=False` counts and hashes bodies only; `tls` wraps accepted connections.

    `requests` holds a record from the moment its head has arrived; `connections` counts those accepted since the last
    `reset()`; `stopping` is set on exit, for scripts to wait on instead of sleeping. An exception of a script
    is raised by `reset()` or on exit, unless it is a connection error.
    """

    def __init__(self, *, keep_bodies: bool = True, tls: ssl.SSLContext | None = None) -> None:
        self.keep_bodies = keep_bodies
        self.requests: list[Recorded] = []
        self.connections = 0
        self.stopping = threading.Event()
        self._tls = tls
        self._accepted = 0
        self._answer = DEFAULT_ANSWER
        self._script: Script | None = None
        self._script_head: Script | None = None
        self._changed = threading.Condition()
        self._errors: list[Exception] = []
        self._open: dict[int, Connection] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> RecordingUpstream:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        self._epoll = select.epoll()
        self._start(self._accept_all)
        self._start(self._watch_for_closes)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        self.drop_connections()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._listener.close()
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        if not stuck:
            self._epoll.close()
        if error is None:
            self._raise_errors()
            assert not stuck, f"still running {_STOP_SECONDS} s after the end: {stuck}"

    def respond_with(self, status: int = 200, headers: Sequence[Header] | None = None, body: bytes = b"") -> None:
        """Answer every request so. A header list is exact; None means JSON type and Content-Length."""
        self._answer = json_answer(status, body) if headers is None else Canned(status, headers, body)

    def script(self, fn: Script) -> None:
        """Let `fn(conn, request)` answer, after the whole body was read; not called for a body that was cut."""
        self._script = fn

    def script_head(self, fn: Script) -> None:
        """Let `fn(conn, request)` answer before the body is read; then the body is read, if `fn` did not close."""
        self._script_head = fn

    def wait_for(self, count: int, timeout: float = 5.0, *, heads: bool = False) -> list[Recorded]:
        """The records once `count` bodies have ended (`heads=True`: heads have come); AssertionError otherwise."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived(heads) >= count, timeout)
            arrived = self._arrived(heads)
            lines = [request.line for request in self.requests]
        assert arrived >= count, f"{arrived} of {count} requests within {timeout} s: {lines}"
        return list(self.requests)

    def reset(self) -> None:
        """Forget records, answers and scripts; connections stay open. Raises what went wrong in a script so far."""
        with self._changed:
            self.requests = []
            self.connections = 0
        self._answer, self._script, self._script_head = DEFAULT_ANSWER, None, None
        self._raise_errors()

    def drop_connections(self) -> None:
        """Close all open connections with a FIN, as a server does with idle ones."""
        for connection in list(self._open.values()):
            connection.hang_up()

    def _arrived(self, heads: bool) -> int:
        return sum(heads or request.settled for request in self.requests)

    def _raise_errors(self) -> None:
        errors, self._errors = self._errors, []
        if errors:
            raise ExceptionGroup("in threads of the recording upstream", errors)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name=f"upstream {work.__name__}", daemon=True)
        self._threads = [*(known for known in self._threads if known.is_alive()), thread]
        thread.start()

    def _accept_all(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:  # the listener was shut down
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as asyncio does, and with it uvicorn
            with self._changed:
                self._accepted += 1
                self.connections += 1
            self._start(self._serve, Connection(sock, self._accepted))

    def _watch_for_closes(self) -> None:
        while not self.stopping.is_set():
            for descriptor, _ in self._epoll.poll(0.1):
                if connection := self._open.get(descriptor):
                    connection.look_for_close()

    def _serve(self, connection: Connection) -> None:
        descriptor = connection.sock.fileno()
        try:
            if self._tls:
                connection.sock = self._tls.wrap_socket(connection.sock, server_side=True)
            self._open[descriptor] = connection
            self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLET)
            while not self.stopping.is_set() and self._serve_one(connection):
                pass
        except (ConnectionError, ssl.SSLError):
            connection.look_for_close()
        except Exception as error:
            self._errors.append(error)
        finally:
            if self._open.get(descriptor) is connection:
                del self._open[descriptor]
            connection.sock.close()

    def _serve_one(self, connection: Connection) -> bool:
        """Read and answer one request; True when the connection can carry another."""
        request = read_head(connection, self.keep_bodies)
        if request is None:
            return False
        script_head, script, answer = self._script_head, self._script, self._answer
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        try:
            self._read_one_body(request, script_head)
        finally:
            with self._changed:
                request.settled = True
                self._changed.notify_all()
        if not request.complete:
            return False
        if script:
            script(connection.sock, request)
        elif not script_head:
            self._send(connection, answer, request.method)
            if not answer.leaves_open(request.method):
                return False
        return connection.sock.fileno() >= 0 and not _asks_to_close(request)

    @staticmethod
    def _read_one_body(request: Recorded, script_head: Script | None) -> None:
        if request.fault:
            return
        if script_head:
            script_head(request.peer.sock, request)
            if request.peer.sock.fileno() < 0:
                return
        elif b"100-continue" in [value.lower() for value in request.values("Expect")]:
            request.peer.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        read_body(request.peer, request)

    @staticmethod
    def _send(connection: Connection, answer: Canned, method: bytes) -> None:
        connection.sock.sendall(answer.head() + (b"" if method == b"HEAD" else answer.body))


def _asks_to_close(request: Recorded) -> bool:
    options = b",".join(request.values("Connection")).lower()
    return b"close" in options or (request.line.endswith(b"HTTP/1.0") and b"keep-alive" not in options)
