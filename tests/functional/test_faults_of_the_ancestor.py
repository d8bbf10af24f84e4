"""One test for each fault found in the system that this proxy replaces, under its letter. None may come back."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.keyed import ARTIFACT, ARTIFACTS, BEARER, SEARCH, ask, assert_refused, begun, head, only
from tests.support.auth_service import GOOD_KEY, AuthService, new_key
from tests.support.client import read_response, request
from tests.support.process import REPOSITORY, free_port
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream

HEALTH_PATHS = ["/health", "/live", "/ready", *(f"{mount}/health" for mount in ("/mlflow", "/api/mlflow"))]
PROBE_PATHS = [f"{mount}/health/mlflow{more}" for mount in ("/mlflow", "/api/mlflow") for more in ("", "/detailed")]


def test_a_health_is_not_shadowed_by_the_catch_all(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    """Health answers without a key, by itself, although everything below the mounts is forwarded."""
    for path in HEALTH_PATHS:
        assert request(shared_proxy.port, "GET", path).status == 200, path
    assert upstream.requests == []
    for path in PROBE_PATHS:
        response = request(shared_proxy.port, "GET", path)
        assert response.status == 200 and response.json()["status"] == "healthy", path
    assert auth_service.calls == []
    assert not any(b"mlflow/health" in seen.target or b"/health/mlflow" in seen.target for seen in upstream.requests)


def test_b_the_rest_path_at_the_root_keeps_its_prefix(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    """A client whose tracking URI is the bare host reaches the canonical path."""
    assert ask(shared_proxy, "POST", SEARCH, (), b"{}").status == 200
    assert only(upstream).target == SEARCH.encode()


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_c_a_body_is_forwarded_whatever_the_method(
    shared_proxy: Proxy, upstream: RecordingUpstream, method: str
) -> None:
    """The registry's DELETE calls carry their arguments in the body."""
    path = f"/api/2.0/mlflow/registered-models/{ {'DELETE': 'delete', 'PATCH': 'update', 'GET': 'get'}[method] }"
    for body in (b'{"name": "m"}', [b'{"name": ', b'"m"}']):
        upstream.reset()
        assert ask(shared_proxy, method, f"/api/mlflow{path}", (), body).status == 200
        assert only(upstream).body == b'{"name": "m"}'


