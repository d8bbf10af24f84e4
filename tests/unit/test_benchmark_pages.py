"""benchmarks/pages.py: a command writes its part of a page, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import pages

MARKED = "before\n<!-- begin: written by `make it` -->\nold\n<!-- end: written by `make it` -->\nafter\n"


def test_a_page_is_changed_only_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(MARKED)
    pages.renew(page, "make it", "### New")
    assert page.read_text() == MARKED.replace("\nold\n", "\n\n### New\n\n")
    assert pages.written(page, "make it") == "### New"


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    """Neither has it any where only another command's stand, or one alone."""
    page = tmp_path / "page.md"
    for text in ("nothing to see\n", MARKED.replace("make it", "make more"), MARKED.replace("end: ", "")):
        page.write_text(text)
        with pytest.raises(ValueError, match="marks"):
            pages.renew(page, "make it", "### New")
        with pytest.raises(ValueError, match="marks"):
            pages.written(page, "make it")
        assert page.read_text() == text
