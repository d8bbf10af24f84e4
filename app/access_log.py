"""The one JSON line per finished request, written by gunicorn when the last byte has left, and the shape of all lines.

gunicorn calls `access()` after the answer was sent or cut off (gunicorn/workers/base_async.py, handle_request), so the
line is true for aborted streams too. Field names and types are stable: CloudWatch Logs Insights reads them as they are.
"""

import logging
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic, time
from types import TracebackType
from typing import Any, NamedTuple

import orjson
from gevent import GreenletExit
from gunicorn.glogging import Logger
from pythonjsonlogger.json import JsonFormatter

from app import VERSION
from app.emf import document
from app.errors import Drained
from app.finished import Finished, Measured
from app.metrics import Sheet
from app.out import Out
from app.resource import resource_of
from app.scope import KEY, RequestScope


def record(scope: RequestScope, status: int, bytes_out: int, ended: float) -> dict[str, str | int | float]:
    """The fields of a request's line. Milliseconds end in `_ms`; a number that does not apply is 0, a text empty.

    `ended` is when the answer was sent or cut off, in seconds of the monotonic clock, as the scope's times are.
    """
    begun, principal = scope.begun, scope.principal
    return {
        "event": "proxy_request",
        "request_id": scope.request_id,
        "trace_id": scope.trace_id,
        "method": scope.method,
        "path": scope.path,
        "upstream_path": scope.upstream_path,
        "target_url": scope.target_url,
        "mount": scope.mount or "/",
        "family": scope.family or "other",
        "action": scope.action,
        "resource": resource_of(scope),
        "outcome": outcome(scope, status),
        "status": status,
        "upstream_status": scope.upstream_status or 0,
        "error_code": scope.error_code,
        "error_kind": scope.error_kind,
        "duration_ms": _ms(ended - begun),
        "upstream_ms": _ms(scope.upstream_seconds),
        "ttfb_ms": _ms(scope.first_byte - begun if scope.first_byte else None),
        "auth_ms": _ms(scope.auth_seconds),
        "auth_source": scope.principal.source if scope.principal else "",
        "attempts": scope.attempts,
        "bytes_in": scope.bytes_in,
        "bytes_out": bytes_out,
        "client_ip": scope.client_ip,
        "user_id": principal.user_id if principal else "",
        "key_id": principal.key_id if principal else "",
        "user_agent": scope.user_agent,
        "worker": os.getpid(),
        "version": VERSION,
    }


def outcome(scope: RequestScope, status: int) -> str:
    """How a request ended, in one word of the closed vocabulary. An error that was met names its own."""
    if scope.outcome:
        return scope.outcome
    if not scope.finished:
        return "client_gone"
    if status >= 500:
        return "upstream_error" if scope.upstream_status else "proxy_error"
    return "client_error" if status >= 400 else "ok"


def _ms(seconds: float | None) -> float:
    # Not round(): to cut decimals it writes the number as text and reads it again.
    return int(seconds * 10_000 + 0.5) / 10 if seconds else 0.0


MOST_WAITING = 16  # lines: a worker that always finds something to read would put them off for good


class Line(JsonFormatter):
    """One flat object per line: event, ts, level, then what the event brings. ASCII alone, whatever it brings.

    Nothing but the `_aws` of a measured request is an object in it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, without its end. A finished request's takes the short way where that can hold it."""
        if not isinstance(record, Finished):
            return super().format(record)
        head = {"event": record.msg["event"], "ts": moment(record.created), "level": record.levelname}
        text = quick({**head, **record.msg}) or super().format(record)
        if isinstance(record, Measured):
            return document(text, record.msg, record.created, record.transfers)
        return text

    def parse(self) -> list[str]:
        """No field of the LogRecord's own is taken over as it is."""
        return []

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Order the fields; a message that is a dict is the line's content, any other message is its event."""
        if record.name.startswith("gunicorn") and not message_dict.get("event"):
            log_data["event"], message_dict["message"] = "server", record.getMessage()
        else:
            log_data["event"] = message_dict.pop("event", None) or record.getMessage()
        log_data["ts"] = moment(record.created)
        log_data["level"] = record.levelname
        super().add_fields(log_data, record, message_dict)

    def formatException(self, ei: Any) -> str:
        """Type and place of an exception, never its text: that may hold a header's value."""
        return where(*ei)


