"""The head of MLflow's answer, read strictly: one whose meaning is in doubt is no answer. Bytes in, `Head` out."""

import re
from dataclasses import dataclass

from app.headers import Pair

# RFC 9112 section 4. MLflow's reason is not used, but a CR in it would be the line's end to others.
STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 section 5.6.2
CONTROLS = r"\x00-\x08\x0a-\x1f\x7f"  # not in a header's value (RFC 9110 section 5.5); also a bare CR or LF
FIELDS = re.compile(rf"(?:{NAME}:[^{CONTROLS}]*\r\n)*")
FORBIDDEN = re.compile(f"[{CONTROLS}]")

LINE_END = "\r\n"
END = b"\r\n\r\n"
MOST_BYTES = 256 * 1024
MOST_LINE = 64 * 1024
MOST_HEADERS = 100


class BadHead(ValueError):
    """A head that must not be passed on; the text is a static phrase."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status, headers as they came, and how the body is framed: chunked, or `length` bytes (None: until the end)."""

    status: int
    pairs: list[Pair]
    length: int | None
    chunked: bool
    keeps: bool  # whether the connection may be used again after the body


def parse_head(data: bytes, method: str) -> Head:
    """The head of the answer to a method; `data` is everything before the empty line. Raises BadHead."""
    first, _, fields = (data.decode("latin-1") + LINE_END).partition(LINE_END)
    *lines, _ = fields.split(LINE_END)
    found = STATUS_LINE.fullmatch(first)
    if found is None:
        raise BadHead("no status line")
    sound = FIELDS.fullmatch(fields)
    if not sound or len(data) > MOST_LINE or len(lines) > MOST_HEADERS:
        refuse(lines, bool(sound))
    pairs = [(name, value.strip(" \t")) for name, _, value in [line.partition(":") for line in lines]]
    codings, lengths, connection = [], [], ""
    for name, value in pairs:
        folded = name.lower()
        if folded == "content-length":
            lengths.append(value)
        elif folded == "transfer-encoding":
            codings.append(value.lower())
        elif folded == "connection":
            connection += f",{value.lower()}"
    status = int(found[2])
    length = framing(codings, lengths)
    if method == "HEAD" or status < 200 or status in (204, 304):  # whatever its headers say (RFC 9112 section 6.3)
        length, codings = 0, []
    until_end = length is None and not codings
    keeps = found[1] == "1" and not until_end and "close" not in connection
    return Head(status, pairs, length, bool(codings), keeps)


def refuse(lines: list[str], sound: bool) -> None:
    """Raise BadHead for header lines that are not `sound` or too many, saying what is wrong with them."""
    if FORBIDDEN.search("".join(lines)):
        raise BadHead("control character in a header")
    if len(lines) > MOST_HEADERS or any(len(line) > MOST_LINE for line in lines):
        raise BadHead("too many headers")
    if not sound:
        raise BadHead("unreadable header")


def framing(codings: list[str], lengths: list[str]) -> int | None:
    """The length that an answer announces, None for none. Raises BadHead where two readers could disagree."""
    if len(codings) + len(lengths) > 1:
        raise BadHead("contradictory framing")
    if codings not in ([], ["chunked"]):
        raise BadHead("unknown transfer coding")
    if not lengths:
        return None
    if not lengths[0].isdecimal() or len(lengths[0]) > 18:
        raise BadHead("length that is no number")
    return int(lengths[0])
