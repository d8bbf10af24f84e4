"""A page of docs/ as tests read it: blocks, words, tables, anchors, and the commands in its shell blocks."""

from __future__ import annotations

import functools
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Words of bash that stand before a command and are none.
RESERVED = {"{", "}", "do", "done", "then", "fi", "if", "else", "while", "!"}


@functools.cache
def text_of(page: str) -> str:
    """A page as it stands."""
    return (DOCS / page).read_text()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, without what they are indented by."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(body) for _, body in found]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)


def inline(text: str) -> list[str]:
    """What stands between single backquotes in the prose."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(text))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of headings: lower case, hyphens for spaces, no signs, a number if repeated."""
    made: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        bare = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w -]", "", bare.lower()).strip().replace(" ", "-")
        made.append(f"{slug}-{made.count(slug)}" if slug in made else slug)
    return set(made)


def rows(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, cell by cell, without its head."""
    below = text.partition(f"\n{heading}\n")[2]
    table = re.search(r"(?:^\|[^\n]*\n)+", below, re.MULTILINE)
    assert table, heading
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[0].splitlines()[2:]]


def simple_commands(script: str) -> list[list[str]]:
    """All simple commands of a script, as words, those inside of $(...) too. Understands what our pages use of bash."""
    return _Reader(script).commands()


class _Reader:
    def __init__(self, script: str) -> None:
        self.rest, self.found, self.words, self.word = script, list[list[str]](), list[str](), ""
        self.begun, self.skip, self.here = False, False, ""

    def commands(self) -> list[list[str]]:
        while self.rest:
            self._step()
        self._end_command()
        return self.found

    def _take(self, pattern: str) -> re.Match[str] | None:
        found = re.match(pattern, self.rest, re.DOTALL)
        if found:
            self.rest = self.rest[found.end() :]
        return found

    def _step(self) -> None:
        if self._take(r"\\\n|[ \t]+"):
            self._end_word()
        elif not self.begun and self._take(r"#[^\n]*"):
            pass
        elif found := self._take(r"<<'?(\w+)'?"):
            self.here = found[1]
        elif found := self._take(r"\d?[<>]+&?\d?"):
            self._end_word()
            self.skip = not found[0][-1].isdigit() or len(found[0]) == 1
        elif self._take(r"\(\)"):  # a function begins; its name is no command
            self.word, self.begun = "", False
        elif self._take(r"\n"):
            self._end_command()
            if self.here:
                self._take(rf"(?:.*?\n)??{self.here}(?=\n|$)")
                self.here = ""
        elif self._take(r"[;|&()]"):
            self._end_command()
        else:
            self._part()

    def _part(self) -> None:
        self.begun = True
        if found := self._take(r"'([^']*)'"):
            self.word += found[1]
        elif self.rest.startswith('"'):
            self.rest = self.rest[1:]
            while not self._take('"'):
                self._expansion()
        else:
            self._expansion()

    def _expansion(self) -> None:
        if self._take(r"\$\("):
            inner, depth = "", 1
            while depth:
                step = self._take(r"'[^']*'|.")
                assert step, "unclosed $("
                depth += {"(": 1, ")": -1}.get(step[0], 0)
                inner += step[0]
            inside = inner[:-1]
            if inside.startswith("("):  # arithmetic, which may ask too
                inside = "\n".join(re.findall(r"\$\(([^()]*)\)", inside))
            self.found += simple_commands(inside)
            self.word += "$()"
        else:
            step = self._take(r"\\(.)|(.)")
            assert step
            self.word += step[1] or step[2]

    def _end_word(self) -> None:
        if self.begun and not self.skip:
            self.words.append(self.word)
        self.skip = self.skip and not self.begun
        self.word, self.begun = "", False

    def _end_command(self) -> None:
        self._end_word()
        words, self.words, self.skip = self.words, [], False
        while words and (words[0] in RESERVED or re.match(r"\w+=", words[0])):
            words = words[1:]
        if words and words[0] != "for":
            self.found.append(words)


def commands(text: str) -> list[list[str]]:
    """All commands of a page's shell blocks."""
    return [command for block in blocks(text, "sh") for command in simple_commands(block)]
