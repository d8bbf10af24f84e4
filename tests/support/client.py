"""A raw HTTP/1.1 client over sockets: what it sends is what the test says, byte for byte."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
from collections.abc import Iterable, Sequence

from tests.support.response import RawResponse, Sink, read_response

__all__ = ["RawResponse", "basic", "open_connection", "raw_exchange", "read_response", "request"]

Header = tuple[str | bytes, str | bytes]


def basic(password: str, user: str = "anybody") -> str:
    """The Authorization header of a client that has the key as its password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def open_connection(port: int, timeout: float = 10.0) -> socket.socket:
    """A connected socket to 127.0.0.1; `timeout` (seconds) holds for each later send and receive."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def raw_exchange(port: int, data: bytes, timeout: float = 10.0, *, responses: int = 1) -> bytes:
    """Send bytes, keep the connection open, and give the raw bytes of `responses` full responses, or all until it ends.

    The server may close or reset at any point, also while data is being sent. TimeoutError when nothing comes.
    """
    received = b""
    method = data.split(b" ", 1)[0].decode("latin-1")
    with open_connection(port, timeout) as sock:
        sender = _Sender(sock, [data])
        sender.wait_for_answer()
        for _ in range(responses):
            response = read_response(sock, method)
            received += response.raw
            if not response.complete:
                break
        sender.finish()
    return received


def request(
    port: int,
    method: str,
    target: str | bytes,
    headers: Sequence[Header] = (),
    body: bytes | Iterable[bytes] | None = None,
    *,
    timeout: float = 10.0,
    sink: Sink | None = None,
) -> RawResponse:
    """One request on a connection of its own, the target and the headers byte for byte as given.

    Added: Host (unless given), and framing (unless Content-Length or Transfer-Encoding is given): Content-Length
    for bytes, chunks for an iterable. An exception raised by the iterable is raised here. An answer that comes before
    the body has been sent is read and given back.
    """
    head, framed = _framed(port, method, target, headers, body)
    with open_connection(port, timeout) as sock:
        sender = _Sender(sock, (part for parts in ([head], framed) for part in parts))
        try:
            sender.wait_for_answer()
            response = read_response(sock, method, sink=sink)
        finally:
            sender.finish()
    response.reset = response.reset or (sender.reset and not response.complete)
    return response


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _framed(
    port: int, method: str, target: str | bytes, headers: Sequence[Header], body: bytes | Iterable[bytes] | None
) -> tuple[bytes, Iterable[bytes]]:
    """The head and the body's bytes on the wire."""
    pairs = [(_bytes(name), _bytes(value)) for name, value in headers]
    names = {name.lower() for name, _ in pairs}
    framed_by_caller = bool(names & {b"content-length", b"transfer-encoding"})
    if b"host" not in names:
        pairs.insert(0, (b"Host", b"127.0.0.1:%d" % port))
    parts: Iterable[bytes] = () if body is None else [body] if isinstance(body, bytes) else body
    if isinstance(body, bytes) and not framed_by_caller:
        pairs.append((b"Content-Length", b"%d" % len(body)))
    elif body is not None and not framed_by_caller:
        pairs.append((b"Transfer-Encoding", b"chunked"))
        parts = _chunked(parts)
    lines = [b"%b %b HTTP/1.1" % (_bytes(method), _bytes(target)), *(b"%b: %b" % pair for pair in pairs), b"", b""]
    return b"\r\n".join(lines), parts


def _chunked(blocks: Iterable[bytes]) -> Iterable[bytes]:
    for block in blocks:
        if block:
            yield b"%x\r\n%b\r\n" % (len(block), block)
    yield b"0\r\n\r\n"


class _Sender:
    """Sends in a thread, so that an early answer can be read while a large body is under way."""

    def __init__(self, sock: socket.socket, parts: Iterable[bytes]) -> None:
        self.reset = False
        self._sock = sock
        self._parts = parts
        self._ending = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="raw client sender", daemon=True)
        self._thread.start()

    def wait_for_answer(self) -> None:
        """Return when all is sent or something can be read: a long upload must not count as a slow answer."""
        readable = select.poll()
        readable.register(self._sock, select.POLLIN)
        while self._thread.is_alive() and not readable.poll(50):
            pass

    def _run(self) -> None:
        try:
            for part in self._parts:
                self._sock.sendall(part)
                if self._ending:
                    return
        except ConnectionResetError:
            self.reset = True
        except BrokenPipeError:
            pass  # the peer closed; the answer, read elsewhere, says why
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._ending:
            self._error = error
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)  # the reader must not wait for an answer that cannot come

    def finish(self) -> None:
        """Stop sending, and raise what the body's iterable raised."""
        self._ending = True
        if self._thread.is_alive():
            self._thread.join(0.05)
        if self._thread.is_alive():
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)  # wakes a send that waits for the peer
            self._thread.join(10.0)
        assert not self._thread.is_alive(), "the iterable of the request body did not come back within 10 s"
        if self._error:
            raise self._error
