"""The image's promises, as far as they can be shown without a container engine: what the Dockerfile says, what a linter
says of it, and that the proxy runs where nothing can be written. tests/container builds the image and runs it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.process import clean_environment, free_port, kill_group, wait_for_health

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
READ_ONLY = ["unshare", "--mount", "sh", "-c", 'mount -o remount,ro,bind / / && exec "$@"', "sh"]


def instructions(name: str) -> list[str]:
    """The arguments of every instruction with this name, in order."""
    return re.findall(rf"^{name}\s+(.+)$", DOCKERFILE, re.MULTILINE)


def test_the_image_is_built_in_two_stages() -> None:
    assert len(instructions("FROM")) == 2


def test_gunicorn_is_process_1_and_gets_the_signals() -> None:
    assert json.loads(instructions("CMD")[-1]) == ["gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"]
    assert instructions("ENTRYPOINT") == []


def test_the_image_does_not_run_as_root() -> None:
    assert instructions("USER") == ["10001"]
    assert DOCKERFILE.index("\nUSER 10001") < DOCKERFILE.index("\nCMD")


def test_what_is_copied_is_just_what_the_builder_gets_to_see() -> None:
    """Every file of the repository below a COPY is let in, one by one: a new folder in app/ must be named there too."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert [line for line in lines if line and line[0] not in "#!"] == ["*"]
    copied = {source for line in instructions("COPY") if not line.startswith("--from") for source in line.split()[:-1]}
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *sorted(copied)]
    ours = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    let_in = [{str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)} for pattern in allowed]
    assert all(let_in)
    assert set().union(*let_in) == set(filter(None, ours))


def test_the_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    command = [str(hadolint), "--no-color", "--failure-threshold=style", "Dockerfile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_health_check_of_the_image_tells_a_dead_proxy_from_a_living_one() -> None:
    found = re.search(r"HEALTHCHECK.*?CMD\s+(\[.*\])", DOCKERFILE)
    assert found
    command = json.loads(found[1])
    assert "/health'" in command[2]
    dead = subprocess.run(
        [sys.executable, *command[1:]], env={**os.environ, "API_PORT": str(free_port())}, capture_output=True
    )
    assert dead.returncode != 0


def test_the_proxy_serves_and_drains_where_nothing_can_be_written(tmp_path: Path) -> None:
    if subprocess.run([*READ_ONLY, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us make a mount namespace, so no root can be made read-only")
    writable = subprocess.run([*READ_ONLY, "touch", str(tmp_path / "x")], capture_output=True)
    assert writable.returncode != 0, "the root is not read-only, so this test would show nothing"

    port = free_port()
    env = clean_environment(
        {
            "MLFLOW_SERVER_URL": "http://127.0.0.1:9",
            "HOKUSAI_AUTH_SERVICE_URL": "http://127.0.0.1:9",
            "API_PORT": str(port),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
    )
    env = {name: value for name, value in env.items() if not name.startswith("COV") and name != "HOME"}
    command = [*READ_ONLY, sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        wait_for_health(port, process, 20)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        kill_group(process.pid)
