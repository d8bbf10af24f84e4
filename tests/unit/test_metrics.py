"""app/metrics.py: what workers count in shared memory, whoever reads it, and whoever of them ends."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config

from app import metrics
from app.access_log import AccessLog, record
from app.blueprints import whoami
from app.edge import METHODS as METHODS_OF_EDGE
from app.metrics import (
    ALIVE,
    BUCKETS,
    BYTES_IN,
    BYTES_OUT,
    CELL,
    CPU,
    FAMILY_ROWS,
    HISTOGRAM,
    KEY_CELLS,
    METHODS,
    PARTS,
    SPARE_SHEETS,
    SUM,
    TRANSFERS,
    WHOLE,
    Board,
    Rows,
    Sheet,
)
from app.policy import read_routes
from app.worker import TRANSFERS as UNDER_WAY
from app.worker import ProxyWorker
from tests.support.clock import Clock
from tests.unit import samples
from tests.unit.test_emf import OUTCOMES

FAMILIES = {route.family for route in [*read_routes(), whoami.ROUTE]} | {"health", "other"}


def line(**changed: Any) -> dict[str, Any]:
    """An access line of an ordinary call, with some fields changed."""
    fields: dict[str, Any] = {"family": "tracking.runs", "method": "POST", "status": 200, "outcome": "ok"}
    fields |= {"duration_ms": 12.3, "upstream_ms": 10.1, "auth_ms": 0.3, "bytes_in": 120, "bytes_out": 400}
    return {**fields, **changed}


@pytest.fixture
def board() -> Board:
    return Board(2)


def requests(sheet: Sheet) -> dict[tuple[str, ...], float]:
    return {key: count for key, (count,) in sheet.requests.read()}


def family(sheet: Sheet, name: str = "tracking.runs") -> list[float]:
    return dict(sheet.families.read())[(name,)]


def in_another_process(work: Callable[[], None]) -> int:
    """Do it in a child; its exit status, 0 when nothing was raised."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- rows ---


def rows(most: int = 4, labels: int = 2, cells: int = 1) -> Rows:
    return Rows(memoryview(bytearray(most * (KEY_CELLS + cells) * CELL)), labels, cells)


def test_a_row_is_made_once_and_found_again() -> None:
    table = rows()
    first, second = table.at(("a", "b")), table.at(("a", "c"))
    assert (table.at(("a", "b")), table.at(("a", "c"))) == (first, second) and first != second
    assert [key for key, _ in table.read()] == [("a", "b"), ("a", "c")]


def test_rows_that_have_no_room_share_the_last_one() -> None:
    table = rows(most=4)
    places = [table.at((str(n), "x")) for n in range(10)]
    assert len(set(places[:3])) == 3 and len({*places[3:]}) == 1 and places[3] not in places[:3]
    assert [key for key, _ in table.read()][-1] == ("other", "other")
    assert len(list(table.read())) == 4


def test_labels_that_are_too_long_share_a_row_too_and_harm_none() -> None:
    table = rows()
    before = table.at(("a", "b"))
    assert table.at(("a" * 200, "b")) == table.at(("b" * 95, "c"))
    assert [key for key, _ in table.read()] == [("a", "b"), ("other", "other")] and table.at(("a", "b")) == before


def test_a_table_over_used_memory_finds_what_is_there() -> None:
    memory = memoryview(bytearray(4 * (KEY_CELLS + 1) * CELL))
    first = Rows(memory, 1, 1)
    places = [first.at(("a",)), first.at(("b",))]
    second = Rows(memory, 1, 1)
    assert [second.at(("a",)), second.at(("b",))] == places and second.at(("c",)) not in places


def test_a_row_that_is_being_written_is_not_read_and_is_written_over() -> None:
    """A worker that was killed amid it leaves half of a name."""
    memory = memoryview(bytearray(4 * (KEY_CELLS + 1) * CELL))
    Rows(memory, 1, 1).at(("whole",))
    half = (KEY_CELLS + 1) * CELL
    memory[half : half + 20] = b"half-of-a-longer-nam"
    table = Rows(memory, 1, 1)
    assert [key for key, _ in table.read()] == [("whole",)]
    table.at(("new",))
    assert [key for key, _ in Rows(memory, 1, 1).read()] == [("whole",), ("new",)]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_label_that_there_can_be_has_a_row_of_its_own(outcome: str) -> None:
    for name in FAMILIES:
        for status_class in (*metrics.CLASSES.values(), "other"):
            key = (name, "OPTIONS", status_class, outcome)
            table = rows(labels=4)
            table.at(key)
            assert [found for found, _ in table.read()] == [key]


