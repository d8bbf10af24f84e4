"""The request body on its way in: blocks as they come, counted, and never a short body that looks whole.

gunicorn reports a client that vanished in three ways, none of which may reach urllib3 as it is: a short read without an
exception (gunicorn/http/body.py, LengthReader), an OSError from the socket, which urllib3 would take for the upstream's
and swallow (urllib3/connectionpool.py, _make_request), and parse errors of its own for bad chunks.
"""

import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from app.errors import BadRequest, BodyTooLarge, ClientGone
from app.scope import RequestScope

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

BLOCK = 256 * 1024


def announced_length(environ: "WSGIEnvironment") -> int | None:
    """The body's length in bytes: 0 for no body, None for a chunked one."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    return int(environ.get("CONTENT_LENGTH") or 0)


class Body:
    """An iterable of blocks for the upstream; `length` as announced, None when chunked. `most` bounds it, in bytes."""

    def __init__(self, environ: "WSGIEnvironment", scope: RequestScope, most: int | None) -> None:
        self.length = announced_length(environ)
        self._stream: IO[bytes] = environ["wsgi.input"]
        self._scope = scope
        self._most = most
        if most is not None and self.length is not None and self.length > most:
            raise too_large(most)

    def __iter__(self) -> Iterator[bytes]:
        while self.length is None or self._scope.bytes_in < self.length:
            wanted = BLOCK if self.length is None else min(BLOCK, self.length - self._scope.bytes_in)
            block = self._read(wanted)
            if not block:
                break
            self._scope.bytes_in += len(block)
            if self._most is not None and self._scope.bytes_in > self._most:
                raise too_large(self._most)
            yield block
            # A socket that never blocks never lets another request run: say when (gevent; harmless with threads).
            time.sleep(0)
        if self.length is not None and self._scope.bytes_in < self.length:
            raise ClientGone("The request body ended before its announced length.", kind="short_body")

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except OSError as error:  # also gunicorn's NoMoreData: the end of the connection amid a chunked body
            raise ClientGone("The request body ended before its announced end.", kind="client_reset") from error
        except Exception as error:  # gunicorn's ParseException family: a chunk that is none
            raise BadRequest("Malformed request: bad chunk in the body.", kind="bad_chunk") from error


def too_large(most: int) -> BodyTooLarge:
    """The refusal of a body over `most` bytes."""
    return BodyTooLarge(
        f"The request body is larger than the {most} bytes that this endpoint takes.", kind="body_limit"
    )
