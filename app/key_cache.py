"""What the auth service said about keys, for a while: bounded, in this process's memory, and without any key in it.

A key is known here by its HMAC-SHA256 under a pepper that is made with the process and dies with it: who reads the
memory, or a dump of it, can neither use an entry nor try guesses elsewhere. Good keys and refused ones have rooms of
their own, so that nobody who makes keys up can push a good one out. Pure: every time comes in as an argument.

No lock: nothing here waits, so no other greenlet runs in between.
"""

import hmac
import os
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.scope import Principal

MOST_GOOD = 10_000
MOST_REFUSED = 2_000
JITTER = 0.1  # of the time a yes is fresh: keys that came in together do not go stale together
REFUSED_SECONDS = (5.0, 10.0)  # how long a no is remembered, at random between the two

Random = Callable[[float, float], float]


@dataclass(slots=True)
class Entry:
    """A yes of the auth service, asked for at `since`. Until `next_look` nobody needs to look any closer."""

    principal: Principal
    since: float
    next_look: float


# In a key's own place when its answers hold for one address each: they are kept under key and address.
BOUND = Entry(Principal("", ""), 0.0, 0.0)


class Until:
    """Names that count until a time. At most so many: the one noted longest ago makes room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._until: dict[bytes | str, float] = {}

    def note(self, name: bytes | str, until: float) -> None:
        """Let a name count until a time."""
        self.forget(name)
        while len(self._until) >= self._most:
            del self._until[next(iter(self._until))]
        self._until[name] = until

    def left(self, name: bytes | str, now: float) -> float:
        """How many seconds a name still counts; 0 when it does not."""
        until = self._until.get(name)
        if until is None:
            return 0.0
        if until <= now:
            del self._until[name]
            return 0.0
        return until - now

    def forget(self, name: bytes | str) -> None:
        """Let a name count no more."""
        self._until.pop(name, None)

    def __len__(self) -> int:
        return len(self._until)


class KeyCache:
    """Yes and no by key, and by address where the answer depends on it. A yes is fresh for about `fresh_seconds`.

    A no is always remembered with the address that asked: a key bound to addresses may be good elsewhere, and a thief
    who tries it from here must not lock its owner out.
    """

    def __init__(self, fresh_seconds: float, between: Random = random.uniform) -> None:
        self._pepper = os.urandom(32)
        self._fresh_seconds = fresh_seconds
        self._between = between
        self._good: OrderedDict[bytes, Entry] = OrderedDict()  # the one not asked for longest is the first
        self._refused = Until(MOST_REFUSED)

    def name(self, key: str) -> bytes:
        """What stands for a key here."""
        return hmac.digest(self._pepper, key.encode(), "sha256")

    def find(self, name: bytes, client_ip: str) -> Entry | None:
        """The yes for a key that is used from an address, however old; None when there is none."""
        entry = self._good.get(name)
        if entry is None:
            return None
        self._good.move_to_end(name)
        if entry is not BOUND:
            return entry
        entry = self._good.get(at_address(name, client_ip))
        if entry is not None:
            self._good.move_to_end(at_address(name, client_ip))
        return entry

    def is_bound(self, name: bytes) -> bool:
        """Whether answers for this key are known to hold for one address each."""
        return self._good.get(name) is BOUND

    def is_refused(self, name: bytes, client_ip: str, now: float) -> bool:
        """Whether a key was refused a moment ago, when it came from this address."""
        return self._refused.left(at_address(name, client_ip), now) > 0

    def keep(self, name: bytes, client_ip: str, principal: Principal, since: float) -> None:
        """Remember a yes that was asked for at `since`."""
        self._refused.forget(at_address(name, client_ip))
        fresh = self._fresh_seconds * self._between(1 - JITTER, 1 + JITTER)
        entry = Entry(replace(principal, source="cache"), since, since + fresh)
        if principal.ip_bound:
            self._put(name, BOUND)
            name = at_address(name, client_ip)
        self._put(name, entry)

    def refuse(self, name: bytes, client_ip: str, now: float) -> None:
        """Remember a no, and forget the yes that it takes back."""
        self._good.pop(at_address(name, client_ip) if self.is_bound(name) else name, None)
        seconds = min(self._between(*REFUSED_SECONDS), self._fresh_seconds)
        self._refused.note(at_address(name, client_ip), now + seconds)

    def _put(self, name: bytes, entry: Entry) -> None:
        self._good[name] = entry
        if len(self._good) > MOST_GOOD:
            self._good.popitem(last=False)

    def __len__(self) -> int:
        return len(self._good)


def at_address(name: bytes, client_ip: str) -> bytes:
    """What stands for a key that comes from one address."""
    return b"%b@%b" % (name, client_ip.encode())
