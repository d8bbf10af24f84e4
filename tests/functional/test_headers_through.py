"""What headers pass on the wire towards MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.headers import CLIENT_ONLY, CREDENTIALS, HOP_BY_HOP
from tests.functional.keyed import ARTIFACT, BEARER, SEARCH, ask, assert_refused, begun, head, only
from tests.support.auth_service import GOOD_KEY, AuthService, new_key
from tests.support.client import basic, read_response, request
from tests.support.process import free_port
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

# Written out, so that a name that is dropped from the sets by mistake is missed here.
NEVER_UP = {
    *("connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "cookie", "forwarded", "origin"),
    *("proxy-authorization", "x-real-ip", "x-original-url", "x-rewrite-url", "x-http-method-override", "referer"),
    *("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix", "x-forwarded-uri"),
    *("x-hokusai-user-id", "x-hokusai-api-key-id", "x-hokusai-scopes", "x-hokusai-anything", "script-name"),
    *("path-info", "x-forwarded-user", "x-forwarded-port"),
}
FRAMING = {"content-length", "transfer-encoding", "host", "expect"}  # have tests of their own
OWN = {"x-hokusai-user-id": [b"user-good"], "x-hokusai-api-key-id": [b"key-good"], "x-forwarded-for": [b"127.0.0.1"]}
PLANTED = "198.51.100.7"  # an address, so that X-Forwarded-For is well formed too


def folded(headers: list[tuple[bytes, bytes]]) -> dict[str, list[bytes]]:
    values: dict[str, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name.decode().lower().replace("_", "-"), []).append(value)
    return values


@pytest.mark.parametrize("name", sorted((NEVER_UP | HOP_BY_HOP | CLIENT_ONLY) - CREDENTIALS - FRAMING))
def test_a_forbidden_name_does_not_get_through_in_any_spelling(
    shared_proxy: Proxy, upstream: RecordingUpstream, name: str
) -> None:
    spellings = [name, name.upper(), name.title(), name.replace("-", "_"), name.title().replace("-", "_", 1)]
    for spelling in spellings:
        upstream.reset()
        response = ask(shared_proxy, "GET", f"/mlflow{SEARCH}", [(spelling, PLANTED), (spelling, PLANTED)])
        assert response.status == 200, spelling
        seen = folded(only(upstream).headers)
        expected = [PLANTED.encode()] if spelling.lower() == "x-forwarded-for" else OWN.get(name, [])
        if name == "x-request-id":
            assert PLANTED.encode() not in seen[name] and len(seen[name]) == 1
        else:
            assert seen.get(name, []) == expected, spelling


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key", "x_api_key", "AUTHORIZATION"])
def test_a_credential_is_removed(shared_proxy: Proxy, upstream: RecordingUpstream, name: str) -> None:
    value = f"Bearer {GOOD_KEY}" if name.lower() == "authorization" else GOOD_KEY
    extra = [BEARER] if name == "x_api_key" else []
    assert request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", [(name, value), *extra]).status == 200
    seen = only(upstream)
    assert not {"authorization", "x-api-key"} & set(folded(seen.headers))
    assert GOOD_KEY.encode() not in seen.raw_head


@pytest.mark.parametrize(
    "listed",
    [
        "close, X-Hokusai-User-Id, X-Hokusai-API-Key-Id",
        "X-Request-ID, Host, X-Forwarded-For",
        "x_hokusai_user_id, Content-Length, Transfer-Encoding",
        "Authorization, X-API-Key, keep-alive",
    ],
)
def test_what_connection_lists_cannot_remove_our_own(
    shared_proxy: Proxy, upstream: RecordingUpstream, listed: str
) -> None:
    ask(shared_proxy, "POST", f"/mlflow{SEARCH}", [("Connection", listed), ("X-Request-ID", "r-1")], b"{}")
    seen = only(upstream)
    names = {name.decode() for name, _ in seen.headers}
    ours = {"Host", "X-Request-ID", "X-Forwarded-For", "X-Hokusai-User-Id", "X-Hokusai-API-Key-Id", "Content-Length"}
    assert names == ours and seen.body == b"{}"


def test_what_connection_lists_is_removed(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    listed = [("Connection", "X-One"), ("connection", "close , x-TWO")]
    ask(shared_proxy, "GET", f"/mlflow{SEARCH}", [*listed, ("X-One", "1"), ("X-Two", "2"), ("X-Three", "3")])
    seen = folded(only(upstream).headers)
    assert seen["x-three"] == [b"3"] and not {"x-one", "x-two", "connection"} & set(seen)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-MLFLOW-WORKSPACE", "team-a"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "vendor=1,other=2"),
        ("X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793"),
        ("Accept-Encoding", "gzip, br;q=0.5"),
        ("Range", "bytes=5-9,20-"),
        ("If-None-Match", 'W/"a", "b"'),
        ("If-Range", '"a"'),
        ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        ("User-Agent", "mlflow-python-client/3.17.2"),
        ("Accept", "*/*"),
        ("Content-Encoding", "gzip"),
        ("X-Odd", "@@@SKIP_HEADER@@@"),  # a mark of urllib3's own
        ("X-Empty", ""),
        ("X-Long", "v" * 12_000),
    ],
)
def test_an_end_to_end_header_passes_unchanged(
    shared_proxy: Proxy, upstream: RecordingUpstream, name: str, value: str
) -> None:
    assert ask(shared_proxy, "PUT", f"/mlflow{ARTIFACT}", [(name, value)], b"x").status == 200
    assert only(upstream).values(name) == [value.encode()]


@pytest.mark.parametrize("value", [b"caf\xe9", "café 日本".encode(), b"\x80\xff", b"a\tb"])
def test_bytes_of_a_value_survive_on_the_way_up(shared_proxy: Proxy, upstream: RecordingUpstream, value: bytes) -> None:
    assert ask(shared_proxy, "GET", f"/mlflow{SEARCH}", [("X-Name", value)]).status == 200
    assert only(upstream).values("X-Name") == [value]


def test_repeated_headers_of_a_request_survive_in_order(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    """A server may join them with a comma (RFC 9110 section 5.3), but none may be lost or change places."""
    ask(shared_proxy, "GET", f"/mlflow{SEARCH}", [("X-Tag", "b"), ("Accept", "text/x"), ("x-tag", "a"), ("X-TAG", "b")])
    values = b",".join(only(upstream).values("X-Tag")).split(b",")
    assert [value.strip() for value in values] == [b"b", b"a", b"b"]


@pytest.mark.parametrize("given", ["r-1", "a" * 128, "0.A_b:c-d"])
def test_a_well_formed_request_id_is_echoed_and_sent(
    shared_proxy: Proxy, upstream: RecordingUpstream, given: str
) -> None:
    response = ask(shared_proxy, "GET", f"/mlflow{SEARCH}", [("X-Request-ID", given)])
    assert response.header("X-Request-ID") == given and only(upstream).values("X-Request-ID") == [given.encode()]


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, '"; DROP', "caf\xe9", "a,b"])
def test_another_request_id_is_made_echoed_and_sent(
    shared_proxy: Proxy, upstream: RecordingUpstream, given: str
) -> None:
    response = ask(shared_proxy, "GET", f"/mlflow{SEARCH}", [("X-Request-ID", given)])
    made = response.header("X-Request-ID")
    assert made and re.fullmatch(r"[0-9a-f]{32}", made) and only(upstream).values("X-Request-ID") == [made.encode()]


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("192.0.2.1, 203.0.113.9", "203.0.113.9"),
        ("192.0.2.1," * 199 + "203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("203.0.113.9, ", "127.0.0.1"),
        ('"; evil', "127.0.0.1"),
        ("203.0.113.9, evil", "127.0.0.1"),
        ("203.0.113.9\xe9", "127.0.0.1"),
    ],
)
def test_the_clients_address_is_what_our_load_balancer_wrote(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, sent: str, client: str
) -> None:
    key = ("Authorization", f"Bearer {auth_service.grant(new_key())}")  # one that nobody remembers
    assert request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", [key, ("X-Forwarded-For", sent)]).status == 200
    assert only(upstream).values("X-Forwarded-For") == [client.encode()]
    assert [call.body["client_ip"] for call in auth_service.calls] == [client]


def test_the_host_is_the_upstreams(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    ask(shared_proxy, "GET", f"/mlflow{SEARCH}", [("Host", "registry.hokus.ai")])
    assert only(upstream).values("Host") == [b"127.0.0.1:%d" % upstream.port]


def test_an_expectation_is_answered_here(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    expecting = ("Expect", "100-continue")
    with begun(shared_proxy, head("PUT", f"/mlflow{ARTIFACT}", expecting, ("Content-Length", "5"))) as sock:
        assert read_response(sock, stop_at_interim=True).status == 100
        sock.sendall(b"hello")
        assert read_response(sock).status == 200
    seen = only(upstream)
    assert seen.body == b"hello" and seen.values("Expect") == []
    assert_refused(ask(shared_proxy, "PUT", f"/mlflow{ARTIFACT}", [("Expect", "tea")], b"x"), 417, "BAD_REQUEST")


BASIC = basic(GOOD_KEY, "alice")
SERVICE = "Basic c2VydmljZTpmb3ItbWxmbG93"


@pytest.fixture(scope="module")
def forwarding(session_upstream: RecordingUpstream, session_auth_service: AuthService) -> Iterator[Proxy]:
    """A proxy that keeps the client's credential, started where proxies and netrc lie in wait."""
    url, auth = session_upstream.url, session_auth_service.url
    env = {"MLFLOW_SERVER_URL": url, "HOKUSAI_AUTH_SERVICE_URL": auth, "MLFLOW_UPSTREAM_AUTH": "forward"}
    with Proxy(env) as proxy:
        yield proxy


