"""What a finished request's line is for `logging`: a record with the line's fields, and nothing that no line holds."""

import logging
from typing import Any

BLANK = vars(logging.LogRecord("", 0, "", 0, "", (), None))


class Finished(logging.LogRecord):
    """The LogRecord of a finished request. Beside name, level, msg and created it is blank.

    LogRecord's own beginning asks for process, thread and file, which no line of ours holds; and in a greenlet, asking
    for the thread makes one up (threading._DummyThread).
    """

    msg: Any  # the line's fields

    def __init__(self, name: str, level: int, fields: dict[str, str | int | float], created: float) -> None:
        self.__dict__.update(BLANK)
        self.name, self.levelno, self.levelname = name, level, logging.getLevelName(level)
        self.msg, self.created = fields, created


class Measured(Finished):
    """A finished request whose line is a document for CloudWatch too."""

    __slots__ = ("transfers",)  # not in its __dict__: the formatter takes what it finds there for fields

    def __init__(
        self, name: str, level: int, fields: dict[str, str | int | float], created: float, transfers: int
    ) -> None:
        super().__init__(name, level, fields, created)
        self.transfers = transfers
