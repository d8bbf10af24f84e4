"""app/scanners.py: what is noise, and that our own paths never are."""

from __future__ import annotations

import pytest

from app.policy import read_routes
from app.scanners import EXACT, FOLDERS, Scanners
from app.translate import MOUNTS
from tests.unit.scripted import sample_path

HEALTH = ("/health", "/live", "/ready", *(f"{m}/health{rest}" for m in MOUNTS for rest in ("", "/mlflow")))


@pytest.fixture(scope="module")
def scanners() -> Scanners:
    return Scanners()


@pytest.mark.parametrize("path", [*EXACT, *(f"{folder}x" for folder in FOLDERS), *FOLDERS])
def test_the_lists_are_noise_in_any_letter_case_and_with_any_query(scanners: Scanners, path: str) -> None:
    for target in (path, path.upper(), path.title(), f"{path}?x=/api/mlflow", f"{path}?"):
        assert scanners.is_noise(target), target


def test_the_lists_are_those_of_production() -> None:
    assert set(EXACT) == {
        "/.env", "/api/jsonws", "/boaform/admin/formlogin", "/login.action", "/manager/html", "/server-status",
        "/ui/login",
    }  # fmt: skip
    assert {folder.strip("/") for folder in FOLDERS} == set(
        ".git .aws actuator api/jsonws autodiscover cgi-bin console geoserver hudson jenkins mgmt nifi owa phpmyadmin "
        "solr wp-admin".split()
    )


@pytest.mark.parametrize(
    "target",
    [
        "/", "", "/.envy", "/.env/", "/.env%00", "/.git", "/.gitx/", "/consolex/", "/x/.git/", "/api/jsonwsx", "/api/",
        "/mlflow/.env", "/api/mlflow/.git/config", "/?/.env", "//.env", "http://a/.env", "*", "/api/other", "/solr",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_not(scanners: Scanners, target: str) -> None:
    assert not scanners.is_noise(target)


def test_an_operators_patterns_are_paths_or_what_is_below_one() -> None:
    scanners = Scanners(["/Xmlrpc.php", "/vendor/"])
    assert [
        t for t in ("/xmlrpc.php", "/XMLRPC.PHP?a", "/vendor/", "/Vendor/a/b", "/.env") if not scanners.is_noise(t)
    ] == []
    assert [t for t in ("/xmlrpc.php/", "/xmlrpc.phpx", "/vendor", "/vendors/a") if scanners.is_noise(t)] == []


def test_our_own_paths_win_over_every_pattern() -> None:
    """Also over one that is meant to catch everything, and over each path itself."""
    served = {sample_path(route.path) for route in read_routes() if route.access != "never"} - {"/"}
    mounted = {f"{mount}{path}" for mount in MOUNTS for path in served} | set(HEALTH) | set(MOUNTS)
    bare = {path for path in served if path.startswith(("/api/2.0/", "/api/3.0/", "/ajax-api/", "/v1/", "/version"))}
    greedy = Scanners(["/", *mounted, *bare, *(f"{mount}/" for mount in MOUNTS), "/api/", "/v1/", "/health/"])
    for path in mounted | bare:
        assert not greedy.is_noise(path), path
        assert not greedy.is_noise(f"{path}?x=1"), path
    assert len(bare) > 400 and greedy.is_noise("/anything/else")


def test_without_a_filter_there_is_no_noise() -> None:
    assert [path for path in (*EXACT, *FOLDERS) if Scanners(None).is_noise(path)] == []
