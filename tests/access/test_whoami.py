"""whoami over the wire: any valid key, both mounts, and nobody else asked than who vouches for the key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.functional.keyed import ask, assert_nobody_was_asked, assert_refused
from tests.support.auth_service import GOOD_KEY, AuthService, new_key
from tests.support.client import request
from tests.support.mlflow_server import run_client
from tests.support.process import REPOSITORY, clean_environment
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

PATHS = ("/api/mlflow/whoami", "/mlflow/whoami")
Headers = list[tuple[str, str]]


def bearer(key: str) -> Headers:
    return [("Authorization", f"Bearer {key}")]


def whoami(proxy: Proxy, key: str, path: str = PATHS[0], headers: Headers | None = None) -> dict[str, Any]:
    response = request(proxy.port, "GET", path, [*bearer(key), *(headers or [])])
    assert (response.status, response.header("Content-Type")) == (200, "application/json")
    assert response.header("Cache-Control") == "no-store"
    assert key not in response.raw.decode()
    body: dict[str, Any] = response.json()
    return body


@pytest.mark.parametrize("path", PATHS)
def test_a_key_is_told_what_it_is_and_may_do(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, path: str
) -> None:
    key = auth_service.grant(
        new_key(),
        user_id="alice",
        key_id="key-alice",
        scopes=["model:write", "model:read"],
        rate_limit_per_hour=500,
        email="alice@example.org",
        roles=["scientist"],
        expires_at="2999-01-31T00:00:00Z",
    )
    told = whoami(shared_proxy, key, path)
    assert set(told) == {
        *("key_id", "user_id", "email", "scopes", "roles", "is_admin", "expires_at", "limits", "families", "settings")
    }
    assert (told["key_id"], told["user_id"], told["email"]) == ("key-alice", "alice", "alice@example.org")
    assert (told["scopes"], told["roles"], told["is_admin"]) == (["model:read", "model:write"], ["scientist"], False)
    assert told["expires_at"] == "2999-01-31T00:00:00+00:00"
    assert told["limits"]["rate_limit_per_hour"] == 500
    assert "registry.models" in told["families"]["read"] and "registry.models" in told["families"]["write"]
    assert told["families"]["admin"] == told["families"]["use"] == []
    assert upstream.requests == []


def test_a_key_without_any_scope_may_ask_too(shared_proxy: Proxy, auth_service: AuthService) -> None:
    key = auth_service.grant(new_key(), user_id="bob", key_id="key-bob", scopes=[])
    told = whoami(shared_proxy, key)
    assert (told["user_id"], told["scopes"], told["email"], told["expires_at"]) == ("bob", [], None, None)
    assert told["families"]["write"] == [] and "tracking.runs" in told["families"]["read"]


def test_what_is_left_of_a_limit_is_told_and_grows_less(shared_proxy: Proxy, auth_service: AuthService) -> None:
    key = auth_service.grant(new_key(), user_id="dora", key_id="key-dora", scopes=[], rate_limit_per_hour=500)
    first, second = (whoami(shared_proxy, key)["limits"] for _ in range(2))
    assert set(first) == {"rate_limit_per_hour", "hour", "burst"}
    assert set(first["hour"]) == set(first["burst"]) == {"limit", "seconds", "remaining", "reset_seconds"}
    assert (first["hour"]["limit"], first["hour"]["seconds"]) == (500, 3600)
    assert (first["hour"]["remaining"], second["hour"]["remaining"]) == (499, 498)


def test_without_a_good_key_it_is_401_as_everywhere(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    for path in PATHS:
        assert_refused(request(shared_proxy.port, "GET", path), 401, "UNAUTHENTICATED")
        assert_refused(request(shared_proxy.port, "GET", path, bearer(new_key())), 401, "UNAUTHENTICATED")
    page = request(shared_proxy.port, "GET", PATHS[0], [("Accept", "text/html")])
    assert page.header("WWW-Authenticate") == 'Basic realm="Hokusai MLflow"'


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/whoami"),
        ("GET", "/api/whoami"),
        *(("GET", path + end) for path in PATHS for end in ("/", "/x", "x", "%20")),
        *((method, path) for path in PATHS for method in ("POST", "PUT", "PATCH", "DELETE")),
    ],
)
def test_it_is_nowhere_else(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, method: str, path: str
) -> None:
    assert_refused(ask(shared_proxy, method, path), 404, "ENDPOINT_NOT_FOUND")
    assert_nobody_was_asked(upstream, auth_service)


def test_head_and_options_are_those_of_a_get(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    for path in PATHS:
        head = ask(shared_proxy, "HEAD", path)
        assert (head.status, head.body) == (200, b"") and int(head.header("Content-Length") or 0) > 500
        options = request(shared_proxy.port, "OPTIONS", path)
        assert (options.status, options.header("Allow")) == (204, "GET, HEAD, OPTIONS")
    assert upstream.requests == []


def test_its_line_in_the_log_names_it(shared_proxy: Proxy) -> None:
    response = ask(shared_proxy, "GET", PATHS[1])
    line = shared_proxy.access_line(response.header("X-Request-ID") or "")
    assert [line[name] for name in ("family", "action", "outcome", "key_id", "upstream_status")] == [
        *("whoami", "whoami.get", "ok", "key-good", 0)
    ]


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("registry.hokus.ai", "https://registry.hokus.ai"),
        ("API.hokus.ai:443", "https://api.hokus.ai"),
        ("evil.example", "https://registry.hokus.ai"),
        ("localhost:8001", "http://localhost:8001"),
    ],
)
def test_the_settings_name_a_host_of_ours_whatever_the_client_says(shared_proxy: Proxy, host: str, origin: str) -> None:
    told = whoami(shared_proxy, GOOD_KEY, headers=[("Host", host), ("X-Forwarded-Host", "evil.example")])
    assert all(f"{origin}/api/mlflow" in text for text in told["settings"].values())
    assert "evil" not in json.dumps(told)


def test_a_locked_registry_is_not_among_what_a_writer_may_change(proxy_env: dict[str, str]) -> None:
    with Proxy({**proxy_env, "REGISTRY_LOCKDOWN": "true", "REGISTRY_ADMIN_SCOPES": "owner"}) as proxy:
        told = whoami(proxy, GOOD_KEY)
    assert "registry.models" in told["families"]["read"] and "tracking.runs" in told["families"]["write"]
    assert "registry.models" not in told["families"]["write"]


def test_a_local_key_is_told_when_it_ends(upstream: RecordingUpstream, tmp_path: Path) -> None:
    env = {"MLFLOW_SERVER_URL": upstream.url, "LOCAL_KEYS_PATH": str(tmp_path / "keys.json")}
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "keys", "add", "--user", "carol"]
    made = subprocess.run(
        [*command, "--expires", "2999-01-31", "--scopes", "model:read", "--rate-limit", "60"],
        cwd=REPOSITORY,
        env=clean_environment(env),
        capture_output=True,
        text=True,
        check=True,
    )
    with Proxy(env) as proxy:
        told = whoami(proxy, made.stdout.strip())
    assert (told["user_id"], told["scopes"], told["expires_at"]) == (
        "carol",
        ["model:read"],
        "2999-01-31T00:00:00+00:00",
    )
    assert told["limits"]["rate_limit_per_hour"] == 60


def test_the_settings_for_python_work_as_they_are_pasted(real_proxy: Proxy) -> None:
    """The key filled in, nothing else changed, in a client that was told nothing else."""
    settings = whoami(real_proxy, GOOD_KEY)["settings"]["python"].replace("<your key>", GOOD_KEY)
    program = settings + "print(mlflow.get_experiment('0').name)\n"
    done = run_client(program, {})
    assert (done.returncode, done.stdout.strip()) == (0, "Default"), done.stderr
