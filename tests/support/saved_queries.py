"""The saved queries of docs/observability.md, as the page gives them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "observability.md"
LOG = "proxy.log"  # what the page calls the file of lines


def section(heading: str) -> str:
    """The text under a heading, up to the next one of the same or a higher rank."""
    rank = len(heading.partition(" ")[0])
    _, found, rest = PAGE.read_text().partition(f"\n{heading}\n")
    assert found, f"no heading {heading}"
    return re.split(rf"^#{{1,{rank}}} ", rest, flags=re.MULTILINE)[0]


def queries() -> dict[str, tuple[str, str]]:
    """Heading -> the query for Logs Insights, and the command with jq."""
    _, *parts = re.split(r"^### ", section("## Saved queries"), flags=re.MULTILINE)
    return {part.partition("\n")[0]: (_block(part, "text"), _block(part, "sh")) for part in parts}


def _block(text: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found)
