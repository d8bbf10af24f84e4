"""Every id of the catalogue has a test, and README.md says which."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
LENGTHS = {"A": 14, "R": 8, "H": 12, "U": 10}
IDS = [f"{letter}{number:02}" for letter, count in LENGTHS.items() for number in range(1, count + 1)]
ROW = re.compile(r"^\| ([A-Z]\d\d) \| (.*?) \| (.+) \|$", re.MULTILINE)
CARRIES = re.compile(r"test_((?:[a-z]\d\d_)+)")


@cache
def names_in(path: Path) -> set[str]:
    """The names of a file's tests; none of a file that is not there."""
    if not path.exists():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def cases() -> dict[str, set[str]]:
    """The tests of this folder whose names carry ids, with the ids."""
    names = {name for path in FOLDER.glob("test_*.py") for name in names_in(path)}
    return {name: set(carried[1].upper().split("_")) - {""} for name in names if (carried := CARRIES.match(name))}


def rows() -> dict[str, list[str]]:
    """What README.md names for each id."""
    return {row: re.findall(r"`([^`]+)`", tests) for row, tests, _ in ROW.findall((FOLDER / "README.md").read_text())}


def test_the_page_has_a_row_for_every_id_in_order() -> None:
    assert list(rows()) == IDS


@pytest.mark.parametrize("identity", IDS)
def test_a_row_names_all_tests_of_its_id_and_others_that_there_are(identity: str) -> None:
    named = rows()[identity]
    assert {name for name in named if "::" not in name} == {name for name, ids in cases().items() if identity in ids}
    elsewhere = [name.split("::") for name in named if "::" in name]
    assert [(file, name) for file, name in elsewhere if name not in names_in(FOLDER.parent / file)] == []
    assert named != [], f"{identity} has no test"


def test_no_test_carries_an_id_that_is_none() -> None:
    assert {name: ids for name, ids in cases().items() if not ids <= set(IDS)} == {}
