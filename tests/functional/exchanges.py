"""What MLflow and a client do to each other in more than one file, here and in the fault catalogue."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from tests.functional.keyed import ARTIFACT, SEARCH, ask, begun, head
from tests.support.client import read_response
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk, reset_connection

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
BLOCK = b"b" * 300_000  # a little more than the proxy takes at once
FRAMINGS = ("length", "chunked")
LEAVING = ("FIN", "RST")


def upload_head(framing: str, size: int, *headers: tuple[str, str]) -> bytes:
    frame = ("Transfer-Encoding", "chunked") if framing == "chunked" else ("Content-Length", str(size))
    return head("PUT", f"/mlflow{ARTIFACT}", frame, *headers)


def part(framing: str, data: bytes) -> bytes:
    """A piece of a body on the wire."""
    return chunk(data) if framing == "chunked" else data


def leave(sock: socket.socket, how: str) -> None:
    """Close with a FIN or a RST."""
    if how == "RST":
        reset_connection(sock)
    else:
        sock.close()


def wait_until(happened: Callable[[], object], timeout: float, what: str) -> float:
    """Seconds until `happened()` was true; AssertionError with `what` when it never was."""
    start = time.monotonic()
    while not happened():
        assert time.monotonic() - start < timeout, f"not within {timeout} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - start


def answer_raw(upstream: RecordingUpstream, *parts: bytes, pause: float = 0.05, end: str = "open") -> None:
    """Send everybody these bytes, `pause` seconds between the parts, then close (FIN, RST) or leave it open."""

    def script(conn: socket.socket, _: Recorded) -> None:
        for number, piece in enumerate(parts):
            if number:
                upstream.stopping.wait(pause)
            conn.sendall(piece)
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


def slowest_drop(
    proxy: Proxy, upstream: RecordingUpstream, target: str, framing: str, count: int, pause: float
) -> float:
    """Let MLflow answer with `count` single bytes, `pause` seconds after each of them; gives the most seconds that one
    took to its client. AssertionError unless all came, one by one. `framing` may be "close" too.
    """
    frames = {"length": b"Content-Length: %d\r\n" % count, "chunked": b"Transfer-Encoding: chunked\r\n", "close": b""}
    sent: list[float] = []
    came: list[float] = []

    def drip(conn: socket.socket, recorded: Recorded) -> None:
        conn.sendall(OK + frames[framing] + b"\r\n")
        for _ in range(count):
            sent.append(time.monotonic())
            conn.sendall(part(framing, b"d"))
            upstream.stopping.wait(pause)
        if framing == "chunked":
            conn.sendall(chunk(b""))
        if framing == "close":
            conn.close()

    upstream.script(drip)
    response = ask(proxy, "GET", f"/mlflow{target}", sink=lambda _: came.append(time.monotonic()))
    assert response.complete and len(came) == count
    return max(there - here for here, there in zip(sent, came, strict=True))


def assert_unharmed(proxy: Proxy, upstream: RecordingUpstream) -> None:
    """The next requests get their own answers, whatever the last one left on the upstream's connection."""
    upstream.reset()
    for word in (b"one", b"two", b"three"):
        upstream.respond_with(200, [("Content-Length", str(len(word)))], word)
        response = ask(proxy, "POST", f"/mlflow{SEARCH}", (), word)
        assert (response.status, response.body) == (200, word)
    assert [seen.body for seen in upstream.wait_for(3)] == [b"one", b"two", b"three"]


def assert_upload_cut_when_left(proxy: Proxy, upstream: RecordingUpstream, framing: str, how: str) -> None:
    """Leave amid an upload: within a second MLflow's connection ends, its body does not, and the greenlet is done."""
    name = f"left-{framing}-{how}-{time.monotonic()}"
    with begun(proxy, upload_head(framing, 10_000_000, ("X-Request-ID", name)) + part(framing, BLOCK)) as sock:
        (seen,) = upstream.wait_for(1, heads=True)
        wait_until(lambda: seen.body_size >= 262_144, 3.0, "the first block upstream")
        left = time.monotonic()
        leave(sock, how)
    assert seen.wait_closed(1.5) - left < 1.0
    upstream.wait_for(1)
    assert not seen.complete and not seen.raw_body.endswith(b"0\r\n\r\n")
    line = proxy.access_line(name, timeout=1.0)
    assert (line["outcome"], line["upstream_status"]) == ("client_gone", 0)
    assert ask(proxy, "GET", "/mlflow/version").status == 200


def assert_download_cut_when_left(proxy: Proxy, upstream: RecordingUpstream, how: str) -> None:
    """Leave amid an answer: within two seconds MLflow's connection ends, and it is not used again."""
    name = f"dropped-{how}-{time.monotonic()}"
    with begun(proxy, head("GET", f"/mlflow{ARTIFACT}", ("X-Request-ID", name))) as sock:
        assert sock.recv(100)
        left = time.monotonic()
        leave(sock, how)
    (seen,) = upstream.wait_for(1)
    assert seen.wait_closed(2.5) - left < 2.0
    assert proxy.access_line(name)["outcome"] == "client_gone"
    upstream.reset()
    assert ask(proxy, "GET", f"/mlflow{SEARCH}").status == 200
    assert upstream.requests[0].connection != seen.connection


CHUNKED_CUTS = (b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n", b"5")


def assert_a_cut_never_ends_well(proxy: Proxy, upstream: RecordingUpstream, cut: bytes) -> None:
    """Send a chunked upload that breaks off with these bytes and a FIN: MLflow never sees it end."""
    with begun(proxy, upload_head("chunked", 0) + chunk(BLOCK) + cut) as sock:
        upstream.wait_for(1, heads=True)
        sock.shutdown(socket.SHUT_WR)
        assert read_response(sock).status in (0, 400)
    (seen,) = upstream.wait_for(1)
    seen.wait_closed(1.0)
    assert not seen.complete and not seen.raw_body.endswith(b"0\r\n\r\n")


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
