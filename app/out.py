"""Where the log goes: stdout, a line at a time."""

import logging
from typing import TextIO


class Out(logging.StreamHandler[TextIO]):
    """Writes each line at once and whole: one write, so that lines of several workers do not mix.

    It takes no lock: greenlets do not switch amid a write to stdout, which gevent leaves as it is.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record's line unless a filter drops it; whether it was written."""
        passed = self.filter(record)
        if passed:
            self.emit(record)
        return passed

    def flush(self) -> None:
        """Hand over what the stream still holds: a worker that is killed loses nothing."""
        self.stream.flush()
