"""R01, R02 and R04 to R08 of the catalogue: how many requests get through, and what the answers say of it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.access.asking import TARGET, ask, ask_at_once
from tests.access.limited import admitted, fields, limited_key, served_by
from tests.functional.keyed import ARTIFACT, assert_refused
from tests.support.auth_service import AuthService
from tests.support.client import request
from tests.support.fleet import fleet
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.upstream import RecordingUpstream

Served = Callable[[int], Proxy]
both = pytest.mark.parametrize("workers", [1, 4])
RATES = {"RATE_LIMIT_BURST": "200 per 10 seconds"}


@pytest.fixture(scope="module")
def redis_of_all() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def shared(
    redis_of_all: RedisServer, session_upstream: RecordingUpstream, session_auth_service: AuthService
) -> Iterator[Served]:
    """Gives the proxy with so many workers that counts in Redis."""
    env = {"MLFLOW_SERVER_URL": session_upstream.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    env |= {"REDIS_URL": redis_of_all.url, **RATES}
    running: dict[int, Proxy] = {}
    with fleet() as start:

        def proxy(workers: int) -> Proxy:
            if workers not in running:
                running[workers] = start({**env, "PROXY_WORKERS": str(workers)})
            return running[workers]

        yield proxy


@pytest.fixture(autouse=True)
def servers(upstream: RecordingUpstream, auth_service: AuthService) -> None:
    """Every test finds both servers as they are meant to be."""


# --- R01, R02: how many ---


@both
def test_r01_exactly_as_many_as_the_limit(shared: Served, auth_service: AuthService, workers: int) -> None:
    proxy = shared(workers)
    for limit in (1, 20, 75):
        key = limited_key(auth_service, limit)
        answers = ask_at_once(proxy, [key] * (limit + 1))
        statuses = sorted(response.status for response in answers)
        assert statuses == [200] * limit + [429], limit
        assert admitted(proxy, key, 40) == 0


def test_r01_four_workers_count_together(shared: Served, auth_service: AuthService) -> None:
    """Until every worker has served: none lets one through that the others have not left room for."""
    proxy, served = shared(4), 0
    deadline = time.monotonic() + 20
    while served < 4:
        assert time.monotonic() < deadline, "some worker got nothing to do"
        key = limited_key(auth_service, 50)
        answers = ask_at_once(proxy, [key] * 150, together=48)
        assert [response.status for response in answers].count(200) == 50
        served = max(served, len(served_by(proxy, answers)))


def test_r01_two_tasks_count_together(
    shared: Served, redis_of_all: RedisServer, proxy_env: dict[str, str], auth_service: AuthService
) -> None:
    key = limited_key(auth_service, 10)
    with Proxy({**proxy_env, "REDIS_URL": redis_of_all.url}) as other:
        assert admitted(shared(1), key, 6) == 6
        assert admitted(other, key, 6) == 4


@both
def test_r01_the_limit_for_a_burst_is_exact_too(shared: Served, auth_service: AuthService, workers: int) -> None:
    key = limited_key(auth_service, 1_000_000)
    answers = ask_at_once(shared(workers), [key] * 230)
    assert [response.status for response in answers].count(200) == 200
    refused = next(response for response in answers if response.status == 429)
    assert 1 <= int(refused.header("Retry-After") or 0) <= 10
    assert "200 requests per 10 seconds" in refused.json()["message"]
    # What the burst refused does not count in the hour.
    assert fields(refused, "RateLimit")["hour"]["r"] == 1_000_000 - 200


def test_r02_without_redis_each_worker_counts_for_itself_and_says_so(
    proxy_env: dict[str, str], auth_service: AuthService
) -> None:
    key = limited_key(auth_service, 10)
    with Proxy({**proxy_env, "PROXY_WORKERS": "4"}) as proxy:
        warnings = proxy.lines("rate_limits_per_process")
        assert [(line["workers"], line["level"]) for line in warnings] == [(4, "WARNING")]
        answers = ask_at_once(proxy, [key] * 120, together=32)
        by_worker = served_by(proxy, answers)
        passed = served_by(proxy, [response for response in answers if response.status == 200])
        assert passed == {worker: min(10, requests) for worker, requests in by_worker.items()}


def test_with_redis_it_says_that_the_limits_are_shared(shared: Served) -> None:
    assert len(shared(4).lines("rate_limits_shared")) == 1
    assert shared(4).lines("rate_limits_per_process") == []


# --- R04: what MLflow says about limits ---


@pytest.mark.parametrize(
    "retry_after", ["1.5", "soon", "-1", "", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT"]
)
def test_r04_mlflows_own_limit_headers_break_nothing(
    shared: Served, upstream: RecordingUpstream, auth_service: AuthService, retry_after: str
) -> None:
    theirs = [
        ("X-RateLimit-Limit", "theirs"), ("X-RateLimit-Remaining", "theirs"), ("x-ratelimit-reset", "theirs"),
        ("RateLimit-Policy", "theirs"), ("RateLimit", "theirs"), ("RateLimit-Remaining", "theirs"),
    ]  # fmt: skip
    body = b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "busy"}'
    length = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    upstream.respond_with(503, [("Retry-After", retry_after), *theirs, *length], body)
    key = limited_key(auth_service, 10)
    for used in (1, 2):
        response = ask(shared(1), key)
        assert (response.status, response.body, response.header("Retry-After")) == (503, body, retry_after)
        assert b"theirs" not in response.raw
        assert fields(response, "RateLimit")["hour"]["r"] == 10 - used
        assert len(response.values("X-RateLimit-Remaining")) == 1


# --- R06: whose count it is ---


@pytest.mark.parametrize("ids", [("a.b", "a:b"), ("a", "a:"), ("x" * 127 + "1", "x" * 127 + "2")])
def test_r06_no_two_keys_share_a_count(shared: Served, auth_service: AuthService, ids: tuple[str, str]) -> None:
    for key_id in ids:
        assert admitted(shared(1), limited_key(auth_service, 2, key_id), 4) == 2, key_id


def test_two_keys_of_one_id_share_theirs(shared: Served, auth_service: AuthService) -> None:
    """A key that is rotated keeps its id, and what it has used."""
    assert admitted(shared(1), limited_key(auth_service, 3, "rotated"), 2) == 2
    assert admitted(shared(1), limited_key(auth_service, 3, "rotated"), 2) == 1


def test_redis_holds_no_key(shared: Served, redis_of_all: RedisServer, auth_service: AuthService) -> None:
    key = limited_key(auth_service, 2)
    admitted(shared(1), key, 3)
    held = str(redis_of_all.dump())
    assert "hokusai-mlflow-proxy:limits:key:" in held
    assert key not in held and key[8:] not in held and "hk_" not in held
    assert key not in shared(1).output


# --- R07: what is not limited ---


def test_r07_health_options_and_unknown_paths_are_never_limited(shared: Served, auth_service: AuthService) -> None:
    proxy, key = shared(1), limited_key(auth_service, 1)
    assert admitted(proxy, key, 3) == 1
    bearer = [("Authorization", f"Bearer {key}")]
    expected = {"/health": 200, "/ready": 200, "/api/mlflow/health": 200, "/mlflow/nowhere": 404}
    for target, status in expected.items():
        for _ in range(20):
            response = request(proxy.port, "GET", target, bearer)
            assert response.status == status
            assert "ratelimit" not in str(response.headers).lower()
    assert request(proxy.port, "OPTIONS", TARGET, bearer).status == 204
    assert ask(proxy, key).status == 429


def test_transfers_are_bounded_by_how_many_run_at_once_and_not_by_rate(
    shared: Served, auth_service: AuthService
) -> None:
    proxy, key = shared(1), limited_key(auth_service, 1)
    assert admitted(proxy, key, 3) == 1
    for method in ("GET", "PUT"):
        for _ in range(5):
            assert ask(proxy, key, f"/mlflow{ARTIFACT}", method).status == 200
    for method, target in (("DELETE", ARTIFACT), ("GET", "/api/2.0/mlflow-artifacts/artifacts?path=1")):
        assert ask(proxy, key, f"/mlflow{target}", method).status == 429, target


# --- R08: what the answers say ---


def test_r08_every_answer_behind_the_limits_says_what_is_left(
    shared: Served, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    proxy, key = shared(1), limited_key(auth_service, 5)
    reader = auth_service.grant(key, key_id="limited-reader", scopes=["model:read"], rate_limit_per_hour=5)
    bearer = [("Authorization", f"Bearer {reader}")]
    forbidden = request(proxy.port, "POST", "/mlflow/api/2.0/mlflow/runs/create", bearer, b"{}")
    browser = request(proxy.port, "GET", "/mlflow", bearer)
    upstream.respond_with(500, [("Content-Type", "text/html"), ("Content-Length", "4")], b"<p/>")
    page = request(proxy.port, "GET", TARGET, bearer)
    for used, (response, status) in enumerate(((forbidden, 403), (browser, 308), (page, 500)), 1):
        assert response.status == status
        assert fields(response, "RateLimit-Policy") == {"hour": {"q": 5, "w": 3600}, "burst": {"q": 200, "w": 10}}
        assert fields(response, "RateLimit")["hour"]["r"] == 5 - used
        assert response.header("X-RateLimit-Remaining") == str(5 - used)


def test_r08_a_refusal_says_when_to_come_again(shared: Served, auth_service: AuthService) -> None:
    proxy, key = shared(1), limited_key(auth_service, 2)
    first = ask(proxy, key)
    assert first.header("Retry-After") is None
    admitted(proxy, key, 3)
    refused = ask(proxy, key)
    body = assert_refused(refused, 429, "REQUEST_LIMIT_EXCEEDED")
    seconds = int(refused.header("Retry-After") or 0)
    assert 3590 <= seconds <= 3601
    assert body["message"] == f"429: this key used up its limit of 2 requests per hour. Try again in {seconds} s."
    assert fields(refused, "RateLimit")["hour"] == {"r": 0, "t": seconds}
    limit = [refused.header(f"X-RateLimit-{name}") for name in ("Limit", "Remaining")]
    assert limit == ["2", "0"]
    assert abs(int(refused.header("X-RateLimit-Reset") or 0) - time.time() - seconds) < 3
    line = proxy.access_line(str(refused.header("X-Request-ID")))
    assert (line["outcome"], line["error_kind"], line["key_id"] != "") == ("rate_limited", "rate_hour", True)


def test_r08_who_waits_as_long_as_told_is_let_in(
    proxy_env: dict[str, str], redis_server: RedisServer, auth_service: AuthService
) -> None:
    env = {**proxy_env, "REDIS_URL": redis_server.url, "RATE_LIMIT_BURST": "3 per second"}
    key = limited_key(auth_service, 1000)
    with Proxy(env) as proxy:
        for _ in range(2):
            answers = [ask(proxy, key) for _ in range(5)]
            refused = next(response for response in answers if response.status == 429)
            time.sleep(int(refused.header("Retry-After") or 0))
            assert ask(proxy, key).status == 200


def test_a_new_rate_of_the_auth_services_holds_from_the_next_validation_on(
    proxy_env: dict[str, str], redis_server: RedisServer, auth_service: AuthService
) -> None:
    """What was used before still counts."""
    env = {**proxy_env, "REDIS_URL": redis_server.url, "AUTH_CACHE_SECONDS": "0.3", "AUTH_CACHE_HARD_SECONDS": "0.6"}
    key = limited_key(auth_service, 3, "changing")
    with Proxy(env) as proxy:
        assert admitted(proxy, key, 6) == 3
        auth_service.grant(key, key_id="changing", scopes=["model:read"], rate_limit_per_hour=5)
        deadline = time.monotonic() + 10
        while ask(proxy, key).header("X-RateLimit-Limit") != "5":
            assert time.monotonic() < deadline
        assert admitted(proxy, key, 6) <= 2
        assert fields(ask(proxy, key), "RateLimit")["hour"]["r"] == 0


def test_production_names_of_redis_are_understood(proxy_env: dict[str, str], auth_service: AuthService) -> None:
    secret = "of-this-test/:@"  # made up
    key = limited_key(auth_service, 2)
    with RedisServer("--requirepass", secret) as server:
        env = {**proxy_env, "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.port), "REDIS_AUTH_TOKEN": secret}
        with Proxy(env) as proxy:
            assert admitted(proxy, key, 4) == 2
            assert proxy.lines("rate_limit_storage_down") == []
            assert secret not in proxy.output


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
@pytest.mark.parametrize("trusted", [True, False])
def test_redis_is_spoken_to_by_tls_and_only_when_its_certificate_is_trusted(
    proxy_env: dict[str, str], auth_service: AuthService, tmp_path: Path, trusted: bool
) -> None:
    made = "-keyout key -out cert -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made.split()]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    cert, key = str(tmp_path / "cert"), str(tmp_path / "key")
    tls = ["--port", "0", "--tls-port", "{port}", "--tls-auth-clients", "no", "--tls-ca-cert-file", cert]
    with RedisServer(*tls, "--tls-cert-file", cert, "--tls-key-file", key) as server:
        url = server.url.replace("redis://", "rediss://") + (f"/0?ssl_ca_certs={cert}" if trusted else "")
        with Proxy({**proxy_env, "REDIS_URL": url}) as proxy:
            assert admitted(proxy, limited_key(auth_service, 2), 4) == 2
            assert len(proxy.lines("rate_limit_storage_down")) == (0 if trusted else 1)
