"""docs/configuration.md names exactly what can be configured, with the defaults that hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.settings import read

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]+)` \| (.+?) \| (.+) \|$", re.MULTILINE)
NOTHING = {"-", "\N{EN DASH}", "\N{EM DASH}", "none"}


def rows() -> list[tuple[str, str, str]]:
    """The page's rows of variables: name, default, meaning."""
    found = [(name, default.strip("`"), meaning.strip()) for name, default, meaning in ROW.findall(PAGE.read_text())]
    return [(name, "" if default in NOTHING else default, meaning) for name, default, meaning in found]


def test_the_page_names_exactly_the_variables_that_are_read_with_their_defaults() -> None:
    assert {name: default for name, default, _ in rows()} == read({})[1].defaults


def test_every_variable_is_explained_once() -> None:
    names = [name for name, _, _ in rows()]
    assert [name for name in names if names.count(name) > 1] == []
    assert [name for name, _, meaning in rows() if len(meaning.split()) < 4] == []


def test_no_row_of_a_variable_is_written_in_another_form() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\|\s*`?[A-Z][A-Z0-9_]{3,}`?\s*\|", line)]
    assert [line for line in lines if not ROW.match(line)] == []


@pytest.mark.parametrize("subject", ["secret", "loop", "path style", "prefix"])
def test_the_page_has_a_section_on_what_is_easily_got_wrong(subject: str) -> None:
    headings = [line for line in PAGE.read_text().splitlines() if line.startswith("#")]
    assert [line for line in headings if subject in line.lower()] != []


def test_every_variable_that_the_page_speaks_of_is_one_of_the_table_or_another_programs() -> None:
    named = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", PAGE.read_text()))
    others = {"MLFLOW_TRACKING_TOKEN", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_SERVER_ALLOWED_HOSTS"}
    assert named - others - set(read({})[1].defaults) == set()