def test_d_repeated_query_keys_do_not_collapse(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    """Every order_by, run_ids, trace_ids and experiment_ids arrives, in its order."""
    query = "?experiment_ids=1&experiment_ids=2&order_by=b&order_by=a&run_ids=x&run_ids=x"
    ask(shared_proxy, "GET", f"/mlflow{SEARCH}{query}")
    assert only(upstream).target == f"{SEARCH}{query}".encode()


def test_e_a_compressed_answer_keeps_its_bytes_length_and_headers(
    shared_proxy: Proxy, upstream: RecordingUpstream
) -> None:
    """Nothing is decompressed, and repeated headers are not merged."""
    body = gzip.compress(b"model" * 1000)
    repeated = [("Link", "<a>"), ("Link", "<b>, <c>")]
    framing = [("Content-Encoding", "gzip"), ("Content-Length", str(len(body)))]
    upstream.respond_with(200, [*framing, *repeated], body)
    response = ask(shared_proxy, "GET", f"/mlflow{ARTIFACT}", [("Accept-Encoding", "gzip")])
    assert response.complete and response.body == body
    assert response.header("Content-Encoding") == "gzip" and response.header("Content-Length") == str(len(body))
    assert response.values("Link") == ["<a>", "<b>, <c>"]


def test_f_no_answer_names_the_internal_server(proxy_env: dict[str, str]) -> None:
    """Neither the 502 of an unreachable MLflow nor health tells where it was looked for."""
    port = free_port()
    with Proxy({**proxy_env, "MLFLOW_SERVER_URL": f"http://localhost:{port}/hidden-base"}) as proxy:
        answers = [ask(proxy, "GET", f"/mlflow{path}") for path in (SEARCH, ARTIFACT)]
        answers += [request(proxy.port, "GET", path) for path in PROBE_PATHS]
    assert [response.status for response in answers] == [502, 502, 503, 503, 503, 503]
    for response in answers:
        for word in (str(port), "localhost", "127.0.0.1", "hidden-base", "http://", "Errno", "refused"):
            assert word.encode() not in response.raw, word


def test_g_a_key_in_the_query_is_refused_and_reaches_no_log(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    """It would stand in the access logs of the load balancer, of MLflow and of ours."""
    for query in (f"?api_key={GOOD_KEY}", f"?a=b&API_KEY={GOOD_KEY}", f"?apikey={GOOD_KEY}"):
        for headers in ([], [BEARER]):
            response = request(shared_proxy.port, "GET", f"/mlflow{SEARCH}{query}", headers)
            assert response.status in (400, 401) and GOOD_KEY.encode() not in response.raw
    assert upstream.requests == [] and auth_service.calls == []
    assert GOOD_KEY not in shared_proxy.output


def test_h_the_first_hop_of_forwarded_for_is_not_believed(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    """What a client writes on the left does not count: the load balancer's entry is the last one."""
    spoofed = [("X-Forwarded-For", "192.0.2.5, 192.0.2.6, 203.0.113.9"), ("X-Hokusai-Mtls", "yes")]
    assert request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", spoofed).status == 401
    key = ("Authorization", f"Bearer {auth_service.grant(new_key())}")  # one that nobody remembers
    assert request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", [key, *spoofed]).status == 200
    assert only(upstream).values("X-Forwarded-For") == [b"203.0.113.9"]
    assert {call.body["client_ip"] for call in auth_service.calls} == {"203.0.113.9"}


def test_i_scopes_go_by_the_route_and_not_by_words_in_the_path(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    """A read key downloads artifacts, and a name with `search` in it makes no write a read."""
    key = [("Authorization", f"Bearer {auth_service.grant(new_key(), scopes=['model:read'])}")]
    reads = [("GET", ARTIFACT), ("GET", f"{ARTIFACTS}/1/delete/create"), ("POST", "/api/2.0/mlflow/runs/search")]
    for method, path in reads:
        assert request(shared_proxy.port, method, f"/mlflow{path}", key).status == 200, path
    upstream.reset()
    for word in ("search", "get", "list", "download"):
        for method in ("PUT", "DELETE"):
            target = f"/mlflow{ARTIFACTS}/1/{word}/model.bin"
            refused = request(shared_proxy.port, method, target, key, b"x")
            assert_refused(refused, 403, "PERMISSION_DENIED")
        renamed = f"/mlflow/api/2.0/mlflow/registered-models/delete?name=/{word}"
        assert_refused(request(shared_proxy.port, "DELETE", renamed, key, b"{}"), 403, "PERMISSION_DENIED")
    assert upstream.requests == []


def test_j_health_asks_what_mlflow_can_answer(proxy_env: dict[str, str], upstream: RecordingUpstream) -> None:
    """The probes are valid calls, so that a healthy MLflow is called healthy."""

    def strict(conn: socket.socket, seen: Recorded) -> None:
        valid = b"/search" not in seen.target or b"max_results=" in seen.target
        body = b'{"experiments": []}' if valid else b'{"error_code": "INVALID_PARAMETER_VALUE"}'
        status = b"200 OK" if valid and b"get-history" not in seen.target else b"400 Bad Request"
        form = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        conn.sendall(form % (status, len(body), body))

    upstream.script(strict)
    with Proxy(proxy_env) as proxy:
        response = request(proxy.port, "GET", "/api/mlflow/health/mlflow/detailed")
    assert response.status == 200 and response.json()["status"] == "healthy"
    assert {check["status"] for check in response.json()["checks"].values()} == {"healthy"}


def test_k_artifacts_are_streamed_with_a_timeout_of_their_own(
    proxy_env: dict[str, str], upstream: RecordingUpstream
) -> None:
    """What is too slow for a JSON call is not for an artifact, whose first bytes do not wait for its last."""

    def slow(conn: socket.socket, _: Recorded) -> None:
        upstream.stopping.wait(0.8)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        upstream.stopping.wait(0.8)
        conn.sendall(b"-last")

    upstream.script(slow)
    with Proxy({**proxy_env, "READ_TIMEOUT_SECONDS": "0.4", "ARTIFACT_READ_TIMEOUT_SECONDS": "5"}) as proxy:
        assert ask(proxy, "GET", f"/mlflow{SEARCH}").status == 504
        came: list[bytes] = []
        assert ask(proxy, "GET", f"/mlflow{ARTIFACT}", sink=came.append).status == 200
        assert came == [b"first", b"-last"]


def test_l_the_rate_limit_works_without_redis(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    """The key's own limit holds, in process, and nobody is limited before it is known who asks."""
    key = [("Authorization", f"Bearer {auth_service.grant(new_key(), key_id='key-few', rate_limit_per_hour=3)}")]
    statuses = [request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", key).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", key)
    assert_refused(refused, 429, "REQUEST_LIMIT_EXCEEDED")
    assert 0 < int(refused.header("Retry-After") or 0) <= 3600
    assert ask(shared_proxy, "GET", f"/mlflow{SEARCH}").status == 200
    assert len(upstream.requests) == 4


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/mlflow/no/such", [BEARER], 404),
        (f"/mlflow{SEARCH}", [], 401),
        ("/mlflow/%2e%2e/x", [BEARER], 400),
        (f"/mlflow{SEARCH}", [BEARER, ("Content-Length", "x")], 400),
    ],
)
def test_m_an_error_has_the_shape_that_mlflow_clients_parse(
    shared_proxy: Proxy, upstream: RecordingUpstream, target: str, headers: list[tuple[str, str]], status: int
) -> None:
    """`{"detail": …}` is shown to users as INTERNAL_ERROR, whatever it says."""
    response = request(shared_proxy.port, "GET", target, headers)
    body = response.json()
    assert response.status == status and {"error_code", "message", "request_id"} <= set(body)


def test_n_no_key_is_stored_anywhere(proxy_env: dict[str, str], upstream: RecordingUpstream, tmp_path: Path) -> None:
    """Keys are kept as hashes: neither the key file nor any other file of the proxy's holds one."""
    own = {key: value for key, value in proxy_env.items() if key != "HOKUSAI_AUTH_SERVICE_URL"}
    own |= {"LOCAL_KEYS_PATH": str(tmp_path / "keys.json"), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "keys", "add", "--user", "alice"]
    environment = {"PATH": os.environ["PATH"], **own}
    added = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    key = added.stdout.strip()
    with Proxy(own) as proxy:
        assert request(proxy.port, "GET", f"/mlflow{SEARCH}", [("Authorization", f"Bearer {key}")]).status == 200
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files and not any(key.encode() in path.read_bytes() for path in files)
        assert key not in proxy.output
    assert json.loads((tmp_path / "keys.json").read_text())


def test_o_hop_by_hop_headers_expectations_and_ranges_are_handled(
    shared_proxy: Proxy, upstream: RecordingUpstream
) -> None:
    """RFC 9110: what is about one connection stays on it, Expect is answered, Range goes through."""
    token = secrets.token_hex(4)
    upstream.respond_with(
        206, [("Content-Range", "bytes 0-1/9"), ("Keep-Alive", token), ("Content-Length", "2")], b"ok"
    )
    hops = (("Connection", "keep-alive, X-Hop"), ("X-Hop", token), ("Keep-Alive", token), ("TE", token))
    more = (("Range", "bytes=0-1"), ("Expect", "100-continue"), ("Content-Length", "2"))
    with begun(shared_proxy, head("GET", f"/mlflow{ARTIFACT}", *hops, *more)) as sock:
        assert read_response(sock, stop_at_interim=True).status == 100
        sock.sendall(b"{}")
        response = read_response(sock)
    assert (response.status, response.header("Content-Range")) == (206, "bytes 0-1/9")
    assert token.encode() not in response.raw
    seen = only(upstream)
    assert token.encode() not in seen.raw_head
    assert seen.values("Range") == [b"bytes=0-1"] and seen.values("Expect") == []