def quick(line: dict[str, Any]) -> str | None:
    """A line as orjson writes it; None for what it cannot write in ASCII (any letter beyond) or at all (half of a
    surrogate pair). Such a line is left to `json`, which escapes both: stdout may have an encoding that lacks them.
    """
    try:
        text = orjson.dumps(line).decode()
    except orjson.JSONEncodeError:
        return None
    return text if text.isascii() else None


def moment(created: float) -> str:
    """A time of the wall clock, in seconds, as `2023-11-14T22:13:20.123Z`."""
    seconds, microseconds = divmod(round(created * 1_000_000), 1_000_000)
    return f"{_second(seconds)}.{microseconds // 1000:03d}Z"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def where(kind: type[BaseException] | None, _: BaseException | None, trace: TracebackType | None) -> str:
    """`ValueError at app/x.py:12 in f < app/y.py:3 in g`, innermost first."""
    frames = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in reversed(traceback.extract_tb(trace))]
    return f"{kind.__name__ if kind else 'None'} at " + " < ".join(frames)


def no_transfers() -> int:
    """How many transfers there are where nothing is transferred."""
    return 0


class Ended(NamedTuple):
    """What a request's line is made of: the scope, the answer's status and body bytes, and what held at its end."""

    scope: RequestScope
    status: int
    bytes_out: int
    at: float  # seconds of the monotonic clock
    created: float  # of the wall clock
    transfers: int


class AccessLog(Logger):
    """gunicorn's logger, writing our line instead of its own. Each worker tells its own what else a request is for.

    A worker that has a loop gives its `run_callback` as `later`: then lines are written when it would wait next, since
    by now the client has its answer and may have sent its next request.
    """

    measured = ""  # the service that the line, a document for CloudWatch too, is about; empty when it is none
    sheet: Sheet | None = None  # where each request is counted for Prometheus
    transfers: Callable[[], int] = staticmethod(no_transfers)  # how many artifact transfers are under way here
    later: Callable[[Callable[[], None]], object] | None = None

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self._waiting: deque[Ended] = deque()

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """Write the line of a finished request."""
        scope = environ.get(KEY)
        if scope is not None:
            # gunicorn calls this while what ended the request is on its way up: the worker's end, and no client's.
            if isinstance(sys.exception(), GreenletExit):
                scope.outcome = scope.outcome or Drained.outcome
                scope.error_kind = scope.error_kind or Drained.word
            self.line(scope, int(resp.status.split(None, 1)[0]) if resp.status else 0, resp.sent + scope.spliced)

    def line(self, scope: RequestScope, status: int, bytes_out: int) -> None:
        """Have a line written: WARNING for an answer of 500 and above, INFO otherwise."""
        self._waiting.append(Ended(scope, status, bytes_out, monotonic(), time(), self.transfers()))
        if self.later is None or len(self._waiting) >= MOST_WAITING:
            self.write_waiting()
        elif len(self._waiting) == 1:
            self.later(self.write_waiting)

    def write_waiting(self) -> None:
        """Write the lines that were put off, in their order."""
        while self._waiting:
            self._write(self._waiting.popleft())

    def _write(self, ended: Ended) -> None:
        level = logging.WARNING if ended.status >= 500 else logging.INFO
        fields, name = record(ended.scope, ended.status, ended.bytes_out, ended.at), self.access_log.name
        if self.sheet is not None:
            self.sheet.count(fields)
        if self.measured:
            measured = {**fields, "service": self.measured}
            found: Finished = Measured(name, level, measured, ended.created, ended.transfers)
        else:
            found = Finished(name, level, fields, ended.created)
        # Not log.log(): that walks the stack for a caller's name which no line of ours holds.
        self.access_log.handle(found)


def logging_config(debug: bool) -> dict[str, Any]:
    """The logging configuration (logging.config) of gunicorn and the app: everything to stdout, a JSON line each."""
    out = {"handlers": ["out"], "propagate": False, "level": "INFO"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": Line}},
        "handlers": {"out": {"()": Out, "formatter": "line", "stream": "ext://sys.stdout"}},
        "root": {"handlers": ["out"], "level": "WARNING"},
        "loggers": {
            "gunicorn.error": out,
            "gunicorn.access": out,
            # It puts the target, query and all, into sentences about broken answers.
            "urllib3": {"handlers": [], "propagate": False, "level": "CRITICAL"},
            "app": {**out, "level": "DEBUG" if debug else "INFO"},
        },
    }
