"""The AWS that moto plays: a server of .venv-infra, and the environment in which `aws` and boto3 find it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.process import clean_environment, free_port, kill_group, wait_for_health

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / ".venv-infra" / "bin"
REGION = "us-east-1"


def missing() -> str:
    """Why moto cannot be used on this machine, or nothing if it can."""
    return "" if (INFRA / "moto_server").exists() else "no .venv-infra on this machine: make infra-env makes it"


@contextmanager
def moto(**settings: str) -> Iterator[dict[str, str]]:
    """A moto of one's own, empty: the environment for those who shall speak to it. `settings` are moto's (MOTO_...)."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="moto-") as home, tempfile.TemporaryFile() as log:
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
        process = subprocess.Popen(
            [str(INFRA / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
            cwd=home,
            env=clean_environment({"HOME": home, **credentials, **settings}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for_health(port, process, 60.0, "/moto-api/")
            yield {**credentials, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "HOME": home}
        finally:
            kill_group(process.pid)
            process.wait()
