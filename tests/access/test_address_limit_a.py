"""A13 and H04 of the catalogue: whoever makes keys up is limited by address before the auth service is asked."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.access.asking import TARGET, ask, ask_at_once
from tests.access.limited import fields, limited_key, served_by
from tests.functional.keyed import assert_refused
from tests.support.auth_service import AuthService, new_key
from tests.support.client import request
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.upstream import RecordingUpstream

both = pytest.mark.parametrize("workers", [1, 4])


@both
def test_a13_the_auth_service_hears_of_no_more_keys_than_the_limit(
    proxy_env: dict[str, str],
    redis_server: RedisServer,
    auth_service: AuthService,
    upstream: RecordingUpstream,
    workers: int,
) -> None:
    """A flood of made-up keys from one address, while others use good ones, from that address too."""
    warm, cold = limited_key(auth_service, 1_000_000), limited_key(auth_service, 1_000_000)
    env = {"REDIS_URL": redis_server.url, "PROXY_WORKERS": str(workers), "RATE_LIMIT_PER_ADDRESS": "50 per hour"}
    with Proxy({**proxy_env, **env, "AUTH_MAX_CONCURRENT": "64"}) as proxy:
        served: set[int] = set()
        while len(served) < workers:
            served |= set(served_by(proxy, ask_at_once(proxy, [warm] * 16, address="198.51.100.7")))
        auth_service.reset()
        before = proxy.rss_kb()
        answers = ask_at_once(proxy, [new_key() for _ in range(1000)], together=32, address="198.51.100.7")
        statuses = [response.status for response in answers]
        assert (statuses.count(401), statuses.count(429)) == (50, 950)
        assert len(auth_service.calls) == 50
        assert proxy.rss_kb() - before < workers * 8 * 1024
        # Warm keys are not affected, nor is anybody at another address.
        warm_there = ask_at_once(proxy, [warm] * 50, address="198.51.100.7")
        assert {response.status for response in warm_there} == {200}
        assert ask(proxy, cold, address="198.51.100.8").status == 200
        refused = ask(proxy, new_key(), address="198.51.100.7")
        body = assert_refused(refused, 429, "REQUEST_LIMIT_EXCEEDED")
        seconds = int(refused.header("Retry-After") or 0)
        assert 3500 < seconds <= 3601 and f"Try again in {seconds} s." in body["message"]
        assert fields(refused, "RateLimit") == {"address": {"r": 0, "t": seconds}}
        assert fields(refused, "RateLimit-Policy") == {"address": {"q": 50, "w": 3600}}
        line = proxy.access_line(str(refused.header("X-Request-ID")))
        assert (line["outcome"], line["error_kind"], line["key_id"]) == ("rate_limited", "rate_address", "")
        held = str(redis_server.dump())
        assert "limits:address:198.51.100.7" in held and "hk_" not in held
    assert not any(b"hk_" in seen.raw_head for seen in upstream.requests)


def test_a13_without_redis_too(proxy_env: dict[str, str], auth_service: AuthService) -> None:
    with Proxy({**proxy_env, "RATE_LIMIT_PER_ADDRESS": "20 per hour"}) as proxy:
        ask_at_once(proxy, [new_key() for _ in range(200)])
        assert len(auth_service.calls) == 20


def test_good_users_behind_one_address_do_not_count(proxy_env: dict[str, str], auth_service: AuthService) -> None:
    """However many of them come with keys that nobody here knows yet; and a key that was good counts never again."""
    keys = [limited_key(auth_service, 1000) for _ in range(30)]
    env = {"RATE_LIMIT_PER_ADDRESS": "10 per hour", "AUTH_CACHE_SECONDS": "0.3", "AUTH_CACHE_HARD_SECONDS": "0.5"}
    with Proxy({**proxy_env, **env}) as proxy:
        assert {ask(proxy, key).status for key in keys} == {200}
        assert [ask(proxy, new_key()).status for _ in range(12)] == [401] * 10 + [429] * 2
        time.sleep(0.6)  # past the hard limit: all have to be asked for again
        assert {ask(proxy, key).status for key in keys} == {200}
        assert ask(proxy, limited_key(auth_service, 1000)).status == 429  # but a new one has to wait


def test_an_outage_of_the_auth_service_counts_against_nobody(
    proxy_env: dict[str, str], auth_service: AuthService
) -> None:
    key = limited_key(auth_service, 1000)
    auth_service.answer(500)
    with Proxy({**proxy_env, "RATE_LIMIT_PER_ADDRESS": "3 per hour"}) as proxy:
        assert [ask(proxy, key).status for _ in range(10)] == [503] * 10
        auth_service.reset()
        deadline = time.monotonic() + 15
        while ask(proxy, key).status != 200:  # once the breaker tries again
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_one_bad_key_that_comes_again_and_again_counts_as_often_as_it_is_asked_about(
    proxy_env: dict[str, str], auth_service: AuthService
) -> None:
    key = new_key()
    with Proxy({**proxy_env, "RATE_LIMIT_PER_ADDRESS": "3 per hour"}) as proxy:
        assert [ask(proxy, key).status for _ in range(20)] == [401] * 20
        assert len(auth_service.calls) == 1


def test_a_malformed_key_or_none_costs_nothing_and_counts_nothing(
    proxy_env: dict[str, str], auth_service: AuthService
) -> None:
    with Proxy({**proxy_env, "RATE_LIMIT_PER_ADDRESS": "1 per hour"}) as proxy:
        assert [ask(proxy, "short").status for _ in range(5)] == [401] * 5
        assert [request(proxy.port, "GET", TARGET).status for _ in range(5)] == [401] * 5
        assert auth_service.calls == []
        assert ask(proxy, new_key()).status == 401


# What a client may write in front of the load balancer's own entry, and instead of it.
CRAFTED = [
    '"',
    "192.0.2.66",
    "a,b,c",
    ",,,,",
    "unknown",
    ", ".join(["192.0.2.1"] * 200),
    "192.0.2.1:99999",
    "::ffff:0:0:0",
]


def test_h04_no_crafted_address_gets_around_the_limit(proxy_env: dict[str, str], auth_service: AuthService) -> None:
    """Everything on the left is the client's; the last entry is the load balancer's."""
    count = itertools.count()

    def sent(value: str) -> int:
        headers = [("Authorization", f"Bearer {new_key()}"), ("X-Forwarded-For", value)]
        return request(proxy.port, "GET", f"{TARGET}?{next(count)}", headers).status

    with Proxy({**proxy_env, "RATE_LIMIT_PER_ADDRESS": "5 per hour"}) as proxy:
        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(lambda text: sent(f"{text}, 203.0.113.9"), CRAFTED * 3))
        assert statuses.count(401) == 5 and set(statuses) == {401, 429}
        auth_service.reset()
        # Without an entry of the load balancer's all of them count for whoever is connected, together.
        statuses = [sent(text) for text in ('"', "a,b,c", "unknown", "", "x" * 300, "203.0.113.9 ,", "192.0.2") * 3]
        assert statuses.count(401) == 5 == len(auth_service.calls)


def test_an_ipv6_network_counts_as_one_address(proxy_env: dict[str, str], auth_service: AuthService) -> None:
    with Proxy({**proxy_env, "RATE_LIMIT_PER_ADDRESS": "5 per hour"}) as proxy:
        statuses = [ask(proxy, new_key(), address=f"2001:db8:0:1::{n:x}").status for n in range(10)]
        assert statuses == [401] * 5 + [429] * 5
        assert ask(proxy, new_key(), address="2001:db8:0:2::1").status == 401
