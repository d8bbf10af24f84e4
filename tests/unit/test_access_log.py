"""app/access_log.py: the one line per request, and the shape of all lines."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config

from app import VERSION, access_log
from app.access_log import MOST_WAITING, AccessLog, Line, logging_config, outcome, record
from app.scope import KEY, RequestScope
from tests.unit import samples
from tests.unit.logged import ENDED

OUTCOMES = {
    "ok", "client_error", "auth_denied", "auth_unavailable", "rate_limited", "upstream_error", "upstream_timeout",
    "upstream_unreachable", "upstream_aborted", "client_gone", "proxy_error",
}  # fmt: skip


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "monotonic", lambda: ENDED)


def finished(**fields: Any) -> RequestScope:
    return samples.scope(**{"begun": 1000.0, "finished": True, **fields})


def test_the_line_of_a_proxied_request_holds_every_field_of_the_contract() -> None:
    scope = finished(
        method="PUT",
        target="/mlflow/api/2.0/mlflow-artifacts/artifacts/x%20y?secret=1",
        trace_id="1-2-3",
        user_agent="mlflow-python-client/3.17.2",
        mount="/mlflow",
        family="artifacts.proxy",
        action="artifacts.upload",
        principal=samples.principal("admin"),
        auth_seconds=0.0123,
        upstream_path="/base/api/2.0/mlflow-artifacts/artifacts/x%20y",
        target_url="http://mlflow.internal:5000/base/api/2.0/mlflow-artifacts/artifacts/x%20y",
        attempts=1,
        upstream_status=200,
        upstream_seconds=1.5,
        first_byte=1001.75,
        bytes_in=12345,
    )
    assert record(scope, 200, 67, ENDED) == {
        "event": "proxy_request",
        "request_id": "req-1",
        "trace_id": "1-2-3",
        "method": "PUT",
        "path": "/mlflow/api/2.0/mlflow-artifacts/artifacts/x%20y",
        "upstream_path": "/base/api/2.0/mlflow-artifacts/artifacts/x%20y",
        "target_url": "http://mlflow.internal:5000/base/api/2.0/mlflow-artifacts/artifacts/x%20y",
        "mount": "/mlflow",
        "family": "artifacts.proxy",
        "action": "artifacts.upload",
        "resource": "",
        "outcome": "ok",
        "status": 200,
        "upstream_status": 200,
        "error_code": "",
        "error_kind": "",
        "duration_ms": 2345.6,
        "upstream_ms": 1500.0,
        "ttfb_ms": 1750.0,
        "auth_ms": 12.3,
        "auth_source": "service",
        "attempts": 1,
        "bytes_in": 12345,
        "bytes_out": 67,
        "client_ip": "203.0.113.9",
        "user_id": "user-1",
        "key_id": "key-1",
        "user_agent": "mlflow-python-client/3.17.2",
        "worker": os.getpid(),
        "version": VERSION,
    }


def test_a_field_that_does_not_apply_keeps_its_type() -> None:
    full = record(
        finished(principal=samples.principal(), upstream_seconds=1.0, first_byte=1.0, auth_seconds=1.0), 200, 1, ENDED
    )
    empty = record(finished(), 404, 0, ENDED)
    assert {name: type(value) for name, value in empty.items()} == {name: type(value) for name, value in full.items()}
    assert [empty[name] for name in ("mount", "family", "user_id", "upstream_status", "ttfb_ms")] == [
        "/",
        "other",
        "",
        0,
        0.0,
    ]


@pytest.mark.parametrize(
    ("fields", "status", "expected"),
    [
        ({}, 200, "ok"),
        ({}, 308, "ok"),
        ({"upstream_status": 404}, 404, "client_error"),
        ({"upstream_status": 500}, 500, "upstream_error"),
        ({}, 500, "proxy_error"),
        ({"finished": False}, 200, "client_gone"),
        ({"finished": False, "upstream_status": 500}, 500, "client_gone"),
        ({"finished": False, "outcome": "upstream_aborted"}, 200, "upstream_aborted"),
        ({"outcome": "auth_denied"}, 401, "auth_denied"),
        ({"outcome": "upstream_timeout", "upstream_status": None}, 504, "upstream_timeout"),
    ],
)
def test_how_a_request_ended_is_one_word(fields: dict[str, Any], status: int, expected: str) -> None:
    assert outcome(finished(**fields), status) == expected
    assert expected in OUTCOMES


# --- the shape of all lines ---


def format_line(message: Any, name: str = "app.x", level: int = logging.INFO, **more: Any) -> dict[str, Any]:
    """A log record as it is written, parsed again."""
    made = logging.getLogger(name).makeRecord(
        name, level, __file__, 1, message, (), more.pop("exc_info", None), extra=more
    )
    made.created = 1_700_000_000.1239
    text = Line().format(made)
    assert "\n" not in text
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_a_request_is_one_flat_object_that_begins_with_event_time_and_level() -> None:
    line = format_line(record(finished(), 200, 1, ENDED), "gunicorn.access")
    assert list(line)[:3] == ["event", "ts", "level"]
    assert (line["event"], line["ts"], line["level"]) == ("proxy_request", "2023-11-14T22:13:20.123Z", "INFO")
    assert {name: value for name, value in line.items() if isinstance(value, dict | list)} == {}
    assert {*record(finished(), 200, 1, ENDED), "ts", "level"} == set(line)


def test_an_events_name_is_its_message_and_its_fields_stand_beside_it() -> None:
    assert format_line("routing_decision", mount="/", rest="/x") == {
        "event": "routing_decision",
        "ts": "2023-11-14T22:13:20.123Z",
        "level": "INFO",
        "mount": "/",
        "rest": "/x",
    }


def test_what_gunicorn_says_is_the_message_of_a_server_event() -> None:
    line = format_line("Booting worker with pid: 7", "gunicorn.error")
    assert (line["event"], line["message"]) == ("server", "Booting worker with pid: 7")


def test_an_exception_is_told_by_type_and_place_and_never_by_its_text() -> None:
    try:
        raise ValueError("hk_test_secret")
    except ValueError:
        line = format_line("unhandled_exception", level=logging.ERROR, exc_info=sys.exc_info())
    assert "hk_test_secret" not in json.dumps(line)
    told = [value for value in line.values() if "ValueError at " in str(value)]
    assert len(told) == 1
    assert "test_access_log.py:" in told[0] and "test_an_exception_is_told" in told[0]


def test_a_cause_is_not_told_by_its_text_either() -> None:
    try:
        try:
            raise KeyError("hk_test_inner")
        except KeyError as error:
            raise ValueError("hk_test_outer") from error
    except ValueError:
        line = format_line("unhandled_exception", exc_info=sys.exc_info())
    assert "hk_test" not in json.dumps(line)


def test_line_breaks_and_quotes_of_a_client_stay_inside_their_field() -> None:
    line = format_line(record(finished(user_agent='a"}\n{"event":"forged'), 200, 1, ENDED), "gunicorn.access")
    assert (line["event"], line["user_agent"]) == ("proxy_request", 'a"}\n{"event":"forged')


# --- gunicorn's logger ---


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def all_of(self, field: str) -> list[Any]:
        """What stands in one field of each line."""
        told: list[Any] = [record.msg for record in self.records]  # a dict each, not a text
        return [one[field] for one in told]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    handler, logger = Lines(), logging.getLogger("gunicorn.access")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(logger, "propagate", False)
    return handler


@pytest.fixture
def logger(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> AccessLog:
    monkeypatch.setattr(AccessLog, "setup", lambda *_: None)  # it would replace the handlers of this process
    return AccessLog(Config())


@pytest.mark.parametrize(
    ("status", "level"), [("200 OK", "INFO"), ("404 Not Found", "INFO"), ("500 X", "WARNING"), ("503", "WARNING")]
)
def test_a_finished_request_writes_its_line(logger: AccessLog, lines: Lines, status: str, level: str) -> None:
    scope = finished()
    logger.access(SimpleNamespace(status=status, sent=67), None, {KEY: scope}, None)
    assert [(found.levelname, found.msg) for found in lines.records] == [
        (level, record(scope, int(status[:3]), 67, ENDED))
    ]


def test_an_answer_that_never_began_has_no_status(logger: AccessLog, lines: Lines) -> None:
    logger.access(SimpleNamespace(status=None, sent=0), None, {KEY: finished()}, None)
    assert lines.all_of("status") == [0]


def test_lines_are_put_off_until_there_is_time_and_keep_their_order(logger: AccessLog, lines: Lines) -> None:
    put_off: list[Callable[[], None]] = []
    logger.later = put_off.append
    for sent in (1, 2, 3):
        logger.access(SimpleNamespace(status="200 OK", sent=sent), None, {KEY: finished()}, None)
    assert lines.records == []
    assert len(put_off) == 1, "once is enough"
    put_off[0]()
    logger.access(SimpleNamespace(status="200 OK", sent=4), None, {KEY: finished()}, None)
    put_off[1]()
    assert lines.all_of("bytes_out") == [1, 2, 3, 4]


def test_a_line_that_was_put_off_tells_of_the_requests_end(
    logger: AccessLog, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_off: list[Callable[[], None]] = []
    logger.later = put_off.append
    monkeypatch.setattr(access_log, "time", lambda: 1_700_000_000.5)
    logger.access(SimpleNamespace(status="200 OK", sent=1), None, {KEY: finished()}, None)
    monkeypatch.setattr(access_log, "time", lambda: 1_700_000_009.5)
    monkeypatch.setattr(access_log, "monotonic", lambda: 1009.0)
    put_off[0]()
    assert (lines.records[0].created, lines.all_of("duration_ms")) == (1_700_000_000.5, [2345.6])


def test_a_worker_that_never_waits_writes_them_all_the_same(logger: AccessLog, lines: Lines) -> None:
    logger.later = lambda _: None
    for _ in range(3 * MOST_WAITING):
        logger.access(SimpleNamespace(status="200 OK", sent=1), None, {KEY: finished()}, None)
    assert len(lines.records) == 3 * MOST_WAITING


def test_what_was_put_off_is_written_when_the_worker_ends(logger: AccessLog, lines: Lines) -> None:
    logger.later = lambda _: None
    logger.access(SimpleNamespace(status="200 OK", sent=1), None, {KEY: finished()}, None)
    logger.write_waiting()
    assert len(lines.records) == 1


def test_a_request_without_a_scope_writes_nothing(logger: AccessLog, lines: Lines) -> None:
    logger.access(SimpleNamespace(status="200 OK", sent=0), None, {}, None)
    assert lines.records == []


@pytest.mark.parametrize(("debug", "level"), [(True, "DEBUG"), (False, "INFO")])
def test_every_logger_writes_json_to_stdout(debug: bool, level: str) -> None:
    config = logging_config(debug)
    assert {name: (made["level"], made["handlers"], made["propagate"]) for name, made in config["loggers"].items()} == {
        "gunicorn.error": ("INFO", ["out"], False),
        "gunicorn.access": ("INFO", ["out"], False),
        "app": (level, ["out"], False),
        "urllib3": ("CRITICAL", [], False),
    }
    assert (config["handlers"]["out"]["stream"], config["formatters"]["line"]["()"]) == ("ext://sys.stdout", Line)
    assert (config["root"], config["disable_existing_loggers"]) == ({"handlers": ["out"], "level": "WARNING"}, False)


def test_the_configuration_is_one_that_logging_takes() -> None:
    logging.config.DictConfigurator(logging_config(False)).configure_formatter({"()": Line})
