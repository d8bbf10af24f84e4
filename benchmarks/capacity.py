"""How many tasks for how many users: the scaling model on the command line.

    python -m benchmarks.capacity --users 500 --upload-gb-hour 200 --download-gb-hour 800

Reads what `make bench` measured, asks nothing else. Exit code 0, or 2 for input that makes no sense. The model itself
is benchmarks/capacity_model.py; what it assumes, and how far it can be trusted, is in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import capacity_page
from benchmarks.capacity_model import Demand, Task, costs_of, size
from benchmarks.capacity_text import as_json, as_text
from scripts.dev.terminal import say
from tests.support.process import REPOSITORY

LATEST = REPOSITORY / "benchmarks" / "results" / "latest.json"
FARGATE_VCPUS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def main(arguments: list[str]) -> int:
    """Print the sizing, or renew the page. Gives the exit code; leaves by SystemExit(2) when the input is bad."""
    parser = make_parser()
    chosen = parser.parse_args(arguments)
    try:
        results = read(chosen.results)
        if chosen.write_docs:
            capacity_page.renew(results)
            say(f"written: {capacity_page.PAGE}")
            return 0
        demand, task, costs = demand_of(chosen), task_of(chosen), costs_of(results)
        sizing = size(demand, task, costs)
    except ValueError as error:
        parser.error(str(error))
    say(as_json(results, demand, task, costs, sizing) if chosen.json else as_text(results, demand, task, sizing))
    return 0


def read(path: Path) -> dict[str, Any]:
    """A results file. Raises ValueError when there is none, or it is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as results of `make bench`: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no results of `make bench`")
    return found


def number_of(least: float, most: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """What argparse takes a number with: from `least` (or above it) to `most`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not (value > least if above else value >= least) or not value <= most or value == math.inf:
            bound = f"above {least:g}" if above else f"{least:g} or more"
            raise argparse.ArgumentTypeError(
                f"{text} is not {bound}" + (f" and at most {most:g}" if most < math.inf else "")
            )
        return value

    return convert


def whole(least: int) -> Callable[[str], int]:
    """What argparse takes a whole number with."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} or more")
        return int(text)

    return convert


def vcpus(text: str) -> float:
    """A size that Fargate has."""
    if (value := number_of(0, above=True)(text)) not in FARGATE_VCPUS:
        raise argparse.ArgumentTypeError(
            f"Fargate has {', '.join(f'{one:g}' for one in FARGATE_VCPUS)} vCPUs, not {text}"
        )
    return value


def make_parser() -> argparse.ArgumentParser:
    """The command line's words; those that are not given are the model's own defaults."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = dataclasses.asdict(Task()) | dataclasses.asdict(Demand(1))
    for name, field, kind, text in OPTIONS:
        shown = "" if "default" in text or field == "users" else f" (default {defaults[field]:g})"
        parser.add_argument(f"--{name}", dest=field, type=kind, metavar="N", help=text + shown)
    parser.add_argument("--results", type=Path, default=LATEST, help="a results file of `make bench`")
    parser.add_argument("--json", action="store_true", help="all of it as JSON")
    parser.add_argument("--write-docs", action="store_true", help="renew the tables of docs/scaling.md, nothing else")
    return parser


SOME, NONE_TOO = number_of(0, above=True), number_of(0)
OPTIONS: list[tuple[str, str, Callable[[str], Any], str]] = [
    ("users", "users", whole(1), "users at work in that hour"),
    ("requests-per-user-hour", "requests_per_user_hour", NONE_TOO, "requests of one user, transfers included"),
    ("upload-gb-hour", "upload_gb_hour", NONE_TOO, "GB up in an hour, of all users (default: 0.4 for each)"),
    ("download-gb-hour", "download_gb_hour", NONE_TOO, "GB down in an hour, of all users (default: 1.6 for each)"),
    ("peak", "peak", number_of(1), "the busiest minute over the hour's average"),
    ("client-mb-s", "client_mb_s", SOME, "how fast one transfer goes at its client"),
    ("connections-per-user", "connections_per_user", NONE_TOO, "open to the load balancer"),
    ("requests-per-connection", "requests_per_connection", number_of(1), "before a client opens a new one"),
    ("mlflow-weight", "mlflow_weight", SOME, "what a request costs MLflow, in the cheap ones of `make bench`"),
    ("task-vcpu", "vcpu", vcpus, "size of a task of the proxy"),
    ("task-memory-mib", "memory_mib", whole(512), "its memory"),
    ("workers", "workers", whole(1), "PROXY_WORKERS (default: two for each vCPU)"),
    ("task-network-mb-s", "network_mb_s", SOME, "what it can carry each way: measure it"),
    ("core-factor", "core_factor", SOME, "a vCPU over a core of the benchmark: measure it"),
    ("target-cpu", "target_cpu", number_of(0, 1, above=True), "how much of a task's processor time to use"),
    ("transfers-per-worker", "transfers_per_worker", whole(1), "TRANSFERS_IN_ALL"),
    ("auth-cache-seconds", "auth_cache_seconds", NONE_TOO, "AUTH_CACHE_SECONDS"),
    ("listener-rules", "listener_rules", whole(1), "rules of the load balancer's listener"),
]


def given(chosen: argparse.Namespace, kind: type[Demand] | type[Task]) -> dict[str, Any]:
    """The words that are fields of a dataclass, and were given."""
    found = {field.name: getattr(chosen, field.name, None) for field in dataclasses.fields(kind)}
    return {name: value for name, value in found.items() if value is not None}


def demand_of(chosen: argparse.Namespace) -> Demand:
    """The demand. Bytes that were not given are those of the users in docs/scaling.md. Raises ValueError."""
    if chosen.users is None:
        raise ValueError("say how many --users there are")
    by_users = {
        "upload_gb_hour": chosen.users * capacity_page.UPLOAD_GB_PER_USER_HOUR,
        "download_gb_hour": chosen.users * capacity_page.DOWNLOAD_GB_PER_USER_HOUR,
    }
    return Demand(**(by_users | given(chosen, Demand)))


def task_of(chosen: argparse.Namespace) -> Task:
    """The task, with two workers for each vCPU, and at least two, unless their number was given."""
    words = given(chosen, Task)
    return Task(**({"workers": max(2, round(2 * words.get("vcpu", Task.vcpu)))} | words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
