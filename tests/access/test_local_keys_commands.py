"""`flask --app wsgi keys` beside a proxy that serves: other scopes hold, and a key whose time is over is no key."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client import RawResponse, request
from tests.support.process import REPOSITORY, clean_environment
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

CREATE = "/mlflow/api/2.0/mlflow/experiments/create"
SEARCH = "/mlflow/api/2.0/mlflow/experiments/search"


@pytest.fixture(scope="module")
def env(session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return {"MLFLOW_SERVER_URL": session_upstream.url, "LOCAL_KEYS_PATH": str(path), "PROXY_WORKERS": "2"}


@pytest.fixture(scope="module")
def proxy(env: dict[str, str]) -> Iterator[Proxy]:
    with Proxy(env) as running:
        yield running


def keys(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "keys", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=clean_environment(env), capture_output=True, text=True, timeout=30, check=True
    )


def ask(proxy: Proxy, key: str, method: str, target: str) -> RawResponse:
    body = b"{}" if method == "POST" else None
    return request(proxy.port, method, target, [("Authorization", f"Bearer {key}")], body)


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it holds within five seconds: a worker may look at the file only now and then."""
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_other_scopes_hold_without_a_restart(proxy: Proxy, env: dict[str, str], upstream: RecordingUpstream) -> None:
    key = keys(env, "add", "--user", "alice", "--scopes", "model:read").stdout.strip()
    assert soon(lambda: ask(proxy, key, "GET", SEARCH).status == 200)
    assert ask(proxy, key, "POST", CREATE).status == 403
    listed = keys(env, "list").stdout.splitlines()
    [line] = [line for line in listed if "alice" in line.split()]
    assert listed[0].split() == ["ID", "USER", "SCOPES", "LIMIT", "CREATED", "EXPIRES"]
    assert line.split()[1:4] == ["alice", "model:read", "1000/h"] and line.split()[5] == "never"
    keys(env, "scopes", line.split()[0], "--set", "model:read,model:write")
    # Both workers, whichever answers: the connections of one process are not those of the other.
    assert soon(lambda: {ask(proxy, key, "POST", CREATE).status for _ in range(10)} == {200})


def test_a_key_is_refused_from_the_moment_its_time_is_over(
    proxy: Proxy, env: dict[str, str], upstream: RecordingUpstream
) -> None:
    key = keys(env, "add", "--user", "bob", "--expires", "12h").stdout.strip()
    assert soon(lambda: ask(proxy, key, "GET", SEARCH).status == 200)
    path = Path(env["LOCAL_KEYS_PATH"])
    content = json.loads(path.read_text())
    [entry] = [entry for entry in content["keys"] if entry["user_id"] == "bob"]
    entry["expires_at"] = "2001-01-01T00:00:00+00:00"
    path.write_text(json.dumps(content))
    assert soon(lambda: {ask(proxy, key, "GET", SEARCH).status for _ in range(10)} == {401})
    refused, unknown = ask(proxy, key, "GET", SEARCH).json(), ask(proxy, key + "x", "GET", SEARCH).json()
    assert {**refused, "request_id": ""} == {**unknown, "request_id": ""}  # as one that never was
    assert "(over)" in keys(env, "list").stdout
