"""app/credentials.py, find_credential: where a standard client can put a key."""

from __future__ import annotations

import itertools

import pytest

from app.credentials import Credential, find_credential
from app.errors import BadRequest, PermissionDenied, Unauthenticated
from tests.support.client import basic
from tests.unit.samples import KEY


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("HTTP_AUTHORIZATION", f"Bearer {KEY}", "Bearer"),
        ("HTTP_AUTHORIZATION", f"bearer {KEY}", "Bearer"),
        ("HTTP_AUTHORIZATION", f"BEARER   {KEY} ", "Bearer"),
        ("HTTP_AUTHORIZATION", f"ApiKey {KEY}", "ApiKey"),
        ("HTTP_AUTHORIZATION", f"apikey {KEY}", "ApiKey"),
        ("HTTP_AUTHORIZATION", basic(KEY), "Basic"),
        ("HTTP_AUTHORIZATION", basic(KEY, ""), "Basic"),
        ("HTTP_AUTHORIZATION", basic(KEY, "J\xfcrgen"), "Basic"),
        ("HTTP_AUTHORIZATION", basic(KEY).replace("Basic", "basic"), "Basic"),
        ("HTTP_AUTHORIZATION", f"Bearer%20{KEY}", "Bearer"),  # an OTLP exporter that does not decode its variable
        ("HTTP_AUTHORIZATION", basic(KEY).replace(" ", "%20"), "Basic"),
        ("HTTP_X_API_KEY", KEY, "X-API-Key"),
        ("HTTP_X_API_KEY", f" {KEY} ", "X-API-Key"),
    ],
)
def test_the_key_is_found_where_a_standard_client_can_put_it(name: str, value: str, kind: str) -> None:
    assert find_credential({name: value}) == Credential(kind, KEY)


@pytest.mark.parametrize("value", [f"Bearer%2520{KEY}", f"Bearer+{KEY}", f"Bearer%09{KEY}", f"%20{KEY}"])
def test_no_other_spelling_of_the_space_is_one(value: str) -> None:
    assert not find_credential({"HTTP_AUTHORIZATION": value}).well_formed


@pytest.mark.parametrize(
    "name",
    [
        *("api_key", "apikey", "api-key", "x-api-key", "access_token", "X-API-Key", "api%5Fkey"),
        *("ap%69_%6bey", "%61%63%63%65%73%73%5F%74%6F%6B%65%6E"),
    ],
)
def test_a_key_in_the_query_is_refused_whatever_else_was_sent(name: str) -> None:
    for environ, before in itertools.product(({}, {"HTTP_X_API_KEY": KEY}), ("", "a=b&")):
        with pytest.raises(BadRequest) as raised:
            find_credential(environ, f"?{before}{name}={KEY}")
        assert raised.value.kind == "key_in_query" and KEY not in raised.value.message


def test_the_key_is_all_that_stands_behind_the_first_colon() -> None:
    assert find_credential({"HTTP_AUTHORIZATION": basic("a:b:c", "user")}).key == "a:b:c"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HTTP_AUTHORIZATION": ""},
        {"HTTP_AUTHORIZATION": "   "},
        {"HTTP_COOKIE": f"key={KEY}"},
        {"HTTP_PROXY_AUTHORIZATION": f"Bearer {KEY}"},
        {"HTTP_X_HOKUSAI_API_KEY_ID": KEY},
        {"HTTP_X_HOKUSAI_USER_ID": "admin"},
        {"HTTP_X_AUTH_TOKEN": KEY},
        {"QUERY_STRING": f"token={KEY}"},
        {"REMOTE_USER": "admin"},
    ],
    ids=str,
)
def test_nothing_else_is_a_credential(environ: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated) as raised:
        find_credential(environ)
    assert (raised.value.kind, raised.value.message) == (
        "no_credential",
        "401: no API key was sent. Set MLFLOW_TRACKING_TOKEN to your Hokusai API key.",
    )


# --- a browser's password on another site's request ---

OWN = "registry.example.org"
FORGED: dict[str, dict[str, str]] = {
    "cross-site": {"HTTP_SEC_FETCH_SITE": "cross-site"},
    "same-site": {"HTTP_SEC_FETCH_SITE": "same-site"},
    "another origin": {"HTTP_ORIGIN": "https://evil.example"},
    "an origin that only begins so": {"HTTP_ORIGIN": f"https://{OWN}.evil.example"},
    "a hidden origin": {"HTTP_ORIGIN": "null"},
    "an empty origin": {"HTTP_ORIGIN": ""},
}
HONEST: dict[str, dict[str, str]] = {
    "no browser": {},
    "our own page": {"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": f"https://{OWN}"},
    "our own page, behind a proxy that renames us": {"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "https://x"},
    "the address bar": {"HTTP_SEC_FETCH_SITE": "none"},
    "an older browser on our own page": {"HTTP_ORIGIN": f"https://{OWN.upper()}"},
}


def basic_request(method: str, **headers: str) -> dict[str, str]:
    return {"REQUEST_METHOD": method, "HTTP_HOST": OWN, "HTTP_AUTHORIZATION": basic(KEY), **headers}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
def test_a_change_that_another_sites_page_made_up_is_refused(headers: dict[str, str], method: str) -> None:
    with pytest.raises(PermissionDenied) as raised:
        find_credential(basic_request(method, **headers))
    assert raised.value.kind == "cross_site"
    without_basic = {**basic_request(method, **headers), "HTTP_AUTHORIZATION": f"Bearer {KEY}"}
    assert find_credential(without_basic).key == KEY  # no browser adds that one by itself


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
def test_a_link_from_another_site_is_followed(headers: dict[str, str]) -> None:
    assert {find_credential(basic_request(method, **headers)).key for method in ("GET", "HEAD")} == {KEY}


@pytest.mark.parametrize("headers", HONEST.values(), ids=HONEST)
def test_our_own_pages_and_clients_that_are_no_browser_change_what_they_like(headers: dict[str, str]) -> None:
    assert find_credential(basic_request("POST", **headers)).key == KEY
