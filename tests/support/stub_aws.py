#!/usr/bin/env python3
"""A stub of `aws`, and of any other program that the deployment scripts start: it plays what a test has written down.

`Stubs` is the test's side: it puts the programs into a folder for PATH, takes answers, and gives the calls. This very
file is what each program starts, so it needs nothing but the standard library.

A call is known by the program and the first words that are no options: `aws ecs describe-services`, `docker push`. Its
answers are given one after the other, and the last one from then on. A call that nobody wrote an answer for fails.
"""

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WORDS = {"aws": 2, "docker": 1, "smoke_test.sh": 0}  # how many words name a call; 1 for all others
ALWAYS_WITH_VALUE = {"--region", "--output"}  # of aws, before the words


def answer(output: Any = "", code: int = 0, error: str = "", hold: bool = False, **into: Any) -> dict[str, Any]:
    """What one call gives: stdout (text, or JSON of anything else), exit code, stderr; or it is held until killed.

    `into` are JSON values that go into the files named by options: json=X into the file that --json names.
    """
    text = output if isinstance(output, str) else json.dumps(output)
    return {"output": text, "code": code, "error": error, "hold": hold, "into": into}


class Stubs:
    """Programs in `folder`/bin that do nothing but answer and remember."""

    def __init__(self, folder: Path, programs: Sequence[str]) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for name in programs:
            program = self.bin / name
            start = f"{shlex.quote(sys.executable)} -I -S {shlex.quote(str(Path(__file__).resolve()))}"
            program.write_text(f'#!/bin/sh\nexec {start} {shlex.quote(str(folder))} {name} "$@"\n')
            program.chmod(0o755)
        self._answers: dict[str, list[dict[str, Any]]] = {}

    def on(self, call: str, *answers: Any) -> None:
        """Have a call answered: in this order, the last one for ever. What is no `answer` is one with this output."""
        made = [one if isinstance(one, dict) and "hold" in one else answer(one) for one in answers]
        self._answers[call] = made
        (self.folder / "answers.json").write_text(json.dumps(self._answers))

    def calls(self, named: str = "") -> list[dict[str, Any]]:
        """All calls so far, or those of one name.

        Each has `call` (its name), `argv`, `files` (what file://... led to), `key` (had it HOKUSAI_API_KEY).
        """
        log = self.folder / "calls.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [one for one in map(json.loads, lines) if named in ("", one["call"])]

    @property
    def held(self) -> Path:
        """Exists as soon as a call is being held."""
        return self.folder / "held"


def name_of(program: str, arguments: Sequence[str]) -> str:
    """What a call is known by."""
    words, skip = [program], False
    for argument in arguments:
        if skip or argument in ALWAYS_WITH_VALUE:
            skip = not skip
        elif not argument.startswith("-") or argument == "-c":
            words.append(argument)
        if len(words) > WORDS.get(program, 1):  # its own name is one
            break
    return " ".join(words)


def remember(folder: Path, call: str, program: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Write a call down, and give how many of its name came before it."""
    log = folder / "calls.jsonl"
    before = log.read_text().splitlines() if log.exists() else []
    paths = [found[1] for argument in arguments if (found := re.fullmatch(r"file://(.+)", argument))]
    files = {Path(path).name: Path(path).read_text() for path in paths}
    line = {"call": call, "argv": [program, *arguments], "files": files, "key": "HOKUSAI_API_KEY" in environ}
    if program == "docker" and "--password-stdin" in arguments:
        line["stdin"] = sys.stdin.read()
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return sum(json.loads(one)["call"] == call for one in before)


def play(folder: Path, program: str, arguments: Sequence[str]) -> int:
    """Be the program: remember the call, print its answer, give its exit code."""
    call = name_of(program, arguments)
    count = remember(folder, call, program, arguments, os.environ)
    script = json.loads((folder / "answers.json").read_text()).get(call)
    if script is None:
        sys.stderr.write(f"the test has no answer for: {call} ({shlex.join(arguments)})\n")
        return 97
    chosen = script[min(count, len(script) - 1)]
    for option, value in chosen["into"].items():
        Path(arguments[arguments.index(f"--{option}") + 1]).write_text(json.dumps(value))
    sys.stderr.write(chosen["error"])
    sys.stdout.write(chosen["output"])
    sys.stdout.flush()
    if chosen["hold"]:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        (folder / "held").touch()
        signal.pause()
    return int(chosen["code"])


if __name__ == "__main__":
    sys.exit(play(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
