"""The smoke test from outside, against the real proxy before the real MLflow, and against what is broken."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.auth_service import GOOD_KEY, AuthService
from tests.support.deploy_scene import KEY, ROOT, registry
from tests.support.mlflow_server import ENVIRONMENT
from tests.support.process import clean_environment, free_port
from tests.support.proxy import Proxy

SCRIPT = ROOT / "scripts" / "smoke_test.sh"


def smoke(url: str, *options: str, key: str = KEY, **environ: str) -> tuple[int, str]:
    """Run it: exit code, and what it wrote."""
    env = clean_environment({"HOME": os.sep, **({"HOKUSAI_API_KEY": key} if key else {}), **environ})
    done = subprocess.run(
        [SCRIPT, "--url", url, *options], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


@pytest.mark.usefixtures("auth_service")
def test_all_of_it_against_the_real_thing(real_proxy: Proxy, session_auth_service: AuthService, tmp_path: Path) -> None:
    code, written = smoke(
        real_proxy.url, key=GOOD_KEY, HOME=str(tmp_path), MLFLOW_PYTHON=str(ENVIRONMENT / "bin/python")
    )
    assert code == 0, written
    assert "Smoke test passed: 19 checks" in written
    assert re.search(r"PASSED: \d+ steps", written)
    assert GOOD_KEY not in written


def test_what_is_broken_is_named() -> None:
    with registry("/mlflow/health/mlflow") as (url, _):
        code, written = smoke(url, "--skip-registration")
    assert code == 1
    assert re.findall(r"^  XX  (\d+) .* (/\S+)$", written, re.MULTILINE) == [
        ("503", "/mlflow/health/mlflow"),
        ("503", "/mlflow/health/mlflow/detailed"),
    ]
    assert "it said: " in written and "MLflow does not answer" in written
    assert "Smoke test FAILED: 2 of 18 checks" in written


@pytest.mark.parametrize("says", [(200, {}), (401, {"detail": "API key required"})], ids=["MLflow", "the old proxy"])
def test_it_must_be_this_proxy_that_asks_for_a_key(says: tuple[int, dict[str, str]]) -> None:
    """The old rules sent /mlflow/* straight to MLflow, which asks for none."""
    with registry(keyless=says) as (url, _):
        code, written = smoke(url, "--skip-registration")
    assert code == 1 and len(re.findall(rf"^  XX  {says[0]}  .* without a key", written, re.MULTILINE)) == 3


def test_a_key_that_is_refused() -> None:
    with registry() as (url, _):
        code, written = smoke(url, "--skip-registration", key="another-key")
    assert code == 1 and len(re.findall(r"^  XX  401  .* with a key", written, re.MULTILINE)) == 9


def test_nobody_answers() -> None:
    code, written = smoke(f"http://127.0.0.1:{free_port()}", "--skip-registration")
    assert code == 1 and "no answer: curl: (7)" in written


def test_without_a_key_only_what_is_public_is_asked() -> None:
    with registry() as (url, seen):
        code, written = smoke(url, "--skip-registration", key="")
    assert code == 0 and "nothing is asked that needs a key" in written
    assert len(seen) == 9 and {credential for _, credential in seen} == {""}
    assert smoke(url, key="")[0] == 2


def test_the_key_is_in_no_argument(tmp_path: Path) -> None:
    """Arguments of a process can be read by everybody on the machine."""
    spy = tmp_path / "curl"
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/seen\nexec /usr/bin/curl "$@"\n')
    spy.chmod(0o755)
    with registry() as (url, seen):
        code, _ = smoke(url, "--skip-registration", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    arguments = (tmp_path / "seen").read_text()
    assert code == 0 and arguments.count("\n") == 18
    assert KEY not in arguments and f"Bearer {KEY}" in {credential for _, credential in seen}


@pytest.mark.parametrize("key", ["two words", 'quo"te', "back\\slash", "new\nline"])
def test_a_key_that_could_be_more_than_a_key_is_refused(key: str) -> None:
    code, written = smoke("http://127.0.0.1:9", "--skip-registration", key=key)
    assert code == 2 and "a character that no key has" in written and key not in written


@pytest.mark.parametrize(
    "url", ["http://registry.hokus.ai", "http://127.0.0.1.example.org", "ftp://x", "https://u:p@x"]
)
def test_the_key_travels_by_https_alone(url: str) -> None:
    code, written = smoke(url, "--skip-registration")
    assert code == 2 and "--url must be https" in written


def test_a_share_of_the_traffic_is_asked_for_until_it_comes() -> None:
    """One request in four reaches the new proxy; the others are answered by the old one, here with 503."""
    with registry("/api/mlflow/health") as (url, seen):
        code, _ = smoke(url, "--skip-registration", "--weight", "50")
    broken = [path for path, _ in seen if path == "/api/mlflow/health"]
    assert code == 1 and len(broken) == 10  # 0.5 ** 10 is the first below 0.001
    with registry() as (url, seen):
        assert smoke(url, "--skip-registration", "--weight", "5")[0] == 0
    assert len(seen) == 18


def test_no_share_of_the_traffic_is_no_test() -> None:
    with registry() as (url, seen):
        code, written = smoke(url, "--skip-registration", "--weight", "0")
    assert (code, seen) == (0, []) and "nothing was tested" in written


def test_a_dry_run_shows_what_it_would_ask() -> None:
    with registry() as (url, seen):
        code, written = smoke(url, "--dry-run")
    assert (code, seen) == (0, [])
    assert len(re.findall(r"^curl ", written, re.MULTILINE)) == 18 and "test_real_registration.py" in written
    assert KEY not in written
