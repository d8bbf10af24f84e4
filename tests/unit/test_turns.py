"""app/turns.py: others have their turn, and both directions of a transfer ask for it."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from app import inbound, passthrough
from app.turns import A_MOMENT, EVERY, EVERY_SECONDS, Queue, Turns
from tests.support.clock import Clock


class Giving(Clock):
    """Giving way takes a second, and is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Giving:
    made = Giving()
    monkeypatch.setattr("app.turns.time.sleep", made.sleep)
    monkeypatch.setattr("app.turns.monotonic", made)
    return made


@pytest.mark.parametrize(
    ("sizes", "turns"),
    [
        ([EVERY], 1),
        ([EVERY - 1], 0),
        ([EVERY - 1, 1], 1),
        ([EVERY - 1, 1, EVERY - 1], 1),
        ([1] * 1000, 0),
        ([0] * 1000, 0),
        ([EVERY // 2] * 8, 4),
        ([EVERY // 8 + 1] * 8, 1),
        ([EVERY * 3, EVERY], 2),
        ([], 0),
    ],
)
def test_others_run_whenever_enough_was_moved(sizes: list[int], turns: int, clock: Giving) -> None:
    counted = Turns()
    for size in sizes:
        counted.moved(size)
    assert clock.slept == [A_MOMENT] * turns


@pytest.mark.parametrize(
    ("seconds", "turns"),
    [
        ([EVERY_SECONDS * 1.01], 1),
        ([EVERY_SECONDS * 0.99], 0),
        ([EVERY_SECONDS * 0.6] * 2, 1),
        ([EVERY_SECONDS * 0.6] * 10, 5),
        ([EVERY_SECONDS * 0.09] * 100, 8),
        ([5.0, 5.0], 2),
    ],
)
@pytest.mark.parametrize("size", [0, 1])
def test_others_run_whenever_much_work_was_done_for_few_bytes(
    seconds: list[float], turns: int, size: int, clock: Giving
) -> None:
    """What the others took of the time does not count."""
    counted = Turns()
    for one in seconds:
        clock.now += one
        counted.moved(size)
    assert clock.slept == [A_MOMENT] * turns


def test_that_is_often_enough() -> None:
    assert (EVERY, EVERY_SECONDS) == (512 * 1024, 0.001) and A_MOMENT > 0  # 0 would not look at the sockets


def test_those_who_come_together_go_on_one_by_one(clock: Giving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.turns.time.sleep", clock.slept.append)  # the others' time, which does not pass here
    queue = Queue()
    for _ in range(3):
        queue.stand()
    clock.now += 0.0015
    queue.stand()
    clock.now += 5.0
    queue.stand()
    assert clock.slept == pytest.approx([0.001, 0.002, 0.003, 0.0025, 0.001], abs=1e-9)


@pytest.mark.parametrize("module", [inbound, passthrough])
def test_both_copy_loops_count(module: ModuleType) -> None:
    """That they do it at the right place is shown by /health during a transfer: tests/faults, X01 and X02."""
    assert "urns.moved(" in inspect.getsource(module)
