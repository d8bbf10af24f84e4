"""Request bodies as they arrive: gunicorn's own readers over a client's socket that follows a script."""

from __future__ import annotations

from typing import Any

from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

CHUNKED = "Transfer-Encoding: chunked"


class Client:
    """The client's socket: gives what it sends packet by packet, and then its end or an error."""

    def __init__(self, *packets: bytes | Exception) -> None:
        self._packets = [packet for packet in packets if packet != b""]

    def recv(self, size: int) -> bytes:
        packet = self._packets.pop(0) if self._packets else b""
        if isinstance(packet, Exception):
            raise packet
        if packet[size:]:
            self._packets.insert(0, packet[size:])
        return packet[:size]

    def recv_into(self, buffer: Any, size: int = 0) -> int:
        data = self.recv(size or len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes) -> int:
        return len(data)

    @property
    def left(self) -> bytes:
        """What was not read from the socket."""
        return b"".join(packet for packet in self._packets if isinstance(packet, bytes))


def of_length(length: int) -> str:
    return f"Content-Length: {length}"


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def gunicorn_request(framing: str, *packets: bytes | Exception, ahead: bytes = b"") -> tuple[Any, Client]:
    """gunicorn's request whose head came in one packet with `ahead`, and the socket that it reads from."""
    client = Client(f"PUT /mlflow/x HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n".encode() + ahead, *packets)
    return next(RequestParser(Config(), client, ("192.0.2.1", 4711))), client


def body_environ(framing: str, *packets: bytes | Exception) -> dict[str, Any]:
    """What of such a request's environ is about its body."""
    return framed(framing, gunicorn_request(framing, *packets)[0])


def framed(framing: str, request: Any) -> dict[str, Any]:
    """The environ's part that says how a body is framed, and where it is."""
    if framing == CHUNKED:
        return {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": request.body}
    return {"CONTENT_LENGTH": framing.partition(": ")[2], "wsgi.input": request.body}
