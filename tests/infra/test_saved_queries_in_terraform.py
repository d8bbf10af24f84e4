"""Saved queries, the index of fields and the metric filters: they ask for fields that the proxy's lines have.

infrastructure/terraform/queries.tf is the source of the queries; docs/observability.md quotes them. No engine for Logs
Insights can run here: queries are read for their fields, functions and words, not answered. What each must answer is
shown on real lines by the same questions for jq (tests/e2e/test_saved_queries.py).
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import hcl2
import pytest

from app.policy import read_routes
from scripts.alb.rules import blocks_of
from tests.infra.cloudwatch import compared_texts, filter_fields, matches, numeric_fields, query_fields
from tests.infra.observed import LINES, LOG_GROUP, PREFIX, alarms, events, instances, logged, metrics_of, outcomes
from tests.support import saved_queries, terraform

needs_terraform = pytest.mark.skipif(bool(terraform.missing()), reason=terraform.missing())


def source() -> dict[str, str]:
    """The queries in queries.tf, read without Terraform: name -> text."""
    parsed = hcl2.loads((terraform.MODULE / "queries.tf").read_text())
    (found,) = [local["queries"] for local in parsed["locals"] if "queries" in local]
    queries = {}
    for name, heredoc in found.items():
        text = re.fullmatch(r'"?<<-QL\n(.*\n)\s*QL"?', heredoc, re.DOTALL)
        if text:
            queries[name.strip('"')] = textwrap.dedent(text[1])
    return queries


QUERIES = source()
every_query = pytest.mark.parametrize("name", QUERIES)


# --- one source ---


def test_the_page_quotes_each_query_to_the_letter() -> None:
    assert {heading: query for heading, (query, _) in saved_queries.queries().items()} == QUERIES


@needs_terraform
def test_each_query_is_saved_as_it_stands_in_the_source() -> None:
    made = instances("aws_cloudwatch_query_definition")
    assert {name: one["query_string"] for name, one in made.items()} == QUERIES


@needs_terraform
def test_a_query_is_found_under_its_name_and_asks_the_proxys_log() -> None:
    for name, one in instances("aws_cloudwatch_query_definition").items():
        assert (one["name"], one["log_group_names"]) == (f"{PREFIX}/{name}", [LOG_GROUP])
        assert len(one["name"]) <= 255 and len(one["query_string"]) <= 10_000  # API_PutQueryDefinition


# --- what queries ask for ---


@every_query
def test_a_query_uses_fields_that_lines_have(name: str) -> None:
    assert query_fields(QUERIES[name]) - set(logged()) == set()
    assert query_fields(QUERIES[name]) != set()


@every_query
def test_a_query_calculates_with_numbers_and_compares_texts_with_texts(name: str) -> None:
    line = logged()
    numbers = {field for field, value in line.items() if isinstance(value, int | float)}
    assert numeric_fields(QUERIES[name]) - numbers == set()
    assert {field for field, _ in compared_texts(QUERIES[name])} & numbers == set()


def test_the_words_that_queries_look_for_exist() -> None:
    told = {pair for query in QUERIES.values() for pair in compared_texts(query)}
    assert {text for field, text in told if field == "event"} <= set(events())
    assert {text for field, text in told if field == "outcome"} <= set(outcomes())
    assert {text for field, text in told if field == "action"} <= {route.action for route in read_routes()}


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("filter evnt = 1", "evnt"),
        ('filter event = "x" | stats count(*) as n by api', "api"),
        ("filter status > 1 | fields @timestamp, target", "target"),
        ("stats sum(bytes) as n by family", "bytes"),
        ("filter resource like /^model:/ and key like /status/", "key"),
    ],
)
def test_a_field_that_is_misspelt_is_found(query: str, fault: str) -> None:
    assert query_fields(query) - set(logged()) == {fault}


@pytest.mark.parametrize(
    "query", ["filtr status = 1", "stats cuont(*) as n", "stats sum(status) as n, max(status) as n"]
)
def test_what_is_no_query_is_found(query: str) -> None:
    with pytest.raises(AssertionError):
        query_fields(query)


# --- the index ---


@needs_terraform
def test_what_is_looked_for_most_is_indexed() -> None:
    (policy,) = instances("aws_cloudwatch_log_index_policy").values()
    assert policy["log_group_name"] == LOG_GROUP
    fields = json.loads(policy["policy_document"])["Fields"]
    assert sorted(fields) == ["key_id", "outcome", "request_id", "user_id"]
    assert set(fields) - set(logged()) == set()


def test_fields_are_found_and_metrics_are_read_in_this_class_of_log() -> None:
    """Fields of JSON, indexes, metric filters and EMF are things of the class STANDARD, the default.

    Read in the file: a plan with mocks makes a class up where none is given.
    """
    groups = dict(blocks_of(terraform.MODULE, "aws_cloudwatch_log_group"))
    assert groups["proxy"].get("log_group_class") in (None, "STANDARD")


# --- the filters ---


def filters() -> dict[str, str]:
    """What each filter counts -> its pattern."""
    return {name: made["pattern"] for name, made in instances("aws_cloudwatch_log_metric_filter").items()}


@needs_terraform
def test_a_filter_counts_ones_in_the_proxys_log_and_noughts_where_nothing_is() -> None:
    for name, made in instances("aws_cloudwatch_log_metric_filter").items():
        (told,) = made["metric_transformation"]
        assert (made["log_group_name"], told["namespace"], told["name"]) == (LOG_GROUP, LINES, name)
        assert (told["value"], told["default_value"], told["unit"]) == ("1", "0", "Count")
        assert not told["dimensions"]  # beside which there may be no default value


@needs_terraform
def test_a_filter_looks_at_fields_and_events_that_there_are() -> None:
    for pattern in filters().values():
        assert filter_fields(pattern) - set(logged()) == set()
        assert set(re.findall(r'\$\.event = "(\w+)"', pattern)) <= set(events())
        assert re.search(r'\$\.event = "', pattern)


def published(line: Mapping[str, Any], name: str) -> float:
    """What EMF in a line adds to a metric of the whole service."""
    (told,) = line["_aws"]["CloudWatchMetrics"]
    assert name in {metric["Name"] for metric in told["Metrics"]}
    return float(line[name]) if ["service"] in told["Dimensions"] else 0.0


@needs_terraform
@pytest.mark.parametrize("outcome", outcomes())
@pytest.mark.parametrize("family", ["tracking.runs", "health", ""])
def test_both_counts_of_failures_count_the_same(outcome: str, family: str) -> None:
    pattern = filters()["FailedLines"]
    for status in (0, 200, 206, 304, 400, 401, 404, 429, 499, 500, 501, 502, 503, 504):
        line = logged(status=status, outcome=outcome, family=family)
        assert (line["outcome"], line["status"]) == (outcome, status)
        assert float(matches(pattern, line)) == published(line, "Failures"), line


@needs_terraform
def test_each_line_is_counted_once_by_the_filter_and_once_by_one_of_the_two_metrics() -> None:
    pattern, metrics = filters()["Lines"], metrics_of(alarms()["metrics-missing"])
    assert dict(metrics["requests"].dimensions) == {"service": PREFIX}
    assert dict(metrics["checks"].dimensions) == {"service": PREFIX, "family": "health"}
    for family in ("tracking.runs", "health", ""):
        line = logged(family=family)
        of_checks = float(line["family"] == "health")
        assert float(matches(pattern, line)) == published(line, "Requests") + of_checks == 1.0


@needs_terraform
def test_rare_events_are_counted_by_their_own_filters_alone() -> None:
    wanted = {"RateLimitStorageDown": "rate_limit_storage_down", "UnhandledExceptions": "unhandled_exception"}
    for event in events():
        counted = {name for name, pattern in filters().items() if matches(pattern, {"event": event})}
        expected = {name for name, told in wanted.items() if told == event}
        assert counted == ({"Lines"} if event == "proxy_request" else expected)
