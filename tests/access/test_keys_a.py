"""A01-A04 of the catalogue: which credential is taken, which is refused, and that nobody learns why."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from tests.functional.keyed import SEARCH
from tests.support.auth_service import AuthService, new_key
from tests.support.client import RawResponse, basic, request
from tests.support.fleet import Start
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

NAMES = itertools.count()
TARGET = f"/mlflow{SEARCH}"
Headers = list[tuple[str, str]]


@pytest.fixture(scope="module", params=[1, 4])
def proxy(
    request: pytest.FixtureRequest,
    start: Start,
    session_upstream: RecordingUpstream,
    session_auth_service: AuthService,
) -> Proxy:
    urls = {"MLFLOW_SERVER_URL": session_upstream.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    return start(
        {**urls, "PROXY_WORKERS": str(request.param), "AUTH_CACHE_SECONDS": "0", "AUTH_CACHE_HARD_SECONDS": "0"}
    )


PLACES: dict[str, Callable[[str], Headers]] = {
    "Bearer": lambda key: [("Authorization", f"Bearer {key}")],
    "ApiKey": lambda key: [("Authorization", f"ApiKey {key}")],
    "Basic": lambda key: [("Authorization", basic(key))],
    "X-API-Key": lambda key: [("X-API-Key", key)],
}
every_place = pytest.mark.parametrize("place", PLACES)


def ask(proxy: Proxy, headers: Headers, target: str = TARGET) -> RawResponse:
    named = [("X-Request-ID", f"a-{next(NAMES)}"), ("X-Forwarded-For", "203.0.113.9")]
    return request(proxy.port, "GET", target, [*headers, *named])


def shown(response: RawResponse) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that a client can see, but for what is another in every answer."""
    own = (response.header("X-Request-ID") or "").encode()
    headers = [pair for pair in response.headers if pair[0] not in ("Date", "X-Request-ID", "Content-Length")]
    return response.status, headers, response.body.replace(own, b"")


# --- A01 ---


@every_place
def test_a01_unknown_revoked_and_malformed_keys_look_alike(
    proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, place: str
) -> None:
    revoked = auth_service.grant(new_key())
    assert ask(proxy, PLACES[place](revoked)).status == 200
    auth_service.revoke(revoked)
    upstream.reset()
    auth_service.reset()
    refused = [ask(proxy, PLACES[place](key)) for key in (new_key(), revoked)]
    assert len(auth_service.calls) == 2
    malformed = ["short", "x" * 300, "not a key, is it?!", "hk_test_%00%00%00%00%00%00", "schlüssel-schlüssel"]
    refused += [ask(proxy, PLACES[place](key)) for key in malformed]
    assert len(auth_service.calls) == 2, "what cannot be a key is nobody's business"
    assert [shown(response) for response in refused] == [shown(refused[0])] * 7
    assert (refused[0].status, refused[0].json()["error_code"]) == (401, "UNAUTHENTICATED")
    assert refused[0].values("WWW-Authenticate") == ['Bearer realm="Hokusai MLflow"']
    assert upstream.requests == []


def test_a01_no_key_is_told_so(proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService) -> None:
    response = ask(proxy, [])
    assert (response.status, response.values("WWW-Authenticate")) == (401, ['Bearer realm="Hokusai MLflow"'])
    assert "no API key was sent" in response.json()["message"]
    assert upstream.requests == [] and auth_service.calls == []


# --- A02 ---


@pytest.mark.parametrize("one", ["Bearer", "ApiKey", "Basic"])
def test_a02_two_different_credentials_are_refused(
    proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, one: str
) -> None:
    for first, second in ((auth_service.grant(new_key()), new_key()), (new_key(), auth_service.grant(new_key()))):
        response = ask(proxy, [*PLACES[one](first), *PLACES["X-API-Key"](second)])
        assert response.status == 401
        assert f"two different credentials were sent, {one} and X-API-Key" in response.json()["message"]
        assert first not in response.raw.decode() and second not in response.raw.decode()
    assert upstream.requests == [] and auth_service.calls == []


@every_place
def test_a02_a_repeated_header_is_refused(
    proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, place: str
) -> None:
    good = auth_service.grant(new_key())
    for second in (good, new_key()):
        assert ask(proxy, [*PLACES[place](good), *PLACES[place](second)]).status in (400, 401)
    assert upstream.requests == [] and auth_service.calls == []


def test_a02_a_key_in_the_query_beside_one_in_a_header_is_refused(
    proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    good = auth_service.grant(new_key())
    for other in (good, new_key()):
        assert ask(proxy, PLACES["Bearer"](good), f"{TARGET}?api_key={other}").status == 400
    assert upstream.requests == [] and auth_service.calls == []


# --- A03 ---


@pytest.mark.parametrize(
    "name", ["api_key", "API_KEY", "apikey", "api-key", "api%5Fkey", "%61pi_key", "api+key=x&api_key"]
)
def test_a03_a_key_in_the_query_is_refused_and_is_in_no_log(
    proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, name: str
) -> None:
    good = auth_service.grant(new_key())
    response = ask(proxy, [], f"{TARGET}?max_results=1&{name}={good}")
    assert (response.status, response.json()["error_code"]) == (400, "BAD_REQUEST")
    assert good not in response.raw.decode()
    assert proxy.access_line(str(response.header("X-Request-ID")))["path"] == TARGET
    assert good not in proxy.output
    assert upstream.requests == [] and auth_service.calls == []


# --- A04 ---


@every_place
def test_a04_a_good_key_gets_through_and_stays_here(
    proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, place: str
) -> None:
    key = auth_service.grant(new_key(), user_id="user-4", key_id="key-4")
    assert ask(proxy, PLACES[place](key)).status == 200
    (seen,) = upstream.wait_for(1)
    assert key.encode() not in seen.raw_head and basic(key).partition(" ")[2].encode() not in seen.raw_head
    assert [seen.values(name) for name in ("Authorization", "X-API-Key", "Proxy-Authorization")] == [[], [], []]
    assert (seen.values("X-Hokusai-User-Id"), seen.values("X-Hokusai-API-Key-Id")) == ([b"user-4"], [b"key-4"])
    assert auth_service.calls[0].authorization == f"Bearer {key}"
    assert key not in str(auth_service.calls[0].body) and key not in proxy.output
