"""What a user of the real MLflow client sees for each row of the contract's error table.

One client process goes through all rows, twice: without retries, and those that are final once more with one retry
allowed, which the client must not use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.error_rows import ROWS, Row
from tests.support.faults import ILL, KEYS, Faults, started
from tests.support.mlflow_server import run_client
from tests.support.proxy import Proxy

MOUNT = "/api/mlflow"
BY_NAME = {row.name: row for row in ROWS}
FINAL = [row for row in ROWS if not row.retried]
AGAIN = " once more"  # the case of a final row with one retry allowed
BASIC = "Basic hides the token"
Seen = dict[str, Any]
Running = tuple[Faults, dict[str, Proxy]]

# Each case: name, environment, expression. Prints a JSON object: name -> what the expression raised.
CLIENT = """
import json, os, sys, tempfile
import mlflow
from mlflow.utils.rest_utils import http_request_safe
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking._tracking_service.utils import get_default_host_creds
from urllib3.connectionpool import HTTPConnectionPool

on_the_wire, make = [], HTTPConnectionPool._make_request


def counted(pool, connection, method, url, *args, **kwargs):
    on_the_wire.append(f"{method} {url}")
    return make(pool, connection, method, url, *args, **kwargs)


HTTPConnectionPool._make_request = counted


def creds():
    return get_default_host_creds(mlflow.get_tracking_uri())


def download(path):
    return mlflow.artifacts.download_artifacts(artifact_uri=f"mlflow-artifacts:/{path}", dst_path=tempfile.mkdtemp())


def upload(path):
    with open("model.bin", "wb") as file:
        file.write(b"x" * 9000)
    get_artifact_repository(f"mlflow-artifacts:/{path}").log_artifact("model.bin")


def raised(expression):
    on_the_wire.clear()
    try:
        return {"result": repr(eval(expression)), "requests": list(on_the_wire)}
    except BaseException as error:
        return {
            "class": type(error).__name__,
            "error_code": getattr(error, "error_code", None),
            "json": getattr(error, "json", None),
            "text": str(error),
            "requests": list(on_the_wire),
        }


outcomes = {}
for case in json.load(open(sys.argv[1])):
    mine = {name: value for name, value in case["env"].items() if value}
    for name in case["env"]:
        os.environ.pop(name, None)
    os.environ.update(mine)
    mlflow.set_tracking_uri(mine["MLFLOW_TRACKING_URI"])
    client = mlflow.MlflowClient()
    outcomes[case["name"]] = raised(case["call"])
print(json.dumps(outcomes))
"""


def case(row: Row, proxies: dict[str, Proxy], retries: int = 0, *, name: str = "", hidden: bool = False) -> Seen:
    """One case for the client. All names of the environment are in each, so that none stays from the case before."""
    env = {
        "MLFLOW_TRACKING_URI": proxies[row.proxy].url + MOUNT,
        "MLFLOW_TRACKING_TOKEN": KEYS[row.key] if row.key else "",
        "MLFLOW_TRACKING_USERNAME": "somebody" if hidden else "",
        "MLFLOW_TRACKING_PASSWORD": "a-password-of-old" if hidden else "",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
    }
    return {"name": name or row.name, "env": env, "call": row.call}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("buggy")) as (faults, proxies):
        yield faults, proxies


@pytest.fixture(scope="module")
def seen(running: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """What the client saw, by the name of the case."""
    _, proxies = running
    refused = BY_NAME["refused key"]
    cases = []
    for row in ROWS:
        for number in range(2 if row.key in ILL else 0):
            cases.append(case(refused, proxies, name=f"refused before {row.name} {number}"))
        cases.append(case(row, proxies))
    cases += [case(row, proxies, 1, name=row.name + AGAIN) for row in FINAL]
    cases.append(case(BY_NAME["page 404"], proxies, name=BASIC, hidden=True))
    usual = case(BY_NAME["page 404"], proxies)
    cases.append({**usual, "name": "well", "call": "client.get_experiment_by_name('fault-none').name"})
    cases.append({**usual, "name": "missing", "call": "client.get_experiment_by_name('fault-json-404')"})
    cases.append({**usual, "name": "upload", "call": "upload('fault-html-404/folder')"})
    path: Path = tmp_path_factory.mktemp("cases") / "cases.json"
    path.write_text(json.dumps(cases))
    result = run_client(CLIENT, {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}, args=[str(path)])
    assert result.returncode == 0, result.stderr
    outcomes: dict[str, Seen] = json.loads(result.stdout.splitlines()[-1])
    return outcomes


def body_in(seen: Seen) -> dict[str, Any]:
    """The error's fields as the user gets at them: parsed by the client, or shown in the text of an artifact error."""
    if seen["class"] == "RestException":
        fields: dict[str, Any] = seen["json"]
        return fields
    assert seen["class"] == "HTTPError", seen
    return dict(json.loads(seen["text"].partition(" Response text: ")[2]))


