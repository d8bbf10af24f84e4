"""app/scope.py: the record that travels with a request."""

from __future__ import annotations

import pytest

from app import scope as scopes
from tests.unit import samples


@pytest.mark.parametrize(
    ("target", "path", "suffix"),
    [
        ("/a", "/a", ""),
        ("/a?", "/a", "?"),
        ("/a?b=c", "/a", "?b=c"),
        ("/a?b=c&b=d&&x=%2F&y=+&z", "/a", "?b=c&b=d&&x=%2F&y=+&z"),
        ("/a?b?c", "/a", "?b?c"),
        ("/%3F?x", "/%3F", "?x"),
        ("?x", "", "?x"),
    ],
)
def test_path_and_suffix_together_are_the_target_byte_for_byte(target: str, path: str, suffix: str) -> None:
    scope = samples.scope(target=target)
    assert (scope.path, scope.suffix) == (path, suffix)
    assert scope.path + scope.suffix == target


def test_the_scope_is_found_in_the_environ_it_travels_in() -> None:
    scope = samples.scope()
    assert scopes.of({scopes.KEY: scope}) is scope


def test_nothing_can_be_noted_that_the_record_has_no_place_for() -> None:
    with pytest.raises(AttributeError):
        samples.scope().colour = "red"  # type: ignore[attr-defined]  # that it fails is the test


def test_who_a_key_belongs_to_cannot_be_changed_on_the_way() -> None:
    with pytest.raises(AttributeError):
        samples.principal().user_id = "admin"  # type: ignore[misc]  # that it fails is the test
