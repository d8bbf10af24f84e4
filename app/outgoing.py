"""Our answer on its way to the client: gunicorn's response, with the work taken out that each small answer paid for.

After a wait for MLflow neither code nor data are in the processor's caches, and whatever is touched then costs twice to
four times as much as in a busy worker (docs/adr/0017-cold-answers.md). So a small block goes out together with the
head, and headers are looked at together.
"""

from functools import lru_cache
from typing import Any

from gunicorn.http.message import TOKEN_RE
from gunicorn.http.wsgi import HEADER_VALUE_RE, Response
from gunicorn.util import hop_headers

MOST_JOINED = 16 * 1024  # bytes of a block: to copy more costs more than a system call


class Outgoing(Response):
    """gunicorn's response to one HTTP/1 request. What it answers and refuses is gunicorn's."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.headers_sent = False
        self._joins = False
        self._head = b""

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """Take the headers over. Raises what gunicorn does for those that must not be sent."""
        sound = HEADER_VALUE_RE.fullmatch("".join([value for _, value in headers]))
        for name, value in headers:
            if sound and is_plain(name):
                self.headers.append((name, value.strip(" \t")))
            else:
                super().process_headers([(name, value)])

    def write(self, arg: bytes) -> None:
        """Send a block, and before the first one the head."""
        self._joins = not self.headers_sent and len(arg) <= MOST_JOINED
        super().write(arg)
        self._send_head()  # there was nothing of the block to send

    def send_headers(self) -> None:
        """Send the head, or keep it for the block that follows at once."""
        if self.headers_sent:
            return
        lines = [*self.default_headers(), *[f"{name}: {value}\r\n" for name, value in self.headers], "\r\n"]
        self._head = "".join(lines).encode("latin-1")
        self.headers_sent = True
        if not self._joins:
            self._send_head()

    def _send_head(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._send(head)

    def _emit_body(self, data: bytes) -> None:
        if len(data) > MOST_JOINED:
            super()._emit_body(data)
        elif data:
            head, self._head = self._head, b""
            self._send(head + (b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data))

    def _send(self, data: bytes) -> None:
        # There is nearly always room: sendall would look at options and clocks before it tries.
        sent = self.sock.send(data)
        if sent < len(data):
            self.sock.sendall(data[sent:])


@lru_cache(maxsize=256)
def is_plain(name: str) -> bool:
    """Whether a header is sent as it is: a name that may be one, and that means nothing to the server itself."""
    folded = name.lower()
    return bool(TOKEN_RE.fullmatch(name)) and folded != "content-length" and folded not in hop_headers
