"""checkov's opinion of the Terraform files, and of what Terraform makes of them. It knows policy: what is encrypted,
logged, protected. Wrong values and wrong ways are other tests' business.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import terraform
from tests.support.process import clean_environment

REPOSITORY = terraform.MODULE.parents[1]
CHECKOV = REPOSITORY / ".venv-checkov" / "bin" / "checkov"
CONFIGURATION = REPOSITORY / ".checkov.yaml"
SKIPPED = re.findall(r"^  - (CKV\w+)(.*)$", CONFIGURATION.read_text(), re.MULTILINE)


def broken_rules(folder: Path, *frameworks: str) -> set[str]:
    """What it finds in a folder, without the configuration. It asks no network, and writes into the folder."""
    options = ["--directory", ".", "--framework", *frameworks, "--skip-download", "--output", "json"]
    env = clean_environment({"HOME": str(folder), "LOG_LEVEL": "ERROR"})
    done = subprocess.run([str(CHECKOV), *options], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    said = json.loads(done.stdout)
    reports: dict[str, dict[str, Any]] = {
        report["check_type"]: report for report in (said if isinstance(said, list) else [said])
    }
    assert set(reports) == set(frameworks)
    assert all(report["summary"]["parsing_errors"] == 0 for report in reports.values())
    assert all(report["summary"]["passed"] > 100 for report in reports.values())  # it has found what there is
    return {check["check_id"] for report in reports.values() for check in report["results"]["failed_checks"]}


def test_every_rule_that_is_skipped_has_its_reason() -> None:
    assert SKIPPED
    assert [name for name, reason in SKIPPED if not re.match(r" # \w+", reason)] == []


@pytest.mark.skipif(
    not CHECKOV.exists(), reason="there is no .venv-checkov: make infra makes it, from requirements-checkov.txt"
)
def test_exactly_the_rules_that_are_skipped_are_broken(tmp_path: Path) -> None:
    """By the files, or by what Terraform makes of them: variables, containers. What nothing breaks is not skipped."""
    skipped = {name for name, _ in SKIPPED}
    for path in terraform.MODULE.glob("*.tf"):
        shutil.copy(path, tmp_path)
    if terraform.missing():
        assert broken_rules(tmp_path, "terraform") <= skipped
    else:
        (tmp_path / "plan.json").write_text(json.dumps(terraform.plan()))
        assert broken_rules(tmp_path, "terraform", "terraform_plan") == skipped
