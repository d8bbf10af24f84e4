"""A request on its way to MLflow: written as it comes, and no longer than MLflow wants it.

MLflow may answer while the body is still coming (401, 413, 507), and may stop reading when it does. So its socket is
looked at before each block, while the client pauses, and while MLflow takes nothing.
"""

import os
import ssl
from collections.abc import Iterable, Iterator
from typing import Any

from app.chunks import LAST_CHUNK, chunk
from app.errors import ClientGone
from app.incoming import Incoming
from app.sockets import has_input, wait
from app.turns import ENDING

RECORD = 16 * 1024  # what TLS puts into one (RFC 8446 section 5.1), in bytes


class _Answered(Exception):
    """MLflow has said something, or ended, before the request did."""


class Sending:
    """Sends one request. `timeout`: the longest wait for MLflow to take a byte, in seconds. `client`: its socket."""

    def __init__(self, sock: Any, answer: Incoming, client: Any, timeout: float) -> None:
        self._sock = sock
        self._answer = answer
        self._client = client
        self._timeout = timeout
        self._secured = isinstance(sock, ssl.SSLSocket)

    def send(self, head: bytes, body: Iterable[bytes | memoryview] | None, chunked: bool) -> bool:
        """Send everything; False when MLflow answered, or took no more, before the end.

        Raises TimeoutError and other OSErrors for the socket's, and what the body raises.
        """
        try:
            self._write(head)
            for block in () if body is None else self._until_answered(body):
                self._write(chunk(block) if chunked else block)
            if chunked:
                self._write(LAST_CHUNK)
        except (_Answered, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            return False  # whatever it is, reading the answer will tell
        return True

    def _until_answered(self, blocks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        iterator = iter(blocks)
        awaits_client = getattr(blocks, "awaits_client", bool)
        while True:
            if awaits_client():
                self._wait_for_client()
            block = next(iterator, None)
            if block is None:
                return
            if self._answer.has_begun():
                raise _Answered
            if block:
                yield block

    def _wait_for_client(self) -> None:
        """Wait for the client's next block. Raises when MLflow answers first."""
        while self._client is not None and not has_input(self._client):
            readable, _ = wait([self._client, self._sock], [], self._client.gettimeout())
            if not readable:
                ENDING.stand()
                raise ClientGone("The request body stopped coming.", kind="client_stalled")
            if self._sock in readable and self._answer.has_begun():
                raise _Answered

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            taken = self._write_some(rest)
            if taken:
                rest = rest[taken:]
            else:
                self._wait_for_room()

    def _write_some(self, data: memoryview) -> int:
        try:
            if not self._secured:
                return os.write(self._sock.fileno(), data)
            return self._write_record(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0

    def _write_record(self, data: memoryview) -> int:
        # OpenSSL reads no more once a write has failed: what MLflow said before it closed must be read before that.
        if self._answer.has_begun():
            raise _Answered
        self._sock.settimeout(0.0)
        return int(self._sock.send(data[:RECORD]))

    def _wait_for_room(self) -> None:
        readable, writable = wait([self._sock], [self._sock], self._timeout)
        if readable and self._answer.has_begun():
            raise _Answered
        if not (readable or writable):
            ENDING.stand()
            raise TimeoutError("the upstream takes no more bytes")
