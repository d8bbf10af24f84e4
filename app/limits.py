"""How many requests a key may send: the stage between who is asking and what they may do. 429 with a true Retry-After.

flask-limiter holds the storage and the strategy; its own hooks are not used, because they cost more than all the rest
of this stage together (docs/adr/0013-rate-limits.md). Artifact transfers are bounded by how many run at once instead
(app/transfers.py). The UI's own files are not counted, nor is what has no principal: health and OPTIONS.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from ipaddress import IPv6Address, ip_network
from math import ceil
from time import time
from typing import Any, cast

from flask import Flask, request
from flask_limiter import Limiter

from app import scope as scopes
from app.errors import Header, RateLimited
from app.limit_settings import LimitSettings
from app.limit_storage import WindowStorage
from app.scope import Principal, Route
from app.windows import Count, Rate, standing

HOUR = 3600
MOST = 10**15 - 1  # what a structured field can hold (RFC 9651 section 3.3.1); no key has more in an hour
STATIC = "ui.static"  # a page of the UI brings tens of files with it, which cost nobody anything
NAMES = ("hour", "burst")


def make_limits(settings: LimitSettings) -> tuple["Limits", "AddressLimit"]:
    """What counts by key, and what counts by address, in one storage."""
    limiter = make_limiter(settings)
    return Limits(limiter, settings.burst), AddressLimit(limiter, settings.per_address)


def make_limiter(settings: LimitSettings) -> Limiter:
    """flask-limiter with our storage behind it. Opens no connection: the first request does."""
    uri = "own://"
    if settings.redis_url:
        from app.shared_windows import SCHEME  # registers itself; a proxy without Redis does not load its client

        uri = SCHEME + settings.redis_url
    # An application that serves nothing takes the hooks: 38 us a request, without a limit to check.
    return Limiter(whose, app=Flask(__name__), storage_uri=uri, strategy="sliding-window-counter")


def whose() -> str:
    """Who a request counts for where a view is decorated with `limiter.limit(...)`."""
    scope = scopes.of(request.environ)
    return f"key:{scope.principal.key_id}" if scope.principal else f"address:{neighbourhood(scope.client_ip)}"


class Limits:
    """Counts requests by key: in the key's own limit for an hour, and in the one for a burst."""

    def __init__(self, limiter: Limiter, burst: Rate) -> None:
        self._storage = cast(WindowStorage, limiter.storage)
        self._burst = burst

    def require(self) -> None:
        """Count the request. Raises RateLimited; the limits' headers are on whatever is answered from here on."""
        scope = scopes.of(request.environ)
        principal = scope.principal
        if principal is None or is_free(scope.route):
            return
        rates = self._rates(principal)
        taken = self._storage.take("key", principal.key_id, rates)
        scope.headers.append(partial(headers, NAMES, rates, taken.counts))
        if not taken.admitted:
            raise refusal("this key", NAMES, rates, taken.counts)

    def remaining(self, principal: Principal) -> dict[str, Any]:
        """The limits of a key and what is left of them, as JSON fields. Counts nothing."""
        rates = self._rates(principal)
        counts = self._storage.take("key", principal.key_id, rates, 0).counts
        found = {}
        for name, rate, count in zip(NAMES, rates, counts, strict=True):
            left, seconds = standing(count, rate)
            found[name] = {"limit": rate.amount, "seconds": rate.seconds, "remaining": left, "reset_seconds": seconds}
        return found

    def _rates(self, principal: Principal) -> tuple[Rate, Rate]:
        return Rate(min(principal.rate_limit_per_hour, MOST), HOUR), self._burst


class AddressLimit:
    """Counts, by client address, questions to the auth service about keys that nobody here knows."""

    def __init__(self, limiter: Limiter, rate: Rate) -> None:
        self._storage = cast(WindowStorage, limiter.storage)
        self._rates = (rate,)

    def enter(self, client_ip: str) -> None:
        """Count a question that is about to be asked. Raises RateLimited."""
        taken = self._storage.take("address", neighbourhood(client_ip), self._rates)
        if not taken.admitted:
            error = refusal("this address", ("address",), self._rates, taken.counts)
            error.headers += headers(("address",), self._rates, taken.counts)
            raise error

    def leave(self, client_ip: str) -> None:
        """The key was good, or nobody could tell: the question does not count."""
        self._storage.give_back("address", neighbourhood(client_ip), self._rates)


def is_free(route: Route | None) -> bool:
    """Whether a route is not counted: it moves an artifact's bytes, or is one of the UI's own files."""
    return route is not None and (route.action == STATIC or route.moves_artifact)


def neighbourhood(client_ip: str) -> str:
    """The address itself, or for IPv6 its /64: that many addresses everybody has. Spelled as app/addresses.py does."""
    try:
        address = IPv6Address(client_ip)
    except ValueError:
        return client_ip
    return str(ip_network((int(address) >> 64 << 64, 64)))


def headers(names: tuple[str, ...], rates: tuple[Rate, ...], counts: Sequence[Count]) -> list[Header]:
    """RateLimit fields (draft-ietf-httpapi-ratelimit-headers) of all limits, and the older ones of one.

    That is the one that keeps a request waiting longest, or else the first.
    """
    standings = [standing(count, rate) for count, rate in zip(counts, rates, strict=True)]
    fields = [f'"{name}";r={left};t={seconds}' for name, (left, seconds) in zip(names, standings, strict=True)]
    one = longest_wait(standings) or 0
    left, seconds = standings[one]
    return [
        ("RateLimit-Policy", policy(names, rates)),
        ("RateLimit", ", ".join(fields)),
        ("X-RateLimit-Limit", str(rates[one].amount)),
        ("X-RateLimit-Remaining", str(left)),
        ("X-RateLimit-Reset", str(ceil(time()) + seconds)),
    ]


def longest_wait(standings: Sequence[tuple[int, int]]) -> int | None:
    """Which of the limits that have no room keeps a request waiting longest; None when all have room."""
    full = [(seconds, which) for which, (left, seconds) in enumerate(standings) if not left]
    return max(full)[1] if full else None


@lru_cache(maxsize=1024)
def policy(names: tuple[str, ...], rates: tuple[Rate, ...]) -> str:
    """What the limits are, as a list of structured fields."""
    return ", ".join(f'"{name}";q={rate.amount};w={rate.seconds}' for name, rate in zip(names, rates, strict=True))


def refusal(who: str, names: Sequence[str], rates: Sequence[Rate], counts: Sequence[Count]) -> RateLimited:
    """The error for a request that found no room."""
    standings = [standing(count, rate) for count, rate in zip(counts, rates, strict=True)]
    one = longest_wait(standings) or 0
    seconds = standings[one][1]
    return RateLimited(
        f"429: {who} used up its limit of {rates[one]}. Try again in {seconds} s.",
        kind=f"rate_{names[one]}",
        headers=[("Retry-After", str(seconds))],
    )
