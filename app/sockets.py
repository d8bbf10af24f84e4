"""Two things about sockets: closing one so that nobody takes it for an end, and asking whether it has input."""

import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from gevent import monkey

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time

# The question must not yield: gevent's own poll goes through its event loop.
poll = monkey.get_original("select", "poll")


def reset_on_close(sock: Any) -> None:
    """Have a socket closed with a RST: at once, past whatever its peer does not read, and never like a clean end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


def poll_for_input(sock: Any) -> Callable[[int], list[tuple[int, int]]]:
    """A question to be asked again and again: called with 0, it gives nothing unless there is input, or the end."""
    question = poll()
    question.register(sock, select.POLLIN)
    asked: Callable[[int], list[tuple[int, int]]] = question.poll
    return asked


def has_input(sock: Any) -> bool:
    """Whether a socket has something to read, or has ended."""
    return bool(poll_for_input(sock)(0))
