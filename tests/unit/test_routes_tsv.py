"""The route table (app/routes.tsv) is data that decides who may do what: these tests hold it to its own rules.

Whether it matches the MLflow that is installed is tested by tests/e2e/test_route_table.py.
"""

import csv
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.route_table import READS_BY_POST

TABLE = Path(__file__).resolve().parents[2] / "app" / "routes.tsv"
COLUMNS = ["method", "path", "family", "action", "access", "moves_with_prefix"]

# Each of them lets a caller reach further than MLflow's data: outbound requests, provider secrets, server-side code.
ADMIN_FAMILIES = {"assistant", "auth", "demo", "gateway.admin", "jobs", "registry.webhooks"}

JOB_STARTERS = {
    "/ajax-api/3.0/mlflow/genai/evaluate/invoke",
    "/ajax-api/3.0/mlflow/issues/invoke",
    "/ajax-api/3.0/mlflow/scorer/invoke",
}

NEVER_FORWARDED = {
    ("GET", "/health"),  # the proxy answers it
    ("GET", "/metrics"),  # internal
    ("GET", "/signup"),  # anonymous account creation: the page ...
    ("POST", "/api/2.0/mlflow/users/create-ui"),  # ... and the form behind it
    ("GET", "/ajax-api/3.0/mlflow/ui-telemetry"),  # sends usage off-site
    ("POST", "/ajax-api/3.0/mlflow/ui-telemetry"),
}


class Row(NamedTuple):
    method: str
    path: str
    family: str
    action: str
    access: str
    moves_with_prefix: str

    @property
    def operation(self) -> str:
        """The path without mount and API version, parameters anonymous: equal for twins and for 2.0 / 3.0."""
        bare = re.sub(r"^/(ajax-)?api/\d\.0/?", "", self.path)
        return re.sub(r"\{\w+(:path)?\}", "{}", bare)


def table() -> list[Row]:
    with TABLE.open(newline="", encoding="ascii") as file:
        header, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    assert header == COLUMNS
    return [Row(*row) for row in rows]


ROWS = table()


def test_every_method_and_path_is_listed_once() -> None:
    assert [route for route, count in Counter((row.method, row.path) for row in ROWS).items() if count > 1] == []


def test_rows_are_sorted_by_family_path_and_method() -> None:
    assert ROWS == sorted(ROWS, key=lambda row: (row.family, row.path, row.method))


@pytest.mark.parametrize(
    ("column", "pattern"),
    [
        ("method", r"DELETE|GET|PATCH|POST|PUT"),
        ("path", r"/(?:[\w.:/-]|\{\w+(?::path)?\})*"),
        ("family", r"[a-z0-9-]+(?:\.[a-z0-9-]+)*"),
        ("action", r"[a-z0-9-]+(?:\.[a-z0-9-]+)+"),
        ("access", r"read|write|use|admin|never"),
        ("moves_with_prefix", r"yes|no"),
    ],
)
def test_every_cell_is_from_its_closed_vocabulary(column: str, pattern: str) -> None:
    assert {cell for row in ROWS if not re.fullmatch(pattern, cell := getattr(row, column))} == set()


def test_ajax_api_and_api_twins_agree_in_everything() -> None:
    rows = {(row.method, row.path): row for row in ROWS}
    pairs = [
        (row, rows[row.method, twin])
        for row in ROWS
        if (twin := row.path.replace("/ajax-api/", "/api/", 1)) != row.path and (row.method, twin) in rows
    ]
    assert len(pairs) > 200
    assert [(a, b) for a, b in pairs if a[2:] != b[2:]] == []


def test_the_same_operation_in_two_api_versions_has_one_action_and_one_access() -> None:
    seen: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for row in ROWS:
        seen[row.method, row.operation].add((row.action, row.access))
    assert {operation: found for operation, found in seen.items() if len(found) > 1} == {}


def test_an_action_means_one_family_and_one_access() -> None:
    seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in ROWS:
        seen[row.action].add((row.family, row.access))
    assert {action: found for action, found in seen.items() if len(found) > 1} == {}


def test_methods_that_do_different_things_to_one_path_have_different_actions() -> None:
    seen: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in ROWS:
        if row.operation not in READS_BY_POST:  # GET and POST of a search are the same act
            seen[row.path, row.action].append(row.method)
    assert {key: methods for key, methods in seen.items() if len(methods) > 1} == {}


def test_exactly_the_posts_that_only_read_are_read() -> None:
    found = {row.operation for row in ROWS if row.method != "GET" and row.access == "read"}
    assert found == READS_BY_POST
    assert {row.method for row in ROWS if row.operation in READS_BY_POST} == {"GET", "POST"}


def test_searching_server_jobs_is_admin_although_it_only_reads() -> None:
    # It would be the fifteenth POST that only reads, but job parameters and results belong to the jobs family.
    assert {row.access for row in ROWS if row.action == "jobs.search"} == {"admin"}


