"""app/identity.py, find_credential: where a standard client can put a key."""

from __future__ import annotations

import pytest

from app.errors import Unauthenticated
from app.identity import Credential, find_credential
from tests.unit.samples import KEY, basic


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
        ("HTTP_X_API_KEY", KEY, "X-API-Key"),
        ("HTTP_X_API_KEY", f" {KEY} ", "X-API-Key"),
    ],
)
def test_the_key_is_found_where_a_standard_client_can_put_it(name: str, value: str, kind: str) -> None:
    assert find_credential({name: value}) == Credential(kind, KEY)


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
