"""app/rarely.py: so many in a period, and the others counted."""

from __future__ import annotations

from app.rarely import Rarely


def test_the_first_of_a_period_pass_and_the_others_are_counted_for_the_next() -> None:
    rarely = Rarely(2, 60.0)
    assert [rarely.admit(1000.0 + i) for i in range(5)] == [0, 0, None, None, None]
    assert [rarely.admit(1059.9), rarely.admit(1060.0), rarely.admit(1060.1)] == [None, 4, 0]
    assert [rarely.admit(1061.0), rarely.admit(1500.0)] == [None, 1]


def test_a_period_begins_with_its_first_and_not_at_a_fixed_time() -> None:
    rarely = Rarely(1, 60.0)
    assert [rarely.admit(now) for now in (59.0, 61.0, 118.9, 119.0)] == [0, None, None, 2]


def test_the_very_first_passes_whatever_the_clock_shows() -> None:
    assert Rarely(1).admit(0.0) == 0
