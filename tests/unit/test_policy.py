"""app/policy.py: the closed table, and who may do what. The table's own rules are in test_routes_tsv.py."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from app.permissions import ADMIN_SCOPES, SCOPES_FOR, WRITE_SCOPES, permits
from app.policy import NEVER, RouteTable, read_routes
from app.scope import Route
from tests.unit import samples

ROUTES = read_routes()
TABLE = RouteTable.load()

# CONTRACT section 3, written out once more.
WRITE = ["admin", "full_access", "mlflow:access", "mlflow:admin", "mlflow:write", "model:write", "write"]
ADMIN = ["admin", "mlflow:admin", "model-registry:admin", "registry:admin"]


def route(method: str, path: str, access: str = "read") -> Route:
    return Route(method, path, "f", f"{method} {path}", access, True)


def found(table: RouteTable, method: str, path: str) -> str:
    """The path of the route that a request means; empty when there is none."""
    answer = table.find(method, path)
    return answer.path if answer else ""


def sample_path(pattern: str) -> str:
    return re.sub(r"\{\w+:path\}", "one/two", re.sub(r"\{\w+\}", "one", pattern))


def test_every_route_of_the_table_is_found_by_its_own_path() -> None:
    """Its action is what the audit trail says was done."""
    wrong = [
        (wanted.method, wanted.path, "found as", answer and answer.path)
        for wanted in ROUTES
        if (answer := TABLE.find(wanted.method, sample_path(wanted.path))) != wanted
    ]
    assert wrong == []


def test_a_segment_that_ends_in_more_than_its_parameter_needs_that_end() -> None:
    """`{endpoint_name}:generateContent` is one method of one upstream API, not every method that it has."""
    start = "/gateway/gemini/v1beta/models/"
    assert {
        end: found(TABLE, "POST", start + end)
        for end in ("one:generateContent", "one:streamGenerateContent", "one:countTokens", "one", ":generateContent")
    } == {
        "one:generateContent": start + "{endpoint_name}:generateContent",
        "one:streamGenerateContent": start + "{endpoint_name}:streamGenerateContent",
        "one:countTokens": "",
        "one": "",
        ":generateContent": "",
    }


def test_a_route_without_parameters_finds_exactly_itself() -> None:
    plain = [wanted for wanted in ROUTES if "{" not in wanted.path]
    assert [wanted for wanted in plain if TABLE.find(wanted.method, wanted.path) != wanted] == []


def test_head_counts_as_get_wherever_there_is_a_get() -> None:
    paths = {wanted.path for wanted in ROUTES}
    differing = {
        path for path in paths if TABLE.find("HEAD", sample_path(path)) is not TABLE.find("GET", sample_path(path))
    }
    assert differing == set()


def test_a_method_that_the_table_does_not_list_is_unknown() -> None:
    listed = {(wanted.method, wanted.path) for wanted in ROUTES if "{" not in wanted.path}
    methods = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "")
    wrong = [
        (method, path)
        for path in {path for _, path in listed}
        for method in methods
        if (method, path) not in listed and (answer := TABLE.find(method, path)) and "{" not in answer.path
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/2.0/mlflow/runs/get/", "/api/2.0/mlflow/runs", "/api/2.0/mlflow/runs/", "//api/2.0/mlflow/runs/get",
        "/api//2.0/mlflow/runs/get", "/api/2.0/mlflow//runs/get", "/API/2.0/mlflow/runs/get",
        "/Api/2.0/mlflow/runs/get", "/api/2.0/mlflow/Runs/get", "/api/2.0/mlflow/runs/get%20",
        "/api/2.0/mlflow/runs/get;x", "/api/9.9/mlflow/runs/get",
        "/api/2.0/mlflow", "/api", "/x/api/2.0/mlflow/runs/get", "/.env", "/wp-admin/", "/docs", "/openapi.json", "",
        "/api/2.0/mlflow/webhooks//test", "/api/2.0/mlflow-artifacts/artifacts/", "/static-files/", "/static-files",
    ],
)  # fmt: skip  # several paths a line
def test_an_unknown_path_is_unknown_to_every_method(path: str) -> None:
    assert (found(TABLE, "GET", path), TABLE.methods(path)) == ("", [])


def test_a_fixed_segment_that_is_spelled_with_escapes_is_not_taken_for_another_route() -> None:
    """MLflow's router decodes it, so it would serve the fixed one: either we know that too, or we know no such path."""
    wrong = []
    for wanted in ROUTES:
        for index, letter in enumerate(wanted.path):
            if letter.isalpha() and "{" not in wanted.path:
                spelled = f"{wanted.path[:index]}%{ord(letter):02x}{wanted.path[index + 1 :]}"
                if (answer := TABLE.find(wanted.method, spelled)) not in (None, wanted):
                    wrong.append((wanted.method, spelled, answer.path))
    assert wrong == []


