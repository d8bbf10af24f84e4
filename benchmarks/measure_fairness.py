"""How long others wait: /health is asked every 20 ms, on new connections, while the only worker is busy."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from benchmarks.background import running, slow_uploads, wait_for_open
from benchmarks.client import download, get, upload
from benchmarks.load import percentile, significant
from benchmarks.measure_transfers import PATH
from benchmarks.plan import Plan
from benchmarks.targets import Target, line_up, stub
from scripts.dev.terminal import progress

EVERY_SECONDS = 0.020


def measure(plan: Plan, directory: Path) -> dict[str, dict[str, float]]:
    """Gives `fairness`: the 99th percentile of /health in milliseconds, in three situations, of a one-worker proxy."""
    size = plan.fair_bytes
    found = {}
    with stub(directory) as direct, line_up(["proxy"], direct.port, directory, workers=1) as targets:
        proxy = Target("proxy's health", targets["proxy"].port)
        for way, transfer, path in (("upload", upload, PATH), ("download", download, f"{PATH}?size={size}")):
            with progress(f"fairness: during one {way}"):
                found[f"health_p99_ms_during_{way}"] = _during(
                    proxy, plan.least_probes, transfer, targets["proxy"], path, size
                )
        with progress(f"fairness: {plan.slow_uploads} slow uploads open"):
            with running(slow_uploads, targets["proxy"], PATH, plan.slow_uploads) as alive:
                wait_for_open(direct, plan.slow_uploads, alive)
                latencies = _probe(proxy, alive, plan.least_probes)
        found["health_p99_ms_500_slow"] = significant(percentile(latencies, 0.99) * 1000)
    return {"fairness": found}


def _during(proxy: Target, least: int, transfer: Callable[..., float], *arguments: object) -> float:
    """Transfers one after the other, until /health was asked often enough for a percentile."""
    latencies: list[float] = []
    while len(latencies) < least:
        with running(transfer, *arguments) as alive:
            latencies += _probe(proxy, alive)
    return significant(percentile(latencies, 0.99) * 1000)


def _probe(proxy: Target, alive: Callable[[], bool], most: int | None = None) -> list[float]:
    """Ask on schedule, whether or not the last answer has come, while `alive()`; gives the latencies in seconds."""
    with ThreadPoolExecutor(64) as pool:
        asked: list[Future[tuple[float, bytes]]] = []
        due = time.monotonic()
        while alive() and (most is None or len(asked) < most):
            asked.append(pool.submit(get, proxy, "/health"))
            due += EVERY_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))
        return [future.result()[0] for future in asked]
