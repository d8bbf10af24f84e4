"""What the Terraform module makes that watches and scales: alarms, dashboard, queries, filters, as AWS would be told.

Read from a plan with a mocked AWS (infrastructure/terraform/tests/observability.tftest.hcl): a plain plan knows neither
the dimensions of an alarm nor the dashboard, since both hold parts of ARNs that AWS makes up.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.access_log import Line, record
from app.finished import Measured
from tests.support import terraform
from tests.support.saved_queries import section
from tests.unit import samples

PREFIX = "hokusai-mlflow-proxy-production"  # project and environment of terraform.tfvars.example
LOAD_BALANCER = "app/mocked/0123456789abcdef"
TARGET_GROUP = "targetgroup/mocked/fedcba9876543210"
TOPIC = "arn:aws:sns:us-east-1:aws:mocked"
LOG_GROUP = f"/ecs/{PREFIX}"

EMF = "Hokusai/MLflowProxy"
LINES = "Hokusai/MLflowProxy/production"  # counted by metric filters


@dataclass(frozen=True)
class Metric:
    """A time series that an alarm or a widget asks for."""

    namespace: str
    name: str
    stat: str
    dimensions: tuple[tuple[str, str], ...]
    period: int

    @property
    def known_as(self) -> tuple[str, str]:
        """What the table of dimensions is asked for; the filters' namespace names the environment."""
        return ("LINES" if self.namespace == LINES else self.namespace, self.name)

    @property
    def dimension_names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.dimensions)


@functools.cache
def resources(**variables: str) -> dict[str, dict[str, Any]]:
    """Address -> what the plan would make. `variables` go before those of the example."""
    given = [f"-var={name}={value}" for name, value in variables.items()]
    told = terraform.run(
        "test", "-json", "-verbose", "-filter=tests/observability.tftest.hcl", "-var-file=example.tfvars", *given
    ).stdout
    # What is made is in the plan of that file's run "observed"; its other runs only have to pass.
    plans = [line for line in told.splitlines() if '"type":"test_plan"' in line]
    (plan,) = [told["test_plan"] for told in map(json.loads, plans) if told["@testrun"] == "observed"]
    return {change["address"]: change["change"]["after"] for change in plan["resource_changes"]}


def instances(kind: str, **variables: str) -> dict[str, dict[str, Any]]:
    """Key (or name, of what has no keys) -> each resource of a kind."""
    found = {}
    for address, after in resources(**variables).items():
        name = re.fullmatch(rf'{kind}\.(\w+)(?:\["(.+)"\])?', address)
        if name:
            found[name[2] or name[1]] = after
    return found


# --- alarms ---


def alarms(**variables: str) -> dict[str, dict[str, Any]]:
    """What is behind the prefix in its name -> each alarm on metrics."""
    made = instances("aws_cloudwatch_metric_alarm", **variables).values()
    return {alarm["alarm_name"].removeprefix(f"{PREFIX}-"): alarm for alarm in made}


def composite(**variables: str) -> dict[str, Any]:
    """The alarm over those that cannot wait."""
    return resources(**variables)["aws_cloudwatch_composite_alarm.page"]


def metrics_of(alarm: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics an alarm looks at, by their ids in its expression; the one without an expression is `it`."""
    if not alarm["metric_query"]:
        dimensions = tuple(sorted((alarm["dimensions"] or {}).items()))
        return {"it": Metric(alarm["namespace"], alarm["metric_name"], alarm["statistic"], dimensions, alarm["period"])}
    found = {}
    for query in alarm["metric_query"]:
        for metric in query["metric"]:
            dimensions = tuple(sorted((metric["dimensions"] or {}).items()))
            found[query["id"]] = Metric(
                metric["namespace"], metric["metric_name"], metric["stat"], dimensions, metric["period"]
            )
    return found


def expression_of(alarm: Mapping[str, Any]) -> str:
    """What is compared with the threshold."""
    told = [query["expression"] for query in alarm["metric_query"] if query["return_data"]]
    (expression,) = told or ["it"]
    return str(expression)


# --- the dashboard ---


def widgets() -> list[dict[str, Any]]:
    body = json.loads(resources()["aws_cloudwatch_dashboard.proxy"]["dashboard_body"])
    found: list[dict[str, Any]] = body["widgets"]
    return found


def entries(widget: Mapping[str, Any]) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """The lines of a widget of metrics: what is in them beside the options, and the options."""
    for entry in widget["properties"].get("metrics", []):
        options = entry[-1] if isinstance(entry[-1], dict) else {}
        yield [part for part in entry if part is not options], options


def metrics_in(widget: Mapping[str, Any]) -> Iterator[Metric]:
    """The metrics a widget draws, those in search expressions too, without values for what a search leaves open."""
    properties = widget["properties"]
    for parts, options in entries(widget):
        if parts:
            namespace, name, *rest = parts
            dimensions = tuple(sorted(zip(rest[::2], rest[1::2], strict=True)))
            yield Metric(namespace, name, options["stat"], dimensions, properties["period"])
        elif options["expression"].startswith("SEARCH("):
            yield searched(options["expression"])


def searched(expression: str) -> Metric:
    """The metric of a search: `SEARCH('{"namespace",dimension,...} service="..." MetricName="..." NOT ..., stat, 60)`.

    AmazonCloudWatch/latest/monitoring/search-expression-syntax.html
    """
    schema = r'\{"([^"]+)",([\w,]+)\} service="([\w-]+)"'  # which leaves the family open, and the environment not
    terms = r'MetricName="(\w+)"((?: NOT family=(?:"[\w.-]+"|\w+))*)'
    told = re.fullmatch(rf"SEARCH\('{schema} {terms}', '(\w+)', (\d+)\)", expression)
    assert told and len(expression) <= 1024, expression
    dimensions = tuple((name, told[3] if name == "service" else "") for name in told[2].split(","))
    return Metric(told[1], told[4], told[6], dimensions, int(told[7]))


# --- lines ---


def logged(status: int = 200, **fields: Any) -> dict[str, Any]:
    """A request's line as the proxy's own logger writes it with METRICS_EMF, of a request's scope with `fields`."""
    told = {**record(samples.scope(**fields), status, 0, time.monotonic()), "service": PREFIX}
    written = Measured("gunicorn.access", logging.INFO, told, time.time(), 0)
    line: dict[str, Any] = json.loads(Line().format(written))
    return line


def events() -> list[str]:
    """All events there are; tests/test_observability.py compares the page's table with the code."""
    return ["proxy_request", *_rows("## Rare events")]


def outcomes() -> list[str]:
    """All outcomes there are, likewise."""
    return _rows("### How it ended")


def _rows(heading: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \| (?!meaning)", section(heading), re.MULTILINE)
