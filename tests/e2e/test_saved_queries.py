"""Every command with jq of docs/observability.md on the log of a real run; and what it must say, found otherwise."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.audited import TRACE, TROUBLED, Audited
from tests.support.proxy import Line
from tests.support.saved_queries import LOG, queries

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="no jq on this machine; .ci/run installs it")

Rows = list[list[str]]
Answer = Callable[[list[Line]], Rows]


def shown(value: object) -> str:
    """A value as jq prints it in a column: numbers without a fraction that is zero."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def columns(lines: list[Line], *names: str) -> Rows:
    return [[shown(line[name]) for name in names] for line in lines]


def grouped(lines: list[Line], *names: str) -> list[tuple[list[str], list[Line]]]:
    """The lines by these fields, in the order of the fields."""
    ordered = sorted(lines, key=lambda line: [line[name] for name in names])
    found = itertools.groupby(ordered, key=lambda line: [str(line[name]) for name in names])
    return [(key, list(group)) for key, group in found]


def percentile(values: list[float], percent: int) -> float:
    return sorted(values)[-(-len(values) * percent // 100) - 1]


def registered(lines: list[Line]) -> Rows:
    (line,) = [one for one in lines if one["path"].endswith("model-versions/create")][6:]
    assert line["user_id"] == "alice" and line["key_id"] == "key-of-alice"
    return columns([line], "ts", "user_id", "key_id", "client_ip", "status", "request_id")


def happened(lines: list[Line]) -> Rows:
    about = ("registered-models", "model-versions")
    changes = [one for one in lines if one["action"].startswith(about) and one["method"] != "GET" and one["resource"]]
    rows = columns(
        [one for one in changes if ":other" not in one["resource"]], "ts", "user_id", "action", "resource", "outcome"
    )
    assert len(rows) == 15
    return rows


def done(lines: list[Line]) -> Rows:
    groups = grouped([one for one in lines if one["key_id"] == "key-of-alice"], "action", "resource", "outcome")
    rows = [[str(len(g)), min(one["ts"] for one in g), max(one["ts"] for one in g), *key] for key, g in groups]
    assert len(rows) > 20
    return sorted(rows, key=lambda row: row[1])


def traffic(lines: list[Line]) -> Rows:
    rows = [
        [*key, str(sum(one["bytes_in"] for one in g)), str(sum(one["bytes_out"] for one in g)), str(len(g))]
        for key, g in grouped(lines, "user_id")
    ]
    assert {row[0] for row in rows} == {"", "alice", "bob", "reader"}
    assert max(int(row[1]) for row in rows) > 500_000
    return sorted(rows, key=lambda row: -int(row[2]))


def errors(lines: list[Line]) -> Rows:
    def begin(line: Line) -> str:
        moment = datetime.fromisoformat(line["ts"])
        return moment.strftime(f"%Y-%m-%dT%H:{moment.minute // 5 * 5:02}:00Z")

    groups = grouped([{**line, "bin": begin(line)} for line in lines], "family", "bin")
    rows = [(key[1], key[0], len(g), sum(one["status"] >= 500 for one in g)) for key, g in groups]
    assert sum(row[3] for row in rows) == 1
    rows = list(reversed(sorted(rows, key=lambda row: row[0])))
    return [[*map(shown, row), shown(100 * row[3] / row[2])] for row in rows]


def slowest(lines: list[Line]) -> Rows:
    rows = []
    for key, group in grouped(lines, "action", "method"):
        times = [one["duration_ms"] for one in group]
        rows.append((*key, len(times), percentile(times, 95), percentile(times, 99), max(times)))
    return [list(map(shown, row)) for row in sorted(rows, key=lambda row: -row[4])]


def own_time(lines: list[Line]) -> Rows:
    passed = [one for one in lines if one["upstream_ms"] > 0 and one["ttfb_ms"] > 0]
    times = [one["ttfb_ms"] - one["upstream_ms"] - one["auth_ms"] for one in passed]
    assert len(times) > 30
    return [[shown(percentile(times, 50)), shown(percentile(times, 99))]]


def failed(lines: list[Line]) -> Rows:
    rows = [[*key, str(len(g))] for key, g in grouped(lines, "outcome", "error_kind", "family")]
    assert [row for row in rows if row[0].startswith("upstream_")] == [
        ["upstream_unreachable", "connect", "tracking.experiments", "1"]
    ]
    return [row for row in rows if row[0].startswith("upstream_")]


def one_request(lines: list[Line]) -> Rows:
    found = [one for one in lines if one["request_id"] == TROUBLED or one["trace_id"] == TRACE]
    assert [one["request_id"] for one in found] == ["the-last", TROUBLED]
    names = ("ts", "event", "status", "upstream_status", "path", "upstream_path", "target_url", "error_kind")
    return columns(found, *names)


def in_vain(lines: list[Line]) -> Rows:
    rows = [
        [*key, str(len(g)), str(len({one["user_id"] for one in g}))]
        for key, g in grouped([one for one in lines if one["status"] == 404], "method", "path")
    ]
    assert ["GET", "/mlflow/nothing", "2", "1"] in rows
    return sorted(rows, key=lambda row: -int(row[2]))


def artifacts(lines: list[Line]) -> Rows:
    moved = [one for one in lines if one["action"].startswith("artifacts.")]
    rows = [
        (*key, sum(one["bytes_in"] for one in g) / 2**20, sum(one["bytes_out"] for one in g) / 2**20, len(g))
        for key, g in grouped(moved, "user_id", "method")
    ]
    assert {row[:2] for row in rows} == {("alice", "GET"), ("alice", "PUT")}
    assert [round(max(row[column] for row in rows), 2) for column in (2, 3)] == [0.48, 0.48]
    return [list(map(shown, row)) for row in sorted(rows, key=lambda row: -float(row[2]))]


def denied(lines: list[Line]) -> Rows:
    rows = [
        [*key, str(len(g)), min(one["ts"] for one in g), max(one["ts"] for one in g)]
        for key, g in grouped([one for one in lines if one["status"] in (401, 403)], "client_ip", "user_agent")
    ]
    assert [row[:3] for row in rows] == [
        ["203.0.113.7", "curl", "2"],
        ["203.0.113.8", "curl", "1"],
        ["203.0.113.9", "", "1"],
    ]
    return sorted(rows, key=lambda row: -int(row[2]))


ANSWERS: dict[str, Answer] = {
    "Who registered version 7": registered,
    "What happened to a model": happened,
    "What did this key do": done,
    "Bytes per user": traffic,
    "Error rate per family, in five minutes": errors,
    "Slowest endpoints": slowest,
    "The proxy's own time": own_time,
    "What failed upstream, and how": failed,
    "One request, end to end": one_request,
    "Paths that are asked for in vain": in_vain,
    "Artifact traffic by user": artifacts,
    "Denials by address": denied,
}


def test_every_command_of_the_page_is_run_here() -> None:
    assert list(ANSWERS) == list(queries())


@pytest.mark.parametrize("heading", ANSWERS)
def test_a_command_answers_its_question(audited: Audited, tmp_path: Path, heading: str) -> None:
    (tmp_path / LOG).write_text(audited.text)
    command = queries()[heading][1].replace("REQUEST-ID", TROUBLED).replace("TRACE-ID", TRACE)
    run = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stderr) == (0, "")
    answered = [line.split("\t") for line in run.stdout.splitlines()]
    expected = ANSWERS[heading](audited.lines)
    assert [list(map(rounded, row)) for row in answered] == [list(map(rounded, row)) for row in expected]


def rounded(cell: str) -> str | float:
    """Fractions as far as both sides of the comparison print them alike."""
    return round(float(cell), 6) if cell.replace(".", "", 1).lstrip("-").isdigit() and "." in cell else cell
