"""What to do with a request body that nobody wanted to read: an answer went out before it was there.

gunicorn reads it to its end before the connection's next request, however long it is: a refused upload of some
gigabytes would hold its connection, and with a socket that never blocks the whole worker. Closing at once is no way out
either: bytes that arrive on a closed socket are answered with a reset, which can overtake our answer to the client.
"""

import socket
import time
from time import monotonic
from typing import Any

from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import ParseException

from app.inbound import blocks_of_chunks, blocks_of_length
from app.turns import Turns

SMALL = 64 * 1024  # a body of at most this many bytes is read, so that the connection can go on
SMALL_SECONDS = 0.25
# Beyond that the connection will close; slowly, since the client needs time to see our answer.
LINGER_SECONDS = 2.0
LINGER_STEP = 16 * 1024
LINGER_PAUSE = 0.05


def is_unread(body: Any) -> bool:
    """Whether a gunicorn request body still has bytes to come."""
    reader = body.reader
    if isinstance(reader, LengthReader):
        return bool(reader.length > 0)
    return isinstance(reader, ChunkedReader) and reader.parser is not None


def finish(body: Any, client: Any) -> bool:
    """Get rid of an unread body. True when the connection can serve another request, False when it must be closed."""
    if not is_unread(body):
        return True
    before = client.gettimeout()
    try:
        if not body.failed and _read_small(body.reader, client):
            return True
        _linger(client)
    except (OSError, ParseException):  # a client that has gone, or a chunk that is none: it ends here
        return False
    finally:
        client.settimeout(before)
    return False


def _read_small(reader: Any, client: Any) -> bool:
    if isinstance(reader, LengthReader):
        if reader.length > SMALL:
            return False
        blocks = blocks_of_length(reader)
    else:
        blocks = blocks_of_chunks(reader)
    client.settimeout(SMALL_SECONDS)
    left, deadline = SMALL, monotonic() + SMALL_SECONDS
    turns = Turns()
    for block in blocks:
        left -= len(block)
        turns.moved(len(block))
        if left < 0 or monotonic() > deadline:
            return False
    return not isinstance(reader, LengthReader) or reader.length == 0


def _linger(client: Any) -> None:
    """Say that no more is to come, then read slowly until the client has closed or its time is up."""
    client.shutdown(socket.SHUT_WR)
    deadline = monotonic() + LINGER_SECONDS
    while (left := deadline - monotonic()) > 0:
        client.settimeout(left)
        if not client.recv(LINGER_STEP):
            return
        time.sleep(LINGER_PAUSE)  # by its module: this file is read before gevent replaces it there
