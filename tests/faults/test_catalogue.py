"""Every id of the catalogue has a test in this folder, and README.md says which."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

FOLDER = Path(__file__).parent
LENGTHS = {"F": 20, "C": 13, "X": 6}
IDS = [f"{letter}{number:02}" for letter, count in LENGTHS.items() for number in range(1, count + 1)]
ROW = re.compile(r"^\| ([A-Z]\d\d) \| (.+?) \| (.+) \|$", re.MULTILINE)


def cases() -> set[str]:
    """The names of the tests of this folder that carry an id."""
    trees = [ast.parse(path.read_text()) for path in FOLDER.glob("test_*.py")]
    names = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return {name for name in names if re.match(r"test_[a-z]\d\d_", name)}


def rows() -> dict[str, set[str]]:
    """What README.md names for each id."""
    return {
        row: set(re.findall(r"`(test_\w+)`", tests))
        for row, tests, _ in ROW.findall((FOLDER / "README.md").read_text())
    }


def test_the_page_has_a_row_for_every_id_in_order() -> None:
    assert list(rows()) == IDS


@pytest.mark.parametrize("identity", IDS)
def test_a_row_names_exactly_the_tests_of_its_id(identity: str) -> None:
    ids = re.compile(rf"test_([a-z]\d\d_)*{identity.lower()}_")
    assert rows()[identity] == {name for name in cases() if ids.match(name)} != set()


def test_no_test_carries_an_id_that_is_none() -> None:
    assert [name for name in cases() if name[5:8].upper() not in IDS] == []
