"""Where the log goes: stdout, a line at a time."""

import json
import logging
from select import PIPE_BUF
from typing import Any, TextIO

CUT = "..."  # where a text went on


class Out(logging.StreamHandler[TextIO]):
    """Writes each line at once and whole: one write, so that lines of several workers do not mix.

    It takes no lock: greenlets do not switch amid a write to stdout, which gevent leaves as it is.
    """

    def format(self, record: logging.LogRecord) -> str:
        """A record's line, of no more than a pipe takes in one piece."""
        line = super().format(record)
        return line if len(line) < PIPE_BUF else bounded(line)

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record's line unless a filter drops it; whether it was written."""
        passed = self.filter(record)
        if passed:
            self.emit(record)
        return passed

    def flush(self) -> None:
        """Hand over what the stream still holds: a worker that is killed loses nothing."""
        self.stream.flush()


def bounded(line: str) -> str:
    """A JSON object in ASCII with its longest texts cut, so that a pipe takes it in one piece, end of line included.

    What is longer is mixed with other workers' lines as soon as whoever reads is slow (pipe(7), PIPE_BUF).
    """
    fields: dict[str, Any] = json.loads(line)
    most = PIPE_BUF // 4
    while len(line) >= PIPE_BUF and most:
        short = {
            name: value[:most] + CUT if isinstance(value, str) and len(value) > most + len(CUT) else value
            for name, value in fields.items()
        }
        line = json.dumps(short, separators=(",", ":"))
        most //= 2
    return line
