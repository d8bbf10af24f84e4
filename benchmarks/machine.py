"""On what, with what and when it was measured."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from benchmarks.tools import path_of
from tests.support.mlflow_server import ENVIRONMENT
from tests.support.process import REPOSITORY

OURS = ("gunicorn", "gevent", "flask", "requests", "urllib3")


def machine() -> dict[str, str | int]:
    """Processor, memory and kernel."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model[1] if model else platform.machine(),
        "memory_gb": round(memory / 1e9),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Of everything that took part."""
    found = {
        "nginx": _number([path_of("nginx"), "-v"]),
        "haproxy": _number([path_of("haproxy"), "-v"]),
        "wrk": _number([path_of("wrk"), "-v"]),
        "python": platform.python_version(),
    }
    found |= {name: importlib.metadata.version(name) for name in OURS}
    code = "import importlib.metadata as m; print(m.version('mlflow'), m.version('uvicorn'))"
    numbers = _output([str(ENVIRONMENT / "bin" / "python"), "-c", code]).split()
    return found | dict(zip(("mlflow", "uvicorn"), numbers, strict=False))


def commit() -> str:
    """The commit that was measured, with `-dirty` when files were changed; empty outside of a repository."""
    command = ["git", "--no-optional-locks", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    found = _output(command).strip()
    return found if re.fullmatch(r"[\w.-]+", found) else ""


def _number(command: list[str]) -> str:
    match = re.search(r"\d+\.\d+[\w.+-]*", _output(command))
    return match[0] if match else ""


def _output(command: list[str]) -> str:
    """What a command writes, wherever to; some exit with 1 when asked for their version."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return ""
    return result.stdout + result.stderr
