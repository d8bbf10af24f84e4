"""One large upload, one large download, through the stub: how fast, and at what cost in processor time."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.client import download, upload
from benchmarks.load import in_turn, medians
from benchmarks.plan import GB, MB, MIB, Plan
from benchmarks.targets import Target, line_up, stub
from scripts.dev.terminal import say

NAMES = ("nginx", "haproxy", "proxy")
PATH = "/api/2.0/mlflow-artifacts/artifacts/benchmark/model.bin"

Transfer = Callable[[Target, str, int], float]


def measure(plan: Plan, directory: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Gives `upload` and `download`: for each target the rate, and the processor seconds of its own processes."""
    size = plan.transfer_bytes
    ways: dict[str, tuple[Transfer, str]] = {"upload": (upload, PATH), "download": (download, f"{PATH}?size={size}")}
    rows: dict[str, dict[str, list[dict[str, float]]]] = {way: {} for way in ways}
    with stub(directory) as direct, line_up(NAMES, direct.port, directory, workers=1) as others:
        targets = {"direct": direct, **others}
        for target in targets.values():
            upload(target, PATH, 16 * MIB)
            download(target, f"{PATH}?size={16 * MIB}", 16 * MIB)
        for number in range(plan.rounds):
            say(f"transfers of {size // MIB} MiB, round {number + 1} of {plan.rounds}")
            for way, (transfer, path) in ways.items():
                for name, target in in_turn(targets, number):
                    rows[way].setdefault(name, []).append(_one(target, transfer, path, size))
    return {way: {name: medians(found) for name, found in of_way.items()} for way, of_way in rows.items()}


def _one(target: Target, transfer: Transfer, path: str, size: int) -> dict[str, float]:
    assert target.server is not None, "every target of this measure is a server of ours"
    before = target.server.cpu_seconds()
    seconds = transfer(target, path, size)
    spent = target.server.cpu_seconds() - before
    return {"mb_s": size / MB / seconds, "cpu_s_per_gb": spent / (size / GB)}