def test_a_get_never_counts_as_a_write() -> None:
    assert [row for row in ROWS if row.method == "GET" and row.access == "write"] == []


def test_dangerous_families_need_an_admin_scope() -> None:
    dangerous = [row for row in ROWS if row.family in ADMIN_FAMILIES and (row.method, row.path) not in NEVER_FORWARDED]
    assert {row.family for row in dangerous} == ADMIN_FAMILIES
    assert [row for row in dangerous if row.access != "admin"] == []


def test_changing_a_workspace_needs_an_admin_scope() -> None:
    changes = [row for row in ROWS if row.family == "workspaces" and row.method != "GET"]
    assert len(changes) == 6
    assert [row for row in changes if row.access != "admin"] == []


@pytest.mark.parametrize("prefix", ["gateway.", "users.", "roles.", "webhooks.", "jobs.", "assistant.", "signup."])
def test_an_action_of_a_dangerous_kind_is_never_plain_read_or_write(prefix: str) -> None:
    # By action, not by family: a new row filed under a harmless family is caught too.
    rows = [row for row in ROWS if row.action.startswith(prefix)]
    assert rows
    assert [row for row in rows if row.access in ("read", "write")] == []


def test_only_the_gateway_and_the_job_starters_spend_money() -> None:
    """The three job starters run a judge model on the server, with a provider's credential that it looks up itself."""
    spenders = {row.path if row.family.startswith("genai") else row.family for row in ROWS if row.access == "use"}
    assert spenders == {"gateway.invoke", "gateway.legacy-proxy", *JOB_STARTERS}


def test_exactly_these_routes_are_never_forwarded() -> None:
    assert {(row.method, row.path) for row in ROWS if row.access == "never"} == NEVER_FORWARDED


def test_where_two_patterns_match_one_path_they_ask_for_the_same_access() -> None:
    """So that a mistake in the order of matching cannot become a mistake about access."""
    patterns = [(row, as_regex(row.path)) for row in ROWS if "{" in row.path]
    clashes = [
        (row.path, other.path)
        for row in ROWS
        for other, pattern in patterns
        if row.method == other.method
        and row.access != other.access
        and pattern.fullmatch(re.sub(r"\{.*?\}", "sample", row.path))
    ]
    assert clashes == []


def as_regex(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+(?::path)?\})", path)
    return re.compile(
        "".join((".*" if ":path" in part else "[^/]+") if part[:1] == "{" else re.escape(part) for part in parts)
    )


def test_only_the_artifact_streams_and_three_fixed_paths_ignore_the_static_prefix() -> None:
    streams = {
        (method, f"{api}/2.0/mlflow-artifacts/artifacts/{{artifact_path:path}}")
        for method in ("GET", "PUT")
        for api in ("/api", "/ajax-api")
    }
    fixed = {("GET", "/build/{filename:path}"), ("GET", "/metrics"), ("GET", "/signup")}
    assert {(row.method, row.path) for row in ROWS if row.moves_with_prefix == "no"} == streams | fixed


@pytest.mark.parametrize(
    ("method", "path", "action", "access"),
    [
        ("POST", "/api/2.0/mlflow/runs/create", "runs.create", "write"),
        ("POST", "/api/2.0/mlflow/model-versions/create", "model-versions.create", "write"),
        ("POST", "/ajax-api/2.0/mlflow/experiments/search", "experiments.search", "read"),
        ("POST", "/api/2.0/mlflow/registered-models/alias", "registered-models.alias.set", "write"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/{artifact_path:path}", "artifacts.upload", "write"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts/{artifact_path:path}", "artifacts.download", "read"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts", "artifacts.list", "read"),
        ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/{artifact_path:path}", "artifacts.delete", "write"),
        ("POST", "/api/2.0/mlflow-artifacts/mpu/create/{artifact_path:path}", "artifacts.mpu.create", "write"),
        ("GET", "/api/2.0/mlflow-artifacts/presigned/{artifact_path:path}", "artifacts.presigned-download", "read"),
        ("POST", "/v1/traces", "traces.otlp.export", "write"),
        ("GET", "/version", "version.get", "read"),
        ("GET", "/api/3.0/mlflow/server-info", "server-info.get", "read"),
        ("GET", "/", "ui.page", "read"),
        ("DELETE", "/api/2.0/mlflow/webhooks/{webhook_id}", "webhooks.delete", "admin"),
        ("POST", "/gateway/{endpoint_name}/mlflow/invocations", "gateway.endpoints.invoke", "use"),
    ],
)
def test_the_audit_log_names_an_operation_in_mlflows_terms(method: str, path: str, action: str, access: str) -> None:
    assert [(row.action, row.access) for row in ROWS if (row.method, row.path) == (method, path)] == [(action, access)]
