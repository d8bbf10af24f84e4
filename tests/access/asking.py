"""Requests with a key from an address, on connections of their own: one, or many at once."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

from tests.functional.keyed import SEARCH
from tests.support.client import RawResponse, request
from tests.support.proxy import Proxy

TARGET = f"/mlflow{SEARCH}"
_NAMES = itertools.count()


def ask(proxy: Proxy, key: str, target: str = TARGET, method: str = "GET", address: str = "203.0.113.9") -> RawResponse:
    """One request with a key; its id is in the answer."""
    name = f"asked-{next(_NAMES)}"
    sent = [("Authorization", f"Bearer {key}"), ("X-Forwarded-For", address), ("X-Request-ID", name)]
    return request(proxy.port, method, target, sent, timeout=30.0)


def ask_at_once(proxy: Proxy, keys: list[str], together: int = 16, address: str = "203.0.113.9") -> list[RawResponse]:
    """A request for each key, so many at a time."""
    with ThreadPoolExecutor(together) as pool:
        return list(pool.map(lambda key: ask(proxy, key, address=address), keys))
