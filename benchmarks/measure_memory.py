"""What the proxy's workers hold while much passes through them."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.client import download, upload
from benchmarks.load import put_load, significant
from benchmarks.measure_transfers import PATH
from benchmarks.plan import MIB, Plan
from benchmarks.targets import Target, line_up, stub
from scripts.dev.terminal import progress

WORKERS = 2  # as many as the proxy has by default


def measure(plan: Plan, directory: Path) -> dict[str, dict[str, float]]:
    """Gives `memory`: the most that all workers together held above what they held idle, in MB."""

    def one_upload(target: Target) -> None:
        upload(target, PATH, plan.upload_bytes)

    def many(target: Target) -> None:
        _parallel(target, plan.parallel, plan.parallel_bytes)

    return {
        "memory": {
            "rss_growth_mb_upload_5gb": _growth(one_upload, directory, "one large upload"),
            "rss_growth_mb_50x1gb": _growth(many, directory, f"{plan.parallel} parallel transfers"),
        }
    }


def _growth(work: Callable[[Target], None], directory: Path, what: str) -> float:
    with stub(directory) as direct, line_up(["proxy"], direct.port, directory, WORKERS) as targets:
        target = targets["proxy"]
        server = target.server
        assert server is not None, "the proxy is a server of ours"
        put_load(target, 16, 1)
        _parallel(target, 4, MIB)  # everything was done once (imports, pools, caches), but nothing large or in numbers
        time.sleep(1.0)
        idle = server.resident_mb()
        server.forget_peak()
        with progress(f"memory: {what}"):
            work(target)
        return significant(max(0.0, server.peak_mb() - idle))


def _parallel(target: Target, count: int, size: int) -> None:
    """That many transfers at once, every other one a download."""
    with ThreadPoolExecutor(count) as pool:
        ups = [pool.submit(upload, target, PATH, size) for _ in range(count // 2)]
        downs = [pool.submit(download, target, f"{PATH}?size={size}", size) for _ in range(count - count // 2)]
        for transfer in (*ups, *downs):
            transfer.result()
