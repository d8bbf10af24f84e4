"""docs/observability.md names exactly the fields, words and events that the code has; its queries use no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.access_log import record
from app.emf import FAILURES, METRICS, NAMESPACE, SERVICE
from app.error_handlers import RARE
from app.exposition import Figures
from app.metrics import CELL, FAMILY_CELLS, FAMILY_ROWS, KEY_CELLS, REQUEST_ROWS, SHEET, Board
from app.policy import read_routes
from app.resource import ACTIONS
from tests.support.saved_queries import LOG, queries, section
from tests.unit import samples

ROOT = Path(__file__).resolve().parents[1]
CODE = [ast.parse(path.read_text()) for path in [*sorted((ROOT / "app").rglob("*.py")), ROOT / "gunicorn.conf.py"]]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}

EMPTY = {
    "event": "",
    "ts": "",
    "level": "",
    **record(samples.scope(), 200, 0, 0.0),
}  # a line with the types of its fields
TYPES = {"text": (str,), "number": (int, float)}

# What is no field in a query of Logs Insights.
WORDS = {
    "filter", "stats", "sort", "fields", "limit", "by", "as", "and", "or", "not", "like", "asc", "desc", "bin", "count",
    "sum", "avg", "pct", "max", "min", "floor", "count_distinct", "earliest", "latest", "m", "@timestamp", "@message",
}  # fmt: skip


def rows(text: str) -> list[list[str]]:
    """The rows of a section's table, cell by cell; the first cell without its backquotes."""
    lines = [line for line in text.partition("\n### ")[0].splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [[first.strip("`"), *others] for first, *others in cells if others != ["meaning"]]


def nodes() -> Iterator[ast.AST]:
    return (node for tree in CODE for node in ast.walk(tree))


# --- fields and words ---


def test_the_fields_are_those_of_the_line_in_its_order_with_its_types() -> None:
    told = [(name, kind) for name, kind, _ in rows(section("## The fields"))]
    assert [name for name, _ in told] == list(EMPTY)
    assert [name for name, kind in told if type(EMPTY[name]) not in TYPES[kind]] == []


def test_every_row_is_explained() -> None:
    tables = ("## The fields", "### How it ended", "### What it was done to", "## Rare events", "### For CloudWatch")
    silent = [row[0] for heading in tables for row in rows(section(heading)) if "" in row[:3]]
    assert silent == []


def test_the_outcomes_are_those_of_the_code() -> None:
    written: list[ast.AST] = [
        node.value
        for node in nodes()
        if isinstance(node, ast.Assign) and any(re.search(r"\boutcome\b", ast.unparse(one)) for one in node.targets)
    ]
    written += [node for node in nodes() if isinstance(node, ast.FunctionDef) and node.name == "outcome"]
    texts = {ast.literal_eval(one) for node in written for one in ast.walk(node) if isinstance(one, ast.Constant)}
    words = {text for text in texts if isinstance(text, str) and re.fullmatch("[a-z_]+", text)}
    assert {name for name, _ in rows(section("### How it ended"))} == words


def test_the_kinds_of_resources_are_those_of_the_code() -> None:
    kinds = {told.partition(":")[0] for rule in ACTIONS.values() for told in rule.split()}
    assert [name for name, _ in rows(section("### What it was done to"))] == sorted(kinds)


def test_the_rare_events_are_those_of_the_code() -> None:
    logged = {
        str(node.args[0].value)
        for node in nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS
        if ast.unparse(node.func.value) in ("log", "self.log") and isinstance(node.args[0], ast.Constant)
    }
    assert sorted(name for name, *_ in rows(section("## Rare events"))) == sorted(logged | {*RARE, "server"})


# --- queries ---


def test_every_query_is_one_for_insights_and_one_for_jq() -> None:
    assert len(queries()) == 12
    for heading, (query, command) in queries().items():
        assert query.startswith("filter ") and command.startswith("jq ") and command.endswith(f" {LOG}\n"), heading


@pytest.mark.parametrize("heading", queries())
def test_a_query_for_insights_uses_no_field_that_is_not_written(heading: str) -> None:
    bare = re.sub(r'"[^"]*"|like /(?:\\.|[^/\\])+/', "", queries()[heading][0])
    made = set(re.findall(r"\bas (\w+)", bare))
    assert set(re.findall(r"@?[A-Za-z_]\w*", bare)) - WORDS - made - set(EMPTY) == set()
    assert made & set(EMPTY) == set()


@pytest.mark.parametrize("heading", queries())
def test_a_command_for_jq_uses_no_field_that_is_not_written(heading: str) -> None:
    bare = re.sub(r'"[^"]*"', "", queries()[heading][1].removesuffix(f"{LOG}\n"))
    named = set(re.findall(r"\.([A-Za-z_]\w*)", bare))
    assert named != set() and named - set(EMPTY) == set()


def test_the_words_that_queries_look_for_exist() -> None:
    text = "".join(part for pair in queries().values() for part in pair)
    routes, outcomes = read_routes(), {name for name, _ in rows(section("### How it ended"))}
    assert set(re.findall(r'action ==? "([^"]+)"', text)) <= {route.action for route in routes}
    assert set(re.findall(r'outcome ==? "([^"]+)"', text)) <= outcomes
    assert any(outcome.startswith("upstream_") for outcome in outcomes)
    assert any(route.family.startswith("artifacts.") for route in routes)


def test_the_page_is_linked() -> None:
    assert "(docs/observability.md)" in (ROOT / "README.md").read_text()


# --- metrics ---


def test_the_metrics_of_cloudwatch_are_those_of_the_code_with_their_units() -> None:
    assert {name: unit for name, unit, _ in rows(section("### For CloudWatch"))} == METRICS
    assert f"`{NAMESPACE}`" in section("### For CloudWatch") and f"`{SERVICE}`" in section("### For CloudWatch")


def test_what_counts_as_a_failure_is_what_the_code_counts() -> None:
    (told,) = (meaning for name, _, meaning in rows(section("### For CloudWatch")) if name == "Failures")
    assert set(re.findall(r"`([a-z_]+)`", told)) == FAILURES


def test_the_metrics_of_prometheus_are_those_of_the_code_with_their_labels() -> None:
    board = Board(1)
    board.sheet(0).count({**EMPTY, "status": 200})
    found = {
        re.sub("_(bucket|count|sum)$", "", sample.name): sorted(set(sample.labels) - {"le"})
        for metric in Figures(board).collect()
        for sample in metric.samples
    }
    assert {name: sorted(labels.strip("`").split()) for name, labels, _ in rows(section("### For Prometheus"))} == found


def test_the_adr_names_the_sizes_that_hold() -> None:
    text = (ROOT / "docs" / "adr" / "0014-metrics.md").read_text()
    sizes = (KEY_CELLS * CELL, FAMILY_CELLS * CELL, f"{REQUEST_ROWS:,} and {FAMILY_ROWS}", f"{SHEET // 1000} KB")
    assert [size for size in map(str, sizes) if size not in text] == []
