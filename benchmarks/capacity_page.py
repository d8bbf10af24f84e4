"""The model's tables in docs/scaling.md: what `make bench` measured, the examples, and the check, between two marks."""

from __future__ import annotations

from pathlib import Path

from benchmarks import pages
from benchmarks.capacity_check import checks, room_above_mlflow
from benchmarks.capacity_model import Costs, Demand, Sizing, Task, costs_of, size
from benchmarks.goals import Results
from benchmarks.report import Row, markdown, number
from tests.support.process import REPOSITORY

PAGE = REPOSITORY / "docs" / "scaling.md"
COMMAND = "python -m benchmarks.capacity --write-docs"

USERS = (10, 100, 1000, 10_000)
REQUESTS_PER_USER_HOUR = 400.0
UPLOAD_GB_PER_USER_HOUR = 0.4
DOWNLOAD_GB_PER_USER_HOUR = 1.6
PAST_US = 0.9  # of the bytes, where large files go by presigned URLs

Column = tuple[str, Sizing]


def examples(costs: Costs, share_of_bytes: float = 1.0) -> list[Column]:
    """The example demands, sized on the default task; `share_of_bytes` of their bytes pass the proxy."""
    found = []
    for users in USERS:
        demand = Demand(
            users=users,
            requests_per_user_hour=REQUESTS_PER_USER_HOUR,
            upload_gb_hour=users * UPLOAD_GB_PER_USER_HOUR * share_of_bytes,
            download_gb_hour=users * DOWNLOAD_GB_PER_USER_HOUR * share_of_bytes,
        )
        found.append((number(users), size(demand, Task(), costs)))
    return found


def example_rows(columns: list[Column]) -> list[Row]:
    """A row for each figure, a column for each example."""
    sizings = [sizing for _, sizing in columns]

    def row(name: str, values: list[float]) -> Row:
        return (name, *map(number, values))

    limits = sizings[0].tasks_by
    return [
        row("requests per second", [one.load.requests_per_s for one in sizings]),
        row("MB/s up", [one.load.upload_mb_s for one in sizings]),
        row("MB/s down", [one.load.download_mb_s for one in sizings]),
        row("transfers at once", [one.load.transfers for one in sizings]),
        *(row(f"tasks, by {limit}", [one.tasks_by[limit] for one in sizings]) for limit in limits),
        ("**tasks**", *(f"**{one.tasks}**" for one in sizings)),
        ("what decides", *(one.binding for one in sizings)),
        row("MLflow processes", [one.mlflow_processes for one in sizings]),
        row("Redis, calls per second", [one.redis_calls_per_s for one in sizings]),
        ("of what one Redis can do", *(f"{one.redis_share:.1%}" for one in sizings)),
        row("auth service, calls per second", [one.auth_calls_per_s for one in sizings]),
        row("auth service, calls per request", [one.auth_calls_per_request for one in sizings]),
        row("LCUs, by bytes", [one.lcus["bytes"] for one in sizings]),
        row("LCUs, by active connections", [one.lcus["active connections"] for one in sizings]),
        row("LCUs, by new connections", [one.lcus["new connections"] for one in sizings]),
    ]


def cost_rows(costs: Costs) -> list[Row]:
    """What the model starts from."""
    return [
        ("processor time per request", f"{number(costs.request_cpu_ms)} ms"),
        ("processor time per GB uploaded", f"{number(costs.upload_cpu_s_per_gb)} s"),
        ("processor time per GB downloaded", f"{number(costs.download_cpu_s_per_gb)} s"),
        ("workers' memory per transfer", f"{number(costs.transfer_mb)} MB"),
        ("one MLflow process, requests per second", number(costs.mlflow_requests_per_s)),
        ("one MLflow process, upload", f"{number(costs.mlflow_upload_mb_s)} MB/s"),
        ("one MLflow process, download", f"{number(costs.mlflow_download_mb_s)} MB/s"),
    ]


def check_rows(results: Results) -> list[Row]:
    """Model and measurement side by side."""
    return [
        (
            one.rate,
            number(one.predicted),
            number(one.measured),
            f"{one.measured / one.predicted - 1:+.0%}",
            f"{number(one.low)} to {number(one.high)}",
            "holds" if one.holds else "**does not hold**",
        )
        for one in checks(results)
    ]


def for_page(results: Results) -> str:
    """The generated part of the page. Raises ValueError naming figures that the results lack."""
    costs, room = costs_of(results), room_above_mlflow(results)
    head = ("in the busiest minute", *(f"{users:,} users".replace(",", " ") for users in USERS))
    parts = [
        "### What `make bench` measured",
        f"On {results['date'][:10]} at commit `{results['commit']}` ([performance](performance.md)).",
        markdown(("one worker, one process", "measured"), cost_rows(costs)),
        f"One worker of the proxy does {number(room['small requests'])} times as many small requests as one MLflow "
        f"process, and moves {number(room['upload'])} times as many bytes up, {number(room['download'])} times as many "
        "down.",
        "### Examples: every byte through the proxy",
        markdown(head, example_rows(examples(costs))),
        f"### Examples: {PAST_US:.0%} of the bytes by presigned URLs",
        markdown(head, example_rows(examples(costs, 1 - PAST_US))),
        "### The model, checked against `make bench`",
        markdown(("one worker", "model", "measured", "off by", "must lie in", ""), check_rows(results)),
    ]
    return "\n\n".join(parts)


def renew(results: Results, page: Path = PAGE) -> None:
    """Put the tables between the page's marks. Raises ValueError when it has none, or the results lack figures."""
    pages.renew(page, COMMAND, for_page(results))
