"""Small requests: how long one takes, how many fit into a second, what each costs."""

from pathlib import Path

from benchmarks.load import in_turn, medians, put_load
from benchmarks.plan import Plan
from benchmarks.targets import Target, line_up, stub
from scripts.dev.terminal import say

NAMES = ("nginx", "haproxy", "hello", "proxy")
CONNECTIONS = 16


def measure(plan: Plan, directory: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Gives `small`: for each target the latencies at 1 connection, rate and cost at 16.

    hello and proxy have one worker each: with two, the proxy's would share the machine's cores with the upstream and
    wrk, while hello, which has no upstream, would not.
    """
    rows: dict[str, list[dict[str, float]]] = {}
    with stub(directory) as direct, line_up(NAMES, direct.port, directory, workers=1) as others:
        targets = {"direct": direct, **others}
        for target in targets.values():
            put_load(target, CONNECTIONS, 1)
        for number in range(plan.rounds):
            say(f"small requests, round {number + 1} of {plan.rounds}")
            for name, target in in_turn(targets, number):
                rows.setdefault(name, []).append(_one(target, plan.small_seconds))
    return {"small": {name: medians(of_target) for name, of_target in rows.items()}}


def _one(target: Target, seconds: float) -> dict[str, float]:
    assert target.server is not None, "every target of this measure is a server of ours"
    alone = put_load(target, 1, seconds)
    before = target.server.cpu_seconds()
    crowd = put_load(target, CONNECTIONS, seconds)
    spent = target.server.cpu_seconds() - before
    return {
        "p50_ms": alone.p50_ms,
        "p99_ms": alone.p99_ms,
        "rps": crowd.rps,
        "cpu_ms_per_request": spent * 1000 / crowd.requests,
    }
