"""Remembering what was found for a path: MLflow's REST paths are few and come again and again."""

from typing import TypeVar

V = TypeVar("V")

MOST = 2048  # answers
LONGEST = 128  # characters of a path; longer ones are artifacts', which do not come again


class Memo(dict[tuple[str, str], V]):
    """What was found, by method (or nothing) and path. Bounded: when it is full it begins anew."""

    def keep(self, key: tuple[str, str], found: V) -> V:
        """Remember and give back what was found for a key."""
        if len(key[1]) <= LONGEST:
            if len(self) >= MOST:
                self.clear()
            self[key] = found
        return found
