"""app/blueprints/mlflow.py: the one redirect of ours, and that there is no other."""

from __future__ import annotations

import pytest
import responses

from app.policy import read_routes
from app.translate import MOUNTS
from tests.unit.samples import KEY, headers_of
from tests.unit.scripted import ask, client, sample_path

pytestmark = pytest.mark.usefixtures("keys")
EVERY_MOUNT = (*MOUNTS, "")
ROUTES = read_routes()


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("query", ["", "?a=b&c=%2F"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_bare_mount_is_sent_to_the_mount_with_a_slash_by_a_relative_location(
    mlflow: responses.RequestsMock, method: str, query: str, mount: str
) -> None:
    answer = ask(client(), method, mount + query, KEY)
    assert (answer.status_code, answer.headers["Location"], len(mlflow.calls)) == (308, f"{mount}/{query}", 0)


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_mount_with_a_slash_is_the_ui(mlflow: responses.RequestsMock, mount: str) -> None:
    assert ask(client(), "GET", f"{mount}/", KEY).status_code == 200
    assert headers_of(mlflow.calls[0].request).manner.target == "/"


def test_nothing_else_is_ever_redirected_by_us(mlflow: responses.RequestsMock) -> None:
    asker = client()
    paths = [f"{mount}{route.path}/" for mount in EVERY_MOUNT for route in ROUTES[:40]]
    paths += ["/mlflow//version", "/api//2.0", "/health/", "/ready/", "/mlflow/health/", "/api/mlflow//", "/mlflow//"]
    assert {
        status for path in paths if 300 <= (status := ask(asker, "GET", sample_path(path), KEY).status_code) < 400
    } == set()
