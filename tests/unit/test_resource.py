"""app/resource.py: what every route of the table is about, and that no content makes it raise, lie or tell a secret.

tests/access/resources.tsv holds a request, its JSON body, MLflow's answer and the resource that the audit line names:
reviewed by hand, and compared with MLflow's own messages by tests/e2e/test_audit_examples.py.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.policy import RouteTable, read_routes
from app.resource import ACTIONS, MOST_BYTES, MOST_PARAMETERS, MOST_TEXT, resource_of, rule_of
from app.scope import RequestScope, Route
from tests.unit import samples

EXAMPLES = Path(__file__).resolve().parents[1] / "access" / "resources.tsv"
ROUTES = [route for route in read_routes() if route.access != "never"]
TABLE = RouteTable(ROUTES)
KINDS = {told.partition(":")[0] for rule in ACTIONS.values() for told in rule.split()}

REGISTER = "POST /api/2.0/mlflow/model-versions/create"
TRANSITION = "POST /api/2.0/mlflow/model-versions/transition-stage"
LOG_METRIC = "POST /api/2.0/mlflow/runs/log-metric"
LOG_BATCH = "POST /api/2.0/mlflow/runs/log-batch"
DELETE = "DELETE /api/2.0/mlflow/registered-models/delete"
GET_RUN = "GET /api/2.0/mlflow/runs/get"


class Example(NamedTuple):
    request: str
    body: str
    answer: str
    resource: str


def examples() -> list[Example]:
    with EXAMPLES.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [Example(*row) for row in rows[1:]]


def request_of(request: str, body: str | bytes = "", answer: str | bytes = "") -> RequestScope:
    """The scope of a request whose way is done: `body` and `answer` as far as the stages keep them for its route."""
    method, _, target = request.partition(" ")
    route = found(method, target.partition("?")[0])
    rule = rule_of(route)
    kept_body = (body.encode() if isinstance(body, str) else body) if rule.reads_body else b""
    kept_answer = (answer.encode() if isinstance(answer, str) else answer) if rule.reads_answer else b""
    rest = target.partition("?")[0]
    return samples.scope(method, target, rest=rest, route=route, kept_body=kept_body, kept_answer=kept_answer)


def found(method: str, path: str) -> Route:
    route = TABLE.find(method, path)
    assert route is not None, f"no such route: {method} {path}"
    return route


def told(request: str, body: str | bytes = "", answer: str | bytes = "") -> str:
    return resource_of(request_of(request, body, answer))


# --- the table ---


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"{example.request} {example.resource}")
def test_the_resource_of_every_route(example: Example) -> None:
    assert told(example.request, example.body, example.answer) == example.resource
    assert "secret" not in example.resource.partition(":")[2]


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"{example.request} {example.resource}")
def test_the_paths_of_mlflows_pages_mean_the_same(example: Example) -> None:
    twin = example.request.replace(" /api/", " /ajax-api/", 1)
    method, _, target = twin.partition(" ")
    if TABLE.find(method, target.partition("?")[0]) is not None:
        assert told(twin, example.body, example.answer) == example.resource


def route_of(example: Example) -> Route:
    return found(*example.request.partition("?")[0].split(" "))


def test_no_route_is_without_an_example() -> None:
    shown = {(route.method, route.path) for route in map(route_of, examples())}
    shown |= {(method, path.replace("/api/", "/ajax-api/", 1)) for method, path in shown}
    assert {(route.method, route.path) for route in ROUTES} - shown == set()


def test_what_changes_something_names_it_but_for_a_few() -> None:
    """Those few have nothing to name, or hold it where nobody looks: a header, a path inside a body."""
    named = {route_of(example).action for example in examples() if example.resource}
    changing = {route.action for route in ROUTES if route.access != "read" and route.method != "GET"}
    assert changing - named == {
        "assistant.config.update",
        "assistant.skills.install",
        "demo.delete",
        "demo.generate",
        "gateway.legacy-proxy.invoke",
        "jobs.search",
        "traces.otlp.export",
    }


def test_every_line_of_the_rules_is_of_use() -> None:
    used = set()
    for route in ROUTES:
        action = route.action
        while action and action not in ACTIONS:
            action = action.rpartition(".")[0]
        used.add(action)
    assert set(ACTIONS) - used == set()


def test_the_kinds_are_a_closed_vocabulary() -> None:
    assert KINDS == {example.resource.partition(":")[0] for example in examples()} - {""}


def test_a_read_only_route_takes_its_resource_from_the_target_alone() -> None:
    for route in ROUTES:
        if route.access == "read":
            assert not (rule_of(route).reads_body or rule_of(route).reads_answer), route


def test_uploads_of_artifacts_are_never_looked_into() -> None:
    for route in ROUTES:
        if route.action in ("artifacts.upload", "runs.artifacts.upload", "traces.otlp.export"):
            assert not rule_of(route).reads_body, route


def test_nothing_is_named_where_no_route_was_found() -> None:
    assert resource_of(samples.scope(kept_body=b'{"name": "a"}')) == ""


# --- what is taken is what MLflow takes ---


@pytest.mark.parametrize(
    ("request_line", "body", "resource"),
    [
        (LOG_METRIC, '{"run_id": "a", "run_uuid": "b"}', "run:a"),
        (LOG_METRIC, '{"run_id": "", "run_uuid": "b"}', "run:b"),
        (LOG_METRIC, '{"run_id": null, "run_uuid": "b"}', "run:b"),
        (LOG_METRIC, '{"runId": "a"}', "run:a"),  # google.protobuf.json_format takes both names
        (LOG_METRIC, '{"run_id": "a", "run_id": "b"}', "run:b"),  # json.loads
        (LOG_METRIC, '{"run_\\u0069d": "b"}', "run:b"),
        (LOG_METRIC, '"{\\"run_id\\": \\"a\\"}"', "run:a"),  # encoded twice, by old clients
        (LOG_METRIC, '{"run_id": "a"} trailing', ""),
        (LOG_METRIC, '{"run_id": "a"', ""),
        (TRANSITION, '{"name": "churn", "version": 7}', "model-version:churn/7"),
        (TRANSITION, '{"version": "7"}', ""),
        (TRANSITION, '{"name": "churn", "version": ""}', "model-version:churn"),
        (f"{DELETE}?name=other", '{"name": "churn"}', "registered-model:churn"),
        (f"{DELETE}?name=other", "", ""),
        ("POST /gateway/proxy/chat/a/b/c", "", "gateway-endpoint-name:chat"),
        ("PATCH /api/2.0/mlflow/traces/a%2Bb/tags", '{"request_id": "other"}', "trace:a+b"),
    ],
)
def test_a_body_is_read_as_mlflow_reads_it(request_line: str, body: str, resource: str) -> None:
    assert told(request_line, body) == resource


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le", "utf-8-sig"])
def test_encodings_that_mlflows_reader_knows_are_known(encoding: str) -> None:
    assert told(LOG_METRIC, '{"run_id": "a"}'.encode(encoding)) == "run:a"


@pytest.mark.parametrize(
    ("query", "resource"),
    [
        ("run_id=a&run_id=b", "run:a"),
        ("run%5Fid=a&run_id=b", "run:a"),
        ("x=run_id=b&run_id=a", "run:a"),
        ("run_id=&run_uuid=b", "run:b"),
        ("run_id", ""),
        ("run_idx=a", ""),
        ("xrun_id=a", ""),
        ("run_id=a+b%2Fc%26d", "run:a b/c&d"),
        ("run_id=%E9", "run:\\ufffd"),
        ("&&run_id=a", "run:a"),
        ("?run_id=a", ""),
        ("", ""),
    ],
)
def test_a_query_is_read_as_mlflow_reads_it(query: str, resource: str) -> None:
    assert told(f"{GET_RUN}?{query}") == resource.encode().decode("unicode_escape")


def test_of_a_query_without_end_the_beginning_counts() -> None:
    many = "&".join(["x=1"] * MOST_PARAMETERS)
    assert told(f"{GET_RUN}?{many[4:]}&run_id=a") == "run:a"
    assert told(f"{GET_RUN}?{many}&run_id=a") == ""


def test_names_with_slashes_are_cut_where_mlflow_cuts_them() -> None:
    """Starlette's `{name:path}` takes as much as it can (starlette/routing.py, compile_path)."""
    versions = "/api/3.0/mlflow/mcp-servers/a/versions/b/versions/c"
    assert told(f"DELETE {versions}") == "mcp-server-version:a/versions/b/c"
    assert told(f"DELETE {versions}/tags/d") == "mcp-server-version:a/versions/b/c"


