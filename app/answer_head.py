"""The head of MLflow's answer, read strictly: http.client guesses what a broken one means, or notes a defect."""

import re
from email import errors as email_errors
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import Any

FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # in a header's value (RFC 9110 section 5.5)

# What the parser, made for mail, misses in the head of a multipart answer, whose parts it has not seen.
HARMLESS = (
    email_errors.NoBoundaryInMultipartDefect,
    email_errors.StartBoundaryNotFoundDefect,
    email_errors.CloseBoundaryNotFoundDefect,
    email_errors.MultipartInvariantViolationDefect,
)


class StrictResponse(HTTPResponse):
    """http.client's response, which refuses a head whose meaning is in doubt."""

    def begin(self) -> None:
        """Read status line and headers. Raises HTTPException for what must not be passed on."""
        stream: Any = self.fp
        lines: Any = _Lines(stream)
        self.fp = lines  # while the head is read
        super().begin()
        if self.fp is lines:
            self.fp = stream
        fault = lines.fault or (head_fault(self.msg) if lines.ended else "head without an end")
        if fault:
            self.close()
            raise HTTPException(fault)


class _Lines:
    """A stream that knows how the lines read from it ended, and whether the last was the one that ends a head."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.ended = False
        self.fault = ""

    def readline(self, limit: int) -> Any:
        """Read a line of at most `limit` bytes, and remember whether it was empty."""
        line = self._stream.readline(limit)
        self.ended = line == b"\r\n"
        if line[-2:] != b"\r\n" or b"\r" in line[:-2]:  # the parser would take either for the end of a line
            self.fault = "bare CR or LF in the head"
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def head_fault(head: HTTPMessage) -> str:
    """What is wrong with an answer's head, in a static phrase; empty when nothing is (RFC 9112 sections 5 and 6)."""
    codings, lengths = head.get_all("Transfer-Encoding", []), head.get_all("Content-Length", [])
    if any(not isinstance(defect, HARMLESS) for defect in head.defects):
        return "unreadable header"
    if any(FORBIDDEN.search(value) for value in head.values()):
        return "control character in a header"
    if len(codings) + len(lengths) > 1:
        return "contradictory framing"
    if any(coding.strip().lower() != "chunked" for coding in codings):
        return "unknown transfer coding"
    if any(not length.strip().isdecimal() for length in lengths):
        return "length that is no number"
    return ""
