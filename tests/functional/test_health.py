"""Health (contract, section 6): what is answered, how fast, and what it costs MLflow."""

from __future__ import annotations

import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.auth_service import GOOD_KEY
from tests.support.client import RawResponse, open_connection, read_response, request
from tests.support.faults import closed_port
from tests.support.fleet import Start
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream

SUMMARIES = ("/api/mlflow/health/mlflow", "/mlflow/health/mlflow")
DETAILED = tuple(f"{path}/detailed" for path in SUMMARIES)
CHECKS = ("connectivity", "experiments_api", "models_api", "artifacts_api")
LIVE = ("/health", "/live", "/ready", "/api/mlflow/health", "/mlflow/health")
ASKER_WAITS_SECONDS = 5.0  # the SDK's probe; a load balancer's is as long
FRESH_SECONDS = 2.0
HOST_REJECTED = b"Invalid Host header - possible DNS rebinding attack detected"


@pytest.fixture
def proxy(start: Start, proxy_env: dict[str, str]) -> Proxy:
    """A proxy of one's own: what was found out before is remembered for two seconds."""
    return start(proxy_env)


def statuses(response: RawResponse) -> dict[str, str]:
    return {name: check["status"] for name, check in response.json()["checks"].items()}


def names_something_internal(response: RawResponse, *secret: str) -> list[str]:
    text = response.raw.decode("latin-1")
    return [word for word in ("127.0.0.1", "localhost", "http", "Traceback", ".py", *secret) if word in text[9:]]


@pytest.mark.parametrize("path", LIVE)
def test_liveness_is_a_small_json_object_and_does_not_ask_mlflow(
    shared_proxy: Proxy, upstream: RecordingUpstream, path: str
) -> None:
    response = request(shared_proxy.port, "GET", path)
    assert (response.status, response.header("Content-Type")) == (200, "application/json")
    assert response.json()["status"] == "ok" and set(response.json()) == {"status", "version"}
    assert not upstream.requests


@pytest.mark.parametrize("path", [*LIVE, *SUMMARIES, *DETAILED])
def test_a_head_is_answered_as_the_get_without_a_body(
    shared_proxy: Proxy, upstream: RecordingUpstream, path: str
) -> None:
    with open_connection(shared_proxy.port) as connection:
        for method in ("HEAD", "GET"):
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            response = read_response(connection, method)
            assert (response.status, response.complete) == (200, True)


@pytest.mark.parametrize("path", SUMMARIES)
def test_a_healthy_mlflow_is_reported_by_its_three_apis(
    shared_proxy: Proxy, upstream: RecordingUpstream, path: str
) -> None:
    response = request(shared_proxy.port, "GET", path)
    assert (response.status, response.json()["status"]) == (200, "healthy")
    assert set(response.json()) == {"status", "checks"}
    assert statuses(response) == dict.fromkeys(CHECKS, "healthy")
    assert all(set(check) == {"status", "message"} for check in response.json()["checks"].values())
    assert names_something_internal(response, str(upstream.port)) == []


def test_the_detailed_report_adds_numbers_versions_and_configuration(proxy: Proxy, upstream: RecordingUpstream) -> None:
    upstream.respond_with(200, [("Content-Type", "text/plain"), ("Content-Length", "6")], b"3.17.2")
    response = request(proxy.port, "GET", DETAILED[0])
    report = response.json()
    assert (response.status, set(report)) == (200, {"status", "checks", "versions", "configuration"})
    assert report["versions"]["mlflow"] == "3.17.2" and report["versions"]["proxy"]
    for check in report["checks"].values():
        assert set(check) == {"status", "message", "status_code", "response_time_ms", "error_class"}
        assert check["status_code"] == 200 and 0 < check["response_time_ms"] < 1000
    assert report["configuration"]["upstream_auth"] == "strip" and report["configuration"]["serve_artifacts"] is True
    assert names_something_internal(response, str(upstream.port)) == []


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, HOST_REJECTED, "upstream_host_rejected"),
        (500, b"<p>/srv/mlflow.db</p>", "status_500"),
        (401, b"", "status_401"),
    ],
)
def test_an_mlflow_that_refuses_is_unhealthy(
    proxy: Proxy, upstream: RecordingUpstream, status: int, body: bytes, kind: str
) -> None:
    upstream.respond_with(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))], body)
    summary, detailed = (request(proxy.port, "GET", path) for path in (SUMMARIES[0], DETAILED[0]))
    assert (summary.status, detailed.status, summary.json()["status"]) == (503, 503, "unhealthy")
    assert statuses(summary) == dict.fromkeys(CHECKS, "unhealthy")
    assert {check["error_class"] for check in detailed.json()["checks"].values()} == {kind}
    assert names_something_internal(detailed, str(upstream.port), "srv", "rebinding") == []
    assert request(proxy.port, "GET", "/health").status == 200


