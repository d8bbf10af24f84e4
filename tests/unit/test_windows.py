"""app/windows.py: the arithmetic of sliding windows, and that its waiting times are true."""

from __future__ import annotations

import random

import pytest

from app.limit_storage import OwnWindows
from app.windows import Count, Rate, rolled, standing, used
from tests.support.clock import Clock

HOUR = Rate(1000, 3600)


@pytest.mark.parametrize(
    ("now", "count"),
    [
        (100.0, Count(7, 5, 0.0)),
        (109.9, Count(7, 5, 109.9 - 100.0)),
        (110.0, Count(5, 0, 0.0)),
        (119.5, Count(5, 0, 9.5)),
        (120.0, Count(0, 0, 0.0)),
        (9999.0, Count(0, 0, 0.0)),
    ],
)
def test_the_running_window_becomes_the_one_before_and_then_nothing(now: float, count: Count) -> None:
    assert rolled(100.0, 7, 5, 10, now) == count


@pytest.mark.parametrize(
    ("count", "requests"),
    [
        (Count(0, 3, 1.0), 3),
        (Count(10, 0, 0.0), 10),
        (Count(10, 0, 0.1), 9),
        (Count(10, 2, 5.0), 7),
        (Count(9, 1, 9.9), 1),
    ],
)
def test_the_window_before_fades_out(count: Count, requests: int) -> None:
    assert used(count, 10) == requests


@pytest.mark.parametrize(
    ("count", "rate", "expected"),
    [
        (Count(0, 0, 0.0), HOUR, (1000, 3600)),
        (Count(0, 1, 0.2), HOUR, (999, 3600)),
        (Count(0, 999, 3599.9), HOUR, (1, 1)),
        (Count(0, 1000, 600.0), HOUR, (0, 3001)),  # the window has to end
        (Count(1000, 0, 0.0), HOUR, (0, 1)),  # one of the window before has to fade
        (Count(1000, 10, 36.0), HOUR, (0, 1)),
        (Count(0, 2000, 1800.0), HOUR, (0, 3601)),  # lowered from 2000: half of it has to fade too
        (Count(0, 0, 0.0), Rate(0, 3600), (0, 3601)),
    ],
)
def test_what_is_left_and_how_long_to_wait(count: Count, rate: Rate, expected: tuple[int, int]) -> None:
    assert standing(count, rate) == expected


@pytest.mark.parametrize("seed", range(20))
def test_who_waits_as_long_as_told_has_room_and_not_much_earlier(seed: int) -> None:
    """Random requests at random times in random windows; after every refusal the told time is tried out."""
    chance = random.Random(seed)
    rate = Rate(chance.randint(1, 40), chance.choice([1, 10, 60, 3600]))
    clock, refused = Clock(), 0
    windows = OwnWindows(clock=clock)
    for _ in range(2000):
        clock.now += chance.expovariate(3 * rate.amount / rate.seconds)
        taken = windows.take("key", "k", [rate])
        if taken.admitted:
            continue
        refused += 1
        room, seconds = standing(taken.counts[0], rate)
        assert room == 0
        come, clock.now = clock.now, clock.now + seconds
        assert standing(windows.take("key", "k", [rate], 0).counts[0], rate)[0] >= 1, (rate, taken)
        clock.now = come + seconds - 1.01
        if seconds > 1:
            assert standing(windows.take("key", "k", [rate], 0).counts[0], rate)[0] == 0, (rate, taken)
        clock.now = come
    assert refused > 100


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (Rate(1000, 3600), "1000 requests per hour"),
        (Rate(600, 60), "600 requests per minute"),
        (Rate(5, 1), "5 requests per second"),
        (Rate(1000, 10), "1000 requests per 10 seconds"),
    ],
)
def test_a_rate_in_words(rate: Rate, text: str) -> None:
    assert str(rate) == text
