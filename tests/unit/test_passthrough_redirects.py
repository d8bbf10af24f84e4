"""app/passthrough.py, relocated: a Location on the public side."""

from __future__ import annotations

import pytest

from app.passthrough import relocated
from app.upstream_url import Base, parse_base

BASE = parse_base("http://mlflow.internal:5000")
PREFIXED = parse_base("http://mlflow.internal:5000/base")


@pytest.mark.parametrize("mount", ["", "/mlflow", "/api/mlflow"])
@pytest.mark.parametrize(
    ("location", "base", "path"),
    [
        ("/", BASE, "/"),
        ("/x", BASE, "/x"),
        ("/x?y=%2F&y", BASE, "/x?y=%2F&y"),
        ("/%20/../x", BASE, "/%20/../x"),
        ("http://mlflow.internal:5000/x?y", BASE, "/x?y"),
        ("http://MLFLOW.internal:5000/x", BASE, "/x"),
        ("http://mlflow.internal:5000", BASE, "/"),
        ("http://mlflow.internal/x", BASE, "/x"),
        ("http://mlflow.internal:9999/x", BASE, "/x"),
        ("https://mlflow.internal/x", BASE, "/x"),
        ("//mlflow.internal:5000/x", BASE, "/x"),
        ("http://user@mlflow.internal:5000/x", BASE, "/x"),
        ("/base", PREFIXED, "/"),
        ("/base/", PREFIXED, "/"),
        ("/base/x", PREFIXED, "/x"),
        ("http://mlflow.internal:5000/base/x", PREFIXED, "/x"),
        ("/elsewhere", PREFIXED, "/elsewhere"),
        ("/basement/x", PREFIXED, "/basement/x"),
    ],
)
def test_a_redirect_within_mlflow_stays_under_the_mount_and_names_no_host(
    location: str, base: Base, path: str, mount: str
) -> None:
    assert relocated(location, base, mount) == mount + path


@pytest.mark.parametrize("location", ["/#/experiments/1", "http://mlflow.internal:5000/#/experiments/1"])
def test_a_redirect_into_the_ui_keeps_the_place_in_it(location: str) -> None:
    assert relocated(location, BASE, "/mlflow") == "/mlflow/#/experiments/1"


@pytest.mark.parametrize(
    "location",
    [
        "https://bucket.s3.amazonaws.com/a?X-Amz-Signature=b%2Fc",
        "//other.example/x",
        "http://notmlflow.internal:5000/x",
        "x/y",
        "?a=b",
        "#top",
        "",
    ],
)
def test_a_redirect_elsewhere_or_relative_is_left_alone(location: str) -> None:
    assert relocated(location, BASE, "/mlflow") == location


@pytest.mark.parametrize("location", ["//evil.example/x", "/base//evil.example/x"])
def test_cutting_off_the_prefix_does_not_make_another_host_of_a_path(location: str) -> None:
    """At the root mount, what begins with two slashes would name a host."""
    if location.startswith("/base"):
        assert not relocated(location, PREFIXED, "").startswith("//")
    else:
        assert relocated(location, PREFIXED, "") == location