@pytest.mark.parametrize("sent", [BEARER, ("Authorization", BASIC), ("Authorization", f"ApiKey {GOOD_KEY}")])
def test_forward_keeps_the_credential(forwarding: Proxy, upstream: RecordingUpstream, sent: tuple[str, str]) -> None:
    assert request(forwarding.port, "GET", f"/mlflow{SEARCH}", [sent]).status == 200
    assert only(upstream).values("Authorization") == [sent[1].encode()]


def test_forward_keeps_the_other_credential(forwarding: Proxy, upstream: RecordingUpstream) -> None:
    assert request(forwarding.port, "GET", f"/mlflow{SEARCH}", [("X-API-Key", GOOD_KEY)]).status == 200
    seen = only(upstream)
    assert seen.values("X-API-Key") == [GOOD_KEY.encode()] and seen.values("Authorization") == []


def test_replace_sends_the_service_credential_alone(proxy_env: dict[str, str], upstream: RecordingUpstream) -> None:
    mode = {"MLFLOW_UPSTREAM_AUTH": "replace", "MLFLOW_UPSTREAM_AUTHORIZATION": SERVICE}
    with Proxy({**proxy_env, **mode}) as proxy:
        both = [BEARER, ("X-API-Key", GOOD_KEY), ("Connection", "Authorization")]
        assert request(proxy.port, "GET", f"/mlflow{SEARCH}", both).status == 200
        seen = only(upstream)
        assert seen.values("Authorization") == [SERVICE.encode()] and seen.values("X-API-Key") == []
        assert SERVICE not in proxy.output and GOOD_KEY not in proxy.output


def test_the_surroundings_of_the_process_change_nothing(
    proxy_env: dict[str, str], upstream: RecordingUpstream, auth_service: AuthService, tmp_path: Path
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login eve password netrc-word\ndefault login eve password netrc-word\n")
    netrc.chmod(0o600)
    nowhere = f"http://127.0.0.1:{free_port()}"
    names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    traps = {**dict.fromkeys(names, nowhere), "NO_PROXY": "", "HOME": str(tmp_path), "NETRC": str(netrc)}
    bundles = dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), str(tmp_path / "missing.pem"))
    with Proxy({**proxy_env, **traps, **bundles}) as proxy:
        assert ask(proxy, "GET", f"/mlflow{SEARCH}").status == 200
    assert only(upstream).values("Authorization") == []
    assert [call.authorization for call in auth_service.calls] == [f"Bearer {GOOD_KEY}"]
