"""The chunked transfer coding taken apart (RFC 9112 section 7.1), for what clients send and for what MLflow answers.

Strict: where two readers could disagree about where a chunk or the body ends, there is no body. Pure: bytes in, bytes
out; whoever owns the socket reads it.
"""

import re

# Possessive: what cannot be right is not tried once more at each byte, or a long line in small packets is much work.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]++|\\[\t -~\x80-\xff])*"'
# Size, perhaps extensions (section 7.1.1), which nobody here knows and nobody need understand, and CRLF.
EXTENSIONS = rb"(?:[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb"|" + QUOTED + rb"))?)*"
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})" + EXTENSIONS + rb"\r\n")
SIZE_LINE_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,15}|[0-9A-Fa-f]{1,15}(?:[ \t]+|[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r?")
TRAILER = re.compile(TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n")
TRAILER_BEGUN = re.compile(rb"|\r|" + TOKEN + rb"(?::[\t\x20-\x7e\x80-\xff]*\r?)?")

MOST_LINE = 4096  # bytes of a size line with its extensions, or of a trailer
MOST_TRAILERS = 64  # what comes after the last chunk is dropped, but it must end
CRUMBS = 4 * 1024  # what to read at once when chunks may be small: taking many apart is much work for few bytes


class BadChunk(ValueError):
    """Bytes that are no chunk."""


class Chunks:
    """Takes one body apart. `ended` once its last byte was fed; `surplus` is what was fed beyond that."""

    def __init__(self) -> None:
        self.ended = False
        self.surplus = b""
        self._held = b""  # of a line that is not complete yet
        self._left = 0  # of the current chunk's data
        self._after_data = False  # the data's own CRLF comes next
        self._trailers = -1  # how many were read; -1 before the last chunk

    def appetite(self, most: int) -> int:
        """How many bytes to read next, `most` at most."""
        return min(most, max(self._left, CRUMBS))

    def feed(self, data: bytes) -> bytes | memoryview:
        """Give the data in what was read, empty when there are none in it. Raises BadChunk."""
        if self._held:
            data, self._held = self._held + data, b""
        view, found, at = memoryview(data), [], 0
        while True:
            if self._left:
                piece = view[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                found.append(piece)
                if self._left or at == len(data):
                    break
            after = self._line(data, at)
            if after < 0:
                self._held = data[at:]
                break
            at = after
            if self.ended:
                self.surplus = data[at:]
                break
        return found[0] if len(found) == 1 else b"".join(found)

    def _line(self, data: bytes, at: int) -> int:
        # Reads the line that begins at `at`, and gives where the next thing begins; -1 when it is not complete.
        if self._after_data:
            return self._end_of_data(data, at)
        if self._trailers >= 0:
            return self._trailer(data, at)
        match = SIZE_LINE.match(data, at, at + MOST_LINE)
        if match is None:
            return _wait(SIZE_LINE_BEGUN, data, at)
        self._left = int(match[1], 16)
        self._after_data = self._left > 0
        if not self._left:
            self._trailers = 0
        return match.end()

    def _end_of_data(self, data: bytes, at: int) -> int:
        end = data[at : at + 2]
        if end == b"\r\n":
            self._after_data = False
            return at + 2
        if end in (b"", b"\r"):
            return -1
        raise BadChunk("longer than its size")

    def _trailer(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self.ended = True
            return at + 2
        match = TRAILER.match(data, at, at + MOST_LINE)
        if match is None:
            return _wait(TRAILER_BEGUN, data, at)
        self._trailers += 1
        if self._trailers > MOST_TRAILERS:
            raise BadChunk("too many trailers")
        return match.end()


def _wait(begun: re.Pattern[bytes], data: bytes, at: int) -> int:
    if len(data) - at < MOST_LINE and begun.fullmatch(data, at):
        return -1
    raise BadChunk("neither a size nor a trailer")


def chunk(block: bytes | memoryview) -> bytes:
    """One block as a chunk."""
    return b"".join((b"%x\r\n" % len(block), block, b"\r\n"))


LAST_CHUNK = b"0\r\n\r\n"
