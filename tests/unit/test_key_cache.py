"""app/key_cache.py: what is remembered, for how long, for whom, and how much of it."""

from __future__ import annotations

import gc
import hmac
import pickle
from collections.abc import Callable

import pytest

from app.key_cache import MOST_GOOD, MOST_REFUSED, KeyCache, Until
from app.scope import Principal
from tests.unit.samples import KEY

HERE, THERE = "203.0.113.9", "198.51.100.1"
WHO = Principal("user-1", "key-1", frozenset({"model:read"}))
BOUND_WHO = Principal("user-1", "key-1", frozenset({"model:read"}), ip_bound=True)


def least(low: float, high: float) -> float:
    return low


def most(low: float, high: float) -> float:
    return high


@pytest.fixture
def cache() -> KeyCache:
    return KeyCache(60.0, least)


# --- names ---


def test_a_name_is_the_keys_hmac_under_a_pepper_of_its_own(cache: KeyCache) -> None:
    name = cache.name(KEY)
    assert name == hmac.new(cache._pepper, KEY.encode(), "sha256").digest()
    assert len(cache._pepper) == 32
    assert name == cache.name(KEY) != cache.name(KEY + "x")
    assert KeyCache(60.0).name(KEY) != name


def test_the_key_itself_is_nowhere_in_it(cache: KeyCache) -> None:
    key = "hk_test_" + "needle" * 2
    cache.keep(cache.name(key), HERE, WHO, 0.0)
    cache.keep(cache.name(key + "2"), HERE, BOUND_WHO, 0.0)
    cache.refuse(cache.name(key + "3"), HERE, 0.0)
    assert b"needle" not in pickle.dumps((cache._good, cache._refused._until, cache._pepper))
    gc.collect()
    held = [referrer for referrer in gc.get_referrers(key) if referrer is cache.__dict__ or referrer is cache._good]
    assert held == []


# --- a yes ---


def test_a_yes_is_found_again_and_says_where_it_comes_from(cache: KeyCache) -> None:
    name = cache.name(KEY)
    assert cache.find(name, HERE) is None
    cache.keep(name, HERE, WHO, 100.0)
    for address in (HERE, THERE):
        entry = cache.find(name, address)
        assert entry is not None
        assert (entry.principal, entry.principal.source, entry.since) == (WHO, "cache", 100.0)
    assert cache.find(cache.name(KEY + "x"), HERE) is None


@pytest.mark.parametrize(("between", "until"), [(least, 154.0), (most, 166.0)])
def test_the_time_it_is_fresh_varies_by_a_tenth(between: Callable[[float, float], float], until: float) -> None:
    cache = KeyCache(60.0, between)
    cache.keep(b"name", HERE, WHO, 100.0)
    entry = cache.find(b"name", HERE)
    assert entry is not None and entry.next_look == pytest.approx(until)


def test_two_keys_of_the_same_moment_are_not_looked_at_in_the_same_moment() -> None:
    cache, looks = KeyCache(60.0), set()
    for number in range(20):
        cache.keep(b"%d" % number, HERE, WHO, 0.0)
        entry = cache.find(b"%d" % number, HERE)
        assert entry is not None and 54.0 <= entry.next_look <= 66.0
        looks.add(entry.next_look)
    assert len(looks) > 10


def test_the_key_not_used_for_longest_makes_room(cache: KeyCache) -> None:
    for number in range(MOST_GOOD):
        cache.keep(b"%d" % number, HERE, WHO, 0.0)
    assert cache.find(b"0", HERE) is not None
    cache.keep(b"one more", HERE, WHO, 0.0)
    assert len(cache) == MOST_GOOD == 10_000
    assert cache.find(b"1", HERE) is None
    assert cache.find(b"0", HERE) is not None and cache.find(b"2", HERE) is not None


def test_of_a_bound_key_too_the_address_not_used_for_longest_makes_room(cache: KeyCache) -> None:
    for number in range(MOST_GOOD - 1):
        cache.keep(b"bound", str(number), BOUND_WHO, 0.0)
    assert cache.find(b"bound", "0") is not None
    cache.keep(b"one more", HERE, WHO, 0.0)
    assert len(cache) == MOST_GOOD
    assert cache.find(b"bound", "1") is None
    assert cache.find(b"bound", "0") is not None and cache.find(b"bound", "2") is not None


# --- a no ---


@pytest.mark.parametrize(("between", "seconds"), [(least, 5.0), (most, 10.0)])
def test_a_no_holds_for_five_to_ten_seconds(between: Callable[[float, float], float], seconds: float) -> None:
    cache = KeyCache(60.0, between)
    cache.refuse(b"name", HERE, 100.0)
    assert cache.is_refused(b"name", HERE, 100.0 + seconds - 0.1)
    assert not cache.is_refused(b"name", HERE, 100.0 + seconds)
    assert not cache.is_refused(b"another", HERE, 100.0)