def test_there_is_room_for_every_family() -> None:
    assert len(FAMILIES) < FAMILY_ROWS - 1


# --- what a request counts ---


def test_a_request_is_counted_with_all_its_figures(board: Board) -> None:
    sheet = board.sheet(0)
    sheet.count(line())
    sheet.count(line(duration_ms=2000.0, upstream_ms=0.0, auth_ms=0.0, bytes_in=5, bytes_out=6))
    assert requests(sheet) == {("tracking.runs", "POST", "2xx", "ok"): 2.0}
    cells = family(sheet)
    assert (cells[BYTES_IN], cells[BYTES_OUT]) == (125.0, 406.0)
    parts = {name: cells[at : at + HISTOGRAM] for name, at in {"whole": WHOLE, **PARTS}.items()}
    assert {name: sum(part[:SUM]) for name, part in parts.items()} == {"whole": 2, "auth": 1, "upstream": 1, "own": 2}
    assert {name: pytest.approx(part[SUM]) for name, part in parts.items()} == {
        "whole": 2012.3,
        "auth": 0.3,
        "upstream": 10.1,
        "own": 2001.9,
    }


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"method": "BREW"}, ("tracking.runs", "other", "2xx", "ok")),
        ({"method": ""}, ("tracking.runs", "other", "2xx", "ok")),
        ({"method": "get"}, ("tracking.runs", "other", "2xx", "ok")),
        ({"method": "POST\t\n\ud800"}, ("tracking.runs", "other", "2xx", "ok")),
        ({"status": 0, "outcome": "client_gone"}, ("tracking.runs", "POST", "none", "client_gone")),
        ({"status": 101}, ("tracking.runs", "POST", "1xx", "ok")),
        ({"status": 308}, ("tracking.runs", "POST", "3xx", "ok")),
        ({"status": 599, "outcome": "proxy_error"}, ("tracking.runs", "POST", "5xx", "proxy_error")),
        ({"status": 999}, ("tracking.runs", "POST", "other", "ok")),
        ({"family": "health"}, ("health", "POST", "2xx", "ok")),
    ],
)
def test_labels_are_words_of_closed_lists(board: Board, changed: dict[str, Any], key: tuple[str, ...]) -> None:
    sheet = board.sheet(0)
    sheet.count(line(**changed))
    assert requests(sheet) == {key: 1.0}


def test_the_methods_are_those_that_are_served() -> None:
    assert METHODS == set(METHODS_OF_EDGE)


@pytest.mark.parametrize("milliseconds", [0.0, 0.1, 1.0, 1.1, 2.5, 900_000.0, 900_000.1, 10.0**9])
def test_a_time_falls_into_the_first_bucket_that_holds_it(board: Board, milliseconds: float) -> None:
    sheet = board.sheet(0)
    sheet.count(line(duration_ms=milliseconds))
    counts = family(sheet)[WHOLE : WHOLE + SUM]
    bounds = [*BUCKETS, math.inf]
    assert counts == [float(bound == min(b for b in bounds if milliseconds <= b)) for bound in bounds]


def test_the_buckets_go_from_a_millisecond_to_fifteen_minutes() -> None:
    assert (BUCKETS[0], BUCKETS[-1]) == (1.0, 15 * 60_000.0)
    assert list(BUCKETS) == sorted(set(BUCKETS))


def test_sums_of_bytes_stay_exact_beyond_what_a_smaller_number_holds(board: Board) -> None:
    sheet = board.sheet(0)
    for _ in range(3):
        sheet.count(line(bytes_in=2**40 + 1))
    assert family(sheet)[BYTES_IN] == 3 * (2**40 + 1)


# --- who counts, and who reads ---


def test_what_another_process_counts_is_seen(board: Board) -> None:
    reading = board.sheet(0)

    def count() -> None:
        sheet = board.sheet(0)
        for _ in range(1000):
            sheet.count(line())
        sheet.beat(3)

    assert in_another_process(count) == 0
    assert requests(reading) == {("tracking.runs", "POST", "2xx", "ok"): 1000.0}
    state = reading.state()
    assert (state[ALIVE], state[TRANSFERS]) == (1.0, 3.0) and state[CPU] > 0


def test_sheets_are_apart(board: Board) -> None:
    first, second = board.sheet(0), board.sheet(1)
    for _ in range(5):
        first.count(line())
    second.count(line(status=500, outcome="proxy_error"))
    assert requests(first) == {("tracking.runs", "POST", "2xx", "ok"): 5.0}
    assert requests(second) == {("tracking.runs", "POST", "5xx", "proxy_error"): 1.0}


