"""One HTTP/1.1 response read off a socket: a clean end, an early end and a reset are told apart."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BLOCK_BYTES = 256 * 1024
_STATUS_LINE = re.compile(rb"(HTTP/\d\.\d) (\d{3})(?: (.*))?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[^\r\n]*)?\r\n")

Sink = Callable[[bytes], object]


@dataclass
class RawResponse:
    """What came back. `status` is 0 when no valid head arrived.

    complete: the body ended where its framing says. With `framing == "close"` (neither length nor chunks) that is no
    more than an orderly FIN. reset: a RST ended it. Incomplete without reset is an early FIN, or a `fault`.
    """

    status: int = 0
    reason: str = ""
    version: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    reset: bool = False
    framing: str = "none"
    interim: list[int] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    fault: str | None = None
    body_size: int = 0
    raw: bytes = field(default=b"", repr=False)

    def values(self, name: str) -> list[str]:
        """Every value of a header, in order; the name in any case. Bytes above 0x7f are latin-1."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The only value of a header, None without one; AssertionError when it came twice."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


def read_response(
    sock: socket.socket, method: str = "GET", *, stop_at_interim: bool = False, sink: Sink | None = None
) -> RawResponse:
    """Read exactly one response, nothing beyond it, so that the next one can be read from the same socket.

    1xx answers are skipped and listed in `interim` (`stop_at_interim` gives the first one back instead). With `sink`
    the decoded body goes there block by block and is not kept. Raises TimeoutError when the socket's timeout passes.
    """
    return _ResponseReader(sock, sink).read(method, stop_at_interim)


class _Fault(Exception):
    """The response broke RFC 9112; the text says how."""


class _ResponseReader:
    """Reads one response and keeps its raw bytes (without the body when that goes to a sink)."""

    def __init__(self, sock: socket.socket, sink: Sink | None) -> None:
        self._sock = sock
        self._sink = sink
        self._raw = bytearray()
        self._body = bytearray()

    def read(self, method: str, stop_at_interim: bool) -> RawResponse:
        response = RawResponse()
        try:
            self._read_head(response)
            while 100 <= response.status < 200 and response.status != 101 and not stop_at_interim:
                response = RawResponse(interim=[*response.interim, response.status])
                self._read_head(response)
            self._read_body(response, method)
            response.complete = True
        except EOFError:
            pass
        except ConnectionError:
            response.reset = True
        except _Fault as fault:
            response.fault = str(fault)
        response.raw, response.body = bytes(self._raw), bytes(self._body)
        return response

    def _read_head(self, response: RawResponse) -> None:
        lines = []
        while (line := self._line()) != b"\r\n":
            lines.append(line.removesuffix(b"\r\n"))
        match = _STATUS_LINE.fullmatch(lines[0]) if lines else None
        if not match:
            raise _Fault(f"status line {lines[:1]}")
        response.headers = [_pair(line) for line in lines[1:]]
        response.version, response.status = match[1].decode(), int(match[2])
        response.reason = (match[3] or b"").decode("latin-1")

    def _read_body(self, response: RawResponse, method: str) -> None:
        codings, lengths = response.values("Transfer-Encoding"), response.values("Content-Length")
        if len(codings) + len(lengths) > 1:
            raise _Fault(f"several framing headers: {codings + lengths}")
        if method == "HEAD" or response.status < 200 or response.status in (204, 304):
            return
        if codings:
            response.framing = "chunked"
            self._read_chunks(response, codings[0])
        elif lengths:
            response.framing = "length"
            if not re.fullmatch(r"\d+", lengths[0]):
                raise _Fault(f"Content-Length {lengths[0]!r}")
            self._deliver(response, int(lengths[0]))
        else:
            response.framing = "close"
            with contextlib.suppress(EOFError):
                self._deliver(response, None)

    def _read_chunks(self, response: RawResponse, coding: str) -> None:
        if coding.lower() != "chunked":
            raise _Fault(f"Transfer-Encoding {coding!r}")
        while size := self._chunk_size():
            self._deliver(response, size)
            if (end := self._line()) != b"\r\n":
                raise _Fault(f"chunk data followed by {end!r}")
        while (line := self._line()) != b"\r\n":
            response.trailers.append(_pair(line))

    def _chunk_size(self) -> int:
        line = self._line()
        if not (match := _CHUNK_SIZE.fullmatch(line)):
            raise _Fault(f"chunk size line {line!r}")
        return int(match[1], 16)

    def _deliver(self, response: RawResponse, size: int | None) -> None:
        """Take `size` bytes of body, or all until the end; EOFError at the end of the connection."""
        while size is None or size > 0:
            block = self._receive(BLOCK_BYTES if size is None else min(size, BLOCK_BYTES))
            size = None if size is None else size - len(block)
            response.body_size += len(block)
            if self._sink:
                self._sink(block)
            else:
                self._body += block
                self._raw += block

    def _line(self) -> bytes:
        """Through the next LF, byte by byte: what follows belongs to whoever reads next."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self._receive(1)
            self._raw += byte
            line += byte
        return line

    def _receive(self, size: int) -> bytes:
        block = self._sock.recv(size)
        if not block:
            raise EOFError
        return block


def _pair(line: bytes) -> tuple[str, str]:
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon:
        raise _Fault(f"header line {line!r}")
    return name, value.strip(" \t\r\n")
