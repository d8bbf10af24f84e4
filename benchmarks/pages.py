"""Pages of docs/ that a command writes a part of: the part stands between two marks, which name the command."""

from __future__ import annotations

from pathlib import Path


def written(page: Path, command: str) -> str:
    """What stands between the marks of `command`. Raises ValueError when the page has none."""
    return _parts(page, command)[1].strip()


def renew(page: Path, command: str, text: str) -> None:
    """Put the text between the marks of `command`, nothing else. Raises ValueError when the page has none."""
    before, _, after = _parts(page, command)
    page.write_text(f"{before}\n\n{text}\n\n{after}")


def _parts(page: Path, command: str) -> tuple[str, str, str]:
    """All up to the first mark and with it, what stands between the marks, and all from the second mark on."""
    begin, end = (f"<!-- {word}: written by `{command}` -->" for word in ("begin", "end"))
    before, _, rest = page.read_text().partition(begin)
    between, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{page} does not hold the marks between which `{command}` writes")
    return before + begin, between, end + after
