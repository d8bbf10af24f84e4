"""Keeps the auth service out of nearly every request, and an outage of it away from keys that were good a while ago.

A yes is used for a minute, then asked for again behind the back of whoever comes next; past the hard limit it counts
only while the auth service cannot be asked, and not for what needs an admin (app/policy.py). A key that nobody has
vouched for lately is never let in: 503, so that clients come again.

No lock: under gevent nothing runs in between where nothing waits, and `dict.setdefault` is one step anywhere.
"""

import copy
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Protocol

from app.breaker import Breaker
from app.errors import AuthUnavailable, ProxyError, RateLimited, Unauthenticated, auth_limited, auth_unavailable
from app.identity import KeySource
from app.key_cache import Entry, KeyCache, Until, at_address
from app.scope import Principal
from app.settings import AuthSettings

RETRY_SECONDS = 5.0  # from one look in the background to the next, when the first found out nothing
TELL_SECONDS = 60.0  # how often the log tells of one key that it is served stale
MOST_LIMITED = 2_000
MOST_TOLD = 10_000
# Answers, if not to the question: they say nothing about the auth service's health.
ANSWERS = ("auth_status_403", "auth_status_404")

log = logging.getLogger("app.auth")


def in_background(work: Callable[[], None]) -> None:
    """Start some work and go on; in the worker the thread is a greenlet."""
    threading.Thread(target=work, name="key refresh", daemon=True).start()


class Gate(Protocol):
    """Who bounds how many keys that nobody here knows an address may have asked about."""

    def enter(self, client_ip: str) -> None:
        """Count a question that is about to be asked. Raises RateLimited."""

    def leave(self, client_ip: str) -> None:
        """Count it no longer: the key was not refused."""


class Flight:
    """One question under way, for an address, and what came of it. Whoever has the same question waits for it."""

    def __init__(self, client_ip: str) -> None:
        self.client_ip = client_ip
        self.landed = threading.Event()
        self.result: Principal | ProxyError = auth_unavailable("abandoned")

    def tells(self, client_ip: str) -> bool:
        """Whether the result holds for an address: a no, and a yes for some addresses, only for the one that asked."""
        bound = isinstance(self.result, Unauthenticated | RateLimited) or getattr(self.result, "ip_bound", False)
        return client_ip == self.client_ip or not bound


