"""The written tables beside the tests: who gets which request, which overlaps are meant, what is not reached, why."""

import csv
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[2] / "tests" / "infra"


class Case(NamedTuple):
    """A request, and the service that gets it, whatever its method."""

    host: str
    target: str
    service: str
    why: str


class Spelling(NamedTuple):
    """A path spelt oddly: who gets it as it was sent, who if it is decoded before; what the proxy would do with it."""

    host: str
    target: str
    sent: str
    decoded: str
    proxy: str


class Overlap(NamedTuple):
    """Two rules with different targets that could both take a request, the one that is meant to win first."""

    first: str
    second: str
    why: str


class Unreached(NamedTuple):
    """A path that the proxy serves, and that no rule gives to it."""

    path: str
    why: str


def cases() -> list[Case]:
    """The rows of cases.tsv."""
    return [Case(*row) for row in _rows("cases")]


def spellings() -> list[Spelling]:
    """The rows of spellings.tsv."""
    return [Spelling(*row) for row in _rows("spellings")]


def overlaps() -> list[Overlap]:
    """The rows of overlaps.tsv."""
    return [Overlap(*row) for row in _rows("overlaps")]


def unreached() -> list[Unreached]:
    """The rows of unreached.tsv."""
    return [Unreached(*row) for row in _rows("unreached")]


def _rows(name: str) -> list[list[str]]:
    with (FOLDER / f"{name}.tsv").open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    return rows
