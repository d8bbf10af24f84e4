"""The AWS that moto plays: a server of .venv-infra, and the environment in which `aws` and boto3 find it."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.process import clean_environment, free_port, kill_group, wait_for_health

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / ".venv-infra" / "bin"
REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


def missing() -> str:
    """Why moto cannot be used on this machine, or nothing if it can."""
    return "" if (INFRA / "moto_server").exists() else "no .venv-infra on this machine: make infra-env makes it"


@contextlib.contextmanager
def moto(
    program: Sequence[str] = (str(INFRA / "moto_server"),), home: Path | None = None, **settings: str
) -> Iterator[dict[str, str]]:
    """A moto of one's own, empty: the environment for those who shall speak to it. `settings` are moto's (MOTO_...).

    `program` takes moto_server's options; it runs in `home`, or in a folder that goes at the end, and logs to moto.log
    there. RuntimeError with the end of that log when it does not come.
    """
    with contextlib.ExitStack() as stack:
        folder = home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moto-")))
        port, log = free_port(), stack.enter_context((folder / "moto.log").open("wb"))
        process = subprocess.Popen(
            [*program, "-H", "127.0.0.1", "-p", str(port)],
            cwd=folder,
            env=clean_environment({"HOME": str(folder), **CREDENTIALS, **settings}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            try:
                wait_for_health(port, process, 60.0, "/moto-api/")
            except RuntimeError as failure:
                raise RuntimeError(f"{failure}: {(folder / 'moto.log').read_text()[-1000:]}") from None
            yield {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "HOME": str(folder)}
        finally:
            kill_group(process.pid)
            process.wait()
