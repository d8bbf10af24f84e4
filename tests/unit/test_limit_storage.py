"""app/limit_storage.py: requests counted in memory, and what flask-limiter's engine asks of a storage."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from limits import RateLimitItemPerSecond
from limits.errors import ConfigurationError
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter

from app.limit_storage import MOST_NAMES, OwnWindows
from app.windows import Count, Rate
from tests.support.clock import Clock

FEW = Rate(3, 10)
MANY = Rate(100, 3600)


@pytest.fixture
def windows(clock: Clock) -> OwnWindows:
    return OwnWindows(clock=clock)


def admitted(windows: OwnWindows, requests: int, rates: list[Rate], name: str = "k", kind: str = "key") -> int:
    """How many of so many requests found room."""
    return sum(windows.take(kind, name, rates).admitted for _ in range(requests))


def test_as_many_as_the_limit_and_no_more(windows: OwnWindows) -> None:
    assert admitted(windows, 10, [FEW]) == 3


def test_a_request_that_one_limit_refuses_counts_in_none(windows: OwnWindows, clock: Clock) -> None:
    assert admitted(windows, 50, [MANY, FEW]) == 3
    assert windows.take("key", "k", [MANY, FEW], 0).counts == (Count(0, 3, 0.0), Count(0, 3, 0.0))
    clock.now += 20
    assert admitted(windows, 50, [MANY, FEW]) == 3
    assert [count.current for count in windows.take("key", "k", [MANY, FEW], 0).counts] == [6, 3]


def test_r05_at_the_edge_of_a_window_there_is_no_second_burst(windows: OwnWindows, clock: Clock) -> None:
    """A fixed window would let 100 more through at once; here it is what the time since the edge makes room for."""
    rate = Rate(100, 10)
    admitted(windows, 1, [rate])
    clock.now += 9.9
    assert admitted(windows, 200, [rate]) == 99
    clock.now += 0.2
    assert admitted(windows, 200, [rate]) <= 2
    clock.now += 0.9
    assert admitted(windows, 200, [rate]) <= 10


def test_r05_over_any_time_there_are_no_more_than_two_windows_hold(windows: OwnWindows, clock: Clock) -> None:
    rate = Rate(20, 10)
    times = []
    for _ in range(20_000):
        clock.now += 0.01
        if windows.take("key", "k", [rate]).admitted:
            times.append(clock.now)
    within = [sum(begun <= time < begun + 10 for time in times) for begun in times]
    assert max(within) < 2 * 20
    assert len(times) <= 20 * 200 / 10 + 20


def test_names_and_kinds_have_nothing_in_common(windows: OwnWindows) -> None:
    names = ["", "/", ":", "a/b", "a:b", "a", "x" * 10_240, "x" * 10_241, "é", "\ud800"]
    for name in names:
        assert admitted(windows, 5, [FEW], name) == 3, name
    assert admitted(windows, 5, [FEW], "a", kind="address") == 3


def test_what_is_given_back_has_room_again(windows: OwnWindows, clock: Clock) -> None:
    admitted(windows, 3, [FEW])
    windows.give_back("key", "k", [FEW])
    assert admitted(windows, 5, [FEW]) == 1
    clock.now += 10_000
    windows.give_back("key", "k", [FEW])  # too late: it was forgotten
    assert admitted(windows, 5, [FEW]) == 3


def test_a_limit_that_changes_keeps_what_was_counted(windows: OwnWindows) -> None:
    assert admitted(windows, 5, [Rate(3, 10)]) == 3
    assert admitted(windows, 5, [Rate(5, 10)]) == 2
    assert admitted(windows, 5, [Rate(4, 10)]) == 0


def test_memory_is_bounded_and_who_comes_often_stays(windows: OwnWindows) -> None:
    admitted(windows, 3, [FEW], "key", kind="key")
    regular = 0
    for number in range(3 * MOST_NAMES):
        windows.take("address", str(number), [FEW])
        if number % 100 == 0:
            regular += windows.take("address", "regular", [FEW]).admitted
    assert regular == FEW.amount, "who is refused and asks on is not forgotten"
    assert sum(len(room) for room in windows._rooms.values()) <= MOST_NAMES + 2
    assert admitted(windows, 1, [FEW], "key", kind="key") == 0


def test_what_was_counted_elsewhere_is_taken_over(windows: OwnWindows, clock: Clock) -> None:
    windows.learn("key", "k", [Count(0, 2, 4.0)])
    assert admitted(windows, 5, [FEW]) == 1
    clock.now += 6.5
    assert windows.take("key", "k", [FEW], 0).counts == (Count(3, 0, 0.5),)


# --- as flask-limiter's engine uses it ---


def test_the_engine_makes_it_by_its_scheme_and_counts_in_it() -> None:
    storage = storage_from_string("own://")
    assert isinstance(storage, OwnWindows) and storage.check() and storage.base_exceptions == ()
    strategy, item = SlidingWindowCounterRateLimiter(storage), RateLimitItemPerSecond(2, 100)
    assert strategy.test(item, "k") and strategy.get_window_stats(item, "k").remaining == 2
    assert [strategy.hit(item, "k") for _ in range(3)] == [True, True, False]
    assert not strategy.test(item, "k") and strategy.get_window_stats(item, "k").remaining == 0
    assert strategy.hit(item, "another")


def test_counters_without_windows_are_not_kept() -> None:
    """Another of the engine's strategies is told that it is the wrong one, whatever it asks; so is who would forget."""
    windows, item = OwnWindows(), RateLimitItemPerSecond(2, 100)
    fixed, sliding = FixedWindowRateLimiter(windows), SlidingWindowCounterRateLimiter(windows)
    calls: list[Callable[[], object]] = [
        lambda: fixed.hit(item, "k"),
        lambda: fixed.test(item, "k"),
        lambda: fixed.clear(item, "k"),
        lambda: sliding.clear(item, "k"),
        lambda: windows.get_expiry("k"),
        lambda: windows.reset(),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="Only sliding windows are kept here"):
            call()
