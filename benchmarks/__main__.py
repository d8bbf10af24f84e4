"""The command line. Exit code 0 when everything was measured, whatever came out; 1 when something could not be."""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import (
    capacity_page,
    machine,
    measure_fairness,
    measure_memory,
    measure_mlflow,
    measure_small,
    measure_transfers,
    profiled,
    report,
    tools,
)
from benchmarks.plan import FULL, QUICK, Plan
from scripts.dev.checkout import Checkout
from scripts.dev.environments import Environment
from scripts.dev.terminal import Trouble, complain, say
from tests.support.process import REPOSITORY, kill_group

SECTIONS: dict[str, Callable[[Plan, Path], Mapping[str, Any]]] = {
    "small": measure_small.measure,
    "transfers": measure_transfers.measure,
    "mlflow": measure_mlflow.measure,
    "memory": measure_memory.measure,
    "fairness": measure_fairness.measure,
    "profile": profiled.measure,
}
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGE = REPOSITORY / "docs" / "performance.md"
DESCRIPTORS = 8192  # of files: 500 uploads are 1000 connections of the proxy


def main(arguments: list[str]) -> int:
    """Measure, print, write. Gives the exit code."""
    chosen = parse(arguments)
    whole = not chosen.only and not chosen.quick
    results_in = chosen.results or (RESULTS if whole else Checkout(REPOSITORY).local / "benchmark")
    signal.signal(signal.SIGTERM, interrupt)
    try:
        prepare(not chosen.only or "profile" in chosen.only)
        results, troubles = measure(chosen.only or list(SECTIONS), QUICK if chosen.quick else FULL)
        say("\n" + report.for_terminal(results) + "\n")
        if troubles:  # what is there stays: half a run must not take the place of a whole one
            raise Trouble("\n".join([*troubles, "Nothing was written."]))
        write(results, results_in, chart=not chosen.only)
        if whole and results_in == RESULTS:
            report.update_page(PAGE, results)
            capacity_page.renew(results)
    except Trouble as trouble:
        complain(str(trouble))
        return 1
    except KeyboardInterrupt:
        end_children()
        return 130
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line's words."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: only shows that it works")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="one section; may be repeated")
    parser.add_argument("--results", type=Path, help="the directory for latest.json and chart.png")
    return parser.parse_args(arguments)


def interrupt(number: int, frame: types.FrameType | None) -> NoReturn:
    """SIGTERM ends a run as Ctrl-C does: with everything stopped."""
    raise KeyboardInterrupt


def end_children() -> None:
    """End what was just being started when the interruption came, so that nobody had a hold of it yet."""
    this = os.getpid()
    for child in Path(f"/proc/{this}/task/{this}/children").read_text().split():
        kill_group(int(child))


def prepare(environment: bool) -> None:
    """See that everything is there that is needed. Raises Trouble."""
    tools.install()
    if environment:
        checkout, needs = Checkout(REPOSITORY), ("requirements-bench.txt",)
        Environment(checkout, REPOSITORY / ".venv-bench", "the chart and the profile", needs).ensure()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


def measure(sections: list[str], plan: Plan) -> tuple[dict[str, Any], list[str]]:
    """All figures of the sections, and what they were measured on; and why sections are missing that failed."""
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "versions": machine.versions(),
    }
    troubles = []
    for name in sections:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
            try:
                results.update(SECTIONS[name](plan, Path(directory)))
            except (Trouble, OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
                troubles.append(f"{name} could not be measured: {error}")
    return results, troubles


def write(results: dict[str, Any], directory: Path, chart: bool) -> None:
    """Write latest.json, and chart.png when there is everything to draw it."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "latest.json"
    file.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    say(f"written: {file}")
    if chart:
        python = str(REPOSITORY / ".venv-bench" / "bin" / "python")
        command = [python, "-m", "benchmarks.chart", str(file), str(directory / "chart.png")]
        result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if result.returncode:
            raise Trouble(f"the chart could not be drawn: {result.stderr.strip()[-500:]}")
        say(f"written: {directory / 'chart.png'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
