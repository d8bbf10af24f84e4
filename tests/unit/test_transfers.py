"""app/transfers.py: caps without a queue."""

from __future__ import annotations

import pytest

from app.errors import Overloaded, ProxyError, RateLimited
from app.transfers import Slots


def test_a_key_takes_as_many_as_it_may_and_others_are_not_its_concern() -> None:
    slots = Slots(2, 100)
    first = slots.take("a")
    slots.take("a")
    slots.take("b")
    with pytest.raises(RateLimited) as raised:
        slots.take("a")
    assert (raised.value.status, raised.value.kind, raised.value.headers) == (
        429,
        "transfers_per_key",
        [("Retry-After", "5")],
    )
    first()
    slots.take("a")


def test_there_is_a_cap_in_all_whoever_asks() -> None:
    slots = Slots(10, 3)
    given = [slots.take(key) for key in "abc"]
    with pytest.raises(Overloaded) as raised:
        slots.take("d")
    assert (raised.value.status, raised.value.kind, raised.value.headers) == (
        503,
        "transfers_in_all",
        [("Retry-After", "5")],
    )
    given[0]()
    slots.take("d")


def test_a_refusal_takes_nothing() -> None:
    slots = Slots(1, 2)
    back = slots.take("a")
    for _ in range(5):
        with pytest.raises(ProxyError):
            slots.take("a")
    back()
    assert [slots.take(key) and key for key in "ab"] == ["a", "b"]


def test_keys_that_have_nothing_under_way_are_forgotten() -> None:
    slots = Slots(1, 10)
    for number in range(1000):
        slots.take(str(number))()
    assert not slots._taken