TREE = RouteTable(
    [
        route("GET", "/"),
        route("GET", "/a/fixed"),
        route("POST", "/a/{one}"),
        route("GET", "/a/{one}"),
        route("GET", "/a/{one}/tail"),
        route("GET", "/a/{many:path}"),
        route("GET", "/m/{many:path}/v/{more:path}"),
        route("GET", "/m/{many:path}"),
        route("PUT", "/m/{many:path}/v"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", "/"),
        ("GET", "/a/fixed", "/a/fixed"),
        ("POST", "/a/fixed", "/a/{one}"),
        ("GET", "/a/x", "/a/{one}"),
        ("GET", "/a/x/tail", "/a/{one}/tail"),
        ("GET", "/a/fixed/tail", "/a/{one}/tail"),
        ("GET", "/a/x/y", "/a/{many:path}"),
        ("GET", "/a/x/tail/y", "/a/{many:path}"),
        ("GET", "/a/x/", "/a/{many:path}"),
        ("GET", "/a//x", "/a/{many:path}"),
        ("GET", "/m/x", "/m/{many:path}"),
        ("GET", "/m/x/v/y", "/m/{many:path}/v/{more:path}"),
        ("GET", "/m/x/y/v/z/v/w", "/m/{many:path}/v/{more:path}"),
        ("GET", "/m/v/v", "/m/{many:path}"),
        ("PUT", "/m/x/y/v", "/m/{many:path}/v"),
        ("PUT", "/m/v/v", "/m/{many:path}/v"),
        ("GET", "/a", ""),
        ("GET", "/a/", ""),
        ("GET", "/a//", ""),
        ("POST", "/a/", ""),
        ("POST", "/a/x/y", ""),
        ("PUT", "/m/v", ""),
        ("GET", "a/fixed", ""),
    ],
)
def test_a_fixed_segment_wins_over_one_and_one_over_many(method: str, path: str, expected: str) -> None:
    assert found(TREE, method, path) == expected


def test_methods_are_sorted_and_without_what_is_never_forwarded() -> None:
    table = RouteTable(
        [route("PUT", "/x"), route("GET", "/x"), route("POST", "/x", NEVER), route("DELETE", "/y", NEVER)]
    )
    assert (table.methods("/x"), table.methods("/y"), table.methods("/z")) == (["GET", "PUT"], [], [])


def test_a_path_that_fills_the_request_line_is_looked_up_in_no_time() -> None:
    """Anybody may ask, without a key, and the worker serves nobody else meanwhile: the effort must not explode."""
    start = "/api/3.0/mlflow/mcp-servers/x/"
    slow = []
    for piece in ("versions/tags/", "versions/", "tags/", "aliases/", "x/versions/", "a/"):
        path = start + piece * (4000 // len(piece)) + "x"  # a quarter of what a request line may hold
        begun = time.process_time()
        assert TABLE.find("PUT", path) is None
        if time.process_time() - begun > 0.05:
            slow.append(piece)
    assert slow == []


def test_the_table_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(
        "method\tpath\tfamily\taction\taccess\tmoves_with_prefix\n"
        "GET\t/a/{b}\tf\ta.b\tread\tyes\n"
        "PUT\t/c\tg\tc.d\twrite\tno\n"
    )
    assert read_routes(tmp_path / "t.tsv") == [
        Route("GET", "/a/{b}", "f", "a.b", "read", True),
        Route("PUT", "/c", "g", "c.d", "write", False),
    ]
    assert found(RouteTable.load(tmp_path / "t.tsv"), "GET", "/a/x") == "/a/{b}"


def test_the_scopes_are_those_of_the_contract() -> None:
    assert {access: sorted(scopes) for access, scopes in SCOPES_FOR.items()} == {
        "write": WRITE,
        "admin": ADMIN,
        "use": sorted([*ADMIN, "gateway:use"]),
    }
    assert (sorted(WRITE_SCOPES), sorted(ADMIN_SCOPES)) == (WRITE, ADMIN)


ALL = sorted({*WRITE, *ADMIN, "gateway:use", "model:read", "mlflow:read", "read", "ADMIN", "admin ", "*", ""})


@pytest.mark.parametrize("access", ["read", "write", "use", "admin"])
@pytest.mark.parametrize("scope", ALL)
def test_one_scope_opens_exactly_its_access_classes(scope: str, access: str) -> None:
    opened = {"read": True, "write": scope in WRITE, "admin": scope in ADMIN, "use": scope in [*ADMIN, "gateway:use"]}
    assert permits(access, samples.principal(scope)) == opened[access]


def test_a_key_without_scopes_may_only_read() -> None:
    assert [permits(access, samples.principal()) for access in ("read", "write", "use", "admin")] == [
        True,
        False,
        False,
        False,
    ]


def test_an_access_class_that_nobody_knows_is_not_open_to_every_key() -> None:
    """A spelling mistake in the table must close a route, not open it."""
    assert not permits("wriet", samples.principal("model:read"))
