"""What `make bench` makes of its figures: ratios, verdicts, tables, the page's generated part, the profile's shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import pages, report
from benchmarks.goals import GOALS, Goal, look_up
from benchmarks.load import in_turn, medians, percentile
from benchmarks.profiled import OURS, library, module, shares

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "performance.md"
LATEST = REPOSITORY / "benchmarks" / "results" / "latest.json"
SITE = "/somewhere/site-packages"

RATIO = Goal("fast ÷ nginx's", "upload.proxy.mb_s", 0.50, "upload.nginx.mb_s", least=True)
BOUND = Goal("quick", "fairness.p99", 50, unit="ms")


def results(proxy: float, nginx: float = 1000.0, p99: float = 10.0) -> dict[str, Any]:
    return {"upload": {"proxy": {"mb_s": proxy}, "nginx": {"mb_s": nginx}}, "fairness": {"p99": p99}}


@pytest.mark.parametrize(("rate", "met"), [(900, True), (500, True), (499.9, False), (10, False)])
def test_a_ratio_is_judged_to_the_last_digit(rate: float, met: bool) -> None:
    value = RATIO.value(results(rate))
    assert value == rate / 1000 and RATIO.met(value) is met


@pytest.mark.parametrize(("value", "text"), [(0.7, "0.70"), (0.5, "0.50"), (0.496, "0.496"), (0.4996, "0.4996")])
def test_what_falls_short_does_not_look_as_if_it_did_not(value: float, text: str) -> None:
    assert RATIO.shown(value) == text


@pytest.mark.parametrize(("p99", "met"), [(0.1, True), (50.0, True), (50.04, False), (50.1, False)])
def test_a_bound_is_the_most_that_there_may_be(p99: float, met: bool) -> None:
    value = BOUND.value(results(1, p99=p99))
    assert value == p99 and BOUND.met(value) is met


@pytest.mark.parametrize("path", ["upload.haproxy.mb_s", "download.proxy.mb_s", "upload.proxy.mb_s.more"])
def test_what_was_not_measured_has_no_number(path: str) -> None:
    assert look_up(results(1), path) is None


def test_a_goal_that_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {row[1] for row in report.goal_rows({})} == {"not measured"}
    assert {row[3] for row in report.goal_rows({})} & {"pass", "short"} == set()


def test_percentile_is_the_smallest_value_that_the_share_does_not_exceed() -> None:
    values = list(range(1, 101))
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50, 99, 7.0)


def test_medians_are_taken_figure_by_figure() -> None:
    rows = [{"a": 1.0, "b": 30.0}, {"a": 3.0, "b": 10.0}, {"a": 2.0, "b": 20.123456}]
    assert medians(rows) == {"a": 2.0, "b": 20.12}


def test_every_other_round_goes_backwards() -> None:
    targets: Any = {"first": 1, "last": 2}
    assert [name for name, _ in in_turn(targets, 0) + in_turn(targets, 1)] == ["first", "last", "last", "first"]


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (12345.6, "12 346"), (100, "100"), (99.94, "99.9"), (0.01234, "0.0123")]
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert report.number(value) == text


# --- the profile ---


def test_the_standard_library_is_charged_to_whoever_called_it() -> None:
    assert library([f"{OURS}wire.py", "/lib/python3/http/client.py"]) == "the proxy's own code"
    assert library([f"{OURS}wire.py", f"{SITE}/urllib3/connection.py", "/lib/python3/socket.py"]) == "urllib3"
    assert library(["/lib/python3/threading.py"]) == "others"


def test_everything_is_charged_to_the_innermost_module_of_ours() -> None:
    within = [f"{OURS}worker.py", f"{SITE}/gunicorn/x.py", f"{OURS}edge.py", f"{OURS}wire.py", f"{SITE}/urllib3/y.py"]
    assert module(within) == "wire.py"
    assert module(within[:2]) == "none: gunicorn and gevent"


def test_shares_leave_out_the_waiting_thread_and_gather_what_is_small() -> None:
    samples = "\n".join(
        [
            f"main ({SITE}/flask/app.py:1);f (/lib/json/encoder.py:2) 600",
            f"main ({SITE}/flask/app.py:1);f ({SITE}/werkzeug/local.py:2) 392",
            f"main ({SITE}/idna/core.py:1) 4",
            f"main ({SITE}/click/core.py:1) 4",
            f"main ({SITE}/gevent/threadpool.py:1);acquire ({SITE}/gevent/_threading.py:36) 500",
        ]
    )
    assert shares(samples, library) == {"flask": 0.6, "werkzeug": 0.392, "others": 0.008}


# --- the page ---


def test_the_page_shows_the_latest_results() -> None:
    """Whoever edits the generated part, or commits figures without it, meets this."""
    assert pages.written(PAGE, report.COMMAND) == report.for_page(json.loads(LATEST.read_text())).strip()


def test_the_latest_results_hold_every_figure_and_every_goal() -> None:
    latest = json.loads(LATEST.read_text())
    assert [goal.measure for goal in GOALS if goal.value(latest) is None] == []
    assert set(latest["small"]) == set(report.TARGETS) - {"bare"}
    assert set(latest["upload"]) == set(latest["download"]) == set(report.TARGETS) - {"hello", "bare"}
    assert set(latest["mlflow"]) == {"direct", "nginx", "bare", "proxy"}


def test_the_results_are_put_on_the_page(tmp_path: Path) -> None:
    page, latest = tmp_path / "page.md", json.loads(LATEST.read_text())
    page.write_text(PAGE.read_text().replace("### Goals", "### Old"))
    report.update_page(page, latest)
    assert page.read_text() == PAGE.read_text() and "### Goals" in page.read_text()
