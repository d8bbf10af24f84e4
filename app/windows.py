"""The arithmetic of sliding windows: how much of a limit is used, and how long until there is more. Pure.

A limit is kept as two counts, of the running window and of the one before it, which fades out while the running one
goes on (the `sliding-window-counter` of flask-limiter's engine: limits/strategies.py). A window begins with the first
request that it counts. app/sliding_windows.lua follows the same rule in Redis.
"""

from math import ceil, floor
from typing import NamedTuple


class Rate(NamedTuple):
    """So many requests in so many seconds."""

    amount: int
    seconds: int

    def __str__(self) -> str:
        unit = {1: "second", 60: "minute", 3600: "hour"}.get(self.seconds, f"{self.seconds} seconds")
        return f"{self.amount} requests per {unit}"


class Count(NamedTuple):
    """What was counted in the window before, and in the running one, which is `elapsed` seconds old."""

    previous: int
    current: int
    elapsed: float


def rolled(begun: float, previous: int, current: int, seconds: int, now: float) -> Count:
    """How a window stands now that began at `begun`, where time has gone on to `now`."""
    elapsed = now - begun
    if elapsed < seconds:
        return Count(previous, current, elapsed)
    if elapsed < 2 * seconds:
        return Count(current, 0, elapsed - seconds)
    return Count(0, 0, 0.0)


def used(count: Count, seconds: int) -> int:
    """How many requests count now."""
    return floor(count.previous * (seconds - count.elapsed) / seconds) + count.current


def wait(count: Count, rate: Rate) -> float:
    """Seconds until there is room for a request, when there is none now and no other comes in between."""
    left = rate.seconds - count.elapsed
    room = rate.amount - count.current
    if room > 0:  # the window before has to fade to less than that
        return left - rate.seconds * room / count.previous
    # The running window becomes the one before; one that holds more than the limit, as lowered since, has to fade too.
    return left + (rate.seconds * (1 - rate.amount / count.current) if room < 0 else 0.0)


def standing(count: Count, rate: Rate) -> tuple[int, int]:
    """How many requests have room now, and whole seconds: until one has room again, or else until the window ends."""
    room = rate.amount - used(count, rate.seconds)
    if room > 0:
        return room, max(1, ceil(rate.seconds - count.elapsed))
    return 0, floor(wait(count, rate)) + 1  # at the very moment there is no room yet
