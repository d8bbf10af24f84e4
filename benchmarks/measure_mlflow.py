"""The same through a real MLflow: what a user notices of the proxy."""

import shutil
import tempfile
from pathlib import Path
from statistics import mean

from benchmarks.client import download, upload
from benchmarks.cores import apart
from benchmarks.load import in_turn, medians, put_load
from benchmarks.plan import MB, Plan
from benchmarks.targets import Target, line_up
from scripts.dev.terminal import say
from tests.support.mlflow_server import MlflowServer

NAMES = ("nginx", "bare", "proxy")
CONNECTIONS = 16
WORKERS = 2  # as many as the proxy has by default
IN_MEMORY = Path("/dev/shm")  # noqa: S108  # a fresh directory is made in it


def measure(plan: Plan, directory: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Gives `mlflow`: the latency at 1 connection and the rate at 16, and but for the bare forwarder two transfers."""
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=_place(plan, directory)) as place:
        with MlflowServer(Path(place)) as mlflow, line_up(NAMES, mlflow.port, directory, WORKERS) as others:
            targets = {"direct": Target("direct", mlflow.port), **others}
            for target in targets.values():
                put_load(target, CONNECTIONS, 1)
            for number in range(plan.rounds):
                say(f"through MLflow, round {number + 1} of {plan.rounds}")
                found = _round(dict(in_turn(targets, number)), mlflow.pid, plan)
                for name, row in found.items():
                    rows.setdefault(name, []).append(row)
    return {"mlflow": {name: medians(found) for name, found in rows.items()}}


def _round(targets: dict[str, Target], mlflow: int, plan: Plan) -> dict[str, dict[str, float]]:
    """Each figure for one target after the other: MLflow changes while it runs, and should be the same for all."""
    path, size = "/api/2.0/mlflow-artifacts/artifacts/benchmark/model.bin", plan.mlflow_bytes
    found: dict[str, dict[str, float]] = {name: {} for name in targets}
    for name, p50 in _latencies(targets, plan).items():
        found[name]["p50_ms"] = p50
    with apart(mlflow, [target.server.group for target in targets.values() if target.server]):
        for name, p50 in _latencies(targets, plan).items():
            found[name]["p50_apart_ms"] = p50
    for name, target in targets.items():
        found[name]["rps"] = put_load(target, CONNECTIONS, plan.small_seconds).rps
    moving = {name: target for name, target in targets.items() if name != "bare"}  # it forwards small answers alone
    for name, target in moving.items():
        found[name]["upload_mb_s"] = size / MB / upload(target, path, size)
    for name, target in moving.items():
        found[name]["download_mb_s"] = size / MB / download(target, path, size)
    return found


def _latencies(targets: dict[str, Target], plan: Plan) -> dict[str, float]:
    """Each target's p50, the mean of one there and one back: what drifts meanwhile drifts for all."""
    there_and_back = [*targets.items(), *reversed(targets.items())]
    found: dict[str, list[float]] = {name: [] for name in targets}
    for name, target in there_and_back:
        found[name].append(put_load(target, 1, plan.small_seconds).p50_ms)
    return {name: mean(p50s) for name, p50s in found.items()}


def _place(plan: Plan, directory: Path) -> Path:
    """Where MLflow stores: in memory if there is room, so that no disk is measured."""
    room = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 4 * plan.mlflow_bytes
    return IN_MEMORY if room else directory
