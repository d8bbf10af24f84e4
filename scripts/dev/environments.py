"""The two virtual environments, made again only when what they are made from has changed.

The proxy and MLflow cannot share one: MLflow pins an older gunicorn. Each holds a stamp, which names the Python, the
place and the requirement files it was made from.
"""

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scripts.dev.checkout import Checkout
from scripts.dev.terminal import Trouble, progress

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PROBE = "import importlib.util as u, sys; print('%d.%d' % sys.version_info[:2], u.find_spec('pip') is not None)"


def ensure_proxy(checkout: Checkout, kind: Literal["run", "dev"]) -> None:
    """Make .venv what `kind` needs. `dev` holds all that `run` needs."""
    names = ("requirements.txt",) if kind == "run" else ("requirements.txt", "requirements-dev.txt")
    label = "the proxy" if kind == "run" else "the proxy and its tools"
    Environment(checkout, checkout.proxy_environment, label, names).ensure()


def ensure_mlflow(checkout: Checkout) -> None:
    """Make .venv-mlflow."""
    Environment(checkout, checkout.mlflow_environment, "MLflow", ("requirements-mlflow.txt",)).ensure()


@dataclass(frozen=True)
class Environment:
    """One virtual environment: where it is, what it is for, and the requirement files that go into it."""

    checkout: Checkout
    path: Path
    label: str
    requirements: tuple[str, ...]

    def ensure(self) -> None:
        """Make it, or bring it up to date, unless its stamp says that there is nothing to do. Raises Trouble."""
        if self._ready():
            return
        with self.checkout.lock("environments", wait=True):
            if self._ready():  # another make was at it
                return
            with progress(f"making {self.path.name} ({self.label})"):
                self._make()

    def mark(self) -> None:
        """Write the stamp: from here on it counts as made."""
        self._stamp.write_text(json.dumps(self._wanted(), indent=2) + "\n")

    @property
    def _stamp(self) -> Path:
        return self.path / "made-from.json"

    def _wanted(self) -> dict[str, str]:
        try:
            contents = {name: (self.checkout.root / name).read_bytes() for name in self.requirements}
        except OSError as error:
            raise Trouble(
                f"{error.filename} cannot be read: {error.strerror}. Is this the root of a checkout?"
            ) from None
        # The place counts: a virtual environment that was moved has scripts that name a Python that is not there.
        return {
            "python": PYTHON,
            "path": str(self.path),
            **{n: hashlib.sha256(c).hexdigest() for n, c in contents.items()},
        }

    def _found(self) -> Mapping[str, str]:
        try:
            found = json.loads(self._stamp.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _ready(self) -> bool:
        return self._wanted().items() <= self._found().items() and self._python_works()

    def _python_works(self) -> bool:
        """True for one that starts, is of our version, and has pip."""
        command = [str(self.path / "bin" / "python"), "-c", PROBE]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return result.stdout.split() == [PYTHON, "True"]

    def _make(self) -> None:
        moved = self._found().get("path", str(self.path)) != str(self.path)
        if self.path.is_symlink():
            self.path.unlink()  # whoever it belongs to keeps it as it is
        log = self.checkout.log(f"pip{self.path.name}")
        if moved or not self._python_works():
            self._create(log)
        self._stamp.unlink(missing_ok=True)
        files = [part for name in self.requirements for part in ("-r", str(self.checkout.root / name))]
        pip = [
            str(self.path / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "-q",
        ]
        if not _succeeds([*pip, *files], log):
            raise Trouble(f"pip could not fill {self.path.name}: {_reason(log)}\nIts whole output is in {log}")
        self.mark()

    def _create(self, log: Path) -> None:
        if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
            raise Trouble(
                f"{sys.executable} cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"
            )
        if not _succeeds([sys.executable, "-m", "venv", "--clear", str(self.path)], log):
            raise Trouble(f"{self.path.name} could not be made: {_reason(log)}\nThe whole output is in {log}")


def _succeeds(command: list[str], log: Path) -> bool:
    with log.open("w") as output:
        return (
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False).returncode == 0
        )


def _reason(log: Path) -> str:
    """The last line that says what is wrong: pip's last ERROR, else the last line there is."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it gave no reason."])[-1]
