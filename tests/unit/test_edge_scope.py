"""app/edge.py: who is calling, and under which ids."""

from __future__ import annotations

import re

import pytest

from app.edge import open_scope, trace_id
from tests.unit.scripted import environ

PEER = "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded_for", "hops", "address", "unknown"),
    [
        ("203.0.113.9", 1, "203.0.113.9", False),
        ("198.51.100.7, 203.0.113.9:4711", 1, "203.0.113.9", False),
        ("198.51.100.7, 203.0.113.9", 2, "198.51.100.7", False),
        ("", 1, PEER, False),  # the load balancer's own health checks
        ("", 0, PEER, False),
        ("203.0.113.9", 0, PEER, False),
        ('"', 1, PEER, True),
        ("203.0.113.9, unknown", 1, PEER, True),
        ("203.0.113.9", 2, PEER, True),
    ],
)
def test_the_client_is_who_the_load_balancer_names_else_the_peer(
    forwarded_for: str, hops: int, address: str, unknown: bool
) -> None:
    scope = open_scope(environ(HTTP_X_FORWARDED_FOR=forwarded_for), hops)
    assert (scope.client_ip, scope.client_unknown) == (address, unknown)


@pytest.mark.parametrize(("peer", "address"), [("::ffff:192.0.2.1", PEER), ("2001:DB8::1", "2001:db8::1"), ("", "")])
def test_the_peers_address_is_spelled_like_any_other(peer: str, address: str) -> None:
    assert open_scope(environ(REMOTE_ADDR=peer), 1).client_ip == address


# --- ids ---


@pytest.mark.parametrize("given", ["a", "A-Za-z0-9._:-", "0" * 128, "550e8400-e29b-41d4-a716-446655440000"])
def test_a_well_formed_request_id_is_kept(given: str) -> None:
    assert open_scope(environ(HTTP_X_REQUEST_ID=given), 1).request_id == given


@pytest.mark.parametrize("given", ["", " ", "a b", "a,b", "0" * 129, "a\n", "\xe9", "a;b", "<a>", '"a"', "${jndi:x}"])
def test_any_other_request_id_is_replaced(given: str) -> None:
    first, second = (open_scope(environ(HTTP_X_REQUEST_ID=given), 1).request_id for _ in range(2))
    assert re.fullmatch("[0-9a-f]{32}", first) and first != second


W3C = "00-" + "a1" * 16 + "-" + "b2" * 8 + "-01"


@pytest.mark.parametrize(
    ("traceparent", "amzn", "expected"),
    [
        ("", "", ""),
        (W3C, "", "a1" * 16),
        (W3C, "Root=1-2-3", "a1" * 16),
        ("", "Root=1-67891233-abcdef012345678912345678", "1-67891233-abcdef012345678912345678"),
        ("", "Self=1-2;Root=1-3;Parent=4", "1-3"),
        ("garbage", "Root=1-3", "1-3"),
        (W3C.upper(), "", ""),
        (W3C + "-more", "", ""),
        ("", "Parent=4", ""),
        ("", "Root=", ""),
        ("", "Root=" + "1" * 200, "1" * 128),
    ],
)
def test_the_trace_id_is_w3cs_or_the_load_balancers(traceparent: str, amzn: str, expected: str) -> None:
    assert trace_id(traceparent, amzn) == expected


def test_the_scope_holds_what_came_in() -> None:
    scope = open_scope(
        environ(
            "POST",
            "/mlflow/a?b",
            HTTP_X_REQUEST_ID="req-1",
            HTTP_X_FORWARDED_FOR="198.51.100.7, 203.0.113.9",
            HTTP_TRACEPARENT=W3C,
            HTTP_USER_AGENT="u" * 300,
        ),
        1,
    )
    assert (scope.request_id, scope.method, scope.target, scope.client_ip, scope.trace_id, scope.user_agent) == (
        "req-1",
        "POST",
        "/mlflow/a?b",
        "203.0.113.9",
        "a1" * 16,
        "u" * 200,
    )


@pytest.mark.parametrize(
    ("variables", "target"),
    [
        ({"RAW_URI": "/raw?x", "REQUEST_URI": "/other", "PATH_INFO": "/decoded"}, "/raw?x"),
        ({"RAW_URI": "", "REQUEST_URI": "/test-client?x"}, "/test-client?x"),
        ({"RAW_URI": "", "PATH_INFO": "/decoded"}, "/decoded"),
    ],
)
def test_the_target_is_what_was_sent_where_the_server_says_it(variables: dict[str, str], target: str) -> None:
    assert open_scope(environ(**variables), 1).target == target
