"""One recorded request and the connection it came on: read byte for byte, nothing repaired.

Framing faults of the sender are named in `Recorded.fault`; a body that ended early has `complete == False`.
Content-Length beside Transfer-Encoding is read as chunked, as MLflow's uvicorn reads it (RFC 9112 6.3), so a
smuggled request shows up as a second record. Linux only (TCP_INFO).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

BLOCK_BYTES = 256 * 1024
_TCP_PEER_ENDED = frozenset({6, 7, 8, 9, 11})  # TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING: a FIN or RST arrived
_REQUEST_LINE = re.compile(rb"[^\s]+ [^\s]+ HTTP/\d\.\d")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[^\r\n]*)?\r\n")


class FramingFault(Exception):
    """The sender broke RFC 9112 framing; the text says how."""


class Connection:
    """One accepted connection. Reads for the server and notes when the peer's FIN or RST came."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.closed_at: float | None = None
        self.closed = threading.Event()
        self._hung_up = False
        self._buffer = bytearray()

    def look_for_close(self) -> None:
        """Ask the kernel for the TCP state, so that our own shutdown is never taken for the peer's."""
        with contextlib.suppress(OSError):  # closed on this side: there is nothing more to learn
            state = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            if state in _TCP_PEER_ENDED and not self._hung_up and not self.closed.is_set():
                self.closed_at = time.monotonic()
                self.closed.set()

    def hang_up(self) -> None:
        """End the connection from this side with a FIN; a thread that reads it wakes up."""
        self._hung_up = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def until(self, mark: bytes) -> bytes:
        """All bytes through `mark`; EOFError with what there was when the connection ends before."""
        while (at := self._buffer.find(mark)) < 0:
            self._receive()
        return self._take(at + len(mark))

    def blocks(self, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes as they come; EOFError when the connection ends before."""
        while size:
            if not self._buffer:
                self._receive()
            block = self._take(min(size, len(self._buffer)))
            size -= len(block)
            yield block

    def rest(self) -> bytes:
        """What was received and not yet read."""
        return self._take(len(self._buffer))

    def _receive(self) -> None:
        try:
            block = self.sock.recv(BLOCK_BYTES)
        except (ConnectionError, ssl.SSLError):
            block = b""
        if not block:
            self.look_for_close()
            raise EOFError
        self._buffer += block

    def _take(self, size: int) -> bytes:
        block = bytes(self._buffer[:size])
        del self._buffer[:size]
        return block


@dataclass(eq=False)
class Recorded:
    """One request as it came. `closed_at` (time.monotonic()) is when the peer's FIN or RST was seen, else None."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    raw_head: bytes
    peer: Connection = field(repr=False)
    keep_body: bool = field(default=True, repr=False)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body_size: int = 0
    complete: bool = False
    settled: bool = False
    fault: str | None = None
    _raw: bytearray = field(default_factory=bytearray, repr=False)
    _decoded: bytearray = field(default_factory=bytearray, repr=False)
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    @classmethod
    def from_head(cls, raw_head: bytes, peer: Connection, keep_body: bool) -> Recorded:
        """Split a head into its lines; values lose the optional whitespace around them (RFC 9112 5), nothing else."""
        line, *rest = raw_head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        pairs = [(name, value.strip(b" \t")) for name, _, value in (item.partition(b":") for item in rest)]
        request = cls(line, pairs, raw_head, peer, keep_body)
        if not raw_head.endswith(b"\r\n\r\n"):
            request.fault = "the connection ended inside the head"
        elif not _REQUEST_LINE.fullmatch(line) or not all(b":" in item for item in rest):
            request.fault = "not an HTTP/1.1 head"
        return request

    @property
    def connection(self) -> int:
        return self.peer.number

    @property
    def closed_at(self) -> float | None:
        return self.peer.closed_at

    @property
    def method(self) -> bytes:
        return self.line.partition(b" ")[0]

    @property
    def target(self) -> bytes:
        return b"".join(self.line.split(b" ")[1:2])

    @property
    def framing(self) -> list[tuple[bytes, bytes]]:
        """The framing headers, as received: exactly one for a body, none or one without."""
        return [pair for pair in self.headers if pair[0].lower() in (b"content-length", b"transfer-encoding")]

    @property
    def raw_body(self) -> bytes:
        return bytes(self._kept(self._raw))

    @property
    def body(self) -> bytes:
        return bytes(self._kept(self._decoded))

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def values(self, name: bytes | str) -> list[bytes]:
        """Every value of a header, in order; the name in any case."""
        wanted = (name.encode() if isinstance(name, str) else name).lower()
        return [value for key, value in self.headers if key.lower() == wanted]

    def wait_closed(self, timeout: float) -> float:
        """Wait (seconds) for the peer's FIN or RST and give its time.monotonic(); AssertionError when none came."""
        assert self.peer.closed.wait(timeout), f"the connection of {self.line!r} was not closed within {timeout} s"
        assert self.peer.closed_at is not None
        return self.peer.closed_at

    def add(self, raw: bytes, decoded: bytes = b"") -> None:
        self.body_size += len(decoded)
        self._digest.update(decoded)
        if self.keep_body:
            self._raw += raw
            self._decoded += decoded

    def _kept(self, part: bytearray) -> bytearray:
        if not self.keep_body:
            raise LookupError("bodies are not kept (keep_bodies=False): use body_size and sha256")
        return part


def read_head(connection: Connection, keep_body: bool) -> Recorded | None:
    """The next request's head; None when the connection ended between requests. A cut head counts, with a fault."""
    try:
        return Recorded.from_head(connection.until(b"\r\n\r\n"), connection, keep_body)
    except EOFError:
        left = connection.rest()
    return Recorded.from_head(left, connection, keep_body) if left else None


def read_body(connection: Connection, request: Recorded) -> None:
    """Read the body the head announced into the record; sets `complete`, and `fault` where the framing was broken."""
    try:
        if request.values("Transfer-Encoding"):
            _read_chunked(connection, request)
        elif request.values("Content-Length"):
            for block in connection.blocks(_content_length(request)):
                request.add(block, block)
        request.complete = True
    except EOFError:
        request.complete = False
    except FramingFault as fault:
        request.fault = str(fault)


def _content_length(request: Recorded) -> int:
    lengths = request.values("Content-Length")
    if len(lengths) > 1:
        raise FramingFault(f"{len(lengths)} Content-Length headers")
    if not re.fullmatch(rb"\d+", lengths[0]):
        raise FramingFault(f"Content-Length {lengths[0]!r}")
    return int(lengths[0])


def _read_chunked(connection: Connection, request: Recorded) -> None:
    """RFC 9112 7.1, strictly: sizes, data, trailers. Raises FramingFault at the first byte that does not fit."""
    if [value.lower() for value in request.values("Transfer-Encoding")] != [b"chunked"]:
        raise FramingFault(f"Transfer-Encoding {request.values('Transfer-Encoding')!r}")
    if request.values("Content-Length"):
        request.fault = "Content-Length beside Transfer-Encoding"
    while size := _chunk_size(connection, request):
        for block in connection.blocks(size):
            request.add(block, block)
        end = b"".join(connection.blocks(2))
        request.add(end)
        if end != b"\r\n":
            raise FramingFault(f"chunk data followed by {end!r}")
    while (line := connection.until(b"\r\n")) != b"\r\n":
        request.add(line)
        name, _, value = line.rstrip(b"\r\n").partition(b":")
        request.trailers.append((name, value.strip(b" \t")))
    request.add(line)


def _chunk_size(connection: Connection, request: Recorded) -> int:
    line = connection.until(b"\n")
    request.add(line)
    if not (match := _CHUNK_SIZE.fullmatch(line)):
        raise FramingFault(f"chunk size line {line!r}")
    return int(match[1], 16)
