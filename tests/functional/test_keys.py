"""Where a key may stand, what the auth service is asked, and what each side gets to see of it."""

from __future__ import annotations

import pytest

from tests.support.auth_service import GOOD_KEY, AuthService, new_key
from tests.support.client import RawResponse, basic, request
from tests.support.fleet import fleet
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

SEARCH = "/api/mlflow/api/2.0/mlflow/experiments/search"
PAGE = "/mlflow/"
BROWSER = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
Headers = list[tuple[str, str]]


def places(key: str) -> dict[str, Headers]:
    """The key in every place where a standard client can put it."""
    return {
        "Bearer": [("Authorization", f"Bearer {key}")],
        "Bearer in another case": [("authorization", f"bEARER {key}")],
        "Basic": [("Authorization", basic(key, "alice"))],
        "Basic without a user": [("Authorization", basic(key, ""))],
        "Basic with any user": [("Authorization", basic(key, "ünï"))],
        "ApiKey": [("Authorization", f"ApiKey {key}")],
        "X-API-Key": [("X-API-Key", key)],
        "Bearer and X-API-Key": [("Authorization", f"Bearer {key}"), ("X-API-Key", key)],
    }


def ask(proxy: Proxy, headers: Headers, target: str = SEARCH, method: str = "GET") -> RawResponse:
    return request(proxy.port, method, target, headers)


@pytest.mark.parametrize("place", places(""))
def test_a_key_is_taken_from_where_a_standard_client_puts_it(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, place: str
) -> None:
    key = auth_service.grant(new_key())  # one that nobody remembers
    assert ask(shared_proxy, places(key)[place]).status == 200
    [call] = auth_service.calls
    assert (call.method, call.path) == ("POST", "/api/v1/keys/validate")
    assert call.authorization == f"Bearer {key}"
    assert call.body == {"service_id": "platform", "client_ip": "127.0.0.1"}
    names = [name.lower() for name, _ in call.headers]
    assert "x-api-key" not in names and "cookie" not in names
    assert dict(call.headers)["Content-Type"] == "application/json"
    [recorded] = upstream.requests
    assert key.encode() not in recorded.raw_head
    assert recorded.values("Authorization") == recorded.values("X-API-Key") == []


@pytest.mark.parametrize("place", places(""))
def test_an_unknown_key_is_refused_in_every_place(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, place: str
) -> None:
    key = new_key()
    response = ask(shared_proxy, places(key)[place])
    assert (response.status, response.json()["error_code"]) == (401, "UNAUTHENTICATED")
    assert f"sent as {place.split()[0]} was not accepted" in response.json()["message"]
    assert key not in response.raw.decode()
    assert not upstream.requests and len(auth_service.calls) == 1


