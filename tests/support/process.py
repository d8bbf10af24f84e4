"""Child processes of the tests: a clean environment, a free port, a process group that is stopped as a whole."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_PASSED_THROUGH = re.compile(r"PATH|LANG|COVERAGE_.*|COV_CORE_.*")


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """PATH, LANG and what coverage needs in a child process, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if _PASSED_THROUGH.fullmatch(name)}
    if kept.pop("COVERAGE_PROCESS_CONFIG", None):
        # The tests' own setting would be handed down, which leaves greenlets out (Makefile); a proxy is made of them.
        kept["COVERAGE_PROCESS_START"] = str(REPOSITORY / "pyproject.toml")
        kept["COVERAGE_FILE"] = str(REPOSITORY / ".coverage")
    return {**kept, **extra}


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def kill_group(group: int) -> bool:
    """SIGKILL every process of the group; True when there was one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
        return True
    return False


def end_group(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """SIGTERM, up to `timeout` seconds for it, then SIGKILL for the whole group; True when it had ended by itself."""
    died_alone = process.poll() is not None
    process.terminate()
    ended_within(process, timeout)
    kill_group(process.pid)
    process.wait()
    return died_alone


def wait_for_health(port: int, process: subprocess.Popen[bytes], timeout: float, path: str = "/health") -> None:
    """Return at the first 200; RuntimeError when the process ends or the time (seconds) is over before.

    After that, or any other error, nothing of its group is left.
    """
    deadline = time.monotonic() + timeout
    try:
        while not _answers_200(port, path):
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with exit code {process.returncode} before it was ready")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server did not answer {path} with 200 within {timeout} s")
            time.sleep(0.05)
    except BaseException:
        kill_group(process.pid)
        process.wait()
        raise


def _answers_200(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def ended_within(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Wait up to `timeout` seconds; True when the process has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout)
        return True
    return False
