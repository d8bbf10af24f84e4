"""The upstream without an opinion: reads bodies to their end, sends as many bytes as asked for, costs next to nothing.

`python -m benchmarks.stub --port N`. `GET …?size=N` gives N bytes; `GET /stub/open` how many bodies are on their way;
anything else is read and answered with its size in JSON. One thread for a connection, no copies in Python.
"""

import argparse
import contextlib
import re
import socket
import threading
from collections.abc import Iterator

from benchmarks.pattern import send_pattern

HEAD_END = b"\r\n\r\n"
BLOCK = 1024 * 1024
SIZE = re.compile(rb"[?&]size=(\d+)")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


class Stub:
    """Serves connections of one listening socket for ever."""

    def __init__(self) -> None:
        self._open = 0
        self._lock = threading.Lock()

    def serve(self, port: int) -> None:
        """Accept on 127.0.0.1 until the process is stopped."""
        with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ahead = b""
        with connection, contextlib.suppress(OSError):  # whoever goes away is none of our business
            while True:
                while HEAD_END not in ahead:
                    received = connection.recv(65536)
                    if not received:
                        return
                    ahead += received
                head, _, ahead = ahead.partition(HEAD_END)
                ahead = self._answer(connection, head, ahead)
                if CLOSE.search(head):
                    return

    def _answer(self, connection: socket.socket, head: bytes, ahead: bytes) -> bytes:
        """Answer one request; gives what of the next one was read already."""
        target = head.split(b" ", 2)[1]
        announced = LENGTH.search(head)
        length = int(announced[1]) if announced else 0
        if length:
            self._swallow(connection, length - len(ahead))
        wanted = SIZE.search(target)
        if wanted:
            size = int(wanted[1])
            connection.sendall(answer_head(size, b"application/octet-stream"))
            send_pattern(connection, size)
        else:
            figure = self._open if target == b"/stub/open" else length
            body = b'{"bytes": %d}' % figure
            connection.sendall(answer_head(len(body), b"application/json") + body)
        return ahead[length:]

    def _swallow(self, connection: socket.socket, left: int) -> None:
        """Read what is left of a body. Raises ConnectionError when it ends before."""
        view = memoryview(bytearray(min(BLOCK, max(left, 0))))
        with self._counted():
            while left > 0:
                received = connection.recv_into(view, min(len(view), left))
                if not received:
                    raise ConnectionError("the body ended before its announced end")
                left -= received

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1


def answer_head(length: int, kind: bytes) -> bytes:
    """Status line and headers of a 200."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, length)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    Stub().serve(parser.parse_args().port)
