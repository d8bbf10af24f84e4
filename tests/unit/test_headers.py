"""app/headers.py: what passes, both ways. The policies are tested over the sets themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.headers import (
    CLIENT_ONLY,
    CLIENT_ONLY_PREFIXES,
    CREDENTIALS,
    HOP_BY_HOP,
    UPSTREAM_ONLY,
    fold,
    nominated,
    to_client,
    to_upstream,
)

SPELLINGS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "underscores": lambda name: name.replace("-", "_"),
    "upper with underscores": lambda name: name.upper().replace("-", "_"),
}
spelled = pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)

# What a standard MLflow client sends and MLflow needs; and X-MLFLOW-WORKSPACE, which selects a workspace.
PASSES_UP = [
    ("Accept", "*/*"),
    ("Accept-Encoding", "gzip, deflate"),
    ("Content-Type", "application/json"),
    ("Content-Encoding", "gzip"),
    ("Range", "bytes=0-9"),
    ("If-None-Match", '"x"'),
    ("If-Range", '"x"'),
    ("User-Agent", "mlflow-python-client/3.17.2"),
    ("X-Mlflow-Workspace", "team-a"),
    ("Traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"),
    ("X-Amzn-Trace-Id", "Root=1-2-3"),
    ("X-Tracking-Header", "caf\xe9"),
]

PASSES_DOWN = [
    ("Content-Type", "application/octet-stream"),
    ("Content-Length", "9"),
    ("Content-Encoding", "br"),
    ("Content-Range", "bytes 0-8/9"),
    ("Content-Disposition", "attachment; filename=x"),
    ("ETag", '"x"'),
    ("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("Accept-Ranges", "bytes"),
    ("Retry-After", "3"),
    ("Link", "<a>; rel=x"),
    ("Link", "<b>; rel=y"),
    ("Vary", "Accept"),
]

# Written out once more: that a name leaves one of the sets must not go unnoticed.
NEVER_UP = {
    "authorization", "connection", "content-length", "cookie", "expect", "forwarded", "host", "keep-alive", "origin",
    "path-info", "proxy-authenticate", "proxy-authorization", "proxy-connection", "referer", "script-name", "te",
    "trailer", "transfer-encoding", "upgrade", "x-api-key", "x-http-method", "x-http-method-override",
    "x-method-override", "x-original-url", "x-real-ip", "x-request-id", "x-rewrite-url",
}  # fmt: skip  # several names a line
NEVER_DOWN = {
    "connection", "date", "keep-alive", "proxy-authenticate", "proxy-connection", "server", "server-timing",
    "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "x-content-type-options", "x-request-id",
}  # fmt: skip  # several names a line


def test_the_sets_hold_what_must_never_pass() -> None:
    assert HOP_BY_HOP | CLIENT_ONLY | CREDENTIALS >= NEVER_UP
    assert HOP_BY_HOP | UPSTREAM_ONLY >= NEVER_DOWN
    assert set(CLIENT_ONLY_PREFIXES) >= {"x-hokusai-", "x-forwarded-"}


def test_names_in_the_sets_are_in_the_form_in_which_they_are_compared() -> None:
    names = HOP_BY_HOP | CLIENT_ONLY | CREDENTIALS | UPSTREAM_ONLY | frozenset(CLIENT_ONLY_PREFIXES)
    assert {name for name in names if name != fold(name)} == set()


def test_what_an_mlflow_client_needs_passes_in_order() -> None:
    assert to_upstream(PASSES_UP, []) == PASSES_UP


def test_what_mlflow_answers_passes_in_order_and_repeated() -> None:
    assert to_client(PASSES_DOWN, []) == PASSES_DOWN


@spelled
@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | CLIENT_ONLY | CREDENTIALS))
def test_a_clients_header_of_the_sets_never_goes_up(name: str, spell: Callable[[str], str]) -> None:
    assert to_upstream([("A", "1"), (spell(name), "x"), ("B", "2")], []) == [("A", "1"), ("B", "2")]


@spelled
@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | UPSTREAM_ONLY))
def test_an_upstreams_header_of_the_sets_never_goes_down(name: str, spell: Callable[[str], str]) -> None:
    assert to_client([("A", "1"), (spell(name), "x"), ("B", "2")], []) == [("A", "1"), ("B", "2")]


@spelled
@pytest.mark.parametrize(
    "name", ["ratelimit", "ratelimit-policy", "ratelimit-reset", "x-ratelimit", "x-ratelimit-limit"]
)
def test_an_upstreams_word_about_limits_never_goes_down(name: str, spell: Callable[[str], str]) -> None:
    assert to_client([("A", "1"), (spell(name), "x"), ("X-Rate", "2")], []) == [("A", "1"), ("X-Rate", "2")]


@spelled
@pytest.mark.parametrize("end", ["", "for", "host", "user-id", "api-key-id", "anything-else"])
@pytest.mark.parametrize("prefix", CLIENT_ONLY_PREFIXES)
def test_a_clients_header_with_one_of_our_prefixes_never_goes_up(
    prefix: str, end: str, spell: Callable[[str], str]
) -> None:
    for keep in (True, False):
        assert to_upstream([(spell(prefix + end), "x")], [], keep) == []


@spelled
@pytest.mark.parametrize("name", sorted(CREDENTIALS))
def test_a_credential_goes_up_only_when_it_is_to_be_forwarded(name: str, spell: Callable[[str], str]) -> None:
    pair = (spell(name), "Bearer x")
    assert (to_upstream([pair], []), to_upstream([pair], [], True)) == ([], [pair])


@pytest.mark.parametrize("name", sorted(CREDENTIALS | CLIENT_ONLY | HOP_BY_HOP))
def test_our_own_header_replaces_a_clients_and_comes_last(name: str) -> None:
    pairs = [(name.upper(), "theirs"), ("Accept", "*/*"), (name.replace("-", "_"), "theirs")]
    for keep in (True, False):
        assert to_upstream(pairs, [(name, "ours")], keep) == [("Accept", "*/*"), (name, "ours")]


def test_a_service_credential_replaces_the_clients_even_where_credentials_are_kept() -> None:
    own = [("Authorization", "Bearer service")]
    assert to_upstream([("authorization", "Bearer client")], own, True) == own


@pytest.mark.parametrize("name", ["X-Hokusai-User-Id", "X-Request-ID", "Host", "X-Forwarded-For", "Authorization"])
@pytest.mark.parametrize("value", ["close, {}", "{}", " {} ,close", "CLOSE,{},", "x,{},y"])
def test_a_client_cannot_have_our_headers_removed_by_listing_them_in_connection(name: str, value: str) -> None:
    for listed in (name, name.lower(), name.replace("-", "_")):
        pairs = [("Connection", value.format(listed)), (name, "theirs")]
        assert to_upstream(pairs, [(name, "ours")]) == [(name, "ours")]


@spelled
def test_what_connection_lists_is_hop_by_hop_both_ways(spell: Callable[[str], str]) -> None:
    pairs = [("Connection", "keep-alive, X-Once"), (spell("x-once"), "1"), ("X-Twice", "2")]
    assert (to_upstream(pairs, []), to_client(pairs, [])) == ([("X-Twice", "2")], [("X-Twice", "2")])


@pytest.mark.parametrize(
    ("pairs", "names"),
    [
        ([], set()),
        ([("Connection", "")], set()),
        ([("Connection", " , ,")], set()),
        ([("Connection", "close")], {"close"}),
        ([("connection", "A-b,c_D")], {"a-b", "c-d"}),
        ([("Connection", "a"), ("CONNECTION", "b , c")], {"a", "b", "c"}),
        ([("X-Connection", "a")], set()),
    ],
)
def test_connection_lists_names(pairs: list[tuple[str, str]], names: set[str]) -> None:
    assert nominated(pairs) == names


def test_our_headers_for_the_client_come_last() -> None:
    own = [("X-Content-Type-Options", "nosniff"), ("Server-Timing", "auth;dur=1.0")]
    theirs = [("Server-Timing", "db;dur=9"), ("x-content-type-options", "none"), ("ETag", '"x"')]
    assert to_client(theirs, own) == [("ETag", '"x"'), *own]


def test_own_headers_may_be_an_iterator() -> None:
    assert to_upstream([("host", "theirs")], iter([("Host", "ours")])) == [("Host", "ours")]


def test_a_name_that_only_begins_like_a_forbidden_one_passes() -> None:
    pairs = [("Hostess", "1"), ("Cookies", "2"), ("X-Hokusai", "3"), ("X-Api-Key-Id", "4"), ("Te-st", "5")]
    assert to_upstream(pairs, []) == pairs
