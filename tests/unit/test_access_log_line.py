"""app/access_log.py: the short way of the one line per request, and how a line is written."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import select
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pythonjsonlogger.json import JsonFormatter

from app.access_log import Line, logging_config, moment
from app.finished import Finished, Measured
from app.out import Out
from tests.unit.logged import NOW, fields

FIELDS = (
    "event ts level request_id trace_id method path upstream_path target_url mount family action resource outcome "
    "status upstream_status error_code error_kind duration_ms upstream_ms ttfb_ms auth_ms auth_source attempts "
    "bytes_in bytes_out client_ip user_id key_id user_agent worker version"
).split()


def finished(**changed: Any) -> Finished:
    return Finished("gunicorn.access", logging.INFO, fields(**changed), NOW)


def the_long_way(content: dict[str, str | int | float]) -> str:
    """A line as any other record brings it about."""
    made = logging.getLogger("gunicorn.access").makeRecord("gunicorn.access", logging.INFO, "", 0, content, (), None)
    made.created = NOW
    return Line().format(made)


# --- the line ---


@pytest.mark.parametrize(
    "write", [lambda: Line().format(finished()), lambda: the_long_way(fields())], ids=["short way", "long way"]
)
def test_the_fields_stand_in_one_order(write: Callable[[], str]) -> None:
    assert list(json.loads(write())) == FIELDS


def test_both_ways_give_the_same_names_values_and_types() -> None:
    more: dict[str, Any] = {"upstream_seconds": 1.5, "first_byte": 1001.75, "auth_seconds": 0.0123, "bytes_in": 2**40}
    short, long = json.loads(Line().format(finished(**more))), json.loads(the_long_way(fields(**more)))
    assert [(name, type(value), value) for name, value in short.items()] == [
        (name, type(value), value) for name, value in long.items()
    ]
    assert (short["ts"], short["level"], short["duration_ms"]) == ("2023-11-14T22:13:20.123Z", "INFO", 2345.6)


def test_an_ordinary_line_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JsonFormatter, "format", lambda *_: pytest.fail("took the long way"))
    assert json.loads(Line().format(finished(user_agent='a"\\\n\x00\x7f')))["user_agent"] == 'a"\\\n\x00\x7f'


TEXTS = {
    "quotes, a backslash and a line break": 'a"}\\\r\n{"event":"forged',
    "every control character": "".join(map(chr, range(0x20))) + "\x7f",
    "every byte, as a header is decoded": bytes(range(256)).decode("latin-1"),
    "line breaks of Unicode": "a\u0085b\u2028c\u2029d",
    "beyond the first plane": "\U0001f600",
    "half of a surrogate pair": "a\ud800b",
    "a byte that was none of UTF-8": b"\xff".decode("utf-8", "surrogateescape"),
}


@pytest.mark.parametrize("field", ["user_agent", "upstream_path"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_any_text_stays_in_its_field_of_a_line_of_ascii(field: str, text: str) -> None:
    changed: dict[str, Any] = {field: text}
    line = Line().format(finished(**changed))
    assert line.isascii() and "\n" not in line and "\r" not in line
    assert json.loads(line) == json.loads(the_long_way(fields(**changed)))
    assert json.loads(line)[field] == text
    assert list(json.loads(line)) == FIELDS


@pytest.mark.parametrize("fraction", [0.0, 0.0009, 0.001, 0.123, 0.1239, 0.5, 0.9989, 0.999, 0.9999994, 0.9999999])
@pytest.mark.parametrize("seconds", [0, 1_700_000_000, 1_709_251_199, 4_102_444_799])
def test_a_moment_is_the_time_in_utc_cut_to_milliseconds(seconds: int, fraction: float) -> None:
    told = datetime.fromtimestamp(seconds + fraction, UTC).isoformat(timespec="milliseconds")
    assert moment(seconds + fraction) == told.replace("+00:00", "Z")


def test_a_finished_request_is_a_record_like_any_other() -> None:
    """Handlers and formatters that are not ours find every attribute that they may ask for."""
    one, other = finished(), Finished("x", logging.WARNING, {"event": "other"}, NOW)
    assert vars(one).keys() == vars(logging.LogRecord("", 0, "", 0, "", (), None)).keys()
    assert (one.name, one.levelno, one.levelname, one.created) == ("gunicorn.access", 20, "INFO", NOW)
    assert (other.levelno, other.levelname, other.msg, one.msg) == (30, "WARNING", {"event": "other"}, fields())
    assert logging.Formatter("%(levelname)s %(message)s").format(other) == "WARNING {'event': 'other'}"


# --- how it is written ---


class Raw(io.RawIOBase):
    """A file that notes each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.writes.append(bytes(data))
        return len(data)


