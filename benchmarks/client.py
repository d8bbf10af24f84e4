"""A client that costs as little as a client can: the kernel copies, Python counts. Sizes in bytes, times in seconds."""

from __future__ import annotations

import re
import socket
import struct
import time

from benchmarks.pattern import send_pattern
from benchmarks.plan import MIB
from benchmarks.targets import Target
from scripts.dev.terminal import Trouble

WITHOUT_PROGRESS = struct.pack("ll", 120, 0)  # a timeval: seconds and microseconds
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


def connect(target: Target) -> socket.socket:
    """A new connection."""
    connection = socket.create_connection(("127.0.0.1", target.port))
    # The kernel's timeouts: Python's own would make the socket one that does not block, with a poll for each call.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, WITHOUT_PROGRESS)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, WITHOUT_PROGRESS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def upload(target: Target, path: str, size: int) -> float:
    """Put a body; gives the time from connecting to the end of the answer. Raises Trouble for any answer but 200."""
    begun = time.perf_counter()
    with connect(target) as connection:
        connection.sendall(target.head("PUT", path, size))
        try:
            send_pattern(connection, size)
        except OSError as error:
            raise Trouble(f"{target.name}: the upload was cut: {error}") from error
        length, body = _answer(target, connection)
        while len(body) < length:
            body += _received(target, connection)
    return time.perf_counter() - begun


def download(target: Target, path: str, size: int) -> float:
    """Get a body, of which every byte must come; gives the time it took."""
    begun = time.perf_counter()
    with connect(target) as connection:
        connection.sendall(target.head("GET", path))
        length, first = _answer(target, connection)
        view, left = memoryview(bytearray(MIB)), size - len(first)
        while left > 0:
            received = connection.recv_into(view)
            if not received:
                break
            left -= received
    if left or length != size:
        raise Trouble(f"{target.name}: {size} bytes expected, {length} announced, {size - left} received")
    return time.perf_counter() - begun


def get(target: Target, path: str) -> tuple[float, bytes]:
    """A small GET on a connection of its own: the time it took, and the body."""
    begun = time.perf_counter()
    with connect(target) as connection:
        connection.sendall(target.head("GET", path))
        length, body = _answer(target, connection)
        while len(body) < length:
            body += _received(target, connection)
    return time.perf_counter() - begun, body


def _answer(target: Target, connection: socket.socket) -> tuple[int, bytes]:
    """The announced length of a 200, and the first bytes of its body. Raises Trouble for any other answer."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += _received(target, connection)
    head, _, first = head.partition(b"\r\n\r\n")
    status, length = STATUS.match(head), LENGTH.search(head)
    if status is None or status[1] != b"200":
        raise Trouble(f"{target.name} answered {head.splitlines()[0].decode('latin-1')}: {first[:500]!r}")
    return int(length[1]) if length else 0, first


def _received(target: Target, connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise Trouble(f"{target.name} closed the connection without a whole answer")
    return received
