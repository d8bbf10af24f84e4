"""The request body on its way in: blocks as they come, counted, and never a short body that looks whole.

Blocks are taken from below gunicorn's `wsgi.input`, which waits until it has as much as was asked for and copies it
four times: what a client has sent goes on at once, however little it is.

gunicorn reports a client that vanished in three ways, none of which may reach urllib3 as it is: an end of the socket
without an exception, an OSError, which urllib3 would take for the upstream's and swallow (urllib3/connectionpool.py,
_make_request), and parse errors of its own for bad chunks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import ParseException

from app.errors import BadRequest, BodyTooLarge, ClientGone
from app.scope import RequestScope
from app.turns import Turns

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

BLOCK = 256 * 1024


def announced_length(environ: "WSGIEnvironment") -> int | None:
    """The body's length in bytes: 0 for no body, None for a chunked one."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    return int(environ.get("CONTENT_LENGTH") or 0)


class Body:
    """An iterable of blocks for the upstream; `length` as announced, None when chunked. `most` bounds it, in bytes.

    A block is valid until the next one is asked for. Iterating raises ClientGone, BadRequest and BodyTooLarge.
    """

    def __init__(self, environ: "WSGIEnvironment", scope: RequestScope, most: int | None) -> None:
        self.length = announced_length(environ)
        self._stream: Any = environ["wsgi.input"]
        self._scope = scope
        self._most = most
        if most is not None and self.length is not None and self.length > most:
            raise too_large(most)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        turns = Turns()
        with self._reading():
            for block in self._blocks():
                self._scope.bytes_in += len(block)
                if self._most is not None and self._scope.bytes_in > self._most:
                    raise too_large(self._most)
                moved = len(block)
                yield block
                turns.moved(moved)
        if self.length is not None and self._scope.bytes_in < self.length:
            raise ClientGone("The request body ended before its announced length.", kind="short_body")

    def awaits_client(self) -> bool:
        """Whether the next block can only come from the client's socket; False when that is not known."""
        reader = getattr(self._stream, "reader", None)
        return isinstance(reader, LengthReader) and reader.length > 0 and not reader.unreader.buf.tell()

    def _blocks(self) -> Iterator[bytes | memoryview]:
        reader = getattr(self._stream, "reader", None)
        if isinstance(reader, LengthReader):
            return blocks_of_length(reader)
        if isinstance(reader, ChunkedReader):
            return blocks_of_chunks(reader)
        # Not under gunicorn, or under one whose readers are others.
        return iter(
            lambda: self._stream.read(BLOCK if self.length is None else self.length - self._scope.bytes_in), b""
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # also gunicorn's NoMoreData: the end of the connection amid a chunked body
            self._stream.failed = True  # where the next request would begin is unknown: gunicorn must close
            kind = "client_stalled" if isinstance(error, TimeoutError) else "client_reset"
            raise ClientGone("The request body ended before its announced end.", kind=kind) from error
        except ParseException as error:
            self._stream.failed = True
            raise BadRequest("Malformed request: bad chunk in the body.", kind="bad_chunk") from error


def blocks_of_length(reader: Any) -> Iterator[bytes | memoryview]:
    """Blocks of a body with a Content-Length, straight from the client's socket; ends early when the client does.

    What gunicorn has read ahead is taken first. Its count of what is left is kept true, so that it knows where the next
    request on the connection begins.
    """
    ahead = reader.unreader.take_buffered()
    if others := ahead[reader.length :]:  # a pipelined request's
        reader.unreader.unread(others)
    if first := ahead[: reader.length]:
        reader.length -= len(first)
        yield first
    view = memoryview(bytearray(min(BLOCK, reader.length)))
    while reader.length:
        received = reader.unreader.sock.recv_into(view, min(len(view), reader.length))
        if not received:
            return
        reader.length -= received
        yield view[:received]


def blocks_of_chunks(reader: Any) -> Iterator[bytes]:
    """Blocks of a chunked body as gunicorn's parser meets them, without its waiting for a full one."""
    for block in reader.parser:
        if block:  # an empty one stands for "nothing read ahead", not for the end
            yield block
    reader.parser = None


def too_large(most: int) -> BodyTooLarge:
    """The refusal of a body over `most` bytes."""
    return BodyTooLarge(f"The request body is larger than the {most} bytes this endpoint takes.", kind="body_limit")
