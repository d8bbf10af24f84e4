"""Closing a socket so that nobody can take it for an end."""

import socket
import struct
from typing import Any

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time


def reset_on_close(sock: Any) -> None:
    """Have a socket closed with a RST: at once, past whatever its peer does not read, and never like a clean end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
