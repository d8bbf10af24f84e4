"""Keys with limits of their own, and how the tests of limits send many requests with them."""

from __future__ import annotations

import itertools
import re
from collections import Counter

from tests.access.asking import ask_at_once
from tests.support.auth_service import ALL_SCOPES, AuthService, new_key
from tests.support.client import RawResponse
from tests.support.proxy import Proxy

NAMES = itertools.count()
# A list of structured fields (RFC 9651), as far as the draft uses them: strings with parameters that are integers.
ITEM = re.compile(r'"([a-z]+)"((?:;[a-z]+=\d{1,15})+)')


def limited_key(auth: AuthService, per_hour: int, key_id: str = "") -> str:
    """A new key that may send so many requests in an hour, and everything else."""
    made = key_id or f"limited-{next(NAMES)}"
    return auth.grant(new_key(), key_id=made, scopes=ALL_SCOPES, rate_limit_per_hour=per_hour)


def admitted(proxy: Proxy, key: str, requests: int) -> int:
    """How many of so many requests at once are let through. AssertionError when one is neither that nor limited."""
    statuses = Counter(response.status for response in ask_at_once(proxy, [key] * requests))
    assert set(statuses) <= {200, 429}, statuses
    return statuses[200]


def served_by(proxy: Proxy, answers: list[RawResponse]) -> Counter[int]:
    """How many of these requests each worker served."""
    return Counter(proxy.access_line(str(response.header("X-Request-ID")))["worker"] for response in answers)


def fields(response: RawResponse, name: str) -> dict[str, dict[str, int]]:
    """The parameters in a RateLimit field, by the limit's name. AssertionError when it is no such structured field."""
    text = response.header(name)
    assert text is not None and ", ".join(found[0] for found in ITEM.finditer(text)) == text, (name, text)
    found = {}
    for item in ITEM.finditer(text):
        pairs = (pair.split("=") for pair in item[2].split(";")[1:])
        found[item[1]] = {parameter: int(value) for parameter, value in pairs}
    return found
