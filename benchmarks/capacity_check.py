"""The model against `make bench`: what the costs say the benchmark's own rates should be, and what they were.

Costs are processor time, read from /proc; rates are counted by the client. The one is not derived from the other, so
that they agree says that processor time is what bounds the proxy, and that the model may divide by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.capacity_model import figures

WORKERS = 1  # of the proxy in those measures: benchmarks/measure_small.py, benchmarks/measure_transfers.py
SHARING = 2  # others that want the same cores meanwhile: the load generator and the upstream
# Both figures are medians over five rounds, not always of the same round; processor time is counted in whole ticks of
# 10 ms, of which a transfer of 1 GiB takes some seventy.
COUNTING = 0.05


@dataclass(frozen=True)
class Check:
    """One rate: as predicted, as measured, and between what it must lie if the model is right."""

    rate: str
    predicted: float
    measured: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.low <= self.measured <= self.high


def rate_per_s(cost_s: float, others_s: float, workers: int, cores: float) -> float:
    """How many pieces of work a second: as many as the workers can do, or all who take part on all cores together.

    `cost_s` and `others_s` are processor seconds for one piece, the workers' and everybody else's.
    """
    return min(workers / cost_s, cores / (cost_s + others_s))


def checks(results: Mapping[str, Any]) -> list[Check]:
    """Small requests, uploads and downloads of a results file. Raises ValueError naming what is missing in it."""
    return [small(results), transfer(results, "upload", "download"), transfer(results, "download", "upload")]


def small(results: Mapping[str, Any]) -> Check:
    """Sixteen connections always want an answer: the worker never waits, unless for a core.

    No more than its own cost allows. And no less than a fair scheduler leaves to one of three who want two cores: two
    thirds of one. More cores need not mean more, since a scheduler likes to keep together who wakes whom.
    """
    cost_ms, measured, upstream_ms, direct_per_s, cores = figures(
        results,
        "small.proxy.cpu_ms_per_request",
        "small.proxy.rps",
        "small.direct.cpu_ms_per_request",
        "small.direct.rps",
        "machine.cores",
    )
    own_per_s = 1000 / cost_ms
    # Without a proxy in between: the upstream's own time, and at most one core of wrk, which has one thread.
    others_s = upstream_ms / 1000 + 1 / direct_per_s
    return Check(
        rate="small requests per second",
        predicted=rate_per_s(cost_ms / 1000, others_s, WORKERS, cores),
        measured=measured,
        low=own_per_s * min(cores, 2) / (WORKERS + SHARING) * (1 - COUNTING),
        high=own_per_s * WORKERS * (1 + COUNTING),
    )


def transfer(results: Mapping[str, Any], way: str, other_way: str) -> Check:
    """One transfer is a chain of three with buffers in between, who sometimes wait for each other.

    If nobody ever waited, the proxy's own cost would be all. If everybody always waited, its work would come on top of
    the time that the same transfer takes without it. The truth is in between.
    """
    cost_s, measured, sending_s, receiving_s, direct_mb_s, cores = figures(
        results,
        f"{way}.proxy.cpu_s_per_gb",
        f"{way}.proxy.mb_s",
        f"{way}.direct.cpu_s_per_gb",
        # The client's own cost is not measured; what it does one way, the upstream does the other way.
        f"{other_way}.direct.cpu_s_per_gb",
        f"{way}.direct.mb_s",
        "machine.cores",
    )
    return Check(
        rate=f"{way} of 1 GiB, MB/s",
        predicted=rate_per_s(cost_s, sending_s + receiving_s, WORKERS, cores) * 1000,
        measured=measured,
        low=1000 / (cost_s + 1000 / direct_mb_s) * (1 - COUNTING),
        high=1000 / cost_s * (1 + COUNTING),
    )


def room_above_mlflow(results: Mapping[str, Any]) -> dict[str, float]:
    """How many times as much one worker of the proxy does as one MLflow process. Raises ValueError as `checks` does."""
    pairs = {
        "small requests": ("small.proxy.rps", "mlflow.direct.rps"),
        "upload": ("upload.proxy.mb_s", "mlflow.direct.upload_mb_s"),
        "download": ("download.proxy.mb_s", "mlflow.direct.download_mb_s"),
    }
    found = {}
    for name, paths in pairs.items():
        ours, theirs = figures(results, *paths)
        found[name] = ours / theirs
    return found
