"""app/__init__.py and the blueprints: the request's way from edge to forward, with a scripted key source and MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import responses

from app import create_app
from app.policy import NEVER, read_routes
from app.scope import Route
from app.translate import MOUNTS, served_at
from tests.unit import samples
from tests.unit.samples import KEY, headers_of
from tests.unit.scripted import MLFLOW, READER, Keys, ask, client, error_code, new_client, sample_path

pytestmark = pytest.mark.usefixtures("keys")
EVERY_MOUNT = (*MOUNTS, "")
ROUTES = [route for route in read_routes() if route.access != NEVER]


def served_under(mount: str) -> list[Route]:
    return [route for route in ROUTES if served_at(mount, route.path)]


# --- the order of the stages ---


def test_a_malformed_target_is_refused_before_anything_else(mlflow: responses.RequestsMock) -> None:
    asker = client()
    for path in ("/mlflow/../health", "/health/%2e%2e/x", "/nowhere/%zz", "/mlflow/api/2.0/mlflow/runs/get%00"):
        answer = ask(asker, "GET", path, KEY)
        assert (answer.status_code, error_code(answer)) == (400, "BAD_REQUEST")
    assert (Keys.asked, len(mlflow.calls)) == ([], 0)


UNKNOWN = [
    "/", "/x", "/.envy", "/mlflow/nowhere", "/api/mlflow/nowhere", "/api/nowhere", "/mlflow/api/9.9/mlflow/runs/get",
    "/graphql", "/get-artifact", "/mlflowx/version", "/mlflow/metrics", "/mlflow/signup", "/metrics", "/login",
    "/mlflow/api/2.0/mlflow/runs/get/", "/mlflow//api/2.0/mlflow/runs/get", "/static/x", "/favicon.ico",
]  # fmt: skip  # several paths a line


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_route_asks_nobody(mlflow: responses.RequestsMock, path: str, method: str) -> None:
    answer = ask(client(), method, path, KEY)
    assert (answer.status_code, Keys.asked, len(mlflow.calls)) == (404, [], 0)
    assert method == "HEAD" or error_code(answer) == "ENDPOINT_NOT_FOUND"


def test_every_route_that_is_never_forwarded_asks_nobody(mlflow: responses.RequestsMock) -> None:
    asker = client()
    closed = [route for route in read_routes() if route.access == NEVER and route.path != "/health"]
    found = {
        (ask(asker, route.method, mount + route.path, KEY).status_code) for mount in EVERY_MOUNT for route in closed
    }
    assert (found, len(closed), Keys.asked, len(mlflow.calls)) == ({404}, 5, [], 0)


@pytest.mark.parametrize("mount", EVERY_MOUNT)
def test_every_route_of_the_table_answers_401_without_a_key_where_it_is_served(
    mlflow: responses.RequestsMock, mount: str
) -> None:
    asker, served = client(), served_under(mount)
    wrong = [
        (route.method, route.path, answer.status_code)
        for route in served
        if (answer := ask(asker, route.method, mount + sample_path(route.path))).status_code != 401
        or error_code(answer) != "UNAUTHENTICATED"
    ]
    assert (wrong, len(served) > 400, Keys.asked, len(mlflow.calls)) == ([], True, [], 0)


def test_every_route_of_the_table_is_unknown_where_it_is_not_served(mlflow: responses.RequestsMock) -> None:
    asker = client()
    elsewhere = [route for route in ROUTES if not served_at("", route.path)]
    found = {ask(asker, route.method, sample_path(route.path), KEY).status_code for route in elsewhere}
    assert (found, len(elsewhere) > 10, Keys.asked, len(mlflow.calls)) == ({404}, True, [], 0)


@pytest.mark.parametrize("mount", EVERY_MOUNT)
def test_every_route_of_the_table_reaches_mlflow_with_an_admins_key_where_it_is_served(
    mlflow: responses.RequestsMock, mount: str
) -> None:
    asker, served = client(), served_under(mount)
    for route in served:
        path = sample_path(route.path)
        assert ask(asker, route.method, mount + path + "?a=b", KEY).status_code == 200, route
        sent = mlflow.calls[-1].request
        assert (sent.method, headers_of(sent).manner.target) == (route.method, path + "?a=b")
    assert len(mlflow.calls) == len(served)


def test_a_key_that_may_only_read_gets_no_further_than_that(mlflow: responses.RequestsMock) -> None:
    asker = client()
    for route in ROUTES:
        answer = ask(asker, route.method, "/mlflow" + sample_path(route.path), READER)
        assert answer.status_code == (200 if route.access == "read" else 403), route
    assert len(mlflow.calls) == len([route for route in ROUTES if route.access == "read"])


def test_a_missing_scope_is_told_with_what_is_needed_and_what_is_there(mlflow: responses.RequestsMock) -> None:
    answer = ask(client(), "POST", "/mlflow/api/2.0/mlflow/runs/create", READER)
    assert (answer.status_code, error_code(answer), len(mlflow.calls)) == (403, "PERMISSION_DENIED", 0)
    body = json.loads(answer.data)
    assert (body["required_scope"], body["current_scopes"]) == (
        "admin or full_access or mlflow:access or mlflow:admin or mlflow:write or model:write or write",
        ["model:read"],
    )
    assert "runs.create" in body["message"]


def test_an_outage_of_the_key_source_is_503_and_not_401(mlflow: responses.RequestsMock) -> None:
    asker = client()
    Keys.away = True
    answer = ask(asker, "GET", "/mlflow/version", KEY)
    assert (answer.status_code, error_code(answer), len(mlflow.calls)) == (503, "TEMPORARILY_UNAVAILABLE", 0)


def test_a_good_key_is_asked_about_once(mlflow: responses.RequestsMock) -> None:
    answer = ask(client(), "GET", "/mlflow/version", KEY)
    assert (answer.status_code, answer.json, Keys.asked) == (200, {"from": "mlflow"}, [KEY])
    sent = mlflow.calls[0].request.headers
    assert {name: sent[name] for name in ("X-Hokusai-User-Id", "X-Hokusai-API-Key-Id")} == {
        "X-Hokusai-User-Id": "alice",
        "X-Hokusai-API-Key-Id": "key-1",
    }
    assert KEY not in repr(sent)


def test_a_local_key_file_is_the_source_of_keys_where_it_is_configured(tmp_path: Path) -> None:
    asker = new_client(HOKUSAI_AUTH_SERVICE_URL="", LOCAL_KEYS_PATH=str(tmp_path / "keys.json"))
    added = asker.application.test_cli_runner().invoke(args=["keys", "add", "--user", "carol"])
    key = added.stdout.strip()
    with responses.RequestsMock() as mock:
        mock.get(MLFLOW, json={})
        assert ask(asker, "GET", "/mlflow/version", key).status_code == 200
        assert mock.calls[0].request.headers["X-Hokusai-User-Id"] == "carol"
    assert ask(asker, "GET", "/mlflow/version", KEY).status_code == 401


# --- OPTIONS ---


@pytest.mark.parametrize("mount", EVERY_MOUNT)
@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/2.0/mlflow/experiments/search", "GET, POST, HEAD, OPTIONS"),
        ("/api/2.0/mlflow/runs/create", "POST, OPTIONS"),
        ("/api/2.0/mlflow-artifacts/artifacts/a/b", "DELETE, GET, PUT, HEAD, OPTIONS"),
        ("/version", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_is_answered_here_without_a_key(
    mlflow: responses.RequestsMock, mount: str, path: str, allow: str
) -> None:
    answer = ask(client(), "OPTIONS", mount + path)
    assert (answer.status_code, answer.headers["Allow"], answer.data, Keys.asked, len(mlflow.calls)) == (
        204,
        allow,
        b"",
        [],
        0,
    )


# --- answers ---


def test_html_never_appears_in_an_answer_of_ours(mlflow: responses.RequestsMock) -> None:
    """Whatever is asked, however, by whatever client: neither a page nor its type."""
    asker, pages = new_client(), []
    paths = [
        "/",
        "/x",
        "/mlflow",
        "/mlflow/x",
        "/mlflow/../x",
        "/mlflow/version",
        "/health",
        "/ready",
        "/mlflow/health",
        "/mlflow/health/mlflow",
        "/static/x",
    ]
    for accept in ("text/html", "application/json"):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            for path in paths:
                answer = ask(asker, method, path, None if path == "/mlflow/version" else KEY, Accept=accept)
                if b"<" in answer.data or "html" in answer.headers.get("Content-Type", ""):
                    pages.append((method, path, answer.status_code, answer.headers.get("Content-Type")))
    assert pages == []


@pytest.mark.parametrize("status", [400, 404, 405, 500, 502, 503])
def test_an_html_error_of_mlflows_becomes_json(status: int) -> None:
    with responses.RequestsMock() as mock:
        mock.get(MLFLOW, status=status, body="<html>mlflow.internal</html>", content_type="text/html")
        answer = ask(client(), "GET", "/mlflow/version", KEY)
    assert answer.status_code == status
    assert error_code(answer)
    assert (b"<" in answer.data, b"mlflow.internal" in answer.data) == (False, False)


@pytest.mark.parametrize("path", ["/health", "/mlflow/version", "/nowhere", "/mlflow/../x", "/mlflow"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_every_answer_carries_its_request_id_once(mlflow: responses.RequestsMock, method: str, path: str) -> None:
    answer = ask(client(), method, path, KEY, **{"X-Request-ID": "from-client"})
    assert answer.headers.getlist("X-Request-ID") == ["from-client"]


def test_our_own_bug_is_a_500_of_fixed_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.upstream.Upstream.send", lambda *_: 1 / 0)
    answer = ask(client(), "GET", "/mlflow/version", KEY)
    assert (answer.status_code, error_code(answer)) == (500, "INTERNAL_ERROR")
    assert b"division" not in answer.data


@pytest.mark.parametrize("host", ["a..b", ".", "a" * 64 + ".example", "a" * 300])
def test_a_host_that_is_no_name_is_a_bad_request_on_every_path(host: str) -> None:
    asker = client()
    assert {ask(asker, "GET", path, KEY, Host=host).status_code for path in ("/health", "/mlflow/version", "/x")} == {
        400
    }


def test_creating_the_app_opens_nothing_and_twice_gives_two() -> None:
    assert create_app(samples.settings()) is not create_app(samples.settings())


# --- what app/framework.py leaves out ---


def test_nothing_is_registered_that_would_not_run() -> None:
    app = create_app(samples.settings())
    per_request = (app.after_request_funcs, app.teardown_request_funcs, app.url_value_preprocessors)
    assert ([dict(found) for found in per_request], app.teardown_appcontext_funcs) == ([{}] * 3, [])
    assert set(app.before_request_funcs) == {None}, "on the app, not on a blueprint"


def test_the_first_stage_that_answers_is_the_last_to_run(mlflow: responses.RequestsMock) -> None:
    app, ran = create_app(samples.settings()), []
    app.before_request_funcs[None] = [lambda: ran.append("one"), lambda: "answered", lambda: ran.append("three")]
    answer = app.test_client().get("/mlflow/version")
    assert (answer.text, ran, len(mlflow.calls)) == ("answered", ["one"], 0)