def test_a_healthy_request_works(seen: dict[str, Seen]) -> None:
    assert seen["well"]["result"] == "'fault-none'"


def test_what_mlflow_itself_says_is_missing_is_missing(seen: dict[str, Seen]) -> None:
    assert seen["missing"]["result"] == "None"


@pytest.mark.parametrize("row", FINAL, ids=lambda row: row.name)
def test_a_final_error_is_readable_with_its_code_message_and_request_id(
    running: Running, seen: dict[str, Seen], row: Row
) -> None:
    error = seen[row.name]
    body = body_in(error)
    assert row.message in error["text"] and row.error_code in error["text"]
    assert set(body) == {"error_code", "message", "request_id"} | row.extra
    line = running[1][row.proxy].access_line(body["request_id"])
    assert (line["status"], line["error_code"]) == (row.status, row.error_code)
    if error["class"] == "RestException":
        assert error["error_code"] == row.error_code
    else:
        assert error["text"].startswith(f"{row.status} ")


@pytest.mark.parametrize("row", FINAL, ids=lambda row: row.name)
def test_a_final_error_is_not_tried_again(seen: dict[str, Seen], row: Row) -> None:
    assert len(seen[row.name + AGAIN]["requests"]) == 1
    assert body_in(seen[row.name + AGAIN])["message"] == body_in(seen[row.name])["message"]


@pytest.mark.parametrize("row", [row for row in ROWS if row.retried], ids=lambda row: row.name)
def test_a_passing_error_shows_its_status_when_the_client_gives_up(seen: dict[str, Seen], row: Row) -> None:
    """The client throws the body of these away; the number is all that its user gets, so it has to be the right one."""
    error = seen[row.name]
    assert (error["class"], len(error["requests"])) == ("MlflowException", 1)
    assert f"too many {row.status} error responses" in error["text"]


@pytest.mark.parametrize("row", [row for row in ROWS if row.key.startswith("auth-")], ids=lambda row: row.name)
def test_no_illness_of_the_auth_service_looks_like_a_bad_key(seen: dict[str, Seen], row: Row) -> None:
    assert "401" not in seen[row.name]["text"].partition("Caused by")[2]  # before that, the text names ports
    assert "UNAUTHENTICATED" not in seen[row.name]["text"]


def test_a_basic_credential_that_hides_the_token_is_named_as_the_reason(seen: dict[str, Seen]) -> None:
    error = seen[BASIC]
    assert (error["class"], error["error_code"]) == ("RestException", "UNAUTHENTICATED")
    assert "sent as Basic was not accepted" in error["text"]
    assert "MLFLOW_TRACKING_PASSWORD" in error["text"] and "~/.netrc" in error["text"]
    assert "a-password-of-old" not in error["text"]


def test_a_missing_scope_is_there_for_the_program_that_catches_the_error(seen: dict[str, Seen]) -> None:
    fields = body_in(seen["scope missing"])
    assert "mlflow:write" in fields["required_scope"].split(" or ")
    assert fields["current_scopes"] == ["mlflow:read", "model:read"]


def test_an_upload_that_mlflow_has_no_place_for_names_the_path(seen: dict[str, Seen]) -> None:
    path = f"{MOUNT}/api/2.0/mlflow-artifacts/artifacts/fault-html-404/folder/model.bin"
    assert seen["upload"]["requests"] == [f"PUT {path}"]
    body = body_in(seen["upload"])
    assert (body["error_code"], body["message"]) == (
        "RESOURCE_NOT_FOUND",
        f"The requested resource was not found: {path}",
    )


def test_what_the_user_sees_names_nothing_internal(running: Running, seen: dict[str, Seen]) -> None:
    """The client's own text names the URL it was given: of what we say, and of ports and keys, nothing may be there."""
    faults, _ = running
    internals = [word for word in faults.internals() if word not in ("127.0.0.1", "localhost")]
    leaks = {name: [word for word in internals if word in error.get("text", "")] for name, error in seen.items()}
    assert {name: words for name, words in leaks.items() if words} == {}