class Full(io.StringIO):
    """A file that takes nothing."""

    def write(self, _: str) -> int:
        raise OSError("no space left on device")


def out(stream: Any) -> Out:
    """The handler on a stream."""
    handler = Out(stream)
    handler.setFormatter(Line())
    return handler


@pytest.mark.parametrize("length", [1, 4096, 8191, 8192, 8193, 16384])
def test_every_line_is_one_write_that_is_done_when_the_handler_returns(length: int) -> None:
    raw = Raw()
    handler = out(io.TextIOWrapper(io.BufferedWriter(raw)))
    for count in (1, 2, 3):
        handler.handle(finished(target="/" * length))
        assert len(raw.writes) == count
        assert raw.writes[-1].count(b"\n") == 1 and raw.writes[-1].endswith(b"}\n")
        assert json.loads(raw.writes[-1])["path"].startswith("/" * min(length, 500))


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(
    "changed",
    [
        {"target": "/" + "a" * 16_000, "upstream_path": "/" + "a" * 16_000, "target_url": "http://m/" + "a" * 16_000},
        {"target": "/" + '"' * 16_000},
        {"target": "/" + "a" * 3000, "user_agent": "\U0001f600" * 200},
    ],
    ids=["three times", "escaped", "with others"],
)
def test_a_line_is_no_longer_than_what_a_pipe_takes_in_one_piece(changed: dict[str, Any], measured: bool) -> None:
    """Or the lines of two workers mix as soon as whoever reads is slow (pipe(7), PIPE_BUF)."""
    raw = Raw()
    handler = out(io.TextIOWrapper(io.BufferedWriter(raw)))
    line = fields(**changed)
    handler.handle(Measured("x", logging.INFO, {**line, "service": "s"}, NOW, 1) if measured else finished(**changed))
    assert len(raw.writes[0]) <= select.PIPE_BUF
    written = json.loads(raw.writes[0])
    assert list(line) == [name for name in written if name in line], "no field is missing"
    assert written["path"].startswith("/" + changed["target"][1:50]) and written["path"].endswith("...")
    assert written["request_id"] == line["request_id"] and written["duration_ms"] == line["duration_ms"]


def test_a_line_that_fits_is_left_as_it_is() -> None:
    assert "/" * 3000 in out(io.StringIO()).format(finished(target="/" * 3000))


def test_a_stdout_of_another_encoding_loses_no_line() -> None:
    raw = Raw()
    out(io.TextIOWrapper(io.BufferedWriter(raw), encoding="ascii")).handle(finished(user_agent="J\xfcrgen \ud800"))
    assert [json.loads(line)["user_agent"] for line in raw.writes] == ["J\xfcrgen \ud800"]


def test_a_filter_drops_a_line() -> None:
    raw = Raw()
    handler = out(io.TextIOWrapper(io.BufferedWriter(raw)))
    handler.addFilter(lambda found: found.levelno > logging.INFO)
    assert (handler.handle(finished()), raw.writes) == (False, [])
    assert handler.handle(Finished("x", logging.WARNING, fields(), NOW)) and len(raw.writes) == 1


def test_a_line_that_cannot_be_written_is_no_error_of_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    out(Full()).handle(finished())
    assert "OSError: no space left on device" in capsys.readouterr().err


def test_the_configured_handler_writes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    configurator = logging.config.DictConfigurator(logging_config(False))
    configurator.config["formatters"]["line"] = Line()
    handler = configurator.configure_handler(configurator.config["handlers"]["out"])
    handler.handle(finished())
    assert isinstance(handler, Out) and list(json.loads(capsys.readouterr().out)) == FIELDS
