"""The shell scripts: shellcheck finds nothing, and nothing is kept from it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
LIBRARY = sorted((ROOT / "scripts" / "lib").glob("*.sh"))
OWN = ROOT / ".venv-infra" / "bin" / "shellcheck"


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    """The files of scripts/lib are read as parts of the scripts that source them, so that names are known to both."""
    program = str(OWN) if OWN.exists() else shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck: make infra-env brings it, or apt-get install shellcheck")
    relative = [str(path.relative_to(ROOT)) for path in SCRIPTS]
    found = subprocess.run(
        [program, "--external-sources", "--check-sourced", *relative], cwd=ROOT, capture_output=True, text=True
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("path", [*SCRIPTS, *LIBRARY], ids=lambda path: path.name)
def test_the_scripts_keep_the_house_rules(path: Path) -> None:
    text = path.read_text()
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert re.findall(r"\beval\b|\bset \+e\b|set -x", code) == []
    assert re.findall(r"shellcheck disable=\S+$", text, re.MULTILINE) == [], "a disabled check needs its reason"
    longest = max(
        (len(body.splitlines()) for body in re.findall(r"^\w+\(\) \{\n(.*?)^\}", text, re.M | re.S)), default=0
    )
    assert longest <= 50


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_stops_at_errors_and_tells_how_it_is_used(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n#")
    assert re.search(r"^set -E?euo pipefail$", text, re.MULTILINE)
    assert path.stat().st_mode & 0o111
    said = subprocess.run([path, "--help"], capture_output=True, text=True, cwd="/")
    assert (
        said.returncode == 0
        and f"Usage: {'HOKUSAI_API_KEY=... ' * (path.stem == 'smoke_test')}scripts/{path.name}" in said.stdout
    )
    assert said.stderr == ""


def test_every_part_of_the_library_is_sourced() -> None:
    sourced = {
        name for path in SCRIPTS for name in re.findall(r"^source scripts/lib/(\w+\.sh)$", path.read_text(), re.M)
    }
    assert sourced == {path.name for path in LIBRARY}
