"""app/transfers.py: caps without a queue."""

from __future__ import annotations

import pytest

from app.errors import Headers, Overloaded, ProxyError, RateLimited
from app.transfers import Slots


def refusal(slots: Slots, key: str, kind: type[ProxyError]) -> tuple[int, str, Headers]:
    """Status, kind and headers of the error with which this key gets no slot."""
    with pytest.raises(kind) as raised:
        slots.take(key)
    return raised.value.status, raised.value.kind, raised.value.headers


def test_a_key_takes_as_many_as_it_may_and_others_are_not_its_concern() -> None:
    slots = Slots(2, 100)
    first = slots.take("a")
    slots.take("a")
    slots.take("b")
    assert refusal(slots, "a", RateLimited) == (429, "transfers_per_key", [("Retry-After", "5")])
    first()
    slots.take("a")


def test_there_is_a_cap_in_all_whoever_asks() -> None:
    slots = Slots(10, 3)
    given = [slots.take(key) for key in "abc"]
    assert refusal(slots, "d", Overloaded) == (503, "transfers_in_all", [("Retry-After", "5")])
    given[0]()
    slots.take("d")


def test_it_says_how_many_are_under_way() -> None:
    slots = Slots(2, 100)
    given = [slots.take(key) for key in "aab"]
    assert slots.under_way() == 3
    for back in given:
        back()
    assert slots.under_way() == 0


def test_a_refusal_takes_nothing() -> None:
    slots = Slots(1, 2)
    back = slots.take("a")
    for _ in range(5):
        with pytest.raises(ProxyError):
            slots.take("a")
    back()
    for key in "ab":
        slots.take(key)
    assert slots.under_way() == 2


def test_keys_that_have_nothing_under_way_are_forgotten() -> None:
    slots = Slots(1, 10)
    for number in range(1000):
        slots.take(str(number))()
    assert not slots._taken
