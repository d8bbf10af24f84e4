"""A sizing as text for the terminal, and as JSON."""

from __future__ import annotations

import dataclasses
import json

from benchmarks.capacity_model import LEAST_TASKS, ROOM, WAITING, Costs, Demand, Sizing, Task
from benchmarks.capacity_neighbours import REDIS_BYTES_PER_CALL, REDIS_BYTES_PER_KEY, REDIS_COMMANDS_PER_CALL
from benchmarks.goals import Results
from benchmarks.report import Row, number, plain


def as_text(results: Results, demand: Demand, task: Task, sizing: Sizing) -> str:
    """What is asked for, the tasks by each limit, what the neighbours get to do, and what was assumed."""
    load = sizing.load
    tasks = f"{sizing.tasks} tasks of {task.vcpu:g} vCPU, {task.memory_mib} MiB and {task.workers} workers"
    parts = [
        f"{demand.users} users in an hour: {number(demand.requests_per_user_hour)} requests each, "
        f"{number(demand.upload_gb_hour)} GB up and {number(demand.download_gb_hour)} GB down together.\n"
        f"The busiest minute has {demand.peak:g} times the average: {number(load.requests_per_s)} requests/s, "
        f"{number(load.upload_mb_s)} MB/s up, {number(load.download_mb_s)} MB/s down.\n"
        f"Costs: `make bench` of {str(results.get('date'))[:10]}, commit {results.get('commit') or 'unknown'}.",
        plain(("limit", "tasks", "because"), limit_rows(task, sizing)),
        f"=> {tasks}. What decides: {sizing.binding}.",
        plain(("beside the proxy", "in the busiest minute", ""), neighbour_rows(demand, task, sizing)),
        assumptions(demand, task),
    ]
    return "\n\n".join(parts)


def limit_rows(task: Task, sizing: Sizing) -> list[Row]:
    """Each limit, the tasks it asks for, and the numbers that it comes from."""
    load = sizing.load
    network = number(task.network_mb_s)
    because = {
        "cpu": f"{number(sizing.cpu_cores)} cores of work; a task gives {task.target_cpu:.0%} of {task.usable_cores:g}",
        "network": f"{number(load.both_mb_s)} MB/s in, and out again; a task gives {ROOM:.0%} of {network}",
        "memory": f"{number(load.transfers)} transfers, {number(load.connections)} connections",
        "transfers cap": f"{number(load.transfers)} at once; a task gives {ROOM:.0%} of "
        f"{task.workers} x {task.transfers_per_worker}",
        "connections": f"{number(load.connections)}; a task gives {ROOM:.0%} of "
        f"{task.workers} x {task.connections_per_worker}",
        "two zones": f"{LEAST_TASKS}, one in each",
    }
    return [(limit, str(tasks), because[limit]) for limit, tasks in sizing.tasks_by.items()]


def neighbour_rows(demand: Demand, task: Task, sizing: Sizing) -> list[Row]:
    """What MLflow, Redis, the auth service and the load balancer get to do."""
    calls, keys_kb = sizing.redis_calls_per_s, demand.users * REDIS_BYTES_PER_KEY / 1000
    redis = [
        f"{number(calls * REDIS_COMMANDS_PER_CALL)} commands/s",
        f"{number(calls * REDIS_BYTES_PER_CALL / 1000)} kB/s",
        f"{sizing.redis_share:.1%} of one Redis",
        f"{sizing.redis_connections} connections",
        f"{number(keys_kb)} kB of keys",
    ]
    asked = f"{number(sizing.auth_calls_per_request)} for each request: each worker asks for itself"
    by_dimension = ", ".join(f"{name} {number(value)}" for name, value in sizing.lcus.items())
    full = "of a task that is as full as it may be, with this mix: autoscaling_requests_per_task"
    return [
        ("MLflow", f"{sizing.mlflow_processes} processes", f"each {task.target_cpu:.0%} busy, on a core of its own"),
        ("Redis", f"{number(calls)} calls/s", ", ".join(redis)),
        ("auth service", f"{number(sizing.auth_calls_per_s)} calls/s", asked),
        ("load balancer", f"{number(max(sizing.lcus.values()))} LCUs", f"the hour's average: {by_dimension}"),
        ("autoscaling", f"{number(sizing.requests_per_task_minute)} requests/min", full),
    ]


def assumptions(demand: Demand, task: Task) -> str:
    """What was neither measured by `make bench` nor given by anybody who knows: measure it in place."""
    network = f"{number(task.network_mb_s)} MB/s"
    return "\n".join(
        [
            "Assumed, each to be changed by an option (--help) and to be measured where it runs (docs/scaling.md):",
            f"- a vCPU does {task.core_factor:g} times what a core of the benchmark did (--core-factor)",
            f"- a task's network carries {network} each way; AWS states no figure (--task-network-mb-s)",
            f"- a transfer goes at {number(demand.client_mb_s)} MB/s at its client (--client-mb-s)",
            f"- a request costs MLflow {demand.mlflow_weight:g} times what the benchmark's does (--mlflow-weight)",
            f"- a request costs the proxy {WAITING:g} times what the benchmark says, since MLflow makes it wait",
            f"- the busiest minute has {demand.peak:g} times the hour's average (--peak)",
        ]
    )


def as_json(results: Results, demand: Demand, task: Task, costs: Costs, sizing: Sizing) -> str:
    """The same figures, whole."""
    found = {
        "source": {"date": results.get("date"), "commit": results.get("commit")},
        "demand": dataclasses.asdict(demand),
        "task": dataclasses.asdict(task),
        "costs": dataclasses.asdict(costs),
        "sizing": dataclasses.asdict(sizing),
    }
    return json.dumps(found, indent=2)
