"""Keeps a rare event rare: so many in a period, and how many more there were. Pure: the caller says what time it is."""


class Rarely:
    """At most `most` in a period of `seconds`, which begins with the first."""

    def __init__(self, most: int, seconds: float = 60.0) -> None:
        self._most = most
        self._seconds = seconds
        self._begun = -seconds
        self._let_through = 0
        self._held_back = 0

    def admit(self, now: float) -> int | None:
        """None for one to hold back; else how many were held back since the last one that was let through."""
        if now - self._begun >= self._seconds:
            self._begun, self._let_through = now, 0
        if self._let_through == self._most:
            self._held_back += 1
            return None
        self._let_through += 1
        held_back, self._held_back = self._held_back, 0
        return held_back
