"""What the operator may say about how long the auth service's answers count, and how much it is asked at once."""

from dataclasses import dataclass

from app.variables import Reader


@dataclass(frozen=True)
class CacheSettings:
    """Seconds since the auth service last vouched for a key.

    Until `fresh` its yes is used as it is, until `hard` while it is asked again in the background, and until `stale`
    only when it cannot be asked. `most_calls` is how many calls one process may have under way.
    """

    fresh: float = 60.0
    hard: float = 300.0
    stale: float = 900.0
    most_calls: int = 20


def read_cache(reader: Reader) -> CacheSettings:
    """Take the cache's variables."""
    settings = CacheSettings(
        fresh=reader.seconds("AUTH_CACHE_SECONDS", 60, zero=True),
        hard=reader.seconds("AUTH_CACHE_HARD_SECONDS", 300, zero=True),
        stale=reader.seconds("AUTH_STALE_SECONDS", 900, zero=True),
        most_calls=reader.number("AUTH_MAX_CONCURRENT", 20, 1),
    )
    if settings.hard < settings.fresh:
        reader.fault(
            "AUTH_CACHE_HARD_SECONDS is below AUTH_CACHE_SECONDS: an answer cannot count longer than it may be used."
        )
    return settings
