"""Keys from a local file, with the command line that makes and revokes them, in front of a served proxy."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import RawResponse, request
from tests.support.process import REPOSITORY, clean_environment
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

SEARCH = "/mlflow/api/2.0/mlflow/experiments/search"
CREATE = "/mlflow/api/2.0/mlflow/experiments/create"
KEY = re.compile(r"hk_dev_[A-Za-z0-9_-]{43}")
Setup = tuple[Proxy, dict[str, str], Path]


@pytest.fixture(scope="module")
def setup(session_upstream: RecordingUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """A proxy with two workers whose key file does not exist yet, its environment, and the file."""
    path = tmp_path_factory.mktemp("keys") / "new" / "keys.json"
    env = {"MLFLOW_SERVER_URL": session_upstream.url, "LOCAL_KEYS_PATH": str(path), "PROXY_WORKERS": "2"}
    with Proxy(env) as proxy:
        yield proxy, env, path


@pytest.fixture(autouse=True)
def fresh(upstream: RecordingUpstream) -> RecordingUpstream:
    return upstream


def keys(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "keys", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=clean_environment(env), capture_output=True, text=True, timeout=30, check=False
    )


def add(env: dict[str, str], *arguments: str) -> str:
    made = keys(env, "add", *arguments)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def ask(proxy: Proxy, key: str, method: str = "GET", target: str = SEARCH) -> RawResponse:
    return request(
        proxy.port, method, target, [("Authorization", f"Bearer {key}")], b"{}" if method == "POST" else None
    )


def test_a_key_works_from_when_it_is_made_until_it_is_revoked_without_a_restart(
    setup: Setup, upstream: RecordingUpstream
) -> None:
    proxy, env, path = setup
    key = add(env, "--user", "alice")
    assert KEY.fullmatch(key)
    assert [ask(proxy, key).status for _ in range(6)] == [200] * 6
    entries = json.loads(path.read_text())["keys"]
    [key_id] = [entry["key_id"] for entry in entries if entry["user_id"] == "alice"]
    assert upstream.requests[0].values("X-Hokusai-User-Id") == [b"alice"]
    assert upstream.requests[0].values("X-Hokusai-API-Key-Id") == [key_id.encode()]
    assert keys(env, "revoke", key_id).returncode == 0
    time.sleep(1.0)  # what is promised; no event tells when both workers have looked at the file
    assert [ask(proxy, key).status for _ in range(6)] == [401] * 6


def test_the_key_is_shown_once_and_the_file_holds_only_its_hash(setup: Setup) -> None:
    proxy, env, path = setup
    made = keys(env, "add", "--user", "bob")
    key = made.stdout.strip()
    assert made.stdout == key + "\n" and KEY.fullmatch(key) and key not in made.stderr
    assert ask(proxy, key).status == 200
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for file in path.parent.iterdir():
        assert key not in file.read_text() and key[7:] not in file.read_text()
    listed = keys(env, "list")
    assert "bob" in listed.stdout and "model:write" in listed.stdout and key not in listed.stdout
    assert key not in proxy.output


def test_a_key_has_the_scopes_it_was_made_with(setup: Setup) -> None:
    proxy, env, _ = setup
    reader, writer = add(env, "--user", "carol", "--scope", "model:read"), add(env, "--user", "dave")
    assert [ask(proxy, reader).status, ask(proxy, reader, "POST", CREATE).status] == [200, 403]
    assert ask(proxy, reader, "POST", CREATE).json()["current_scopes"] == ["model:read"]
    assert [ask(proxy, writer).status, ask(proxy, writer, "POST", CREATE).status] == [200, 200]


def test_the_hash_in_the_file_is_no_key(setup: Setup) -> None:
    proxy, env, path = setup
    add(env, "--user", "erin")
    for entry in json.loads(path.read_text())["keys"]:
        assert [ask(proxy, entry["sha256"]).status, ask(proxy, entry["key_id"]).status] == [401, 401]


def test_what_cannot_be_done_is_said_with_an_exit_code(setup: Setup, tmp_path: Path) -> None:
    _, env, path = setup
    before = path.read_text()
    assert keys(env, "revoke", "no-such-id").returncode != 0
    for user in ("", "a b", "x" * 129, "line\nbreak"):
        failed = keys(env, "add", "--user", user)
        assert failed.returncode != 0 and failed.stdout == "" and "Traceback" not in failed.stderr
    assert path.read_text() == before
    without = {"MLFLOW_SERVER_URL": "http://127.0.0.1:9", "HOKUSAI_AUTH_SERVICE_URL": "http://127.0.0.1:9"}
    failed = keys(without, "add", "--user", "alice")
    assert failed.returncode != 0 and "LOCAL_KEYS_PATH" in failed.stderr
    failed = keys({**env, "LOCAL_KEYS_PATH": str(tmp_path)}, "add", "--user", "alice")
    assert failed.returncode != 0 and failed.stdout == "" and "Traceback" not in failed.stderr


@pytest.mark.parametrize("content", ["", "{", "[]", '{"keys": [{}]}', '{"keys": 1}', "\xff"])
def test_a_file_that_cannot_be_read_is_an_outage_and_no_bad_key(setup: Setup, content: str) -> None:
    proxy, env, path = setup
    key = add(env, "--user", "frank")
    good = path.read_bytes()
    try:
        path.write_bytes(content.encode("latin-1"))
        response = ask(proxy, key)
    finally:
        path.write_bytes(good)
    assert (response.status, response.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert str(path) not in response.raw.decode()
    assert ask(proxy, key).status == 200
