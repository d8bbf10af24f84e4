"""How many artifact transfers may run at once, for one key and in all. Per worker process; nobody queues."""

from collections import Counter
from collections.abc import Callable

from app.errors import Overloaded, RateLimited

# A transfer lasts seconds to minutes: asking again sooner helps nobody.
RETRY_AFTER = [("Retry-After", "5")]


class Slots:
    """Counts transfers under way. No lock: nothing here waits, so no other greenlet runs in between."""

    def __init__(self, per_key: int, in_all: int) -> None:
        self._per_key = per_key
        self._in_all = in_all
        self._taken: Counter[str] = Counter()

    def take(self, key_id: str) -> Callable[[], None]:
        """Take a slot for a key, and give what gives it back. Raises RateLimited or Overloaded when there is none."""
        if self._taken[key_id] >= self._per_key:
            raise RateLimited(
                f"429: this key has {self._per_key} artifact transfers under way.",
                kind="transfers_per_key",
                headers=RETRY_AFTER,
            )
        if self._taken.total() >= self._in_all:
            raise Overloaded(
                "503: too many artifact transfers are under way.", kind="transfers_in_all", headers=RETRY_AFTER
            )
        self._taken[key_id] += 1
        return lambda: self._give_back(key_id)

    def under_way(self) -> int:
        """How many transfers there are now."""
        return self._taken.total()

    def _give_back(self, key_id: str) -> None:
        self._taken[key_id] -= 1
        if not self._taken[key_id]:
            del self._taken[key_id]  # or the counter would remember every key for ever
