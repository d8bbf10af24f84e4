"""Where requests are counted: two storages for flask-limiter, one of this process and one that all workers share.

Both keep the windows of several limits of one name together: a request that one of them refuses counts in none, and
asking takes one turn to Redis however many limits there are. They are registered with flask-limiter's engine by their
scheme (limits/_storage_scheme.py), so that `limiter.limit(...)` counts here too.
"""

from abc import abstractmethod
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple, NoReturn

from limits.errors import ConfigurationError
from limits.storage import SlidingWindowCounterSupport, Storage

from app.windows import Count, Rate, rolled, used

SCHEMES = ["own"]  # of this process's storage
MOST_NAMES = 10_000  # of one kind, in one process; the one not seen for longest makes room


class Taken(NamedTuple):
    """Whether a request had room in all its windows, and how they stand now."""

    admitted: bool
    counts: tuple[Count, ...]


class WindowStorage(Storage, SlidingWindowCounterSupport):
    """What flask-limiter asks of a storage, in terms of `take`. Counters without windows are not kept here."""

    STORAGE_SCHEME: list[str] | None = None

    @abstractmethod
    def take(self, kind: str, name: str, rates: Sequence[Rate], cost: int = 1) -> Taken:
        """Count a request of a name in the windows of all `rates`, or in none when one has no room. Never raises.

        `kind` says what the name names; names of different kinds have nothing in common. A cost of 0 only looks.
        """

    @abstractmethod
    def give_back(self, kind: str, name: str, rates: Sequence[Rate]) -> None:
        """Count a request no longer that was counted a moment ago."""

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """The engine's way to take."""
        return self.take("other", key, (Rate(limit, expiry),), amount).admitted

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """The engine's way to look: each count, and in how many seconds it will be gone."""
        (count,) = self.take("other", key, (Rate(1, expiry),), 0).counts
        left = expiry - count.elapsed
        return count.previous, left, count.current, left + expiry

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """The storage's own errors: it deals with them itself."""
        return ()

    # The base class wants these for the engine's other strategies and for forgetting by hand. The strategy for sliding
    # windows asks for none of them: whoever comes here has chosen another one, whose counts would stay for ever.
    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise ConfigurationError("Only sliding windows are kept here, and only until they end.")

    incr = get = get_expiry = clear = clear_sliding_window = reset = _refuse


class OwnWindows(WindowStorage):
    """Counts in this process's memory, bounded. No lock: nothing here waits, so no other greenlet runs in between."""

    STORAGE_SCHEME = SCHEMES

    def __init__(self, uri: str = "", clock: Callable[[], float] = monotonic, **_: object) -> None:
        super().__init__(uri)
        self._clock = clock
        # By kind: nobody who makes addresses up can push a key's count out.
        self._rooms: defaultdict[str, OrderedDict[str, list[tuple[float, int, int]]]] = defaultdict(OrderedDict)

    def take(self, kind: str, name: str, rates: Sequence[Rate], cost: int = 1) -> Taken:
        """Count in memory."""
        now = self._clock()
        kept = self._rooms[kind].get(name) or [(now, 0, 0)] * len(rates)
        counts, admitted = [], True
        for (begun, previous, current), rate in zip(kept, rates, strict=True):
            count = rolled(begun, previous, current, rate.seconds, now)
            counts.append(count)
            if cost > 0 and used(count, rate.seconds) + cost > rate.amount:
                admitted = False
        if admitted and cost:
            counts = [Count(previous, max(0, current + cost), elapsed) for previous, current, elapsed in counts]
        if cost:  # who is refused was seen too: asking on must not make him the one who makes room
            self._keep(kind, name, counts, now)
        return Taken(admitted, tuple(counts))

    def give_back(self, kind: str, name: str, rates: Sequence[Rate]) -> None:
        """Take a request back."""
        self.take(kind, name, rates, -1)

    def learn(self, kind: str, name: str, counts: Sequence[Count]) -> None:
        """Take over how a name's windows stand elsewhere."""
        self._keep(kind, name, counts, self._clock())

    def _keep(self, kind: str, name: str, counts: Sequence[Count], now: float) -> None:
        room = self._rooms[kind]
        room[name] = [(now - elapsed, previous, current) for previous, current, elapsed in counts]
        room.move_to_end(name)
        if len(room) > MOST_NAMES:
            room.popitem(last=False)

    def check(self) -> bool:
        """The engine's question whether the storage is well."""
        return True
