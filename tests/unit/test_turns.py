"""app/turns.py: others have their turn, and both directions of a transfer ask for it."""

from __future__ import annotations

import inspect

import pytest

from app import inbound, passthrough
from app.turns import EVERY, Turns


@pytest.mark.parametrize(
    ("sizes", "turns"),
    [
        ([EVERY], 1),
        ([EVERY - 1], 0),
        ([EVERY - 1, 1], 1),
        ([1] * 7, 0),
        ([1] * 8, 1),
        ([1] * 1000, 125),
        ([EVERY // 2] * 8, 4),
        ([EVERY // 8 + 1] * 8, 1),
        ([EVERY * 3, EVERY], 2),
        ([], 0),
    ],
)
def test_others_run_whenever_enough_was_moved(sizes: list[int], turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("app.turns.time.sleep", slept.append)
    counted = Turns()
    for size in sizes:
        counted.moved(size)
    assert slept == [0] * turns


@pytest.mark.parametrize("module", [inbound, passthrough])
def test_both_copy_loops_count(module: object) -> None:
    """That they do it at the right place is shown by /health during a transfer: tests/faults, X01 and X02."""
    assert "urns.moved(" in inspect.getsource(module)  # type: ignore[arg-type]
