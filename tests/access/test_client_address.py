"""H04 of the catalogue: who is calling, by X-Forwarded-For counted from the right, whatever a client writes into it."""

from __future__ import annotations

import itertools

import pytest

from tests.functional.keyed import SEARCH, ask, only
from tests.support.auth_service import AuthService
from tests.support.fleet import Start
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

NAMES = itertools.count()
PEER = "127.0.0.1"
TWO_HUNDRED = ", ".join(f"198.51.100.{n}" for n in range(200))


def seen_as(proxy: Proxy, upstream: RecordingUpstream, *headers: tuple[str, str]) -> str:
    """The client's address for a request with these headers: the same for MLflow and in the log."""
    name = f"address-{next(NAMES)}"
    upstream.reset()
    answer = ask(proxy, "POST", f"/mlflow{SEARCH}", [("X-Request-ID", name), *headers], b"{}")
    assert answer.status == 200, answer.body
    address = str(proxy.access_line(name)["client_ip"])
    assert only(upstream).values("X-Forwarded-For") == [address.encode()]
    return address


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ('", 203.0.113.9', "203.0.113.9"),
        ("a,b,c, 203.0.113.9", "203.0.113.9"),
        (f"{TWO_HUNDRED}, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 2001:DB8:0::7", "2001:db8::7"),
        ("198.51.100.1, 203.0.113.9:40123", "203.0.113.9"),
        ("198.51.100.1, [2001:db8::7]:40123", "2001:db8::7"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 2001:db8::7%x", PEER),
        ("203.0.113.9, ", PEER),
        ('203.0.113.9, "', PEER),
        ("a,b,c", PEER),
        ("203.0.113.9, unknown", PEER),
        ("203.0.113.9, 999.0.113.9", PEER),
    ],
)
def test_the_last_entry_is_the_client_and_no_other_is(
    shared_proxy: Proxy, upstream: RecordingUpstream, forwarded_for: str, address: str
) -> None:
    assert seen_as(shared_proxy, upstream, ("X-Forwarded-For", forwarded_for)) == address


def test_without_the_header_it_is_the_peer(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    assert seen_as(shared_proxy, upstream) == PEER


def test_headers_in_pieces_are_one_list(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    pieces = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "198.51.100.2, 203.0.113.9")]
    assert seen_as(shared_proxy, upstream, *pieces) == "203.0.113.9"


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "X_Forwarded_For", "X-Original-Forwarded-For"]
)
def test_no_other_header_says_who_is_calling(shared_proxy: Proxy, upstream: RecordingUpstream, header: str) -> None:
    value = "for=203.0.113.66" if header == "Forwarded" else "203.0.113.66"
    assert seen_as(shared_proxy, upstream, (header, value)) == PEER
    assert seen_as(shared_proxy, upstream, (header, value), ("X-Forwarded-For", "203.0.113.9")) == "203.0.113.9"


def test_two_hops_are_counted_and_too_short_a_list_is_told(
    start: Start, upstream: RecordingUpstream, auth_service: AuthService, proxy_env: dict[str, str]
) -> None:
    proxy = start({**proxy_env, "TRUSTED_PROXY_HOPS": "2"})
    chain = "192.0.2.66, 198.51.100.1, 203.0.113.9"
    assert seen_as(proxy, upstream, ("X-Forwarded-For", chain)) == "198.51.100.1"
    assert auth_service.calls[0].body["client_ip"] == "198.51.100.1"
    assert proxy.lines("client_address_unknown") == []
    assert [seen_as(proxy, upstream, ("X-Forwarded-For", "203.0.113.9")) for _ in range(3)] == [PEER] * 3
    (line,) = proxy.lines("client_address_unknown")
    assert (line["level"], line["client_ip"], line["suppressed"]) == ("WARNING", PEER, 0)
    assert "TRUSTED_PROXY_HOPS" in line["fix"]


def test_where_clients_connect_directly_the_header_says_nothing(
    start: Start, upstream: RecordingUpstream, proxy_env: dict[str, str]
) -> None:
    proxy = start({**proxy_env, "TRUSTED_PROXY_HOPS": "0"})
    assert seen_as(proxy, upstream, ("X-Forwarded-For", "203.0.113.9")) == PEER
    assert seen_as(proxy, upstream, ("X-Forwarded-For", "nobody")) == PEER
    assert proxy.lines("client_address_unknown") == []
