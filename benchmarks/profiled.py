"""Where the time of a small request goes: py-spy's samples of a busy worker, by library and by module of ours."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.load import put_load
from benchmarks.plan import Plan
from benchmarks.targets import line_up, stub
from scripts.dev.terminal import complain, progress
from tests.support.process import REPOSITORY

PY_SPY = REPOSITORY / ".venv-bench" / "bin" / "py-spy"
PER_SECOND = 250
CONNECTIONS = 16  # enough to keep the worker busy: py-spy cannot tell gevent's waiting from its working
FILE = re.compile(r"\((.+?):\d+\)$")  # the end of a frame: `name (path/to/file.py:12)`
PACKAGE = re.compile(r"/site-packages/([^/.]+)")
OURS = f"{REPOSITORY}/app/"
IDLE = "/gevent/_threading.py"  # a thread of gevent's pool, waiting for name look-ups to do
REST = "others"
LEAST = 0.01  # smaller shares are counted together


def measure(plan: Plan, directory: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Gives `profile`: shares of the time, largest first; empty, with a remark, where py-spy may not look."""
    record = directory / "py-spy.txt"
    with stub(directory) as direct, line_up(["proxy"], direct.port, directory, workers=1) as targets:
        proxy = targets["proxy"]
        assert proxy.server is not None, "the proxy is a server of ours"
        (worker,) = proxy.server.workers
        put_load(proxy, CONNECTIONS, 1)
        command = [str(PY_SPY), "record", "--pid", str(worker), "--format", "raw", "--full-filenames"]
        command += ["--rate", str(PER_SECOND), "--duration", str(max(1, int(plan.profile_seconds)))]
        load = threading.Thread(target=put_load, args=(proxy, CONNECTIONS, plan.profile_seconds + 2))
        with progress("profile of the proxy under small requests"):
            load.start()
            result = subprocess.run([*command, "--output", str(record)], capture_output=True, text=True, check=False)
            load.join()
    if result.returncode or not record.exists():
        complain(f"no profile: {(result.stderr.strip() or 'py-spy wrote nothing').splitlines()[-1]}")
        return {"profile": {}}
    samples = record.read_text()
    return {"profile": {"by_library": shares(samples, library), "by_module": shares(samples, module)}}


def shares(samples: str, charged: Callable[[Sequence[str]], str]) -> dict[str, float]:
    """Of py-spy's lines `frame;frame;… count`, the share of each of those who are charged for the stacks of frames."""
    counted: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        paths = [found[1] for frame in stack.split(";") if (found := FILE.search(frame))]
        if paths and not paths[-1].endswith(IDLE):
            counted[charged(paths)] += int(count)
    total = counted.total()
    large = {name: count / total for name, count in counted.most_common() if count / total >= LEAST and name != REST}
    rest = 1 - sum(large.values())
    return {name: round(share, 3) for name, share in {**large, REST: rest}.items() if share >= LEAST / 2}


def library(paths: Sequence[str]) -> str:
    """The innermost package, or the proxy. The standard library counts as whoever called it."""
    for path in reversed(paths):
        if package := PACKAGE.search(path):
            return package[1]
        if path.startswith(OURS):
            return "the proxy's own code"
    return REST


def module(paths: Sequence[str]) -> str:
    """The innermost module of the proxy's, with all it called; without one, the time is gunicorn's and gevent's."""
    for path in reversed(paths):
        if path.startswith(OURS) and path != f"{OURS}worker.py":
            name = path.removeprefix(OURS)
            return "edge.py, and Flask inside it" if name == "edge.py" else name
    return "none: gunicorn and gevent"
