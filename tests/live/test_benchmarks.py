"""`python -m benchmarks` against real servers: all is started, measured, written and stopped. No figure is judged.

The smallest part of it, in its quick form: `make bench` itself takes minutes, and a machine of its own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import tools
from scripts.dev.terminal import Trouble
from tests.support.process import clean_environment

REPOSITORY = Path(__file__).resolve().parents[2]
PART = ["--quick", "--only", "small", "--only", "transfers"]
SMALL = {"p50_ms", "p99_ms", "rps", "cpu_ms_per_request"}
TRANSFER = {"mb_s", "cpu_s_per_gb"}
SECONDS = 120.0


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """nginx, HAProxy and wrk, installed where that can be done."""
    try:
        tools.install()
    except Trouble as trouble:
        pytest.skip(str(trouble))


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the run knows: a place of its own for everything temporary, of which nothing may be left."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    yield clean_environment({"TMPDIR": str(temporary)})
    assert left_behind(str(temporary)) == []
    assert list(temporary.iterdir()) == []


def left_behind(place: str) -> list[str]:
    """The command lines of the processes that hold a file open in a directory: each of the servers writes its log."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()).startswith(place) for link in (process / "fd").iterdir()):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile, or is none of ours
            continue
    return found


def test_a_quick_run_writes_every_figure_of_its_parts(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "benchmarks", *PART, "--results", str(tmp_path / "results")]
    run = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    latest = json.loads((tmp_path / "results" / "latest.json").read_text())
    assert {name: set(row) for name, row in latest["small"].items()} == dict.fromkeys(
        ("direct", "nginx", "haproxy", "hello", "proxy"), SMALL
    )
    for way in ("upload", "download"):
        assert {name: set(row) for name, row in latest[way].items()} == dict.fromkeys(
            ("direct", "nginx", "haproxy", "proxy"), TRANSFER
        )
    figures = [
        value for part in ("small", "upload", "download") for row in latest[part].values() for value in row.values()
    ]
    assert all(isinstance(value, float) and value >= 0 for value in figures)
    assert latest["machine"]["cores"] >= 1 and latest["versions"]["nginx"] and latest["date"]
    assert "upload of 1 GiB ÷ nginx's" in run.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_leaves_nothing_behind(
    number: signal.Signals, tmp_path: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "benchmarks", *PART, "--results", str(tmp_path / "results")]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL) as run:
        try:
            deadline = time.monotonic() + 30
            while len(left_behind(environment["TMPDIR"])) < 4 and time.monotonic() < deadline:
                time.sleep(0.1)
            started = left_behind(environment["TMPDIR"])
            run.send_signal(number)
            assert run.wait(30) == 130
        finally:
            run.kill()
    assert len(started) >= 4, started
    assert not (tmp_path / "results").exists()


def test_what_cannot_be_measured_makes_the_run_fail(tmp_path: Path, environment: dict[str, str]) -> None:
    """A PATH without wrk's like: what is missing is named, and nothing is written."""
    code = (
        "import sys; from benchmarks import __main__ as b, tools; "
        "tools.SEARCH = '/nowhere'; tools.install = lambda: None; sys.exit(b.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *PART, "--results", str(tmp_path / "results")]
    run = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 1
    assert "is not installed" in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "results").exists()
