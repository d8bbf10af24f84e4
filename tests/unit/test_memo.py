"""app/memo.py, and who uses it: what was found once is found again, for that method and path alone."""

from __future__ import annotations

import pytest

from app import edge, memo
from app.memo import LONGEST, MOST, Memo
from app.policy import RouteTable
from tests.unit import samples


def test_it_gives_back_what_it_keeps() -> None:
    kept: Memo[int] = Memo()
    assert (kept.keep(("GET", "/a"), 7), kept.get(("GET", "/a")), kept.get(("PUT", "/a"))) == (7, 7, None)


def test_long_paths_are_not_kept() -> None:
    kept: Memo[int] = Memo()
    assert [kept.keep(("GET", "/" * length), length) for length in (LONGEST, LONGEST + 1)] == [LONGEST, LONGEST + 1]
    assert list(kept.values()) == [LONGEST]


def test_it_is_bounded_whatever_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "MOST", 10)
    kept: Memo[int] = Memo()
    for number in range(95):
        kept.keep(("GET", f"/{number}"), number)
    assert len(kept) <= 10 and kept[("GET", "/94")] == 94
    assert MOST * LONGEST < 1_000_000  # bytes, about


def test_a_route_that_was_found_is_found_again_for_its_own_method_alone() -> None:
    table = RouteTable.load()
    for _ in range(2):
        found = table.find("POST", "/api/2.0/mlflow/runs/create")
        assert found is not None and found.action == "runs.create"
        assert table.find("DELETE", "/api/2.0/mlflow/runs/create") is None
        version = table.find("GET", "/version")
        assert version is not None and table.find("HEAD", "/version") == version


def test_a_malformed_path_stays_malformed() -> None:
    assert [edge.malformed_target("/a/../b") for _ in range(2)] == ["backslash or dot segment in path"] * 2
    assert [edge.malformed_target("/a/b") for _ in range(2)] == ["", ""]


def test_the_application_finds_the_same_view_twice_and_its_arguments_are_its_own() -> None:
    from app import create_app

    app = create_app(samples.settings())
    with app.test_request_context("/mlflow/api/2.0/mlflow/runs/get"):
        pass
    seen = []
    for _ in range(2):
        with app.test_request_context("/mlflow/api/2.0/mlflow/runs/get") as context:
            arguments = context.request.view_args
            assert arguments is not None
            seen.append((context.request.endpoint, dict(arguments)))
            arguments["rest"] = "changed by somebody"
    assert seen[0] == seen[1] and seen[0][1] == {"rest": "api/2.0/mlflow/runs/get"}