def test_the_last_byte_of_one_sheet_is_not_the_next_ones(board: Board) -> None:
    """Full of rows, a sheet changes nothing around it."""
    sheet = board.sheet(1)
    for number in range(3000):
        sheet.count(line(family=f"family-{number}"))
    assert sum(requests(sheet).values()) == 3000 and sum(1 for _ in sheet.families.read()) == FAMILY_ROWS
    assert (requests(board.sheet(0)), requests(board.sheet(2))) == ({}, {})
    assert (board.sheet(0).state(), board.sheet(2).state()) == ([0.0] * 4, [0.0] * 4)


def test_a_worker_that_takes_a_place_goes_on_from_what_was_counted_there(board: Board) -> None:
    number = board.take()
    assert number is not None
    before = board.sheet(number)
    before.count(line())
    before.beat(7)
    board.give_back(number)
    assert board.sheet(number).state()[:2] == [0.0, 0.0]  # gone, and what it had under way
    assert board.take() == number
    after = board.sheet(number)
    after.count(line())
    after.count(line(family="health"))
    assert requests(after) == {("tracking.runs", "POST", "2xx", "ok"): 2.0, ("health", "POST", "2xx", "ok"): 1.0}
    assert family(after)[BYTES_IN] == 240


def test_processor_time_is_added_up(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(2.0)
    monkeypatch.setattr(metrics, "process_time", clock)
    first, second = board.sheet(0), board.sheet(0)
    first.beat(0)
    clock.now = 3.0
    first.beat(0)
    assert first.state()[CPU] == 3.0
    second.beat(0)  # another worker, whose clock began anew
    assert second.state()[CPU] == 6.0


def test_a_place_is_one_workers_and_there_are_enough_to_reload(board: Board) -> None:
    taken = [board.take() for _ in range(2 * 2 + SPARE_SHEETS)]
    assert sorted(number for number in taken if number is not None) == list(range(36))
    assert (board.take(), board.take()) == (None, None)
    board.give_back(5)
    assert (board.take(), board.take()) == (5, None)


# --- who calls it ---


def test_a_log_with_a_sheet_counts_each_line_that_it_writes(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AccessLog, "setup", lambda *_: None)  # it would replace the handlers of this process
    log = AccessLog(Config())
    written: list[Any] = []

    class Access:
        name = "gunicorn.access"
        handle = written.append

    log.access_log = Access()
    log.sheet = board.sheet(0)
    scope = samples.scope(family="tracking.runs", finished=True)
    log.line(scope, 200, 5)
    log.line(scope, 503, 6)
    assert requests(log.sheet) == {
        ("tracking.runs", "GET", "2xx", "ok"): 1.0,
        ("tracking.runs", "GET", "5xx", "proxy_error"): 1.0,
    }
    assert [found.msg["status"] for found in written] == [200, 503] and family(log.sheet)[BYTES_OUT] == 11


def test_a_real_line_has_what_is_counted(board: Board) -> None:
    sheet = board.sheet(0)
    sheet.count(record(samples.scope(method="BREW", begun=0.0), 405, 9, 1.0))
    assert requests(sheet) == {("other", "other", "4xx", "client_gone"): 1.0}


class Log:
    sheet: Any = None

    def transfers(self) -> int:
        return 0


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> ProxyWorker:
    made: ProxyWorker = object.__new__(ProxyWorker)  # gunicorn's own __init__ wants an arbiter's surroundings
    made.log = Log()
    beats: list[None] = []
    monkeypatch.setattr("gunicorn.workers.ggevent.GeventWorker.notify", lambda _: beats.append(None))
    made.beats = beats
    return made


def test_a_worker_says_once_a_second_what_it_has_under_way(worker: ProxyWorker, board: Board) -> None:
    worker.notify()
    worker.log.sheet, worker.log.transfers = board.sheet(0), lambda: 4
    worker.notify()
    assert board.sheet(0).state()[:2] == [1.0, 4.0] and len(worker.beats) == 2


@pytest.mark.parametrize(("config", "expected"), [({}, 0), ({UNDER_WAY: lambda: 9}, 9)])
def test_a_worker_lets_its_log_ask_the_app_what_is_under_way(
    worker: ProxyWorker, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], expected: int
) -> None:
    def load(self: Any) -> None:
        self.wsgi = SimpleNamespace(config=config)  # as Flask's

    monkeypatch.setattr("gunicorn.workers.ggevent.GeventWorker.load_wsgi", load)
    worker.load_wsgi()
    assert worker.log.transfers() == expected
