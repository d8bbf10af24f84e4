"""Whether a service is worth asking: after failures in a row it is left alone, but for one question now and then.

Pure: the clock is given, and nothing here waits, so no lock is needed among greenlets.
"""

from collections import deque
from collections.abc import Callable

FAILURES_IN_A_ROW = 5
# Or more failures than answers, among at least so many in so many seconds.
WINDOW_SECONDS = 10.0
LEAST_IN_WINDOW = 20
MOST_IN_WINDOW = 1000  # remembered at most: of a busy time the latest ones
PROBE_SECONDS = 5.0  # while it is open one question may pass in so many seconds


class Breaker:
    """Closed: everything may pass. Open: one probe in five seconds; the first answer closes it.

    Whoever was let through says how it went: `answered` (also by a no) or `failed`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._probe_at: float | None = None  # None while it is closed
        self._in_a_row = 0
        self._recent: deque[tuple[float, bool]] = deque(maxlen=MOST_IN_WINDOW)  # when, and whether it failed

    @property
    def is_open(self) -> bool:
        """Whether the service is left alone just now."""
        return self._probe_at is not None

    def enter(self) -> bool:
        """Whether one question may be asked now; while it is open this takes the probe."""
        if self._probe_at is None:
            return True
        now = self._clock()
        if now < self._probe_at:
            return False
        self._probe_at = now + PROBE_SECONDS
        return True

    def wait_seconds(self) -> float:
        """How long until a question may be asked; 0 while it is closed."""
        return 0.0 if self._probe_at is None else max(0.0, self._probe_at - self._clock())

    def answered(self) -> None:
        """The service answered."""
        if self._probe_at is not None:
            self._probe_at = None
            self._recent.clear()  # what led here is not to lead here again
        self._in_a_row = 0
        self._recent.append((self._clock(), False))

    def failed(self, pause_seconds: float = 0.0) -> None:
        """The service did not answer, or asked to be left alone for some seconds."""
        now = self._clock()
        self._in_a_row += 1
        self._recent.append((now, True))
        if self._probe_at is not None:
            self._probe_at = max(self._probe_at, now + pause_seconds)
        elif self._in_a_row >= FAILURES_IN_A_ROW or self._mostly_fails(now):
            self._probe_at = now + max(pause_seconds, PROBE_SECONDS)

    def _mostly_fails(self, now: float) -> bool:
        recent = [failed for at, failed in self._recent if now - at <= WINDOW_SECONDS]
        return len(recent) >= LEAST_IN_WINDOW and 2 * sum(recent) > len(recent)
