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
from gunicorn.http.errors import InvalidChunkSize, NoMoreData, ParseException

from app.chunks import BadChunk, Chunks
from app.errors import BadRequest, BodyTooLarge, ClientGone
from app.resource import MOST_BYTES, rule_of
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
        self._names = scope.route is not None and rule_of(scope.route).reads_body
        if self._names:
            scope.kept_body = bytearray()

    def __iter__(self) -> Iterator[bytes | memoryview]:
        turns = Turns()
        with self._reading():
            for block in self._blocks():
                self._scope.bytes_in += len(block)
                if self._most is not None and self._scope.bytes_in > self._most:
                    raise too_large(self._most)
                if self._names:
                    self._keep(block)
                moved = len(block)
                yield block
                turns.moved(moved)
        if self.length is not None and self._scope.bytes_in < self.length:
            raise ClientGone("The request body ended before its announced length.", kind="short_body")

    def _keep(self, block: bytes | memoryview) -> None:
        if self._scope.bytes_in <= MOST_BYTES:
            self._scope.kept_body += block
        else:
            self._names, self._scope.kept_body = False, b""

    def awaits_client(self) -> bool:
        """Whether the next block can only come from the client's socket; False when that is not known."""
        reader = getattr(self._stream, "reader", None)
        if isinstance(reader, ChunkedReader):
            return reader.parser is not None and own_parser(reader).awaits_client()
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


class ChunkedBlocks:
    """Blocks of a chunked body, as they come, in the place of gunicorn's parser: that one hides what it holds back.

    gunicorn and everybody here who reads on from where another stopped find it in the reader.
    """

    def __init__(self, unreader: Any) -> None:
        self._unreader = unreader
        self._chunks = Chunks()

    def __iter__(self) -> "ChunkedBlocks":
        return self

    def __next__(self) -> bytes | memoryview:
        """What one reading gave; empty when that was no data, so that nobody waits here unawares.

        Raises NoMoreData when the client ended early, and InvalidChunkSize.
        """
        if self._chunks.ended:
            raise StopIteration
        return self._feed(self._ahead() or self._unreader.sock.recv(self._chunks.appetite(BLOCK)))

    def _ahead(self) -> bytes:
        data: bytes = self._unreader.take_buffered()
        return data

    def awaits_client(self) -> bool:
        """Whether the next block can only come from the client's socket."""
        return not (self._chunks.ended or self._unreader.buf.tell())

    def _feed(self, data: bytes) -> bytes | memoryview:
        if not data:
            raise NoMoreData
        try:
            block = self._chunks.feed(data)
        except BadChunk as error:
            raise InvalidChunkSize(b"") from error
        if self._chunks.ended:
            self._unreader.unread(self._chunks.surplus)  # a pipelined request's
        return block


def blocks_of_chunks(reader: Any) -> Iterator[bytes | memoryview]:
    """Blocks of a chunked body, from where whoever read it before has stopped."""
    blocks = reader.parser = own_parser(reader)
    yield from blocks
    reader.parser = None


def own_parser(reader: Any) -> ChunkedBlocks:
    """Ours, put into the place of gunicorn's when it is not there yet."""
    parser = reader.parser
    return parser if isinstance(parser, ChunkedBlocks) else ChunkedBlocks(reader.req.unreader)


def too_large(most: int) -> BodyTooLarge:
    """The refusal of a body over `most` bytes."""
    return BodyTooLarge(f"The request body is larger than the {most} bytes this endpoint takes.", kind="body_limit")
