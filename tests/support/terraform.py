"""Terraform without a network and without AWS: an initialised copy of infrastructure/terraform, and its plan as JSON.

The copy, and each plan made in it, are kept under the system's folder for temporary files, named after what they are
made from. So one plan serves all tests, all pytest-xdist workers, and the next run as well, until a file changes.

`python -m tests.support.terraform` runs Terraform's own checks, one line each, and ends with 1 when one of them fails.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.process import REPOSITORY, clean_environment

MODULE = REPOSITORY / "infrastructure" / "terraform"
EXAMPLE = "terraform.tfvars.example"
ACCOUNT = "0" * 12  # what stands for ACCOUNT in the example: the repository holds no account numbers
KEPT_COPIES = 4
PLAN = ("plan", "-input=false", "-refresh=false", "-lock=false", "-no-color", "-var-file=example.tfvars")
# No account is asked who we are, and no bucket for a state.
OVERRIDE = """
terraform {
  backend "local" {}
}

provider "aws" {
  region                      = "us-east-1"
  access_key                  = "x"
  secret_key                  = "x"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}
"""


class TerraformFailed(Exception):
    """Terraform ended with an error; the text is what it said."""


@functools.cache
def missing() -> str:
    """Why Terraform cannot be used on this machine, or nothing if it can: the program, and a mirror of the provider."""
    if shutil.which("terraform") is None:
        return "no terraform on this machine"
    if mirror() is None:
        return "no mirror of Terraform's AWS provider on this machine (.../registry.terraform.io/hashicorp/aws)"
    return ""


def plan(variables: Mapping[str, object] | None = None) -> dict[str, Any]:
    """What `terraform show -json` says of a plan with the example's variables, and `variables` over them.

    Everything that can be known before an apply is in it, evaluated. Do not change what you get: others get the same.
    Raises `TerraformFailed` when the files or the variables are refused. Ask `missing()` first.
    """
    return _plan(json.dumps(variables or {}, sort_keys=True))


def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`terraform ARGUMENTS` in the initialised copy. With `check`, an error of its own raises `TerraformFailed`."""
    with _copy() as folder:
        return _terraform(folder, *arguments, check=check)


def example_variables() -> str:
    """The variables of terraform.tfvars.example, as tests give them to Terraform."""
    return (MODULE / EXAMPLE).read_text().replace("ACCOUNT", ACCOUNT)


@functools.cache
def _plan(variables: str) -> dict[str, Any]:
    name = hashlib.sha256(variables.encode()).hexdigest()[:16]
    with _copy() as folder:
        shown = folder / f"plan-{name}.json"
        if not shown.exists():
            given, made = folder / f"{name}.tfvars.json", folder / f"{name}.tfplan"
            given.write_text(variables)
            _terraform(folder, *PLAN, f"-var-file={given.name}", f"-out={made}")
            # Written aside and renamed: a test that is stopped meanwhile leaves no half of a plan.
            aside = shown.with_suffix(".part")
            aside.write_text(_terraform(folder, "show", "-json", str(made)).stdout)
            aside.rename(shown)
            made.unlink()
        result: dict[str, Any] = json.loads(shown.read_text())
        return result


@contextmanager
def _copy() -> Iterator[Path]:
    """An initialised copy of the module as it is now, held by this process alone."""
    base = Path(tempfile.gettempdir()) / f"hokusai-terraform-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.stat().st_uid != os.getuid():
        raise TerraformFailed(f"{base} belongs to somebody else")
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made_from = files()
        digest = hashlib.sha256(repr(sorted(made_from.items())).encode()).hexdigest()[:16]
        folder = base / digest
        if not (folder / "initialised").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, made_from)
        os.utime(folder)
        _forget_old_ones(base)
        yield folder


def files() -> dict[str, str]:
    """Path and content of what the copy is made from."""
    sources = [*MODULE.glob("*.tf"), *MODULE.glob("tests/**/*.hcl")]
    program = shutil.which("terraform") or ""
    made_by = f"# {program}, {os.stat(program).st_mtime}\n"  # another version may plan otherwise
    installation = f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror()}"\n  }}\n}}\n'
    return {
        **{str(path.relative_to(MODULE)): path.read_text() for path in sources},
        "example.tfvars": example_variables(),
        "offline_override.tf": OVERRIDE,
        "terraform.rc": f"{made_by}disable_checkpoint = true\n{installation}",
    }


def _make(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    _terraform(folder, "init", "-input=false", "-no-color")
    (folder / "initialised").touch()


def _forget_old_ones(base: Path) -> None:
    copies = sorted((path for path in base.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in copies[:-KEPT_COPIES]:
        shutil.rmtree(path, ignore_errors=True)


def ask_terraform(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`terraform ARGUMENTS` in a folder that was made of `files()`, with `environ` in its environment."""
    env = {
        **(environ or {}),
        "HOME": str(folder),
        "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
        "GOGC": "400",  # a fifth less processor time, for 150 MB more
    }
    # Without what AWS's libraries read from the environment: nothing here may reach an account.
    return subprocess.run(
        ["terraform", *arguments], cwd=folder, env=clean_environment(env), capture_output=True, text=True
    )


def _terraform(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = ask_terraform(folder, *arguments)
    if check and done.returncode != 0:
        raise TerraformFailed(f"terraform {arguments[0]}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


@functools.cache
def mirror() -> Path | None:
    """The root of a mirror with a provider that versions.tf allows. `find` takes half a second for a whole disk."""
    skipped = ["(", "-path", "/proc", "-o", "-path", "/sys", "-o", "-path", "/dev", "-o", "-path", "/tmp", ")"]
    wanted = ["-type", "d", "-path", "*/registry.terraform.io/hashicorp/aws"]
    found = subprocess.run(
        ["find", "/", "-xdev", "-maxdepth", "6", *skipped, "-prune", "-o", *wanted, "-print"],
        capture_output=True,
        text=True,
    )  # its exit code says that some folder could not be read, which is nothing to us
    for line in found.stdout.splitlines():
        versions = [re.search(r"(?:^|_)5\.(\d+)\.\d+", entry.name) for entry in Path(line).iterdir()]
        if any(version and int(version[1]) >= 100 for version in versions):
            return Path(line).parents[2]
    return None


def main() -> int:
    """Run fmt, init, validate, plan and test, or say why they cannot be; gives the exit code."""
    if missing():
        _say(f"skipped: fmt, init, validate, plan and test of Terraform: {missing()}")
        return 0
    checks: dict[str, Callable[[], subprocess.CompletedProcess[str]]] = {
        "fmt": lambda: run("fmt", "-check", "-diff", "-recursive"),
        "init": lambda: run("init", "-input=false", "-no-color"),
        "validate": lambda: run("validate", "-no-color"),
        "plan": lambda: run(*PLAN),  # not `plan`, which may have been made before
        "test": lambda: run("test", "-no-color", "-var-file=example.tfvars"),
    }
    for name, check in checks.items():
        begun = time.monotonic()
        try:
            done = check()
        except TerraformFailed as failure:
            _say(str(failure))
            return 1
        said = re.findall(r"^(?:Plan|Success|Terraform has been|Error).*", done.stdout, re.MULTILINE)
        _say(f"terraform {name}: {''.join(said[-1:]) or 'ok'} ({time.monotonic() - begun:.1f} s)")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
