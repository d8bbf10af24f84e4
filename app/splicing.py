"""A pipe between two sockets: what goes through it is moved by the kernel and never copied into this process.

splice(2) needs a pipe in between. Both sockets must be plain: TLS is made and undone in this process.
"""

import contextlib
import fcntl
import os
import ssl
from typing import Any

from app.sockets import wait

SIZE = 1024 * 1024  # what a process without privileges may ask for at most (proc(5), pipe-max-size)
# A user who has many pipes gets tiny ones (pipe(7), pipe-user-pages-soft): copying is faster then.
WORTH = 64 * 1024
FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipe:
    """Takes bytes from one socket and gives them to another."""

    def __init__(self, out: int, into: int) -> None:
        self._out, self._into = out, into

    def take(self, source: Any, most: int) -> int:
        """Move up to `most` bytes in: how many, 0 at the source's end. Raises BlockingIOError for none just now."""
        return os.splice(source.fileno(), self._into, most, flags=FLAGS)

    def give(self, sink: Any, count: int, timeout: float | None) -> None:
        """Move `count` bytes out. Raises TimeoutError when the sink takes none for `timeout` seconds, and OSError."""
        while count:
            try:
                count -= os.splice(self._out, sink.fileno(), count, flags=FLAGS)
            except BlockingIOError:
                if not wait([], [sink], timeout)[1]:
                    raise TimeoutError("the client takes no more bytes") from None

    def close(self) -> None:
        """Give the pipe back, and what is in it up."""
        os.close(self._out)
        os.close(self._into)


def pipe_between(source: Any, sink: Any) -> Pipe | None:
    """A pipe for these two sockets; None where there is none to be had that would be worth it."""
    if sink is None or isinstance(source, ssl.SSLSocket) or isinstance(sink, ssl.SSLSocket):
        return None
    try:
        out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no descriptor left
        return None
    pipe = Pipe(out, into)
    with contextlib.suppress(OSError):  # it stays as it is
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, SIZE)
    if fcntl.fcntl(into, fcntl.F_GETPIPE_SZ) >= WORTH:
        return pipe
    pipe.close()
    return None
