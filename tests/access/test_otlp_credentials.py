"""The key as OTLP exporters send it, and that there is exactly one of it.

The heads are those of opentelemetry-exporter-otlp-proto-http 1.45.2, read off a socket: it writes the names of
OTEL_EXPORTER_OTLP_HEADERS in lower case and decodes the values, whether the space was written as it is or as %20. What
is given to it in code it sends as it is, as do exporters that do not decode the variable.
"""

from __future__ import annotations

import pytest

from tests.functional.keyed import assert_refused
from tests.support.auth_service import GOOD_KEY, AuthService, new_key
from tests.support.client import RawResponse, basic, request
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

BODY = b"\n\x02\x08\x01"
EXPORTER = [
    ("user-agent", "OTel-OTLP-Exporter-Python/1.45.2"),
    ("Accept-Encoding", "gzip, deflate"),
    ("Accept", "*/*"),
    ("Connection", "keep-alive"),
    ("content-type", "application/x-protobuf"),
    ("x-mlflow-experiment-id", "0"),
]
ENDPOINTS = ("/api/mlflow/v1/traces", "/mlflow/v1/traces", "/v1/traces")
Header = tuple[str, str]


def placed(key: str) -> dict[str, Header]:
    """By what stands in the variable, the header that is sent."""
    return {
        "authorization=Bearer%20KEY": ("authorization", f"Bearer {key}"),
        "x-api-key=KEY": ("x-api-key", key),
        "Authorization=Basic%20...": ("authorization", basic(key)),
        "authorization=Bearer%20KEY, not decoded": ("authorization", f"Bearer%20{key}"),
        "Authorization=ApiKey%20KEY, not decoded": ("authorization", f"ApiKey%20{key}"),
    }


KINDS = dict(zip(placed(""), ["Bearer", "X-API-Key", "Basic", "Bearer", "ApiKey"], strict=True))


def export(proxy: Proxy, endpoint: str, *credentials: Header, query: str = "") -> RawResponse:
    return request(proxy.port, "POST", endpoint + query, [*EXPORTER, *credentials], BODY)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("place", placed(""))
def test_a_trace_passes_with_the_key_where_an_exporter_puts_it(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, place: str, endpoint: str
) -> None:
    assert export(shared_proxy, endpoint, placed(GOOD_KEY)[place]).status == 200
    [seen] = upstream.requests
    assert (seen.line, seen.body) == (b"POST /v1/traces HTTP/1.1", BODY)
    assert seen.values("x-mlflow-experiment-id") == [b"0"] and seen.values("content-type") == [
        b"application/x-protobuf"
    ]
    assert GOOD_KEY.encode() not in seen.raw_head and basic(GOOD_KEY).partition(" ")[2].encode() not in seen.raw_head


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(("place", "kind"), KINDS.items())
def test_a_refusal_names_the_kind_and_never_the_key(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, place: str, kind: str, endpoint: str
) -> None:
    key = new_key()
    response = export(shared_proxy, endpoint, placed(key)[place])
    body = assert_refused(response, 401, "UNAUTHENTICATED")
    assert f"sent as {kind} was not accepted" in body["message"] and "MLFLOW_TRACKING_TOKEN" in body["message"]
    assert key not in response.raw.decode()
    assert upstream.requests == []


def test_exactly_one_credential_counts(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    both = placed(GOOD_KEY)["authorization=Bearer%20KEY"], placed(new_key())["x-api-key=KEY"]
    body = assert_refused(export(shared_proxy, ENDPOINTS[0], *both), 401, "UNAUTHENTICATED")
    assert "two different credentials were sent, Bearer and X-API-Key" in body["message"]
    twice = [placed(GOOD_KEY)["authorization=Bearer%20KEY"], placed(new_key())["authorization=Bearer%20KEY"]]
    for credentials in (twice, twice[::-1], [twice[0], twice[0]]):
        assert_refused(export(shared_proxy, ENDPOINTS[0], *credentials), 401, "UNAUTHENTICATED")
    assert upstream.requests == [] and auth_service.calls == []


@pytest.mark.parametrize("name", ["api_key", "x-api-key", "X-API-Key", "access_token", "api%2Dkey"])
def test_never_from_the_query(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, name: str
) -> None:
    for credentials in ([], [placed(GOOD_KEY)["x-api-key=KEY"]]):
        response = export(shared_proxy, ENDPOINTS[0], *credentials, query=f"?{name}={GOOD_KEY}")
        assert_refused(response, 400, "BAD_REQUEST")
        assert GOOD_KEY not in response.raw.decode()
    assert upstream.requests == [] and auth_service.calls == []


def test_the_other_signals_of_otlp_are_not_served(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    for endpoint in ("/api/mlflow/v1/metrics", "/mlflow/v1/logs", "/v1/metrics", "/v1/logs"):
        response = export(shared_proxy, endpoint, placed(GOOD_KEY)["x-api-key=KEY"])
        assert_refused(response, 404, "ENDPOINT_NOT_FOUND")
    assert upstream.requests == []