def test_a_no_holds_for_the_address_that_it_was_given_to(cache: KeyCache) -> None:
    """Who tries a stolen key from elsewhere must not lock its owner out."""
    cache.refuse(b"name", HERE, 100.0)
    assert not cache.is_refused(b"name", THERE, 100.0)


def test_a_no_takes_the_yes_back_for_every_address(cache: KeyCache) -> None:
    cache.keep(b"name", HERE, WHO, 0.0)
    cache.refuse(b"name", THERE, 1.0)
    assert (cache.find(b"name", HERE), cache.find(b"name", THERE), len(cache)) == (None, None, 0)


def test_a_yes_takes_the_no_back(cache: KeyCache) -> None:
    cache.refuse(b"name", HERE, 0.0)
    cache.keep(b"name", HERE, WHO, 1.0)
    assert not cache.is_refused(b"name", HERE, 1.0)


def test_a_flood_of_made_up_keys_moves_no_good_one(cache: KeyCache) -> None:
    cache.keep(b"good", HERE, WHO, 0.0)
    for number in range(3 * MOST_GOOD):
        cache.refuse(b"%d" % number, HERE, 0.0)
    assert cache.find(b"good", HERE) is not None
    assert (len(cache), len(cache._refused)) == (1, MOST_REFUSED) and MOST_REFUSED == 2_000


# --- keys that are bound to addresses ---


def test_a_yes_for_a_bound_key_holds_for_its_address_alone(cache: KeyCache) -> None:
    cache.keep(b"name", HERE, BOUND_WHO, 0.0)
    assert (cache.is_bound(b"name"), cache.is_bound(b"another")) == (True, False)
    assert cache.find(b"name", THERE) is None
    entry = cache.find(b"name", HERE)
    assert entry is not None and entry.principal == BOUND_WHO


def test_each_address_of_a_bound_key_has_its_own_yes(cache: KeyCache) -> None:
    cache.keep(b"name", HERE, BOUND_WHO, 0.0)
    cache.keep(b"name", THERE, BOUND_WHO, 7.0)
    found = [cache.find(b"name", address) for address in (HERE, THERE)]
    assert [entry and entry.since for entry in found] == [0.0, 7.0]


def test_a_no_to_a_bound_key_takes_back_what_its_address_had(cache: KeyCache) -> None:
    cache.keep(b"name", HERE, BOUND_WHO, 0.0)
    cache.refuse(b"name", THERE, 1.0)
    assert cache.find(b"name", HERE) is not None
    cache.refuse(b"name", HERE, 1.0)
    assert cache.find(b"name", HERE) is None


def test_a_key_that_becomes_bound_holds_no_longer_for_other_addresses(cache: KeyCache) -> None:
    cache.keep(b"name", HERE, WHO, 0.0)
    cache.keep(b"name", HERE, BOUND_WHO, 60.0)
    assert cache.find(b"name", THERE) is None
    cache.keep(b"name", HERE, WHO, 120.0)
    assert cache.find(b"name", THERE) is not None


def test_an_address_that_nobody_knows_is_an_address_too(cache: KeyCache) -> None:
    cache.keep(b"name", "", BOUND_WHO, 0.0)
    assert (cache.find(b"name", HERE), cache.find(b"name", "") is None) == (None, False)


def test_the_addresses_of_a_bound_key_are_bounded_with_all_the_others(cache: KeyCache) -> None:
    for number in range(MOST_GOOD + 50):
        cache.keep(b"name", f"2001:db8::{number:x}", BOUND_WHO, 0.0)
        cache.find(b"name", "2001:db8::0")
    assert len(cache) == MOST_GOOD


# --- switched off ---


def test_without_a_time_to_remember_nothing_is_fresh_and_no_no_is_remembered() -> None:
    cache = KeyCache(0.0)
    cache.keep(b"name", HERE, WHO, 5.0)
    entry = cache.find(b"name", HERE)
    assert entry is not None and entry.next_look == 5.0
    cache.refuse(b"other", HERE, 5.0)
    assert not cache.is_refused(b"other", HERE, 5.0)


# --- names that count until a time ---


def test_a_name_counts_until_its_time() -> None:
    until = Until(3)
    until.note("a", 10.0)
    assert [until.left("a", now) for now in (4.0, 9.5, 10.0, 11.0)] == [6.0, 0.5, 0.0, 0.0]
    assert (until.left("b", 0.0), len(until)) == (0.0, 0)


def test_the_name_noted_longest_ago_makes_room() -> None:
    until = Until(3)
    for name in ("a", "b", "c", "a", "d"):
        until.note(name, 10.0)
    assert [until.left(name, 0.0) for name in ("a", "b", "c", "d")] == [10.0, 0.0, 10.0, 10.0]


def test_a_name_can_be_forgotten() -> None:
    until = Until(3)
    until.note("a", 10.0)
    until.forget("a")
    until.forget("b")
    assert until.left("a", 0.0) == 0.0