class Validation:
    """The key source in front of the auth service: cache, single flight, breaker. One for each worker process."""

    def __init__(
        self,
        source: KeySource,
        settings: AuthSettings,
        clock: Callable[[], float] = monotonic,
        start: Callable[[Callable[[], None]], None] = in_background,
        gate: Gate | None = None,
    ) -> None:
        self._source = source
        self._settings = settings.cache
        self._patience = settings.timeout
        self._clock = clock
        self._start = start
        self._gate = gate
        self._cache = KeyCache(settings.cache.fresh)
        self._breaker = Breaker(clock)
        self._calls = threading.Semaphore(settings.cache.most_calls)
        self._flights: dict[bytes, Flight] = {}
        self._limited = Until(MOST_LIMITED)  # keys that the auth service wants to hear nothing of for a while
        self._told = Until(MOST_TOLD)  # key ids that the log has just told of

    def validate(self, key: str, client_ip: str) -> Principal:
        """Give the key's principal. Raises Unauthenticated, RateLimited or AuthUnavailable."""
        now = self._clock()
        name = self._cache.name(key)
        entry = self._cache.find(name, client_ip)
        if entry is None:
            if self._cache.is_refused(name, client_ip, now):
                raise Unauthenticated("")
            return self._ask(name, key, client_ip)
        if now < entry.next_look and now - entry.since < self._settings.hard:
            return entry.principal
        return self._of_old(entry, name, key, client_ip, now)

    def _of_old(self, entry: Entry, name: bytes, key: str, client_ip: str, now: float) -> Principal:
        """What a yes is worth that is no longer fresh."""
        age = now - entry.since
        usable = age < self._settings.stale
        counts = age < self._settings.hard
        if counts or (usable and self._breaker.is_open):
            if now >= entry.next_look:
                entry.next_look = now + RETRY_SECONDS  # who comes meanwhile need not look again
                self._start(lambda: self._look(name, key, client_ip))
            return entry.principal if counts else self._stale(entry, now)
        try:
            return self._ask(name, key, client_ip)
        except (AuthUnavailable, RateLimited):
            if not usable:
                raise
            return self._stale(entry, now)

    def _look(self, name: bytes, key: str, client_ip: str) -> None:
        try:
            self._ask(name, key, client_ip)
        except ProxyError:
            pass  # a no has been noted, and anything else changes nothing

    def _stale(self, entry: Entry, now: float) -> Principal:
        key_id = entry.principal.key_id
        if not self._told.left(key_id, now):
            self._told.note(key_id, now + TELL_SECONDS)
            log.warning("auth_stale_served", extra={"key_id": key_id, "age_seconds": int(now - entry.since)})
        return replace(entry.principal, source="stale")

    # --- asking, at most once at a time for each key ---

    def _ask(self, name: bytes, key: str, client_ip: str) -> Principal:
        """Ask the auth service, or wait for who is asking. Remembers yes and no."""
        deadline = self._clock() + self._patience
        own = at_address(name, client_ip)
        # What another address was told may not hold for this one: then ask again, with those of this one.
        for title in (own,) if self._cache.is_bound(name) else (name, own):
            flight = Flight(client_ip)
            under_way = self._flights.setdefault(title, flight)
            if under_way is flight:
                return self._fly(flight, title, name, key)
            if not under_way.landed.wait(max(0.0, deadline - self._clock())):
                raise auth_unavailable("slow")
            if under_way.tells(client_ip):
                break
            if (found := self._found_meanwhile(name, client_ip)) is not None:
                return found
        if isinstance(under_way.result, ProxyError):
            raise copy.copy(under_way.result)
        return under_way.result

    def _found_meanwhile(self, name: bytes, client_ip: str) -> Principal | None:
        """What somebody else with this address has just been told; raises Unauthenticated for a no."""
        now = self._clock()
        if self._cache.is_refused(name, client_ip, now):
            raise Unauthenticated("")
        entry = self._cache.find(name, client_ip)
        return entry.principal if entry is not None and now < entry.next_look else None

    def _fly(self, flight: Flight, title: bytes, name: bytes, key: str) -> Principal:
        now = self._clock()
        try:
            flight.result = principal = self._pass(name, key, flight.client_ip)
            self._cache.keep(name, flight.client_ip, principal, now)
            return principal
        except Unauthenticated as error:
            flight.result = error
            self._cache.refuse(name, flight.client_ip, self._clock())
            raise
        except ProxyError as error:
            flight.result = error
            raise
        finally:
            del self._flights[title]
            flight.landed.set()

    def _pass(self, name: bytes, key: str, client_ip: str) -> Principal:
        """One call through the gate. A key that was good before is no guess: it counts against nobody."""
        if self._gate is None or self._cache.find(name, client_ip) is not None:
            return self._call(name, key, client_ip)
        self._gate.enter(client_ip)
        refused = False
        try:
            return self._call(name, key, client_ip)
        except Unauthenticated:
            refused = True
            raise
        finally:
            if not refused:
                self._gate.leave(client_ip)

    def _call(self, name: bytes, key: str, client_ip: str) -> Principal:
        """One call, if one may be made now."""
        seconds = self._limited.left(name, self._clock())
        if seconds:
            raise auth_limited(math.ceil(seconds))
        if not self._calls.acquire(blocking=False):
            raise auth_unavailable("busy", 1)
        try:
            if not self._breaker.enter():
                raise auth_unavailable("breaker_open", max(1, math.ceil(self._breaker.wait_seconds())))
            return self._judged(name, key, client_ip)
        finally:
            self._calls.release()

    def _judged(self, name: bytes, key: str, client_ip: str) -> Principal:
        """One call, and what it says about the auth service's health."""
        try:
            principal = self._source.validate(key, client_ip)
        except ProxyError as error:
            self._note(name, error)
            raise
        self._note(name)
        return principal

    def _note(self, name: bytes, error: ProxyError | None = None) -> None:
        was_open = self._breaker.is_open  # asked now: others may have opened or closed it during the call
        if isinstance(error, RateLimited):
            # Whether it means this key or all of us, it does not say: this key waits; several in a row are an outage.
            seconds = min(retry_after(error), self._settings.fresh)
            self._limited.note(name, self._clock() + seconds)
            self._breaker.failed(seconds)
        elif isinstance(error, AuthUnavailable) and error.kind not in ANSWERS:
            self._breaker.failed()
        else:
            self._breaker.answered()
        if self._breaker.is_open is not was_open:
            log.warning("auth_breaker", extra={"state": "closed" if was_open else "open"})


def retry_after(error: ProxyError) -> int:
    """The seconds of an error's Retry-After; 0 without one."""
    return next((int(value) for name, value in error.headers if name == "Retry-After"), 0)
