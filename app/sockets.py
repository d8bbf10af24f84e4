"""What is asked of sockets: a close that nobody takes for an end, whether there is input, and waiting for several."""

import contextlib
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from gevent import monkey

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time

# The question must not yield: gevent's own poll goes through its event loop.
poll = monkey.get_original("select", "poll")


def reset_on_close(sock: Any) -> None:
    """Have a socket closed with a RST: at once, past whatever its peer does not read, and never like a clean end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


def acknowledge(sock: Any) -> None:
    """Tell the peer at once that what was read has come, instead of with what is sent next.

    A server that leaves Nagle's algorithm on keeps an answer's second part back until then, for up to 40 ms: uvicorn
    does with more than one worker, since asyncio sets TCP_NODELAY only on sockets that know that they are TCP's.
    """
    with contextlib.suppress(OSError):  # not TCP
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def poll_for_input(sock: Any) -> Callable[[int], list[tuple[int, int]]]:
    """A question to be asked again and again: called with 0, it gives nothing unless there is input, or the end."""
    question = poll()
    question.register(sock, select.POLLIN)
    asked: Callable[[int], list[tuple[int, int]]] = question.poll
    return asked


def has_input(sock: Any) -> bool:
    """Whether a socket has something to read, or has ended."""
    return bool(poll_for_input(sock)(0))


def wait(readable: Sequence[Any], writable: Sequence[Any], seconds: float | None) -> tuple[list[Any], list[Any]]:
    """Those of the sockets that have input, or an end, and those that have room: waits for one, `seconds` at most.

    By poll, which gevent makes its own as well: select fails for the descriptors beyond 1023 of a busy worker.
    """
    waiting = select.poll()
    for sock in {*readable, *writable}:
        waiting.register(sock, (select.POLLIN if sock in readable else 0) | (select.POLLOUT if sock in writable else 0))
    happened = dict(waiting.poll(None if seconds is None else max(0.0, seconds) * 1000))
    ended = select.POLLHUP | select.POLLERR
    heard = [sock for sock in readable if happened.get(sock.fileno(), 0) & (select.POLLIN | ended)]
    free = [sock for sock in writable if happened.get(sock.fileno(), 0) & (select.POLLOUT | ended)]
    return heard, free
