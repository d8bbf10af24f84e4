"""MLflow's answer as it comes in on a connection: head, then blocks, and never a byte that belongs to something else.

It stands where urllib3's response would: requests' Response has it as `raw`.
"""

import io
import ssl
from collections.abc import Callable
from functools import cached_property
from time import monotonic
from typing import Any

from urllib3 import HTTPResponse

from app.answer_head import END, MOST_BYTES, BadHead, Head, parse_head
from app.chunks import BadChunk, Chunks
from app.headers import Pair
from app.sockets import acknowledge, poll_for_input, wait
from app.splicing import Pipe, pipe_between
from app.watch import PATIENCE_SECONDS, await_answer

INTERIM = b"HTTP/1.1 100 "
HEAD_BLOCK = 64 * 1024
LARGE = 1024 * 1024  # what is left of a body that is worth a pipe, in bytes


class BrokenOff(OSError):
    """An answer that ended before its end, or went on as none can."""


class Pairs(list[Pair]):
    """Headers as they came, repeated ones apart."""

    def items(self) -> "Pairs":
        """Themselves, as urllib3's headers give them."""
        return self


class Incoming:
    """One answer. `client` is the socket of whoever waits for it, None for nobody; `read_timeout` in seconds.

    `release` gets the verdict whether the connection may be used again, once.
    """

    head: Head

    def __init__(self, sock: Any, client: Any, read_timeout: float, release: Callable[[bool], None]) -> None:
        self._sock = sock
        self._client = client
        self._read_timeout = read_timeout
        self._release: Callable[[bool], None] | None = release
        self._buffer = b""
        self._at_end = False
        self._whole = False
        self._left: int | None = None
        self._chunks: Chunks | None = None
        self.cut_short = False  # the request was not sent to its end: nobody may use the connection after this answer

    # --- the head ---

    def has_begun(self) -> bool:
        """Whether an answer, or the end of the connection, is there; never waits. An unasked 100 is none."""
        if self._has_input(0) or self._pending():
            self._sock.settimeout(0.0)
            try:
                data = self._sock.recv(HEAD_BLOCK)
            except (BlockingIOError, ssl.SSLWantReadError):  # TLS's own business, such as a session ticket
                return False
            except OSError:
                data = b""
            self._at_end = not data
            self._buffer += data
        self._drop_interim()
        too_much = len(self._buffer) > MOST_BYTES  # an interim answer that does not end: reading the head refuses it
        return self._at_end or too_much or not INTERIM.startswith(self._buffer[: len(INTERIM)])

    @cached_property
    def _has_input(self) -> Callable[[int], list[tuple[int, int]]]:
        return poll_for_input(self._sock)

    def _pending(self) -> int:
        return self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0

    def _drop_interim(self) -> None:
        while self._buffer.startswith(INTERIM) and (end := self._buffer.find(END)) >= 0:
            self._buffer = self._buffer[end + len(END) :]

    def read_head(self, method: str) -> "Incoming":
        """Wait for the head and read it. Raises BadHead, ClientGone and OSError, of which TimeoutError."""
        deadline = monotonic() + self._read_timeout
        self._sock.settimeout(min(PATIENCE_SECONDS, self._read_timeout))
        while (end := self._buffer.find(END)) < 0:
            _refuse_what_cannot_be_one(self._buffer)
            data = b"" if self._at_end else self._receive(HEAD_BLOCK, deadline)
            if not data:
                raise BrokenOff("no answer")
            self._buffer += data
            self._drop_interim()
        self.head = parse_head(self._buffer[:end], method)
        self._buffer = self._buffer[end + len(END) :]
        self._left = self.head.length
        self._whole = self._left == 0
        self._chunks = Chunks() if self.head.chunked else None
        if not (self._whole or self._buffer):
            acknowledge(self._sock)
        return self

    def _receive(self, most: int, deadline: float) -> bytes:
        while monotonic() < deadline:  # however it comes: a head that drips is late as well
            try:
                data: bytes = self._sock.recv(most)
            except TimeoutError:  # after some patience: from now on the client is watched too
                await_answer(self._sock, self._client, deadline - monotonic())
            else:
                return data
        raise TimeoutError("the upstream does not go on")

    @property
    def status(self) -> int:
        """The status code."""
        return self.head.status

    @property
    def headers(self) -> Pairs:
        """The headers, all of them."""
        return Pairs(self.head.pairs)

    # --- the body ---

    def read1(self, size: int, decode_content: bool = False) -> bytes:
        """The next block, as it comes, of about `size` bytes at most; empty at the end. Raises OSError and ClientGone.

        Not decoded: `decode_content` is there because urllib3's has it.
        """
        if self._whole:
            return b""
        return self._of_chunks(size, self._chunks) if self._chunks else self._as_it_is(size)

    def _as_it_is(self, size: int) -> bytes:
        most = size if self._left is None else min(size, self._left)
        block = self._take(most)
        if self._left is None:
            self._whole = not block  # RFC 9112 section 6.3, rule 8: it ends with the connection
            return block
        if not block:
            raise BrokenOff("shorter than its length")
        self._left -= len(block)
        self._whole = self._left == 0
        return block

    def _of_chunks(self, size: int, chunks: Chunks) -> bytes:
        block = b""
        while not (block or chunks.ended):
            data = self._take(chunks.appetite(size))
            if not data:
                raise BrokenOff("ended amid its chunks")
            try:
                block = bytes(chunks.feed(data))
            except BadChunk as error:
                raise BrokenOff("bad chunk") from error
        if chunks.ended:
            self._whole, self._buffer = True, chunks.surplus + self._buffer
        return block

    def pipe_to(self, sink: Any) -> Pipe | None:
        """A pipe for what is left of the body; None when it is not worth it, or cannot be."""
        large = self._left is not None and self._left >= LARGE and not self._buffer
        return pipe_between(self._sock, sink) if large else None

    def move(self, pipe: Pipe, most: int) -> int:
        """Move up to `most` bytes of a body of known length into a pipe; how many. Raises as `read1` does."""
        deadline = monotonic() + self._read_timeout
        left = self._left or 0
        while True:
            try:
                moved = pipe.take(self._sock, min(most, left))
                break
            except BlockingIOError:
                if not wait([self._sock], [], PATIENCE_SECONDS)[0]:
                    await_answer(self._sock, self._client, deadline - monotonic())
        if not moved:
            raise BrokenOff("shorter than its length")
        self._left = left - moved
        self._whole = self._left == 0
        return moved

    def _take(self, most: int) -> bytes:
        if self._buffer:
            block, self._buffer = self._buffer[:most], self._buffer[most:]
            return block
        return b"" if self._at_end else self._receive(most, monotonic() + self._read_timeout)

    def read(self, size: int, decode_content: bool = True) -> bytes:
        """Up to `size` bytes of the body, decoded as Content-Encoding says. Raises OSError and urllib3's HTTPError."""
        raw = b""
        while len(raw) < size and (block := self.read1(size - len(raw))):
            raw += block
        codings = {name: value for name, value in self.head.pairs if name.lower() == "content-encoding"}
        plain = HTTPResponse(io.BytesIO(raw), codings, preload_content=False)  # its length is not that of a part
        return plain.read(size, decode_content=decode_content)

    @property
    def is_here(self) -> bool:
        """Whether reading on would not wait: a body of known length that came with its head."""
        return self._left is not None and len(self._buffer) >= self._left

    @property
    def length_remaining(self) -> int | None:
        """What is still to come, in bytes; None when that is not known."""
        return 0 if self._whole else self._left

    def release_conn(self) -> None:
        """Give the connection back, to be used again if nothing but this answer was on it."""
        surplus = self._buffer or self._pending()  # what TLS holds back does not make the socket readable
        self._end(self._whole and self.head.keeps and not (surplus or self.cut_short))

    def close(self) -> None:
        """Cut the connection: MLflow stops sending."""
        self._end(False)

    def _end(self, reusable: bool) -> None:
        release, self._release = self._release, None
        if release is not None:
            release(reusable)


def _refuse_what_cannot_be_one(begun: bytes) -> None:
    # Before its end has come: waiting for the end of something else would take until the timeout.
    if begun[:7] != b"HTTP/1."[: len(begun)] or begun.count(b"\n") != begun.count(b"\r\n") or len(begun) > MOST_BYTES:
        raise BadHead("no answer's head")