def test_the_answer_names_what_it_created() -> None:
    answer = '{"model_version": {"name": "churn", "version": "7"}}'
    assert told(REGISTER, '{"name": "other"}', answer) == "model-version:churn/7"
    assert told(REGISTER, '{"name": "churn"}', '{"model_version": {"name": "churn", "ver') == "model-version:churn"
    assert told(REGISTER, "", answer) == "model-version:churn/7"


# --- odd content ---

ODD = [
    b"", b" ", b"null", b"true", b"7", b'"x"', b"[]", b"{}", b"[1]", b"no json", b"\xff\xfe", b"\x00", b"{", b'{"name"',
    b"[" * MOST_BYTES, b'{"name":' * 8000, b'{"a":' * 8000 + b"1" + b"}" * 8000, b'"' + b"[" * 60_000 + b'"',
    b'{"name": ' + b"9" * 60_000 + b"}", b'{"name": NaN}', b'{"name": 1e999}', b'{"name": true}', b'{"name": []}',
    b'{"name": ["a", "b"]}', b'{"name": {"name": "x"}}', b'{"name": [["a"]]}', b'{"name": null}', b'{"NAME": "x"}',
    b'"' + b'\\"' * 30_000 + b'"', json.dumps(json.dumps(json.dumps({"name": "x"}))).encode(),
]  # fmt: skip


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("request_line", [DELETE, TRANSITION, REGISTER, LOG_BATCH, "POST /api/3.0/mlflow/traces"])
def test_a_body_that_says_nothing_names_nothing(request_line: str, body: bytes) -> None:
    assert told(request_line, body, body) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\\nb", "a\\\\nb"),
        ("a\\u0000\\u001b[31m", "a\\\\x00\\\\x1b[31m"),
        ("a\\u202eb\\u2028", "a\\\\u202eb\\\\u2028"),
        ("\\ud800", "\\\\ud800"),
        ("pr\\u00e9visions \\u2713", "pr\\u00e9visions \\u2713"),
    ],
)
def test_what_no_line_should_hold_is_escaped(value: str, shown: str) -> None:
    shown = shown.encode().decode("unicode_escape")
    assert told(DELETE, f'{{"name": "{value}"}}') == f"registered-model:{shown}"
    json.dumps(told(DELETE, f'{{"name": "{value}"}}'), ensure_ascii=False).encode()


