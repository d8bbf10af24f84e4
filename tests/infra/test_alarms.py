"""The alarms: each looks at a metric that exists, goes off when it should and stays silent when it should, and says so.

Metric math is played by tests/infra/cloudwatch.py as AWS's page describes it; no CloudWatch runs here.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from app.emf import DIMENSIONS as PUBLISHED
from app.emf import METRICS, NAMESPACE
from app.policy import read_routes
from app.settings import read
from tests.infra.cloudwatch import DIMENSIONS, NOT_IN_ALARMS, OF_EMF, Value, math
from tests.infra.observed import (
    EMF,
    LINES,
    LOAD_BALANCER,
    LOG_GROUP,
    PREFIX,
    TARGET_GROUP,
    TOPIC,
    alarms,
    composite,
    expression_of,
    instances,
    metrics_of,
    resources,
)
from tests.support import terraform

pytestmark = pytest.mark.skipif(bool(terraform.missing()), reason=terraform.missing())

RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "runbook.md"
ABOVE, BELOW, FROM = "GreaterThanThreshold", "LessThanThreshold", "GreaterThanOrEqualToThreshold"

# What was agreed: (comparison, threshold, points of periods, seconds of a period, what silence is).
RULES: Mapping[str, tuple[str, float, tuple[int, int], int, str]] = {
    "no-healthy-task": (BELOW, 1, (2, 2), 60, "breaching"),
    "unhealthy-task": (FROM, 1, (5, 5), 60, "notBreaching"),
    "connection-errors": (ABOVE, 0, (2, 3), 60, "notBreaching"),
    "desync": (ABOVE, 100, (2, 3), 300, "notBreaching"),
    "5xx": (ABOVE, 5, (3, 5), 60, "notBreaching"),
    "alb-5xx": (ABOVE, 5, (2, 3), 60, "notBreaching"),
    "mlflow-unreachable": (ABOVE, 0, (3, 5), 60, "notBreaching"),
    "slow": (ABOVE, 0, (5, 5), 60, "notBreaching"),
    "auth-unavailable": (ABOVE, 0, (3, 5), 60, "notBreaching"),
    "auth-denied": (ABOVE, 300, (1, 1), 300, "notBreaching"),
    "transfers": (ABOVE, 0, (5, 5), 60, "missing"),
    "network": (ABOVE, 0, (10, 10), 60, "missing"),
    "cpu": (ABOVE, 80, (5, 5), 60, "missing"),
    "memory": (ABOVE, 80, (5, 5), 60, "missing"),
    "mlflow-cpu": (ABOVE, 80, (5, 5), 60, "missing"),
    "mlflow-memory": (ABOVE, 80, (5, 5), 60, "missing"),
    "tasks-missing": (BELOW, 2, (3, 5), 60, "breaching"),
    "scaling-ceiling": (FROM, 6, (15, 15), 60, "notBreaching"),
    "logs-stopped": (BELOW, 1, (10, 10), 60, "breaching"),
    "metrics-broken": (ABOVE, 0, (1, 1), 60, "notBreaching"),
    "metrics-missing": (ABOVE, 0, (2, 3), 300, "notBreaching"),
    "redis-away": (ABOVE, 0, (1, 1), 60, "notBreaching"),
    "bug": (ABOVE, 0, (1, 1), 60, "notBreaching"),
    "certificate": (BELOW, 30, (1, 1), 86400, "breaching"),
}
# What cannot wait: users are turned away now.
PAGE = {"no-healthy-task", "5xx", "alb-5xx", "mlflow-unreachable"}

# How a dimension is filled in.
FILLED = {
    "LoadBalancer": LOAD_BALANCER,
    "TargetGroup": TARGET_GROUP,
    "ClusterName": "hokusai-production",
    "TaskDefinitionFamily": PREFIX,
    "LogGroupName": LOG_GROUP,
    "service": PREFIX,  # METRICS_SERVICE of the task
}

every_alarm = pytest.mark.parametrize("what", RULES)


def test_the_alarms_are_those_that_were_agreed() -> None:
    assert set(alarms()) == set(RULES)


# --- what they look at ---


@every_alarm
def test_an_alarm_looks_at_metrics_that_are_published_with_these_dimensions(what: str) -> None:
    for metric in metrics_of(alarms()[what]).values():
        assert metric.dimension_names in DIMENSIONS[metric.known_as], metric


@every_alarm
def test_a_dimension_names_what_there_is(what: str) -> None:
    service = f"hokusai-mlflow{'' if what.startswith('mlflow-') else '-proxy'}-production"
    filled = {
        **FILLED,
        "ServiceName": service,
        "CertificateArn": resources()["aws_lb_listener.https"]["certificate_arn"],
    }
    for metric in metrics_of(alarms()[what]).values():
        for name, value in metric.dimensions:
            if name == "family":
                assert value in {"health", *(route.family for route in read_routes())}
            else:
                assert value == filled[name], f"{name} of {metric.name}"


@every_alarm
def test_what_is_of_a_target_is_asked_of_the_proxys_target_group(what: str) -> None:
    """Without TargetGroup such a metric exists too, but is of all services behind the load balancer."""
    for metric in metrics_of(alarms()[what]).values():
        if frozenset({"LoadBalancer", "TargetGroup"}) in DIMENSIONS[metric.known_as]:
            assert "TargetGroup" in metric.dimension_names, metric


def test_the_names_of_ours_are_those_that_the_proxy_publishes() -> None:
    used = {metric for alarm in alarms().values() for metric in metrics_of(alarm).values()}
    assert NAMESPACE == EMF
    assert {frozenset(one) for one in PUBLISHED} == set(OF_EMF)
    assert {metric.name for metric in used if metric.namespace == EMF} - set(METRICS) == set()
    assert {metric.name for metric in used if metric.namespace == LINES} <= set(
        instances("aws_cloudwatch_log_metric_filter")
    )


def test_counts_are_summed_and_times_are_not() -> None:
    """A count's mean is 1 or 0; a time's sum is nothing."""
    for what, alarm in alarms().items():
        for metric in metrics_of(alarm).values():
            if metric.name in METRICS and metric.name != "TransfersInFlight":
                assert (metric.stat == "Sum") == (METRICS[metric.name] != "Milliseconds"), what
            if metric.name.endswith("_Count") or metric.name in ("RequestCount", "TargetConnectionErrorCount"):
                assert metric.stat == "Sum", what


@every_alarm
def test_no_metric_is_asked_for_twice_under_two_names(what: str) -> None:
    metrics = list(metrics_of(alarms()[what]).values())
    assert len(set(metrics)) == len(metrics)


def test_the_cluster_publishes_how_many_tasks_run() -> None:
    settings = resources()["aws_ecs_cluster.main"]["setting"]
    assert [(one["name"], one["value"]) for one in settings] in (
        [("containerInsights", "enabled")],
        [("containerInsights", "enhanced")],
    )


def test_the_proxy_publishes_its_metrics() -> None:
    (container,) = json.loads(resources()["aws_ecs_task_definition.proxy"]["container_definitions"])
    assert {"name": "METRICS_EMF", "value": "true"} in container["environment"]


# --- when they go off ---


@every_alarm
def test_an_alarm_keeps_to_what_was_agreed(what: str) -> None:
    alarm = alarms()[what]
    points = (alarm["datapoints_to_alarm"], alarm["evaluation_periods"])
    (period,) = {metric.period for metric in metrics_of(alarm).values()}  # of one math all are the same
    told = (alarm["comparison_operator"], alarm["threshold"], points, period, alarm["treat_missing_data"])
    assert told == RULES[what]


@every_alarm
def test_an_alarm_is_one_that_cloudwatch_takes(what: str) -> None:
    """AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html; at most ten metrics in one of metric math."""
    alarm = alarms()[what]
    (_, _, (points, periods), period, _) = RULES[what]
    assert points <= periods and period % 60 == 0 and period * periods <= 86400
    metrics = metrics_of(alarm)
    assert len(metrics) <= 10 and all(re.fullmatch(r"[a-z]\w*|it", name) for name in metrics)
    expression = expression_of(alarm)
    assert set(re.findall(r"[A-Z_]{2,}", expression)) & NOT_IN_ALARMS == set()
    named = {node.id for node in ast.walk(ast.parse(_python(expression))) if isinstance(node, ast.Name)}
    assert named - {"IF_", "FILL"} == set(metrics)


def _python(expression: str) -> str:
    return re.sub(r"\bAND\b", "and", re.sub(r"\bOR\b", "or", expression.replace("IF(", "IF_(")))


def goes_off(what: str, minutes: Sequence[Mapping[str, Value]]) -> bool:
    """Whether an alarm is on after these periods; what a period does not name has no value in it."""
    alarm = alarms()[what]
    names = metrics_of(alarm)
    assert len(minutes) == alarm["evaluation_periods"] and all(set(one) <= set(names) for one in minutes)
    results = [math(expression_of(alarm), {name: one.get(name) for name in names}) for one in minutes]
    silence = {"breaching": True, "notBreaching": False, "missing": False}[alarm["treat_missing_data"]]
    compare = {ABOVE: ">", FROM: ">=", BELOW: "<"}[alarm["comparison_operator"]]
    threshold = alarm["threshold"]
    breaching = [silence if one is None else bool(math(f"it {compare} {threshold}", {"it": one})) for one in results]
    return sum(breaching) >= int(alarm["datapoints_to_alarm"])


NOTHING: Mapping[str, Value] = {}
WELL, BUSY, FEW = {"requests": 1000.0}, {"requests": 1000.0, "errors": 51.0}, {"requests": 20.0, "errors": 20.0}


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ([BUSY] * 5, True),
        ([BUSY, WELL, BUSY, WELL, BUSY], True),
        ([BUSY, WELL, BUSY, WELL, WELL], False),
        ([{"requests": 1000.0, "errors": 50.0}] * 5, False),  # five of a hundred may fail
        ([WELL] * 5, False),
        ([NOTHING] * 5, False),
        ([FEW] * 5, False),  # all of them fail, but they are too few to speak of a rate
        ([{"requests": 1.0, "errors": 1.0}] * 5, False),
        ([{"requests": 21.0, "errors": 1.0}] * 5, False),  # 4.8
        ([{"requests": 21.0, "errors": 2.0}] * 5, True),  # 9.5
        ([{"errors": 3.0}] * 5, False),  # what CloudWatch has not counted yet
    ],
)
def test_failures_are_a_rate_and_no_rate_where_there_is_next_to_no_traffic(
    minutes: Sequence[Mapping[str, Value]], expected: bool
) -> None:
    assert goes_off("5xx", minutes) is expected


@pytest.mark.parametrize(
    ("what", "minutes", "expected"),
    [
        ("no-healthy-task", [{"it": 0.0}] * 2, True),
        ("no-healthy-task", [NOTHING] * 2, True),
        ("no-healthy-task", [{"it": 1.0}, {"it": 0.0}], False),
        ("unhealthy-task", [{"it": 1.0}] * 5, True),
        ("unhealthy-task", [{"it": 1.0}] * 4 + [{"it": 0.0}], False),
        ("connection-errors", [{"it": 1.0}, NOTHING, {"it": 1.0}], True),
        ("connection-errors", [{"it": 9.0}, NOTHING, NOTHING], False),
        ("alb-5xx", [{"bad_gateway": 6.0}] * 3, True),  # of three counts two have no value
        ("alb-5xx", [{"bad_gateway": 2.0, "no_target": 2.0, "too_slow": 2.0}] * 2 + [NOTHING], True),
        ("alb-5xx", [{"bad_gateway": 2.0, "no_target": 2.0, "too_slow": 1.0}] * 3, False),
        ("alb-5xx", [NOTHING] * 3, False),
        ("mlflow-unreachable", [{"it": 1.0}, {"it": 0.0}, {"it": 1.0}, NOTHING, {"it": 1.0}], True),
        ("mlflow-unreachable", [{"it": 1.0}, {"it": 0.0}, {"it": 1.0}, NOTHING, NOTHING], False),
        ("mlflow-unreachable", [NOTHING] * 5, False),
        ("slow", [{"n3": 21.0, "p3": 2001.0}] * 5, True),  # one family is enough
        ("slow", [{"n3": 20.0, "p3": 9000.0}] * 5, False),  # of so few calls one is more than five of a hundred
        ("slow", [{f"{kind}{at}": 2000.0 for kind in "np" for at in range(5)}] * 5, False),
        ("slow", [NOTHING] * 5, False),
        ("tasks-missing", [{"it": 1.0}] * 3 + [{"it": 2.0}] * 2, True),
        ("tasks-missing", [NOTHING] * 5, True),
        ("tasks-missing", [{"it": 2.0}] * 5, False),
        ("scaling-ceiling", [{"it": 6.0}] * 15, True),
        ("scaling-ceiling", [{"it": 6.0}] * 14 + [{"it": 5.0}], False),
        ("logs-stopped", [NOTHING] * 10, True),
        ("logs-stopped", [NOTHING] * 9 + [{"it": 1.0}], False),
        ("metrics-broken", [{"invalid": 1.0}], True),
        ("metrics-broken", [{"unreadable": 1.0}], True),
        ("metrics-broken", [NOTHING], False),
        ("metrics-missing", [{"lines": 40.0}] * 3, True),  # no metric at all, nobody working
        ("metrics-missing", [{"lines": 40.0, "checks": 40.0}] * 3, False),
        ("metrics-missing", [{"lines": 400.0, "checks": 40.0, "requests": 150.0}] * 3, True),
        ("metrics-missing", [{"lines": 400.0, "checks": 40.0, "requests": 720.0}] * 3, False),  # EMF may count twice
        ("metrics-missing", [{"lines": 20.0}] * 3, False),
        ("metrics-missing", [{"lines": 40.0, "checks": 40.0, "failed_lines": 6.0}] * 3, True),
        ("metrics-missing", [{"lines": 40.0, "checks": 40.0, "failed_lines": 6.0, "failures": 3.0}] * 3, False),
        ("metrics-missing", [NOTHING] * 3, False),
        ("transfers", [{"at_ends": 321.0}] * 5, True),
        ("transfers", [{"at_checks": 321.0}] * 5, True),  # none of them has ended
        ("transfers", [{"at_ends": 320.0, "at_checks": 320.0}] * 5, False),
        ("transfers", [NOTHING] * 5, False),
        ("network", [{"received": 5e6, "sent": 1.1e8}] * 10, True),
        ("network", [{"received": 9.9e7, "sent": 9.9e7}] * 10, False),
        ("certificate", [{"it": 29.0}], True),
        ("certificate", [NOTHING], True),  # one that has ended is not counted any more
        ("certificate", [{"it": 30.0}], False),
        ("redis-away", [{"it": 1.0}], True),
        ("bug", [{"it": 0.0}], False),
    ],
)
def test_an_alarm_goes_off_when_it_should(what: str, minutes: Sequence[Mapping[str, Value]], expected: bool) -> None:
    assert goes_off(what, minutes) is expected


def test_the_alarm_on_transfers_is_on_before_the_proxy_refuses_any() -> None:
    most = int(read({})[1].defaults["TRANSFERS_IN_ALL"])
    assert re.findall(r"> (\d+)", expression_of(alarms()["transfers"])) == [f"{0.8 * most:.0f}"] * 2


def test_what_is_set_is_what_counts() -> None:
    given = {
        "alarm_5xx_percent": "9",
        "alarm_minimum_requests": "33",
        "alarm_slow_ms": "777",
        "alarm_auth_denied": "44",
        "alarm_transfers_in_flight": "55",
        "alarm_network_bytes": "66",
        "autoscaling_min_tasks": "3",
        "autoscaling_max_tasks": "11",
        "pager_topic_arn": TOPIC.replace("mocked", "pager"),
    }
    made = alarms(**given)
    thresholds = ("5xx", "auth-denied", "tasks-missing", "scaling-ceiling")
    assert [made[what]["threshold"] for what in thresholds] == [9, 44, 3, 11]
    for what, value in (("transfers", "55"), ("network", "66")):
        assert re.findall(r"> (\d+)", expression_of(made[what])) == [value] * 2
    assert "requests > 33," in expression_of(made["5xx"])
    assert re.findall(r"n\d > (\d+) AND p\d > (\d+)", expression_of(made["slow"])) == [("33", "777")] * 5
    for actions in ("alarm_actions", "ok_actions"):
        assert set(composite(**given)[actions]) == {TOPIC, given["pager_topic_arn"]}


# --- whom they tell, and what ---


@every_alarm
def test_an_alarm_says_in_a_sentence_what_is_wrong_and_where_to_read_on(what: str) -> None:
    told = re.fullmatch(
        r"([A-Z][^.]+\.) What to do: docs/runbook\.md#([a-z0-9-]+)", alarms()[what]["alarm_description"]
    )
    assert told and told[2] == what and len(told[1].split()) >= 6


def test_each_has_a_section_of_the_runbook_to_itself() -> None:
    told = [alarm["alarm_description"] for alarm in [*alarms().values(), composite()]]
    anchors = [description.partition("docs/runbook.md#")[2] for description in told]
    assert len(set(anchors)) == len(anchors) == len(RULES) + 1


def test_the_runbook_has_the_sections() -> None:
    """GitHub makes an anchor of a heading: lower case, spaces to hyphens, other signs away."""
    headings = re.findall(r"^#+ (.+)$", RUNBOOK.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert {*RULES, "page"} - anchors == set()


@every_alarm
def test_an_alarm_tells_the_topic_that_it_is_on_and_that_it_is_over(what: str) -> None:
    alarm = alarms()[what]
    assert (alarm["alarm_actions"], alarm["ok_actions"]) == ([TOPIC], [TOPIC])
    assert alarm["actions_enabled"] is not False


def test_what_cannot_wait_is_in_the_one_alarm_over_them_and_nothing_else() -> None:
    rule = composite()["alarm_rule"]
    named = re.fullmatch(r'ALARM\("([^"]+)"\)(?: OR ALARM\("([^"]+)"\))*', rule)
    assert named, rule
    assert set(re.findall(r'ALARM\("([^"]+)"\)', rule)) == {f"{PREFIX}-{what}" for what in PAGE}
    assert (composite()["alarm_actions"], composite()["ok_actions"]) == ([TOPIC], [TOPIC])


def test_names_are_those_that_other_parts_wait_for() -> None:
    names = {alarm["alarm_name"] for alarm in alarms().values()}
    assert names == {f"{PREFIX}-{what}" for what in RULES}
    (rollback,) = resources()["aws_ecs_service.proxy"]["alarms"]
    assert set(rollback["alarm_names"]) == {f"{PREFIX}-5xx", f"{PREFIX}-no-healthy-task"} <= names
