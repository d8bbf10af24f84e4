"""app/native.py: where MLflow serves artifacts."""

from __future__ import annotations

import pytest

from app.native import NativeRoutes, is_native


@pytest.mark.parametrize(
    ("version", "native"),
    [
        ("3.15.0", True),
        ("3.15.0rc0", True),
        ("3.17.2", True),
        ("4.0", True),
        ("3.14.9", False),
        ("3.9.0", False),
        ("2.22.4", False),
        ("", False),
        ("3", False),
        ("<html>", False),
        ("x.y", False),
    ],
)
def test_the_version_tells(version: str, native: bool) -> None:
    assert is_native(version) is native


def test_what_is_configured_is_not_asked() -> None:
    def never() -> str:
        raise AssertionError("nobody needs to be asked")

    assert (NativeRoutes("true", never).served(), NativeRoutes("false", never).served()) == (True, False)


def test_it_is_asked_until_it_answers_and_then_remembered() -> None:
    answers = ["", "", "3.17.2"]
    routes = NativeRoutes("auto", lambda: answers.pop(0))
    assert [routes.served() for _ in range(5)] == [False, False, True, True, True]
    assert answers == []
