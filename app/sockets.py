"""Two things about sockets: closing one so that nobody takes it for an end, and asking whether it has input."""

import select
import socket
import struct
from typing import Any

from gevent import monkey

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time

# The question must not yield: gevent's own poll goes through its event loop.
poll = monkey.get_original("select", "poll")


def reset_on_close(sock: Any) -> None:
    """Have a socket closed with a RST: at once, past whatever its peer does not read, and never like a clean end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


def has_input(sock: Any) -> bool:
    """Whether a socket has something to read, or has ended."""
    question = poll()
    question.register(sock, select.POLLIN)
    return bool(question.poll(0))
