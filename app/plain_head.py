"""The heads that nearly all requests have, read in one go; every other one is left to gunicorn's own parser.

A head is plain when two patterns settle all of gunicorn's rules for it: one of our methods, a path, HTTP/1.1, lines
that end as they should, no name twice and none whose value asks for something. For such a head this gives just what
gunicorn/http/message.py gives (27.0.1, `_parse_python`; tests/unit/test_plain_head.py compares the two), at two fifths
of the cost: reading heads was the largest part of a small request.
"""

import re
from typing import Any

from gunicorn.http.message import Request

LINE_END = "\r\n"
# A target is printable (gunicorn's RFC9112_TARGET_INVALID), and here without `#`; two slashes would begin an authority.
FIRST = re.compile(r"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/(?!/)[!\"$-~]*) HTTP/1\.1")
FIELDS = re.compile(r"(?:[A-Za-z0-9-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+")
ASKING = ("EXPECT", "TRANSFER-ENCODING")


class PlainFirst(Request):
    """gunicorn's request, which reads plain heads itself."""

    def _parse_python(self, unreader: Any, buf: bytearray) -> bytes:
        head, end, rest = bytes(buf).partition(b"\r\n\r\n")
        if end and self._read_plain(head.decode("latin-1")):
            return rest
        behind: bytes = super()._parse_python(unreader, buf)
        return behind

    def _read_plain(self, head: str) -> bool:
        """Take a head over if it is a plain one; whether it was."""
        first, _, fields = head.partition(LINE_END)
        found = FIRST.fullmatch(first)
        if found is None or len(first) > self.limit_request_line or not FIELDS.fullmatch(fields + LINE_END):
            return False
        if len(fields) + len(LINE_END) > self.limit_request_field_size:  # then one of them may be too long
            return False
        lines = fields.split(LINE_END)
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.upper()] = value.strip(" \t")
        repeated = len(headers) < len(lines)
        too_many = len(lines) > self.limit_request_fields
        if repeated or too_many or self.cfg.secure_scheme_headers or not headers.keys().isdisjoint(ASKING):
            return False
        self.method, self.uri, self.version = found[1], found[2], (1, 1)
        path, _, query = found[2].partition("?")
        self.path, self.query, self.fragment = path, query, ""
        self.headers = list(headers.items())
        return True
