"""app/blueprints/health.py, in the whole app: public, exact paths, which no catch-all shadows."""

from __future__ import annotations

import pytest
import responses

from app import VERSION
from app.translate import MOUNTS
from app.worker import DRAINING
from tests.unit.samples import KEY
from tests.unit.scripted import MLFLOW, Keys, ask, client, error_code, new_client

pytestmark = pytest.mark.usefixtures("keys")

HEALTH = ["/health", "/live", "/ready", "/mlflow/health", "/api/mlflow/health"]
DEEP = [f"{mount}/health/mlflow{more}" for mount in MOUNTS for more in ("", "/detailed")]


@pytest.mark.parametrize("path", HEALTH)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_catch_all_shadows_a_health_path_and_it_asks_nobody(
    mlflow: responses.RequestsMock, method: str, path: str
) -> None:
    answer = ask(client(), method, path)
    assert (answer.status_code, Keys.asked, len(mlflow.calls)) == (200, [], 0)
    assert method == "HEAD" or answer.json == {"status": "ok", "version": VERSION}


@pytest.mark.parametrize("path", DEEP)
def test_no_catch_all_shadows_a_health_path_that_asks_mlflow_without_a_key(
    mlflow: responses.RequestsMock, path: str
) -> None:
    answer = ask(new_client(), "GET", path)
    assert (answer.status_code, answer.json and answer.json["status"], Keys.asked) == (200, "healthy", [])
    assert [call.request.headers.get("Authorization") for call in mlflow.calls] == [None] * 5


@pytest.mark.parametrize("path", DEEP)
def test_an_unhealthy_mlflow_is_a_503_of_the_same_shape(path: str) -> None:
    with responses.RequestsMock() as mock:
        mock.get(MLFLOW, status=500, body="<html>mlflow.internal</html>")
        answer = ask(new_client(), "GET", path)
    assert (answer.status_code, answer.json and answer.json["status"]) == (503, "unhealthy")
    assert b"mlflow.internal" not in answer.data


def test_ready_says_when_the_worker_drains_and_the_others_do_not() -> None:
    asker = new_client()
    asker.application.config[DRAINING] = True
    answer = ask(asker, "GET", "/ready")
    assert (answer.status_code, answer.json) == (503, {"status": "draining", "version": VERSION})
    assert {ask(asker, "GET", path).status_code for path in HEALTH if path != "/ready"} == {200}


@pytest.mark.parametrize("path", [*HEALTH, *DEEP])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_health_path_takes_no_other_method(mlflow: responses.RequestsMock, method: str, path: str) -> None:
    answer = ask(client(), method, path, KEY)
    assert (answer.status_code, error_code(answer), Keys.asked, len(mlflow.calls)) == (
        404,
        "ENDPOINT_NOT_FOUND",
        [],
        0,
    )


@pytest.mark.parametrize("path", ["/mlflow/healthx", "/mlflow/health/x", "/mlflow/health/mlflow/x", "/heal%74h"])
def test_only_the_exact_health_paths_are_public(path: str) -> None:
    assert ask(client(), "GET", path).status_code in (401, 404)


@pytest.mark.parametrize("path", [*HEALTH, *DEEP])
def test_options_of_a_health_path_names_the_methods_that_it_has(path: str) -> None:
    answer = ask(client(), "OPTIONS", path)
    assert (answer.status_code, {name.strip() for name in answer.headers["Allow"].split(",")}) in [
        (204, {"GET", "HEAD", "OPTIONS"}),
        (200, {"GET", "HEAD", "OPTIONS"}),
    ]
