"""A clock for what is given one: it stands still until a test moves it on."""

from __future__ import annotations


class Clock:
    """Called, it says `now`, in seconds; a test moves it on by `clock.now += 5`."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
