"""The scaling model: from what one request and one gigabyte cost to how many tasks a demand needs. Pure functions.

Every name says its unit. MB are 10^6 bytes, GB 10^9. What is measured by `make bench` comes from a results file
(`costs_of`); what it does not measure stands below as constants, with how each was found. docs/scaling.md explains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.capacity_neighbours import REDIS_CALLS_PER_S, auth_calls_per_s, lcus
from benchmarks.goals import look_up
from benchmarks.plan import FULL

# Found beside `make bench` on the development machine, 2026-11-21 (docs/scaling.md, "What else was measured").
WAITING = 1.2  # a request costs more behind an upstream that takes 5 ms than behind one that answers at once
WORKER_MB = 56.0  # a worker that serves, with Redis configured
MASTER_MB = 33.0  # gunicorn's parent process
SOCKETS_MB = 1.2  # what the kernel holds for one transfer, in both of its sockets
CONNECTION_MB = 0.015  # one idle connection
KEY_MB = 0.00071  # one remembered key in one worker, which remembers so many (docs/adr/0012-validation-cache.md)
MOST_KEYS = 10_000

ROOM = 0.8  # of network, memory and slots, how much is planned to be used
LEAST_TASKS = 2  # one in each of two zones


@dataclass(frozen=True)
class Costs:
    """What one unit of work costs, and what one MLflow process gives, as `make bench` measured it."""

    request_cpu_ms: float
    upload_cpu_s_per_gb: float
    download_cpu_s_per_gb: float
    transfer_mb: float  # of the workers' memory, for one transfer under way
    mlflow_requests_per_s: float
    mlflow_upload_mb_s: float
    mlflow_download_mb_s: float


@dataclass(frozen=True)
class Demand:
    """What users do in an hour, all together, and how uneven that is."""

    users: int  # at work in that hour, each with a key of their own
    requests_per_user_hour: float = 400.0
    upload_gb_hour: float = 0.0
    download_gb_hour: float = 0.0
    peak: float = 3.0  # the busiest minute over the hour's average
    client_mb_s: float = 20.0  # how fast one transfer goes at its client
    connections_per_user: float = 4.0
    requests_per_connection: float = 10.0
    mlflow_weight: float = 1.5  # what a request costs MLflow, in those that `make bench` sends


@dataclass(frozen=True)
class Task:
    """One task of the proxy, and how full it may be."""

    vcpu: float = 1.0
    memory_mib: int = 2048
    workers: int = 2
    network_mb_s: float = 125.0  # each way; AWS states none for Fargate
    core_factor: float = 1.0  # what a vCPU does in the time in which a core of the benchmark does 1
    target_cpu: float = 0.6
    transfers_per_worker: int = 400  # TRANSFERS_IN_ALL
    connections_per_worker: int = 10_000  # worker_connections in gunicorn.conf.py
    auth_cache_seconds: float = 60.0  # AUTH_CACHE_SECONDS
    listener_rules: int = 8

    @property
    def memory_mb(self) -> float:
        """The task's memory in MB."""
        return self.memory_mib * 1024 * 1024 / 1e6

    @property
    def usable_cores(self) -> float:
        """Cores of the benchmark's kind that the task can keep busy: a worker is one thread, so never more than one."""
        return min(self.vcpu, self.workers) * self.core_factor


@dataclass(frozen=True)
class Load:
    """What a demand comes to in its busiest minute."""

    requests_per_s: float
    upload_mb_s: float
    download_mb_s: float
    transfers: float  # at once
    connections: float  # of clients

    @property
    def both_mb_s(self) -> float:
        """What goes into a task, and out of it again."""
        return self.upload_mb_s + self.download_mb_s


@dataclass(frozen=True)
class Sizing:
    """How many tasks, why, and what the neighbours get to do in the busiest minute. `lcus` are the hour's average."""

    load: Load
    cpu_cores: float
    tasks_by: dict[str, int]
    tasks: int
    binding: str
    requests_per_task_minute: float  # of a task that is as full as it may be, with this mix
    mlflow_processes: int
    redis_calls_per_s: float
    redis_share: float  # of what one Redis can do
    redis_connections: int
    auth_calls_per_s: float
    auth_calls_per_request: float
    lcus: dict[str, float]


def costs_of(results: Mapping[str, Any]) -> Costs:
    """The costs in a results file of `make bench`. Raises ValueError as `figures` does."""
    found = figures(
        results,
        "small.proxy.cpu_ms_per_request",
        "upload.proxy.cpu_s_per_gb",
        "download.proxy.cpu_s_per_gb",
        "memory.rss_growth_mb_50x1gb",
        "mlflow.direct.rps",
        "mlflow.direct.upload_mb_s",
        "mlflow.direct.download_mb_s",
    )
    request_cpu_ms, upload_cpu, download_cpu, growth_mb, requests_per_s, upload_mb_s, download_mb_s = found
    transfer_mb = growth_mb / FULL.parallel
    return Costs(request_cpu_ms, upload_cpu, download_cpu, transfer_mb, requests_per_s, upload_mb_s, download_mb_s)


