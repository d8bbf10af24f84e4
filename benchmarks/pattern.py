"""The bytes that are transferred: a block in memory, sent by the kernel, so that the sender costs next to nothing."""

import functools
import os
import socket

from benchmarks.plan import MIB

SIZE = 64 * MIB


@functools.cache
def _file() -> int:
    """Descriptor of a file in memory: one mebibyte of random bytes, again and again."""
    descriptor = os.memfd_create("benchmark")
    block = os.urandom(MIB)
    for _ in range(SIZE // MIB):
        os.write(descriptor, block)
    return descriptor


def send_pattern(connection: socket.socket, size: int) -> None:
    """Send `size` bytes. Raises OSError when the peer takes no more."""
    descriptor, sent = _file(), 0
    while sent < size:
        offset = sent % SIZE
        sent += os.sendfile(connection.fileno(), descriptor, offset, min(size - sent, SIZE - offset))
