"""Requests counted in Redis, for all workers and tasks together; in this process's memory while Redis is away."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from app.limit_storage import OwnWindows, Taken, WindowStorage
from app.redis_line import Line, LineDown
from app.windows import Count, Rate

SCHEME = "shared+"  # in front of redis:// and rediss://
SCHEMES = [f"{SCHEME}redis", f"{SCHEME}rediss"]
SCRIPT = Path(__file__).with_name("sliding_windows.lua")
PREFIX = "hokusai-mlflow-proxy:limits"
PROBE = (f"{PREFIX}:probe", "1 1000000 1")  # gone after two seconds
LONGEST_NAME = 128


class SharedWindows(WindowStorage):
    """Counts by one script call for all limits of a name. Never raises, never waits for long: see app/redis_line.py.

    How the windows stand is kept in memory too. So when Redis goes away each worker goes on from there: who had used
    his limit up stays limited, and nobody is refused who would not have been.
    """

    STORAGE_SCHEME = SCHEMES

    def __init__(self, uri: str, **_: object) -> None:
        super().__init__(uri)
        self._line = Line(uri.removeprefix(SCHEME), SCRIPT.read_text(), PROBE)
        self._own = OwnWindows()

    def take(self, kind: str, name: str, rates: Sequence[Rate], cost: int = 1) -> Taken:
        """Count in Redis, or in memory while it is away."""
        try:
            answer = self._line.ask(storage_key(kind, name), spelled(cost, rates))
        except LineDown:
            return self._own.take(kind, name, rates, cost)
        admitted, *rest = map(int, answer.split())
        counts = tuple(Count(rest[i], rest[i + 1], rest[i + 2] / 1000) for i in range(0, len(rest), 3))
        self._own.learn(kind, name, counts)
        return Taken(admitted == 1, counts)

    def give_back(self, kind: str, name: str, rates: Sequence[Rate]) -> None:
        """Take a request back, without waiting for Redis."""
        try:
            self._line.tell(storage_key(kind, name), spelled(-1, rates))
        except LineDown:
            self._own.give_back(kind, name, rates)

    def check(self) -> bool:
        """The engine's question whether the storage is well."""
        return self._line.is_up


def spelled(cost: int, rates: Sequence[Rate]) -> str:
    """The script's argument."""
    return f"{cost} " + " ".join([f"{amount} {seconds}" for amount, seconds in rates])


def storage_key(kind: str, name: str) -> str:
    """Where Redis keeps the windows of a name: the name is the last part, so nothing in it can look like another's.

    A long one, or one that is no plain text, is replaced by its digest, in a place of its own.
    """
    if len(name) <= LONGEST_NAME and name.isascii():
        return f"{PREFIX}:{kind}:{name}"
    return f"{PREFIX}:{kind}-digest:{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
