"""app/limits.py: whom a request counts for, what the answer says, and flask-limiter's part in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from flask import Flask, request
from flask_limiter import Limiter

from app import scope as scopes
from app.errors import Header, RateLimited
from app.limit_settings import LimitSettings
from app.limit_storage import OwnWindows
from app.limits import MOST, AddressLimit, Limits, headers, is_free, make_limiter, make_limits, neighbourhood, whose
from app.policy import read_routes
from app.scope import Principal, RequestScope, Route
from app.windows import Count, Rate
from tests.unit import samples

SETTINGS = LimitSettings(Rate(5, 10), Rate(2, 60), "")
NAMES = ("hour", "burst")
RATES = (Rate(1000, 3600), Rate(100, 10))


@pytest.fixture
def scope() -> Iterator[RequestScope]:
    """A request's scope, which Flask's current request belongs to."""
    made = samples.scope(principal=Principal("user", "key", frozenset(), 3))
    with Flask("test").test_request_context("/"):
        request.environ[scopes.KEY] = made
        yield made


def told(scope: RequestScope) -> list[Header]:
    """The headers that the answer gets."""
    return [pair for make in scope.headers for pair in make()]


@pytest.fixture
def limiter() -> Limiter:
    return make_limiter(SETTINGS)


# --- by key ---


def test_a_key_has_its_own_limit_and_the_one_for_bursts(scope: RequestScope, limiter: Limiter) -> None:
    limits = Limits(limiter, Rate(5, 10))
    for _ in range(3):
        limits.require()
    with pytest.raises(RateLimited) as raised:
        limits.require()
    assert raised.value.kind == "rate_hour"
    scope.principal = Principal("user", "another", frozenset(), 1000)
    for _ in range(5):
        limits.require()
    with pytest.raises(RateLimited) as raised:
        limits.require()
    assert raised.value.kind == "rate_burst"


def test_the_headers_are_there_whether_or_not_a_request_is_refused(scope: RequestScope, limiter: Limiter) -> None:
    limits = Limits(limiter, Rate(5, 10))
    for _ in range(3):
        limits.require()
    scope.headers = []
    with pytest.raises(RateLimited) as raised:
        limits.require()
    assert [name for name, _ in told(scope)] == [
        "RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset",
    ]  # fmt: skip
    assert raised.value.headers == [("Retry-After", "3600")] or raised.value.headers == [("Retry-After", "3601")]


def test_nobody_and_transfers_are_not_limited(scope: RequestScope, limiter: Limiter) -> None:
    limits = Limits(limiter, Rate(1, 10))
    scope.route = next(route for route in read_routes() if route.action == "artifacts.upload")
    for _ in range(9):
        limits.require()
    scope.route, scope.principal = None, None
    for _ in range(9):
        limits.require()
    assert scope.headers == []


def test_transfers_and_the_uis_own_files_are_not_counted() -> None:
    actions = {route.action for route in read_routes() if is_free(route)}
    assert actions == {
        "artifacts.download", "artifacts.upload", "runs.artifacts.download", "runs.artifacts.upload",
        "model-versions.artifacts.download", "logged-models.artifacts.download", "traces.artifacts.download",
        "ui.static",
    }  # fmt: skip
    assert not is_free(None)
    assert not is_free(Route("GET", "/x", "x", "artifacts.list", "read", True))


def test_what_remains_can_be_asked_without_counting(scope: RequestScope) -> None:
    limits, _ = make_limits(SETTINGS)
    limits.require()
    assert scope.principal is not None
    for _ in range(2):
        assert limits.remaining(scope.principal) == {
            "hour": {"limit": 3, "seconds": 3600, "remaining": 2, "reset_seconds": 3600},
            "burst": {"limit": 5, "seconds": 10, "remaining": 4, "reset_seconds": 10},
        }


def test_a_limit_beyond_all_measure_still_makes_a_header(scope: RequestScope, limiter: Limiter) -> None:
    """RFC 9651 section 3.3.1: an integer has 15 digits."""
    scope.principal = Principal("user", "key", frozenset(), 10**4000)
    Limits(limiter, Rate(5, 10)).require()
    assert dict(told(scope))["RateLimit-Policy"] == f'"hour";q={MOST};w=3600, "burst";q=5;w=10'
    assert len(str(MOST)) == 15


# --- by address ---


def test_an_address_may_have_so_many_unknown_keys_asked_about(limiter: Limiter) -> None:
    gate = AddressLimit(limiter, Rate(2, 60))
    for _ in range(2):
        gate.enter("192.0.2.1")
    with pytest.raises(RateLimited) as raised:
        gate.enter("192.0.2.1")
    error = raised.value
    assert error.kind == "rate_address" and "this address used up its limit of 2 requests per minute" in error.message
    assert dict(error.headers)["Retry-After"] in ("60", "61")
    assert dict(error.headers)["RateLimit-Policy"] == '"address";q=2;w=60'
    gate.enter("192.0.2.2")
    gate.leave("192.0.2.1")
    gate.enter("192.0.2.1")


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("", ""),
        ("unix:", "unix:"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_ipv6_client_is_its_network(address: str, counts_as: str) -> None:
    assert neighbourhood(address) == counts_as


# --- what the answer says ---


@pytest.mark.parametrize(
    ("counts", "fields", "older"),
    [
        ([Count(0, 1, 0.0), Count(0, 1, 0.0)], '"hour";r=999;t=3600, "burst";r=99;t=10', ("1000", "999", 3600)),
        ([Count(0, 1000, 0.5), Count(0, 1, 0.5)], '"hour";r=0;t=3600, "burst";r=99;t=10', ("1000", "0", 3600)),
        ([Count(0, 500, 1.0), Count(0, 100, 4.0)], '"hour";r=500;t=3599, "burst";r=0;t=7', ("100", "0", 7)),
        ([Count(0, 1000, 3599.5), Count(0, 100, 4.0)], '"hour";r=0;t=1, "burst";r=0;t=7', ("100", "0", 7)),
    ],
)
def test_the_older_headers_speak_of_the_limit_that_keeps_waiting_longest(
    counts: Sequence[Count], fields: str, older: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.limits.time", lambda: 1_000_000.2)
    assert headers(NAMES, RATES, counts) == [
        ("RateLimit-Policy", '"hour";q=1000;w=3600, "burst";q=100;w=10'),
        ("RateLimit", fields),
        ("X-RateLimit-Limit", older[0]),
        ("X-RateLimit-Remaining", older[1]),
        ("X-RateLimit-Reset", str(1_000_001 + older[2])),
    ]


# --- flask-limiter ---


def test_flask_limiter_holds_the_storage_and_the_strategy(limiter: Limiter) -> None:
    assert isinstance(limiter.storage, OwnWindows)
    assert limiter.limiter.storage is limiter.storage


def test_a_view_may_be_limited_as_flask_limiter_does_it(limiter: Limiter) -> None:
    app, asker = Flask("test"), samples.scope(principal=samples.principal())

    @app.before_request
    def open_scope() -> None:
        request.environ[scopes.KEY] = asker

    @app.get("/x")
    @limiter.limit("2 per minute")
    def view() -> str:
        return "ok"

    client = app.test_client()
    assert [client.get("/x").status_code for _ in range(3)] == [200, 200, 429]
    asker.principal = None
    assert client.get("/x").status_code == 200


def test_whose_request_it_is(scope: RequestScope) -> None:
    assert whose() == "key:key"
    scope.principal, scope.client_ip = None, "2001:db8::1"
    assert whose() == "address:2001:db8::/64"