def test_two_different_credentials_are_refused_without_asking_anybody(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    for one, other in ((GOOD_KEY, new_key()), (new_key(), GOOD_KEY)):
        response = ask(shared_proxy, [("Authorization", basic(one, "alice")), ("X-API-Key", other)])
        assert response.status == 401
        assert "two different credentials were sent, Basic and X-API-Key" in response.json()["message"]
        assert one not in response.raw.decode() and other not in response.raw.decode()
    assert not upstream.requests and not auth_service.calls


@pytest.mark.parametrize("name", ["api_key", "API_KEY", "apikey", "ApiKey"])
@pytest.mark.parametrize("before", ["?", "?max_results=1&"])
def test_a_key_in_the_query_is_refused_and_gets_nowhere(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, name: str, before: str
) -> None:
    for headers in ([], places(GOOD_KEY)["Bearer"]):
        response = ask(shared_proxy, headers, f"{SEARCH}{before}{name}={GOOD_KEY}")
        assert (response.status, response.json()["error_code"]) == (400, "BAD_REQUEST")
        assert "MLFLOW_TRACKING_TOKEN" in response.json()["message"]
        assert GOOD_KEY not in response.raw.decode()
        line = shared_proxy.access_line(response.json()["request_id"])
        assert GOOD_KEY not in str(line) and line["path"] == SEARCH
    assert not upstream.requests and not auth_service.calls


@pytest.mark.parametrize("name", ["api%5fkey", "api%5Fke%79"])
def test_a_key_in_the_query_under_an_encoded_name_does_not_reach_mlflow(
    shared_proxy: Proxy, upstream: RecordingUpstream, name: str
) -> None:
    """MLflow and its logs decode the name."""
    assert ask(shared_proxy, places(GOOD_KEY)["Bearer"], f"{SEARCH}?{name}={GOOD_KEY}").status == 400
    assert not upstream.requests


def test_no_key_is_ever_in_the_log(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    key = new_key()
    for sent in (GOOD_KEY, key):
        for headers in places(sent).values():
            ask(shared_proxy, headers, f"{SEARCH}?token={sent}")
    output = shared_proxy.output
    for sent in (GOOD_KEY, key):
        assert sent not in output and basic(sent, "alice").partition(" ")[2] not in output


NO_KEYS = ["short", "x" * 300, "has space in the middle of it", "ümläute-ümläute-ümläute", "", "key\twith-a-tab-in-it"]


@pytest.mark.parametrize("key", NO_KEYS)
def test_what_cannot_be_a_key_is_refused_without_asking_the_auth_service(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, key: str
) -> None:
    for headers in ([("Authorization", f"Bearer {key}")], [("X-API-Key", key)], [("Authorization", basic(key, "a"))]):
        assert ask(shared_proxy, headers).status == 401
    assert not upstream.requests and not auth_service.calls


@pytest.mark.parametrize(
    "value", ["Digest username=a", "Bearer", "Basic", "Basic ====", "Basic YQ", "Negotiate x", ","]
)
def test_a_credential_that_is_none_is_refused_whatever_it_looks_like(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, value: str
) -> None:
    assert ask(shared_proxy, [("Authorization", value)]).status == 401
    assert not upstream.requests and not auth_service.calls


def test_one_answer_to_keys_that_are_unknown_revoked_or_malformed(
    proxy_env: dict[str, str], upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    """Nobody learns from an answer whether a key has ever been one."""
    revoked = auth_service.grant(new_key())
    with fleet() as start:
        proxy = start({**proxy_env, "AUTH_CACHE_SECONDS": "0", "AUTH_CACHE_HARD_SECONDS": "0"})
        assert ask(proxy, places(revoked)["Bearer"]).status == 200
        auth_service.revoke(revoked)
        responses = [ask(proxy, places(key)["Bearer"]) for key in (new_key(), revoked, "malformed key", "short")]
    assert len(auth_service.calls) == 3
    found = []
    for response in responses:
        own = response.json()["request_id"]
        headers = [pair for pair in response.headers if pair[0] not in ("Date", "X-Request-ID")]
        found.append((response.status, headers, response.body.replace(own.encode(), b"")))
    assert found == [found[0]] * 4 and found[0][0] == 401


@pytest.mark.parametrize("key", ["", "unknown"])
def test_only_a_page_of_a_browser_gets_the_challenge_that_opens_a_login_box(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, key: str
) -> None:
    credential = places(new_key())["Basic"] if key else []
    page = ask(shared_proxy, [BROWSER, *credential], PAGE)
    assert (page.status, page.values("WWW-Authenticate")) == (401, ['Basic realm="Hokusai MLflow"'])
    script = request(shared_proxy.port, "GET", "/mlflow/static-files/x.js", [("Sec-Fetch-Site", "same-origin")])
    assert (script.status, script.values("WWW-Authenticate")) == (401, ['Basic realm="Hokusai MLflow"'])
    for method, accept in (("GET", "*/*"), ("GET", "application/json"), ("POST", BROWSER[1])):
        response = ask(shared_proxy, [("Accept", accept), *credential], SEARCH, method)
        assert response.status == 401
        assert [value for value in response.values("WWW-Authenticate") if value.lower().startswith("basic")] == []


def test_mlflow_is_told_who_asks_by_us_alone(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    forged = ["X-Hokusai-User-Id", "x-hokusai-user-id", "X-Hokusai-API-Key-Id", "X-Hokusai-Scopes", "X_Hokusai_User_Id"]
    headers = [*places(GOOD_KEY)["Bearer"], *((name, "root") for name in forged), ("X-MLFLOW-WORKSPACE", "team-a")]
    assert ask(shared_proxy, headers).status == 200
    [recorded] = upstream.requests
    identity = [(name.lower(), value) for name, value in recorded.headers if b"hokusai" in name.lower()]
    assert sorted(identity) == [(b"x-hokusai-api-key-id", b"key-good"), (b"x-hokusai-user-id", b"user-good")]
    assert recorded.values("X-MLFLOW-WORKSPACE") == [b"team-a"]
    assert b"root" not in recorded.raw_head


@pytest.mark.parametrize(
    ("forwarded", "seen"),
    [
        ([], "127.0.0.1"),
        (["203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7, 2001:db8::1"], "2001:db8::1"),
        (["203.0.113.7, nobody"], "127.0.0.1"),
        (["203.0.113.7,"], "127.0.0.1"),
    ],
)
def test_the_auth_service_is_told_the_address_that_the_last_proxy_saw(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, forwarded: list[str], seen: str
) -> None:
    headers = [("X-Forwarded-For", value) for value in forwarded]
    key = auth_service.grant(new_key())
    response = ask(shared_proxy, [*places(key)["Bearer"], *headers, ("X-Real-IP", "192.0.2.1")])
    assert response.status == 200
    assert auth_service.calls[0].body["client_ip"] == seen
    assert upstream.requests[0].values("X-Forwarded-For") == [seen.encode()]


@pytest.mark.parametrize(("mode", "reaches"), [("strip", []), ("forward", ["own"]), ("replace", ["service"])])
def test_mlflow_gets_no_credential_the_clients_or_the_services(
    proxy_env: dict[str, str], upstream: RecordingUpstream, auth_service: AuthService, mode: str, reaches: list[str]
) -> None:
    service = f"Bearer {new_key()}"
    own = places(GOOD_KEY)["Bearer"][0][1]
    env = {"MLFLOW_UPSTREAM_AUTH": mode} | ({"MLFLOW_UPSTREAM_AUTHORIZATION": service} if mode == "replace" else {})
    with fleet() as start:
        proxy = start({**proxy_env, **env, "AUTH_SERVICE_ID": "website"})
        assert ask(proxy, places(GOOD_KEY)["Bearer and X-API-Key"]).status == 200
        assert service not in proxy.output and own not in proxy.output
    values = {"own": own, "service": service}
    assert upstream.requests[0].values("Authorization") == [values[kind].encode() for kind in reaches]
    assert upstream.requests[0].values("X-API-Key") == ([GOOD_KEY.encode()] if mode == "forward" else [])
    assert auth_service.calls[0].body["service_id"] == "website"
