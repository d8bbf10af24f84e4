"""app/scope.py: the record that travels with a request."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

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
    scope: Any = samples.scope()  # the checker would refuse it sooner
    with pytest.raises(AttributeError):
        scope.colour = "red"


def test_who_a_key_belongs_to_cannot_be_changed_on_the_way() -> None:
    principal: Any = samples.principal()
    with pytest.raises(AttributeError):
        principal.user_id = "admin"


def test_made_request_ids_differ_also_in_processes_that_were_forked() -> None:
    code = (
        "import os\nfrom app.scope import new_request_id\nfor _ in range(2):\n"
        "    pid = os.fork()\n    if not pid:\n        print(new_request_id(), flush=True)\n        os._exit(0)\n"
        "    os.waitpid(pid, 0)\nprint(new_request_id())"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    made += [scopes.new_request_id() for _ in range(1000)]
    assert len(set(made)) == 1003 and all(re.fullmatch("[0-9a-f]{32}", one) for one in made)
