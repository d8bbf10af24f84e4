"""The whole table of routes, asked with every kind of key on every mount: matrix.tsv is what the proxy does.

Each cell is one request over the wire, some eight thousand in all, on connections that are kept open. Each carries its
own id, so that the upstream can be asked afterwards which of them it saw.
"""

from __future__ import annotations

import csv
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.auth_service import AuthService, new_key
from tests.support.client import open_connection, read_response
from tests.support.proxy import Proxy
from tests.support.route_table import READS_BY_POST, filled
from tests.support.upstream import RecordingUpstream

FOLDER = Path(__file__).parent
ROUTES = FOLDER.parents[1] / "app" / "routes.tsv"
MOUNTS = {"api-mlflow": "/api/mlflow", "mlflow": "/mlflow", "root": ""}
SCOPES = {"read": "model:read", "write": "model:write", "admin": "mlflow:admin", "gateway": "gateway:use"}
KINDS = ("none", *SCOPES)
CODES = {"401": "UNAUTHENTICATED", "403": "PERMISSION_DENIED", "404": "ENDPOINT_NOT_FOUND"}
AS_CLASSIFIED = ("method", "path", "family", "action", "access")
Row = dict[str, str]


def rows(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


MATRIX = rows(FOLDER / "matrix.tsv")


def test_the_matrix_has_a_line_for_every_route_of_the_table_as_it_is_classified() -> None:
    """A route that is added or classified anew needs a line here, read by a person."""
    assert [[row[name] for name in AS_CLASSIFIED] for row in MATRIX] == [
        [route[name] for name in AS_CLASSIFIED] for route in rows(ROUTES)
    ]


def test_every_cell_is_from_its_closed_vocabulary() -> None:
    assert {row[kind] for row in MATRIX for kind in KINDS} == {"200", "401", "403", "404", "forward"}
    assert {row["mounts"] for row in MATRIX} == {"all", "prefixed"}
    assert {row["path"] for row in MATRIX if "200" in row.values()} == {"/health"}


def test_a_read_only_post_is_open_to_a_key_for_reading() -> None:
    found = {
        re.sub(r"^/(ajax-)?api/[23]\.0/?", "", row["path"])
        for row in MATRIX
        if row["method"] == "POST" and row["read"] == "forward"
    }
    assert found == READS_BY_POST


@pytest.fixture
def keys(auth_service: AuthService) -> dict[str, str]:
    """A key of each kind, granted; new ones for each mount, since a key may send only so many requests at once."""
    return {
        kind: auth_service.grant(
            new_key(), user_id=f"user-{kind}", key_id=f"{kind}-{secrets.token_hex(4)}", scopes=[scope]
        )
        for kind, scope in SCOPES.items()
    }


def expected(row: Row, kind: str, mount: str) -> str:
    return row[kind] if mount or row["mounts"] == "all" else "404"


def ask_all(port: int, mount: str, name: str, kind: str, key: str | None) -> Iterator[tuple[Row, str, str]]:
    """Each row, the id of its request, and what the cell is: a status, or `forward` for an answer of the upstream's."""
    credential = f"Authorization: Bearer {key}\r\n" if key else ""
    with open_connection(port) as connection:
        for number, row in enumerate(MATRIX):
            request_id = f"{name}.{kind}.{number}"
            framing = "" if row["method"] == "GET" else "Content-Length: 0\r\n"
            connection.sendall(
                f"{row['method']} {mount}{filled(row['path'])} HTTP/1.1\r\nHost: registry.hokus.ai\r\n"
                f"X-Request-ID: {request_id}\r\n{credential}{framing}\r\n".encode()
            )
            response = read_response(connection, row["method"])
            assert response.header("X-Request-ID") == request_id
            found = str(response.status)
            if response.body == b'{"ok": true}':
                found = "forward"
            elif found in CODES:
                assert response.json()["error_code"] == CODES[found]
            yield row, request_id, found


@pytest.mark.parametrize("name", MOUNTS)
def test_the_proxy_does_what_the_matrix_says(
    shared_proxy: Proxy, upstream: RecordingUpstream, keys: dict[str, str], name: str
) -> None:
    mount, wrong, forwarded = MOUNTS[name], [], {}
    for kind in KINDS:
        for row, request_id, found in ask_all(shared_proxy.port, mount, name, kind, keys.get(kind)):
            if found != expected(row, kind, mount):
                wrong.append((row["method"], row["path"], kind, f"{found} instead of {expected(row, kind, mount)}"))
            if expected(row, kind, mount) == "forward":
                forwarded[request_id] = f"{row['method']} {filled(row['path'])} HTTP/1.1"
    assert wrong == []
    # What was refused never reached MLflow, what was not did, once and as the same request.
    seen = [(r.values("X-Request-ID")[0].decode(), r.line.decode()) for r in upstream.requests]
    assert sorted(seen) == sorted(forwarded.items())
    assert len(forwarded) > 1100, "the table has become small"


def test_a_denial_names_the_scopes_that_are_needed_and_those_that_are_there(
    shared_proxy: Proxy, upstream: RecordingUpstream, keys: dict[str, str]
) -> None:
    needed = {
        "write": "admin or full_access or mlflow:access or mlflow:admin or mlflow:write or model:write or write",
        "admin": "admin or mlflow:admin or model-registry:admin or registry:admin",
        "use": "admin or gateway:use or mlflow:admin or model-registry:admin or registry:admin",
    }
    row_of = {row["access"]: row for row in MATRIX}
    for access, scopes in needed.items():
        row = row_of[access]
        with open_connection(shared_proxy.port) as connection:
            connection.sendall(
                f"{row['method']} /mlflow{filled(row['path'])} HTTP/1.1\r\nHost: registry.hokus.ai\r\n"
                f"Authorization: Bearer {keys['read']}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            response = read_response(connection, row["method"])
        assert (response.status, response.header("Content-Type")) == (403, "application/json")
        body = response.json()
        assert (body["error_code"], body["required_scope"], body["current_scopes"]) == (
            "PERMISSION_DENIED",
            scopes,
            ["model:read"],
        )
        assert row["action"] in body["message"] and set(body) == {
            *("error_code", "message", "request_id", "required_scope", "current_scopes")
        }
    assert upstream.requests == []
