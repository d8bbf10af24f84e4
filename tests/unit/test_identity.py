"""app/identity.py: the key is taken from where a standard client can put it, and from nowhere else."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from flask import Blueprint, Flask

from app import scope as scopes
from app.credentials import challenge, refused
from app.errors import AuthUnavailable, BadRequest, ProxyError, RateLimited, Unauthenticated
from app.identity import Identity
from app.scope import Principal, RequestScope
from tests.support.client import basic
from tests.unit import samples
from tests.unit.samples import KEY

OTHER = "hk_test_two" + "0" * 9


class Keys:
    """A key source that knows one key and notes what it was asked."""

    def __init__(self, error: ProxyError | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self._error = error

    def validate(self, key: str, client_ip: str) -> Principal:
        self.asked.append((key, client_ip))
        if self._error:
            raise self._error
        if key != KEY:
            raise Unauthenticated("")
        return samples.principal("model:read")


def require(keys: Keys, headers: dict[str, str], target: str = "/mlflow/version", method: str = "GET") -> RequestScope:
    """Let the gate decide on a request; its scope, or what the gate raises."""
    scope = samples.scope(method, target)
    with Flask("test").test_request_context("/", method=method, headers=headers) as context:
        context.request.environ[scopes.KEY] = scope
        Identity(keys).require()
    return scope


PLACES: dict[str, Callable[[str], dict[str, str]]] = {
    "Bearer": lambda key: {"Authorization": f"Bearer {key}"},
    "ApiKey": lambda key: {"Authorization": f"ApiKey {key}"},
    "Basic": lambda key: {"Authorization": basic(key)},
    "X-API-Key": lambda key: {"X-API-Key": key},
}
placed = pytest.mark.parametrize("kind", PLACES)


@placed
def test_a_good_key_gives_its_principal_from_every_place(kind: str) -> None:
    keys = Keys()
    scope = require(keys, PLACES[kind](KEY))
    assert (scope.principal, keys.asked) == (samples.principal("model:read"), [(KEY, "203.0.113.9")])
    assert scope.auth_seconds is not None and scope.auth_seconds >= 0


@pytest.mark.parametrize("kind", ["Bearer", "ApiKey", "Basic"])
def test_two_credentials_that_differ_are_refused_and_nobody_is_asked(kind: str) -> None:
    for first, second in ((KEY, OTHER), (OTHER, KEY), (KEY, ""), ("", KEY)):
        keys = Keys()
        with pytest.raises(Unauthenticated) as raised:
            require(keys, {**PLACES[kind](first), "X-API-Key": second})
        assert (raised.value.kind, keys.asked) == ("two_credentials", [])
        assert f"{kind} and X-API-Key" in raised.value.message
        assert KEY not in raised.value.message


@pytest.mark.parametrize("kind", ["Bearer", "ApiKey", "Basic"])
def test_one_key_in_two_places_is_one_credential(kind: str) -> None:
    keys = Keys()
    require(keys, {**PLACES[kind](KEY), "X-API-Key": KEY})
    assert keys.asked == [(KEY, "203.0.113.9")]


@pytest.mark.parametrize(("blueprint", "asked"), [("health", 0), ("healthy", 1), ("mlflow /mlflow", 1)])
def test_only_the_health_blueprint_is_let_through_without_a_look_at_the_key(blueprint: str, asked: int) -> None:
    app, public, keys = Flask("test"), Blueprint(blueprint, __name__), Keys()
    public.add_url_rule("/x", "x", lambda: "")
    app.register_blueprint(public)
    scope = samples.scope()
    environ = {"HTTP_AUTHORIZATION": f"Bearer {KEY}", scopes.KEY: scope}
    with app.test_request_context("/x", environ_overrides=environ):
        Identity(keys).require()
    assert (len(keys.asked), scope.principal is not None) == (asked, bool(asked))


def test_a_good_key_does_not_hide_behind_a_scheme_that_is_not_ours() -> None:
    with pytest.raises(Unauthenticated):
        require(Keys(), {"Authorization": "Negotiate abc", "X-API-Key": KEY})


# --- what a key looks like ---

NO_KEYS = {
    "empty": "",
    "fifteen characters": "a" * 15,
    "257 characters": "a" * 257,
    "ten kilobytes": "a" * 10_000,
    "a space": "a" * 16 + " a",
    "a comma, as of a repeated header": f"{KEY},{KEY}",
    "a semicolon": "a" * 16 + ";",
    "a quote": "a" * 16 + '"',
    "a letter beyond ASCII": "a" * 16 + "\xe9",
    "a colon": "a" * 16 + ":",
    "a control character": "a" * 16 + "\x7f",
}


@placed
@pytest.mark.parametrize("text", NO_KEYS.values(), ids=NO_KEYS)
def test_what_cannot_be_a_key_is_refused_like_an_unknown_key_and_nobody_is_asked(kind: str, text: str) -> None:
    keys = Keys()
    with pytest.raises(Unauthenticated) as raised:
        require(keys, PLACES[kind](text))
    with pytest.raises(Unauthenticated) as unknown:
        require(Keys(), PLACES[kind](OTHER))
    assert keys.asked == []
    assert vars(raised.value) == vars(unknown.value)


@pytest.mark.parametrize("length", [16, 17, 255, 256])
def test_a_key_has_16_to_256_characters(length: int) -> None:
    keys = Keys()
    with pytest.raises(Unauthenticated):
        require(keys, {"X-API-Key": "a" * length})
    assert len(keys.asked) == 1


def test_every_character_that_a_token_may_have_makes_a_key() -> None:
    key = "AZaz09._~+/=-" * 2
    keys = Keys()
    with pytest.raises(Unauthenticated):
        require(keys, {"Authorization": f"Bearer {key}"})
    assert keys.asked == [(key, "203.0.113.9")]


@pytest.mark.parametrize(
    "value",
    [
        "Basic", "Basic ", "Basic not-base64!", "Basic YQ", "Basic " + base64.b64encode(KEY.encode()).decode(),
        "Basic \xe9", f"{basic(KEY)},{basic(KEY)}", f"{basic(KEY)} {basic(KEY)}", "Bearer", f"Bearer Bearer {KEY}",
        f"Bearer {KEY}, Bearer {KEY}", f"Token {KEY}", f"Digest {KEY}", KEY, f"Bearer\t{KEY}", f"Bearer:{KEY}",
    ],
)  # fmt: skip
def test_a_credential_that_is_not_well_formed_is_refused_and_nobody_is_asked(value: str) -> None:
    keys = Keys()
    with pytest.raises(Unauthenticated):
        require(keys, {"Authorization": value})
    assert keys.asked == []


# --- never in the query ---


@pytest.mark.parametrize("name", ["api_key", "apikey", "API_KEY", "ApiKey"])
@pytest.mark.parametrize("query", ["?{}=", "?{}=x", "?a=b&{}=x", "?a&{}=x&c"])
def test_a_key_in_the_query_is_refused_even_beside_a_good_one(query: str, name: str) -> None:
    keys = Keys()
    with pytest.raises(BadRequest) as raised:
        require(keys, {"X-API-Key": KEY}, "/mlflow/version" + query.format(name))
    assert (raised.value.kind, keys.asked) == ("key_in_query", [])


@pytest.mark.parametrize("target", ["/a?my_api_key=x", "/a?key=api_key", "/api_key=x", "/a?x=%26api_key=y"])
def test_a_query_that_only_speaks_of_keys_is_none(target: str) -> None:
    assert require(Keys(), {"X-API-Key": KEY}, target).principal is not None


# --- how a key is refused ---


def test_the_answer_to_a_refused_key_names_its_kind_and_the_variable_to_set() -> None:
    with pytest.raises(Unauthenticated) as raised:
        require(Keys(), {"Authorization": f"Bearer {OTHER}"})
    assert (raised.value.kind, raised.value.message, raised.value.headers) == (
        "key_refused",
        "401: the API key sent as Bearer was not accepted. Set MLFLOW_TRACKING_TOKEN to a valid Hokusai API key.",
        [("WWW-Authenticate", 'Bearer realm="Hokusai MLflow"')],
    )


def test_a_refused_basic_credential_names_the_places_it_may_come_from() -> None:
    for place in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "~/.mlflow/credentials", "~/.netrc"):
        assert place in refused("Basic", False).message
        assert place not in refused("Bearer", False).message


@placed
def test_no_refusal_tells_the_key(kind: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        require(Keys(), PLACES[kind](OTHER))
    assert OTHER not in repr(vars(raised.value))
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("method", "accept", "scheme"),
    [
        ("GET", "text/html,application/xhtml+xml", "Basic"),
        ("GET", "application/json", "Bearer"),
        ("GET", "", "Bearer"),
        ("POST", "text/html", "Bearer"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [{}, {"X-API-Key": OTHER}, {"X-API-Key": OTHER, "Authorization": f"Bearer {KEY}"}],
    ids=["no key", "an unknown key", "two keys"],
)
def test_only_a_browsers_page_request_is_asked_for_a_password(
    headers: dict[str, str], method: str, accept: str, scheme: str
) -> None:
    with pytest.raises(Unauthenticated) as raised:
        require(Keys(), {**headers, "Accept": accept}, method=method)
    assert (
        raised.value.headers
        == challenge(scheme == "Basic")
        == [("WWW-Authenticate", f'{scheme} realm="Hokusai MLflow"')]
    )


@pytest.mark.parametrize("error", [AuthUnavailable("x"), RateLimited("x")], ids=["an outage", "a limit"])
def test_what_is_no_refusal_passes_as_it_is_and_its_time_is_noted(error: ProxyError) -> None:
    scope = samples.scope()
    with Flask("test").test_request_context("/", headers={"X-API-Key": KEY}) as context:
        context.request.environ[scopes.KEY] = scope
        with pytest.raises(type(error)) as raised:
            Identity(Keys(error)).require()
    assert raised.value is error
    assert (scope.principal, scope.auth_seconds is not None) == (None, True)