def test_each_part_is_bounded_and_the_next_one_still_there() -> None:
    resource = told(TRANSITION, json.dumps({"name": "x" * 5000, "version": "7" * 300}))
    assert resource == "model-version:" + "x" * MOST_TEXT + "/" + "7" * MOST_TEXT


def test_a_path_of_repetitions_costs_no_more_than_its_length() -> None:
    """Read with a backtracking expression it would take minutes."""
    path = "/api/3.0/mlflow/mcp-servers/a" + "/versions/b" * 1300 + "/tags/c" + "/versions/d" * 100
    scope = request_of(f"DELETE {path}")
    assert resource_of(scope).startswith("mcp-server-version:a/versions/b/")


# --- large bodies ---


def batch(first: str, more: str = "") -> str:
    metrics = [{"key": f"m{i}", "value": i / 3, "timestamp": i, "step": i} for i in range(100)]
    return f'{{{first}, "metrics": {json.dumps(metrics)}{more}}}'


@pytest.mark.parametrize(
    ("body", "resource"),
    [
        (batch('"run_id": "a"'), "run:a"),
        (batch('"run_id": "a"', ', "run_id": "b"'), "run:b"),
        (batch('"run_id": "a"', ', "runId": "b"'), "run:a"),  # MLflow refuses it
        (batch('"run_id": "a"', ', "run_\\u0069d": "b"'), "run:b"),
        (batch('"run_id": "a"', ', "tags": [{"key": "run_id", "run_id": "x"}]'), "run:a"),
        (batch('"run_id": "\\u0061"'), "run:a"),
        (batch('"run_id": ""', ', "run_uuid": "b"'), "run:b"),
        (batch('"run_uuid": "b"', ', "run_id": "a"'), "run:a"),
        (batch('"runId": "a"'), "run:a"),
        (batch('"other": "a"', ', "run_id": "b"'), "run:b"),
        (" \n\t" + batch('"run_id" : "a"'), "run:a"),
        (batch('"run_id": "é"'), "run:é"),
        (batch('"run_id": 7'), "run:7"),
    ],
)
def test_a_large_body_is_told_as_a_small_one_is(body: str, resource: str) -> None:
    assert len(body) > 2048
    assert told(LOG_BATCH, body) == resource


def test_a_large_body_that_begins_with_its_run_is_read_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("it was read")

    monkeypatch.setattr("app.resource.json.loads", refuse)
    assert told(LOG_BATCH, batch('"run_id": "a"')) == "run:a"