def figures(results: Mapping[str, Any], *paths: str) -> list[float]:
    """The numbers at dotted paths of the results. Raises ValueError naming all that are missing, or not above 0."""
    found, bad = [], []
    for path in paths:
        try:
            value = look_up(results, path) or 0.0
        except (TypeError, ValueError):
            value = 0.0
        found.append(value)
        if not 0 < value < math.inf:
            bad.append(path)
    if bad:
        raise ValueError(f"no number above 0 in the results: {', '.join(bad)}")
    return found


def size(demand: Demand, task: Task, costs: Costs) -> Sizing:
    """How many tasks a demand needs, which limit says so, and what the proxy's neighbours get to do.

    Raises ValueError when a task's memory does not even hold its workers.
    """
    load = load_of(demand)
    exact = tasks_by_limit(load, demand.users, task, costs)
    tasks_by = {limit: up(tasks) for limit, tasks in exact.items()} | {"two zones": LEAST_TASKS}
    tasks = max(tasks_by.values())
    processes = tasks * task.workers
    asked = auth_calls_per_s(demand.users, load.requests_per_s, processes, task.auth_cache_seconds)
    average_per_s = load.requests_per_s / demand.peak
    return Sizing(
        load=load,
        cpu_cores=cpu_cores(load, costs),
        tasks_by=tasks_by,
        tasks=tasks,
        binding="two zones" if tasks == LEAST_TASKS else max(exact, key=lambda limit: exact[limit]),
        requests_per_task_minute=load.requests_per_s * 60 / max(exact.values()) if load.requests_per_s else 0.0,
        mlflow_processes=up(mlflow_busy(load, demand.mlflow_weight, costs) / task.target_cpu),
        redis_calls_per_s=load.requests_per_s,
        redis_share=load.requests_per_s / REDIS_CALLS_PER_S,
        redis_connections=processes,
        auth_calls_per_s=asked,
        auth_calls_per_request=asked / load.requests_per_s if load.requests_per_s else 0.0,
        lcus=lcus(
            average_per_s,
            average_per_s / demand.requests_per_connection,
            load.connections,
            demand.upload_gb_hour + demand.download_gb_hour,
            task.listener_rules,
        ),
    )


def load_of(demand: Demand) -> Load:
    """The busiest minute. How many transfers run at once is how many bytes there are, over how fast one goes."""
    upload_mb_s, download_mb_s = (gb / 3.6 * demand.peak for gb in (demand.upload_gb_hour, demand.download_gb_hour))
    return Load(
        requests_per_s=demand.users * demand.requests_per_user_hour / 3600 * demand.peak,
        upload_mb_s=upload_mb_s,
        download_mb_s=download_mb_s,
        transfers=(upload_mb_s + download_mb_s) / demand.client_mb_s,
        connections=demand.users * demand.connections_per_user,
    )


def tasks_by_limit(load: Load, users: int, task: Task, costs: Costs) -> dict[str, float]:
    """Tasks by each limit, not yet whole. Raises ValueError when the workers alone fill a task's memory."""
    resident_mb = MASTER_MB + task.workers * (WORKER_MB + min(users, MOST_KEYS) * KEY_MB)
    left_mb = task.memory_mb * ROOM - resident_mb
    if left_mb <= 0:
        raise ValueError(
            f"{task.workers} workers hold {resident_mb:.0f} MB before the first transfer, and {ROOM:.0%} of a task of "
            f"{task.memory_mib} MiB are {task.memory_mb * ROOM:.0f} MB: more memory, or fewer workers"
        )
    wanted_mb = load.transfers * (costs.transfer_mb + SOCKETS_MB) + load.connections * CONNECTION_MB
    return {
        "cpu": cpu_cores(load, costs) / (task.usable_cores * task.target_cpu),
        "network": load.both_mb_s / (task.network_mb_s * ROOM),
        "memory": wanted_mb / left_mb,
        "transfers cap": load.transfers / (task.workers * task.transfers_per_worker * ROOM),
        "connections": load.connections / (task.workers * task.connections_per_worker * ROOM),
    }


def up(value: float) -> int:
    """Whole ones, and at least one. A whisker above a whole number is that number: 3.0000000001 is no fourth task."""
    return max(1, math.ceil(value - 1e-9))


def cpu_cores(load: Load, costs: Costs) -> float:
    """Cores of the benchmark's kind that are kept busy. A transfer is a request too: count it among them."""
    return (
        load.requests_per_s * costs.request_cpu_ms * WAITING / 1000
        + load.upload_mb_s / 1000 * costs.upload_cpu_s_per_gb
        + load.download_mb_s / 1000 * costs.download_cpu_s_per_gb
    )


def mlflow_busy(load: Load, weight: float, costs: Costs) -> float:
    """MLflow processes kept busy: a process that moves bytes answers nothing meanwhile."""
    return (
        load.requests_per_s * weight / costs.mlflow_requests_per_s
        + load.upload_mb_s / costs.mlflow_upload_mb_s
        + load.download_mb_s / costs.mlflow_download_mb_s
    )