def test_one_api_that_fails_is_told_from_the_others(proxy: Proxy, upstream: RecordingUpstream) -> None:
    def answer(conn: socket.socket, recorded: Recorded) -> None:
        status = b"500 Oops" if b"registered-models" in recorded.target else b"200 OK"
        conn.sendall(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\n{}" % status)

    upstream.script(answer)
    response = request(proxy.port, "GET", SUMMARIES[1])
    assert response.status == 503
    assert statuses(response) == {**dict.fromkeys(CHECKS, "healthy"), "models_api": "unhealthy"}


def test_an_mlflow_that_is_away_is_unhealthy(start: Start, proxy_env: dict[str, str]) -> None:
    with closed_port() as port:
        proxy = start({**proxy_env, "MLFLOW_SERVER_URL": f"http://127.0.0.1:{port}"})
        response = request(proxy.port, "GET", DETAILED[1])
        assert (response.status, set(statuses(response).values())) == (503, {"unhealthy"})
        assert names_something_internal(response, str(port)) == []


def test_an_mlflow_that_hangs_is_reported_before_the_asker_gives_up(proxy: Proxy, upstream: RecordingUpstream) -> None:
    def hang(conn: socket.socket, recorded: Recorded) -> None:
        if upstream.stopping.wait(30):
            conn.close()

    upstream.script(hang)
    try:
        response = request(proxy.port, "GET", SUMMARIES[0], timeout=ASKER_WAITS_SECONDS)
    finally:
        upstream.reset()
        upstream.drop_connections()
    assert (response.status, statuses(response)["connectivity"]) == (503, "unhealthy")


def test_twenty_askers_at_once_cost_mlflow_one_round_of_probes(proxy: Proxy, upstream: RecordingUpstream) -> None:
    def slowly(conn: socket.socket, recorded: Recorded) -> None:
        time.sleep(0.05)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    upstream.script(slowly)
    paths = (SUMMARIES + DETAILED) * 5
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda path: request(proxy.port, "GET", path).status, paths))
    assert found == [200] * 20
    asked = [recorded.target for recorded in upstream.requests]
    assert len(asked) == len(set(asked)) <= 6, asked


def test_what_was_found_out_is_given_again_for_two_seconds(proxy: Proxy, upstream: RecordingUpstream) -> None:
    assert request(proxy.port, "GET", SUMMARIES[0]).status == 200
    taken = time.monotonic()
    first = len(upstream.requests)
    upstream.respond_with(500, body=b"{}")
    assert request(proxy.port, "GET", DETAILED[1]).status == 200
    assert len(upstream.requests) == first
    time.sleep(max(0.0, taken + FRESH_SECONDS + 0.1 - time.monotonic()))
    assert request(proxy.port, "GET", SUMMARIES[0]).status == 503
    assert len(upstream.requests) == 2 * first


def test_artifacts_that_are_switched_off_are_no_illness(
    start: Start, proxy_env: dict[str, str], upstream: RecordingUpstream
) -> None:
    proxy = start({**proxy_env, "MLFLOW_SERVE_ARTIFACTS": "false"})
    response = request(proxy.port, "GET", SUMMARIES[0])
    assert (response.status, response.json()["status"]) == (200, "healthy")
    assert statuses(response)["artifacts_api"] == "disabled"
    assert not [recorded for recorded in upstream.requests if b"artifacts" in recorded.target]


def test_the_probes_go_the_way_of_the_traffic(
    start: Start, proxy_env: dict[str, str], upstream: RecordingUpstream
) -> None:
    """The same Host, the same service credential, the same static prefix and path style."""
    credential = f"Bearer {secrets.token_urlsafe(24)}"
    env = {**proxy_env, "MLFLOW_UPSTREAM_AUTH": "replace", "MLFLOW_UPSTREAM_AUTHORIZATION": credential}
    proxy = start({**env, "MLFLOW_API_STYLE": "ajax-api", "MLFLOW_SERVER_URL": upstream.url + "/prefix"})
    target = "/mlflow/api/2.0/mlflow/experiments/search"
    assert request(proxy.port, "GET", target, [("X-API-Key", GOOD_KEY)]).status == 200
    assert request(proxy.port, "GET", SUMMARIES[0]).status == 200
    report = request(proxy.port, "GET", DETAILED[0])
    traffic, *probes = upstream.requests
    assert len(probes) >= 4
    assert {recorded.target.split(b"/")[1] for recorded in probes} == {b"prefix"}
    assert {recorded.target.split(b"/")[2] for recorded in probes if b"2.0" in recorded.target} == {b"ajax-api"}
    for name in ("Host", "Authorization"):
        assert {tuple(recorded.values(name)) for recorded in probes} == {tuple(traffic.values(name))}
    assert traffic.values("Authorization") == [credential.encode()]
    assert credential not in report.raw.decode() and "prefix" not in report.raw.decode()
