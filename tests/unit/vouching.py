"""A scripted source of keys, a clock that stands still, background work that waits: for tests of app/validation.py."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from app.cache_settings import CacheSettings
from app.errors import ProxyError, RateLimited, Unauthenticated, auth_unavailable
from app.scope import Principal
from app.settings import AuthSettings
from app.validation import Validation
from tests.unit.samples import KEY

HERE, THERE = "203.0.113.9", "198.51.100.1"
WHO = Principal("user-1", "key-1", frozenset({"model:read"}))
BOUND = Principal("user-1", "key-1", frozenset({"model:read"}), ip_bound=True)
AWAY = auth_unavailable("ConnectionError")
NO = Unauthenticated("")


def too_many(seconds: str) -> RateLimited:
    """As app/auth_service.py raises it for a 429."""
    return RateLimited("429: too many requests with this key.", kind="auth_service", headers=[("Retry-After", seconds)])


class Scene:
    """A Validation and everything around it, all jitter at its least: a yes is fresh for 54 s, a no holds for 5 s.

    `says` is what the source answers to every key but those in `says_to`.
    """

    def __init__(self, patience: float = 5.0, **cache: Any) -> None:
        self.now = 1000.0
        self.says: Principal | ProxyError = WHO
        self.says_to: dict[str, Principal | ProxyError] = {}
        self.asked: list[tuple[str, str]] = []
        self.waiting: list[Callable[[], None]] = []
        self.during: Callable[[], None] = lambda: None  # what happens while the source thinks
        settings = AuthSettings("http://auth.internal", "platform", patience, "", CacheSettings(**cache))
        self.validation = Validation(self, settings, lambda: self.now, self.waiting.append)
        self.validation._cache._between = lambda least, most: least

    def validate(self, key: str, client_ip: str) -> Principal:
        """The source's part."""
        self.asked.append((key, client_ip))
        self.during()
        said = self.says_to.get(key, self.says)
        if isinstance(said, ProxyError):
            raise copy(said)  # one that is raised again and again remembers every time
        return said

    def ask(self, key: str = KEY, client_ip: str = HERE) -> str:
        """Where the principal of a key comes from, or the kind of error that came instead."""
        try:
            principal = self.validation.validate(key, client_ip)
        except ProxyError as error:
            return error.kind
        assert principal in (WHO, BOUND)
        return principal.source

    def later(self, seconds: float) -> None:
        self.now += seconds

    def work(self) -> int:
        """Do what waits in the background; how much that was."""
        works = list(self.waiting)
        self.waiting.clear()
        for one in works:
            one()
        return len(works)

    def calls(self) -> int:
        """How often the source was asked since the last time this was asked."""
        count = len(self.asked)
        self.asked.clear()
        return count

    def open_the_breaker(self) -> None:
        """Let five other keys fail."""
        before, self.says = self.says, AWAY
        for number in range(5):
            self.ask(f"{KEY}-{number}")
        self.says = before
        self.calls()
