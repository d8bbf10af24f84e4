"""The dashboard: it can be drawn, asks for what there is, and shows whatever an alarm speaks of."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest

from app.emf import METRICS, NAMESPACE
from app.policy import read_routes
from tests.infra.cloudwatch import DIMENSIONS, compared_texts, numeric_fields, query_fields
from tests.infra.observed import (
    EMF,
    LINES,
    LOG_GROUP,
    PREFIX,
    Metric,
    alarms,
    composite,
    entries,
    events,
    logged,
    metrics_in,
    metrics_of,
    outcomes,
    resources,
    widgets,
)
from tests.support import terraform

pytestmark = pytest.mark.skipif(bool(terraform.missing()), reason=terraform.missing())

# From the top: what is asked first in the night stands first.
ORDER = [
    "Is it up?", "Who suffers?", "Whose fault?", "Traffic", "Transfers", "Saturation", "Redis", "Recent errors",
    "Is all this true?",
]  # fmt: skip


def of_type(kind: str) -> list[dict[str, Any]]:
    return [widget for widget in widgets() if widget["type"] == kind]


def drawn() -> list[Metric]:
    return [metric for widget in of_type("metric") for metric in metrics_in(widget)]


def titled(title: str) -> dict[str, Any]:
    (widget,) = [one for one in widgets() if one["properties"].get("title", "").startswith(title)]
    return widget


def section_of(widget: dict[str, Any]) -> str:
    """The heading above a widget."""
    above = [one for one in of_type("text") if one["y"] <= widget["y"]]
    return str(max(above, key=lambda one: one["y"])["properties"]["markdown"]).splitlines()[0].removeprefix("# ")


# --- the page ---


def test_it_is_read_from_the_top() -> None:
    headings = sorted(of_type("text"), key=lambda one: one["y"])
    assert [section_of(one) for one in headings] == ORDER
    assert {section_of(one) for one in widgets() if one["type"] != "text"} == set(ORDER)


def test_no_widget_lies_on_another_or_outside_of_the_page() -> None:
    """24 columns: CloudWatch-Dashboard-Body-Structure."""
    taken: set[tuple[int, int]] = set()
    for one in widgets():
        assert one["x"] >= 0 and one["width"] >= 1 and one["height"] >= 1 and one["x"] + one["width"] <= 24
        places = {
            (x, y) for x in range(one["x"], one["x"] + one["width"]) for y in range(one["y"], one["y"] + one["height"])
        }
        assert places & taken == set(), one["properties"]
        taken |= places


def test_each_widget_has_what_its_kind_needs() -> None:
    needed = {
        "metric": {"metrics", "region", "title"},
        "log": {"query", "region", "title"},
        "alarm": {"alarms", "title"},
    }
    for one in widgets():
        assert needed.get(one["type"], {"markdown"}) <= set(one["properties"]), one
    titles = [one["properties"]["title"] for one in widgets() if one["type"] != "text"]
    assert len(titles) == len(set(titles)) == 29


def test_it_is_the_services_own_page_in_its_region() -> None:
    made = resources()["aws_cloudwatch_dashboard.proxy"]
    assert made["dashboard_name"] == PREFIX
    assert {one["properties"]["region"] for one in of_type("metric") + of_type("log")} == {"us-east-1"}
    assert len(json.dumps(widgets())) < 500_000


# --- metrics ---


def test_what_is_drawn_is_published_with_these_dimensions() -> None:
    wrong = [metric for metric in drawn() if metric.dimension_names not in DIMENSIONS[metric.known_as]]
    assert wrong == []
    assert len(drawn()) > 50


def test_what_is_drawn_of_ours_is_what_the_proxy_publishes() -> None:
    assert NAMESPACE == EMF
    assert {metric.name for metric in drawn() if metric.namespace == EMF} == set(METRICS)


def test_what_is_drawn_is_of_our_own_things() -> None:
    nodes = {f"hokusai-mlproxy-production-{number:03}" for number in (1, 2)}
    assert resources()["aws_elasticache_replication_group.redis"]["num_cache_clusters"] == len(nodes)
    families = {"health", *(route.family for route in read_routes())}
    known = {
        "CacheClusterId": nodes,
        "ClusterName": {"hokusai-production"},
        "ServiceName": {PREFIX, "hokusai-mlflow-production"},
        "TaskDefinitionFamily": {PREFIX},
        "LogGroupName": {LOG_GROUP},
        "service": {PREFIX},
        "family": {*families, ""},
    }
    for metric in drawn():
        for name, value in metric.dimensions:
            assert value in known.get(name, {value}), metric
            assert value or metric.namespace == EMF, metric
    assert {value for metric in drawn() for name, value in metric.dimensions if name == "CacheClusterId"} == nodes


def test_a_statistic_fits_its_metric() -> None:
    for metric in drawn():
        if metric.name in METRICS and metric.name != "TransfersInFlight":
            assert (metric.stat == "Sum") == (METRICS[metric.name] != "Milliseconds"), metric
        if metric.name.startswith("HTTPCode_") or metric.namespace == LINES:
            assert metric.stat == "Sum", metric


def test_no_widget_draws_a_line_twice() -> None:
    for one in of_type("metric"):
        lines = list(metrics_in(one))
        assert len(set(lines)) == len(lines), one


def test_math_names_what_is_in_its_widget() -> None:
    for one in of_type("metric"):
        ids = {options["id"] for _, options in entries(one) if "id" in options}
        assert all(re.fullmatch(r"[a-z]\w*", name) for name in ids)
        for _, options in entries(one):
            expression = options.get("expression", "")
            if expression and not expression.startswith("SEARCH("):
                names = {node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)}
                assert names - {"FILL"} <= ids - {options["id"]} and names


def test_whatever_an_alarm_speaks_of_can_be_seen() -> None:
    spoken_of = {metric.known_as for alarm in alarms().values() for metric in metrics_of(alarm).values()}
    assert spoken_of - {metric.known_as for metric in drawn()} == {("AWS/CertificateManager", "DaysToExpiry")}


def test_the_lines_of_alarms_are_at_their_thresholds() -> None:
    drawn_at = {
        one["properties"]["title"]: mark["value"]
        for one in of_type("metric")
        for mark in one["properties"].get("annotations", {}).get("horizontal", [])
        if mark["label"] == "alarm"
    }
    made = alarms()
    assert drawn_at == {
        "Answers that are no 5xx, %": 100 - made["5xx"]["threshold"],
        "95 of 100 calls take at most, ms, by family": 2000,  # this and the next two are in expressions: test_alarms.py
        "Transfers under way in the busiest worker": 320,
        "Bytes a second of the busiest task": 100_000_000,
        "The proxy, %": made["cpu"]["threshold"],
        "MLflow, %": made["mlflow-cpu"]["threshold"],
    }


# --- what each part answers ---


def test_all_alarms_are_shown_and_the_one_over_them_first() -> None:
    (widget,) = of_type("alarm")
    assert section_of(widget) == "Is it up?"
    first, *others = widget["properties"]["alarms"]
    assert first == composite()["arn"] and len(others) == len(alarms())


def test_the_time_of_a_call_is_shown_as_the_sum_of_its_three_parts() -> None:
    """Means add up, percentiles do not."""
    shown = [one for one in of_type("metric") if section_of(one) == "Whose fault?" and one["properties"]["stacked"]]
    assert len(shown) == 2
    for one in shown:
        parts = list(metrics_in(one))
        assert [metric.name for metric in parts] == ["AuthMs", "UpstreamMs", "OwnMs"]
        assert {metric.stat for metric in parts} == {"Average"} and len({metric.dimensions for metric in parts}) == 1
        assert dict(parts[0].dimensions)["family"] in one["properties"]["title"]


def test_health_checks_and_transfers_do_not_hide_slow_calls() -> None:
    searches = {
        metric.name: options["expression"]
        for one in of_type("metric")
        for parts, options in entries(one)
        if not parts and options["expression"].startswith("SEARCH(")
        for metric in metrics_in(one)
    }
    assert set(searches) == {"Failures", "LatencyMs", "Requests"}
    assert all('NOT family="health"' in expression for expression in searches.values())
    assert "NOT family=artifacts" in searches["LatencyMs"]
    assert {route.family.partition(".")[0] for route in read_routes()} >= {"artifacts"}


# --- queries ---


@pytest.mark.parametrize(
    "title", ["Users with failures", "By user", "Requests that failed", "What the proxy complains about"]
)
def test_a_query_asks_the_proxys_log_for_fields_that_there_are(title: str) -> None:
    source, _, query = titled(title)["properties"]["query"].partition(" | ")
    assert source == f"SOURCE '{LOG_GROUP}'"
    line = logged()
    assert query_fields(query) and query_fields(query) - set(line) == set()
    numbers = {field for field, value in line.items() if isinstance(value, int | float)}
    assert numeric_fields(query) - numbers == set()
    texts = compared_texts(query)
    assert {field for field, _ in texts} & numbers == set()
    assert {text for field, text in texts if field == "event"} <= set(events())
    assert {text for field, text in texts if field == "outcome"} <= set(outcomes())
    assert {text for field, text in texts if field == "level"} <= {"INFO", "WARNING", "ERROR", "CRITICAL"}


def test_every_query_of_the_page_is_checked() -> None:
    assert len(of_type("log")) == 4
