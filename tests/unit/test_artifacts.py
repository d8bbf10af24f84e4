"""app/blueprints/artifacts.py and mlflow.py, in the whole app: which profile a path has."""

from __future__ import annotations

from typing import Any

import pytest
import responses

from app.translate import MOUNTS
from tests.unit.samples import KEY, headers_of
from tests.unit.scripted import ask, client, error_code

pytestmark = pytest.mark.usefixtures("keys")

DOWNLOADS = ["/api/2.0/mlflow-artifacts/artifacts/a/b", "/ajax-api/2.0/mlflow-artifacts/artifacts/a/b"]
OTHER_DOWNLOADS = [
    "/get-artifact?path=a",
    "/model-versions/get-artifact?path=a",
    "/ajax-api/2.0/mlflow/get-trace-artifact",
    "/ajax-api/3.0/mlflow/get-trace-artifact",
    "/ajax-api/2.0/mlflow/logged-models/m-1/artifacts/files",
]


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("path", [*DOWNLOADS, *OTHER_DOWNLOADS])
@pytest.mark.parametrize("status", ["503", "501"])
def test_switched_off_artifacts_never_reach_mlflow(
    mlflow: responses.RequestsMock, status: str, path: str, mount: str
) -> None:
    asker = client(MLFLOW_SERVE_ARTIFACTS="false", ARTIFACTS_DISABLED_STATUS=status)
    answer = ask(asker, "GET", mount + path, KEY)
    assert (answer.status_code, answer.json and answer.json.get("error"), len(mlflow.calls)) == (
        int(status),
        "ARTIFACTS_DISABLED",
        0,
    )


@pytest.mark.parametrize(
    "path",
    [
        "/mlflow/api/2.0/mlflow%2dartifacts/artifacts/a",
        "/mlflow/%61pi/2.0/mlflow-artifacts/artifacts/a",
        "/mlflow/get%2Dartifact?path=a",
        "/api/2%2e0/mlflow-artifacts/artifacts/a",
    ],
)
def test_an_escape_in_the_path_does_not_switch_artifacts_on(mlflow: responses.RequestsMock, path: str) -> None:
    """MLflow's router decodes the path: so it means the artifact to us too, or nothing at all."""
    answer = ask(client(MLFLOW_SERVE_ARTIFACTS="false"), "GET", path, KEY)
    assert (answer.status_code in (404, 503), len(mlflow.calls)) == (True, 0)


def test_an_escape_in_the_path_does_not_change_the_style(mlflow: responses.RequestsMock) -> None:
    """/%61pi/ is /api/ to MLflow, which in the external style does not serve it: refuse it or translate it."""
    answer = ask(client(MLFLOW_API_STYLE="ajax-api"), "GET", "/mlflow/%61pi/2.0/mlflow/runs/get", KEY)
    sent = [headers_of(call.request).manner.target for call in mlflow.calls]
    assert answer.status_code in (400, 404) or sent == ["/ajax-api/2.0/mlflow/runs/get"]


def test_switched_off_artifacts_ask_for_a_key_all_the_same(mlflow: responses.RequestsMock) -> None:
    assert ask(client(MLFLOW_SERVE_ARTIFACTS="false"), "GET", "/mlflow" + DOWNLOADS[0]).status_code == 401


def test_everything_else_goes_on_without_artifacts(mlflow: responses.RequestsMock) -> None:
    assert ask(client(MLFLOW_SERVE_ARTIFACTS="false"), "GET", "/mlflow/api/2.0/mlflow/runs/get", KEY).status_code == 200


@pytest.mark.parametrize("path", [*DOWNLOADS, *OTHER_DOWNLOADS])
def test_a_transfer_may_be_silent_for_longer_than_a_json_call(mlflow: responses.RequestsMock, path: str) -> None:
    asker = client(READ_TIMEOUT_SECONDS="11", ARTIFACT_READ_TIMEOUT_SECONDS="99")
    ask(asker, "GET", "/mlflow" + path, KEY)
    ask(asker, "GET", "/mlflow/version", KEY)
    sent: list[Any] = [call.request for call in mlflow.calls]  # to which the mock adds what the adapter was given
    assert [request.req_kwargs["timeout"] for request in sent] == [(3.0, 99.0), (3.0, 11.0)]


def test_json_bodies_are_bounded_and_artifacts_are_not(mlflow: responses.RequestsMock) -> None:
    asker = client(MAX_JSON_BODY_BYTES="10")
    headers = {"Authorization": f"Bearer {KEY}"}
    refused = asker.post("/mlflow/api/2.0/mlflow/runs/create", data=b"x" * 11, headers=headers)
    taken = asker.put("/mlflow" + DOWNLOADS[0], data=b"x" * 11, headers=headers)
    assert (refused.status_code, error_code(refused), taken.status_code) == (413, "INVALID_PARAMETER_VALUE", 200)
    assert "Retry-After" not in refused.headers
