"""What happens in more than one of these tests: a MLflow that fails as told, a client that leaves, a steady look at
/health.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from tests.functional.keyed import ARTIFACT, SEARCH, ask, head
from tests.support.client import open_connection
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk, reset_connection

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
BLOCK = b"b" * 300_000  # a little more than the proxy takes at once
FRAMINGS = ("length", "chunked")
GET_ARTIFACT = head("GET", f"/mlflow{ARTIFACT}")


def answer_raw(upstream: RecordingUpstream, *parts: bytes, pause: float = 0.05, end: str = "open") -> None:
    """Send everybody these bytes, `pause` seconds between the parts, then close (FIN, RST) or leave it open."""

    def script(conn: socket.socket, _: Recorded) -> None:
        for number, part in enumerate(parts):
            if number:
                upstream.stopping.wait(pause)
            conn.sendall(part)
        if end == "RST":
            upstream.stopping.wait(0.05)  # a RST overtakes what is still unread
            reset_connection(conn)
        elif end == "FIN":
            conn.close()

    upstream.script(script)


def pour(upstream: RecordingUpstream, framing: bytes = b"Content-Length: 100000000000\r\n") -> None:
    """Let MLflow answer with a body that does not end, as fast as it is taken."""

    def script(conn: socket.socket, _: Recorded) -> None:
        block = chunk(BLOCK) if b"chunked" in framing else BLOCK
        conn.sendall(OK + framing + b"\r\n")
        while not upstream.stopping.is_set():
            conn.sendall(block)

    upstream.script(script)


def assert_unharmed(proxy: Proxy, upstream: RecordingUpstream) -> None:
    """The next requests get their own answers, whatever the last one left on the upstream's connection."""
    upstream.reset()
    for word in (b"one", b"two", b"three"):
        upstream.respond_with(200, [("Content-Length", str(len(word)))], word)
        response = ask(proxy, "POST", f"/mlflow{SEARCH}", (), word)
        assert (response.status, response.body) == (200, word)
    assert [seen.body for seen in upstream.wait_for(3)] == [b"one", b"two", b"three"]


def upload_head(framing: str, size: int, *headers: tuple[str, str]) -> bytes:
    frame = ("Transfer-Encoding", "chunked") if framing == "chunked" else ("Content-Length", str(size))
    return head("PUT", f"/mlflow{ARTIFACT}", frame, *headers)


def part(framing: str, data: bytes) -> bytes:
    """A piece of a body on the wire."""
    return chunk(data) if framing == "chunked" else data


def wait_until(happened: Callable[[], object], timeout: float, what: str) -> float:
    """Seconds until `happened()` was true; AssertionError with `what` when it never was."""
    begun = time.monotonic()
    while not happened():
        assert time.monotonic() - begun < timeout, f"not within {timeout} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - begun


def leave(sock: socket.socket, how: str) -> None:
    """Close with a FIN or a RST."""
    if how == "RST":
        reset_connection(sock)
    else:
        sock.close()


def black_hole(sock: socket.socket) -> None:
    """Let the kernel drop every packet to this socket, by a filter that keeps no byte: a host gone without a word.

    As for a listening socket, whoever connects gets no answer at all.
    """
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K
    attach_filter = 26  # SO_ATTACH_FILTER, which the socket module does not name
    sock.setsockopt(socket.SOL_SOCKET, attach_filter, struct.pack("HL", 1, ctypes.addressof(instruction)))


@contextlib.contextmanager
def many(proxy: Proxy, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections, on each of which `data` was sent."""
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(count):
            socks.append(stack.enter_context(open_connection(proxy.port)))
            socks[-1].sendall(data)
        yield socks


def ended(sock: socket.socket) -> bool:
    """Whether the peer has closed. What it sent before is read and thrown away; never waits."""
    patience = sock.gettimeout()
    sock.settimeout(0.0)
    try:
        while sock.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    finally:
        sock.settimeout(patience)
    return True


class Pouring:
    """Sends what `next_bytes()` gives over and over in a thread; `sent` counts bytes, `cut_at` is when it could not.

    `whole`: each of them to its end, as chunks must be; else as much of each as there is room for.
    """

    def __init__(
        self, sock: socket.socket, next_bytes: Callable[[], bytes], seconds: float, *, whole: bool = False
    ) -> None:
        self._whole = whole
        self.sent = 0
        self.cut_at: float | None = None
        self._sock, self._next, self._seconds = sock, next_bytes, seconds
        self._thread = threading.Thread(target=self._pour, name="pouring client")

    def __enter__(self) -> Pouring:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def is_pouring(self) -> bool:
        return self._thread.is_alive()

    def _pour(self) -> None:
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            try:
                data = self._next()
                if self._whole:
                    self._sock.sendall(data)
                self.sent += len(data) if self._whole else self._sock.send(data)
            except OSError:
                self.cut_at = time.monotonic()
                return


class Prober:
    """Context manager: looks at /health every `interval` seconds meanwhile. Its findings are there after the end."""

    def __init__(self, proxy: Proxy, interval: float = 0.02) -> None:
        self.took_ms: list[float] = []
        self._command = [sys.executable, str(Path(__file__).with_name("prober.py")), str(proxy.port), str(interval)]

    def __enter__(self) -> Prober:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        out, _none = self._process.communicate(timeout=60.0)
        self.took_ms = sorted(json.loads(out))

    @property
    def p99_ms(self) -> float:
        """The slowest answer but for one in a hundred; of fewer than a hundred, the slowest but one."""
        assert len(self.took_ms) >= 20, f"only {len(self.took_ms)} answers of /health in that time"
        return self.took_ms[-1 - max(1, len(self.took_ms) // 100)]
