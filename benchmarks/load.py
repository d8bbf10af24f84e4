"""Small requests, as many as fit: wrk, with its latencies."""

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.targets import HERE, Target
from benchmarks.tools import path_of
from scripts.dev.terminal import Trouble

MARK = "RESULT "


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw."""

    p50_ms: float
    p99_ms: float
    rps: float
    requests: int


def put_load(target: Target, connections: int, seconds: float) -> Load:
    """Ask for the target's small answer again and again. Raises Trouble when one of the answers was no success."""
    headers = [part for name, value in target.headers.items() for part in ("-H", f"{name}: {value}")]
    # wrk counts whole seconds only
    command = [path_of("wrk"), "-t1", f"-c{connections}", f"-d{max(1, math.ceil(seconds))}s", *headers]
    url = f"http://127.0.0.1:{target.port}{target.prefix}{target.small}"
    result = subprocess.run(
        [*command, "-s", str(HERE / "wrk.lua"), url], capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith(MARK)]
    if result.returncode or not lines:
        raise Trouble(f"wrk failed at {target.name}: {(result.stdout + result.stderr).strip()[-500:]}")
    seen = json.loads(lines[0].removeprefix(MARK))
    if seen["errors"] or not seen["requests"]:
        raise Trouble(f"{target.name}: {seen['errors']} of {seen['requests']} small requests failed")
    return Load(seen["p50_us"] / 1000, seen["p99_us"] / 1000, seen["requests"] / seen["seconds"], seen["requests"])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def in_turn(targets: Mapping[str, Target], number: int) -> list[tuple[str, Target]]:
    """The targets of a round: every other one backwards, so that nobody always follows the same neighbour."""
    pairs = list(targets.items())
    return pairs[::-1] if number % 2 else pairs


def medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over the rounds, to four significant digits."""
    return {name: significant(median(row[name] for row in rows)) for name in rows[0]}


def significant(value: float) -> float:
    """Four significant digits: more would claim to mean something."""
    return float(f"{value:.4g}")
