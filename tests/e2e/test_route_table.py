"""The proxy's route table against the MLflow that is installed: what it serves and what we classify are the same.

After an upgrade of MLflow this is the test that names the new routes, before any of them can be reached.
"""

import csv
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MLFLOW_PYTHON = ROOT / ".venv-mlflow" / "bin" / "python"
SCRIPT = ROOT / "scripts" / "mlflow_routes.py"
TABLE = ROOT / "app" / "routes.tsv"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/{artifact_path:path}"

# (method, path) -> moves_with_prefix
Routes = dict[tuple[str, str], str]


def drift(table: Routes, served: Routes) -> str:
    """What differs between the table and what MLflow serves, for a person to act on; empty when nothing does."""
    findings = {
        "MLflow serves these; classify them in app/routes.tsv (until then they are answered 404):": (
            served.keys() - table.keys()
        ),
        "MLflow no longer serves these; remove them from app/routes.tsv:": table.keys() - served.keys(),
        "moves_with_prefix in app/routes.tsv is wrong for these:": {
            route for route in table.keys() & served.keys() if table[route] != served[route]
        },
    }
    return "\n".join(
        "\n".join([advice, *(f"  {method} {path}" for method, path in sorted(routes))])
        for advice, routes in findings.items()
        if routes
    )


@pytest.fixture(scope="module")
def table() -> Routes:
    with TABLE.open(newline="", encoding="ascii") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {(row["method"], row["path"]): row["moves_with_prefix"] for row in rows}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working, home and temporary directory of the script."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def listing(scratch: Path) -> list[list[str]]:
    """The rows the script prints: method, path, served_by, moves_with_prefix."""
    # Settings of the caller's shell must not change the answer: this one would move nearly every route.
    environment = os.environ | {
        "_MLFLOW_STATIC_PREFIX": "/from-the-shell",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
    }
    run = subprocess.run(
        [MLFLOW_PYTHON, SCRIPT], cwd=scratch, env=environment, capture_output=True, text=True, timeout=180
    )
    assert run.returncode == 0, run.stderr
    return [line.split("\t") for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def served(listing: list[list[str]]) -> Routes:
    return {(method, path): moves for method, path, _, moves in listing}


def test_every_route_of_mlflow_is_classified_and_no_other(table: Routes, served: Routes) -> None:
    assert not (report := drift(table, served)), report


def test_a_route_missing_from_the_table_is_named(table: Routes, served: Routes) -> None:
    table = {route: moves for route, moves in table.items() if route != ("PUT", ARTIFACT)}
    report = drift(table, served)
    assert "classify them in app/routes.tsv" in report
    assert report.splitlines()[1:] == [f"  PUT {ARTIFACT}"]


def test_a_route_mlflow_does_not_serve_is_named(table: Routes, served: Routes) -> None:
    report = drift(table | {("GET", "/api/2.0/mlflow/gone"): "yes"}, served)
    assert "no longer serves" in report
    assert report.splitlines()[1:] == ["  GET /api/2.0/mlflow/gone"]


def test_a_wrong_prefix_column_is_named(table: Routes, served: Routes) -> None:
    report = drift(table | {("GET", ARTIFACT): "yes"}, served)
    assert "moves_with_prefix" in report
    assert report.splitlines()[1:] == [f"  GET {ARTIFACT}"]


def test_the_listing_holds_one_sorted_row_per_method_and_path(listing: list[list[str]], served: Routes) -> None:
    assert len(listing) == len(served)
    assert listing == sorted(listing, key=lambda row: (row[1], row[0]))
    assert not {method for method, *_ in listing} & {"HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    ("method", "path", "served_by", "moves"),
    [
        ("GET", ARTIFACT, "fastapi", "no"),  # both serve it, and the streaming one answers first
        ("DELETE", ARTIFACT, "flask", "yes"),
        ("GET", "/ajax-api/3.0/mlflow/assistant/config", "fastapi", "yes"),  # an included router
        ("GET", "/api/3.0/mlflow/mcp-servers/{name:path}", "fastapi", "yes"),  # included with a prefix of its own
        ("POST", "/api/2.0/mlflow/runs/create", "flask", "yes"),
        ("PATCH", "/api/2.0/mlflow/users/update-password", "flask", "yes"),  # the basic-auth app
        ("GET", "/signup", "flask", "no"),
        ("GET", "/metrics", "flask", "no"),
    ],
)
def test_the_listing_tells_who_answers_first_and_what_a_prefix_moves(
    listing: list[list[str]], method: str, path: str, served_by: str, moves: str
) -> None:
    assert [method, path, served_by, moves] in listing


@pytest.mark.usefixtures("listing")
def test_listing_the_routes_leaves_no_file_behind(scratch: Path) -> None:
    assert list(scratch.iterdir()) == []
