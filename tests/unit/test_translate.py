"""app/translate.py: mount and style, byte for byte."""

from __future__ import annotations

import doctest

import pytest

from app import translate
from app.translate import MOUNTS, STYLED, served_at, split_mount, upstream_path


@pytest.mark.parametrize(
    ("path", "mount", "rest"),
    [
        ("/api/mlflow", "/api/mlflow", ""),
        ("/api/mlflow/", "/api/mlflow", "/"),
        ("/api/mlflow/version", "/api/mlflow", "/version"),
        ("/mlflow", "/mlflow", ""),
        ("/mlflow/", "/mlflow", "/"),
        ("/mlflow//x", "/mlflow", "//x"),
        ("/mlflow/mlflow/x", "/mlflow", "/mlflow/x"),
        ("/mlflow/api/mlflow/x", "/mlflow", "/api/mlflow/x"),
        ("/api/mlflow/api/2.0/mlflow/runs/get", "/api/mlflow", "/api/2.0/mlflow/runs/get"),
        ("/api/2.0/mlflow/runs/get", "", "/api/2.0/mlflow/runs/get"),
        ("/", "", "/"),
        ("/mlflowx", "", "/mlflowx"),
        ("/mlflow.", "", "/mlflow."),
        ("/mlflow%2Fx", "", "/mlflow%2Fx"),
        ("/mlflo%77/version", "", "/mlflo%77/version"),
        ("/api/mlflows/x", "", "/api/mlflows/x"),
        ("/API/mlflow/x", "", "/API/mlflow/x"),
        ("//mlflow/x", "", "//mlflow/x"),
    ],
)
def test_a_path_splits_into_mount_and_rest(path: str, mount: str, rest: str) -> None:
    assert split_mount(path) == (mount, rest)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("rest", ["", "/", "/static-files/x", "/api/2.0/mlflow/runs/get", "/graphql", "/anything"])
def test_a_mount_serves_everything(mount: str, rest: str) -> None:
    assert served_at(mount, rest)


@pytest.mark.parametrize(
    "rest",
    ["/api/2.0/mlflow/runs/get", "/api/3.0/mlflow/traces", "/ajax-api/2.0/mlflow/x", "/v1/traces", "/version"],
)
def test_the_root_serves_what_clients_without_a_prefix_need(rest: str) -> None:
    assert served_at("", rest)


@pytest.mark.parametrize(
    "rest",
    [
        "/", "", "/graphql", "/get-artifact", "/static-files/x", "/model-versions/get-artifact", "/gateway/x", "/api",
        "/version/", "/versions", "/v1/traces/", "/v1/tracesx", "/v1", "/API/2.0", "//api/2.0", "/apix/2.0", "/metrics",
        "/signup", "/.env",
    ],
)  # fmt: skip  # several paths a line
def test_the_root_serves_nothing_else(rest: str) -> None:
    assert not served_at("", rest)


# Everything that a server on the way could decode, re-encode, merge, order or drop.
ODD = ["", "a%20b", "%C3%A9", "%c3%a9", "a//b", "a/", "+", "=@:()", "%2525", "~a", "%7Ea", "a;b", "a%3Fb", "a%23b"]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("start", [*STYLED, "/ajax-api/2.0/mlflow/", "/v1/", "/static-files/"])
def test_nothing_behind_the_mount_is_changed(start: str, odd: str) -> None:
    assert upstream_path(start + odd, "", "api") == start + odd
    assert upstream_path(start + odd, "/base", "api") == f"/base{start}{odd}"


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("start", STYLED)
@pytest.mark.parametrize("prefix", ["", "/mlflow", "/a/b"])
def test_the_external_style_writes_api_as_ajax_api_and_changes_nothing_else(prefix: str, start: str, odd: str) -> None:
    assert upstream_path(start + odd, prefix, "ajax-api") == f"{prefix}/ajax-api{start.removeprefix('/api')}{odd}"


@pytest.mark.parametrize(
    "rest",
    [
        "/ajax-api/2.0/mlflow/runs/get",
        "/version",
        "/v1/traces",
        "/graphql",
        "/get-artifact",
        "/",
        "/api/2.0/mlflowx/y",
        "/api/2.0/mlflow",
        "/api/9.9/mlflow/x",
        "/x/api/2.0/mlflow/y",
    ],
)
def test_the_external_style_leaves_other_families_alone(rest: str) -> None:
    assert upstream_path(rest, "/base", "ajax-api") == "/base" + rest


def test_the_three_mounts_mean_the_same() -> None:
    rest = "/api/2.0/mlflow/runs/get"
    assert {upstream_path(split_mount(mount + rest)[1], "", "api") for mount in (*MOUNTS, "")} == {rest}


def test_its_examples_are_true() -> None:
    assert doctest.testmod(translate).failed == 0
