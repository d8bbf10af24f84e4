"""How the tests build: the arguments of a release, a way to PyPI that leaves no trace, and files that must stay out."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.container.base import NAME
from scripts.container.engine import Engine

REPOSITORY = Path(__file__).resolve().parents[2]
VERSION, REVISION = "9.8.7", "0123456789abcdef0123456789abcdef01234567"
EPOCH = "1700000000"  # any moment will do; a release takes its commit's
CERTIFICATES = "/run/secrets/ca.pem"  # where the Dockerfile puts them
PASSED_ON = {"index-url", "proxy", "default-timeout", "trusted-host"}

MARK = b"DECOY-4711"  # found in the image, it says that one of these got in
DECOYS = {
    ".env": MARK,
    "app/.env": MARK,
    "app/keys.json": MARK,
    "app/id_rsa": MARK,
    "app/blueprints/credentials": MARK,
    "app/routes.tsv.orig": MARK,
    "app/__pycache__/wire.cpython-311.pyc": MARK,
    ".git/config": MARK,
    ".local/keys.json": MARK,
    "tests/test_decoy.py": MARK,
    "keys.tsv": MARK,
    "pip.conf": MARK,
    "wsgi.py.bak": MARK,
}


@dataclass(frozen=True)
class Image:
    """A built image: its tag, what podman says of it, and its root, mounted to look at."""

    tag: str
    about: dict[str, Any]
    root: Path

    @property
    def megabytes(self) -> float:
        """Its size, unpacked, with everything below it."""
        return float(self.about["Size"]) / 1e6


def look_at(engine: Engine, tag: str) -> Image:
    return Image(tag, engine.inspect("image", tag), Path(engine.podman("image", "mount", tag)))


def build(engine: Engine, base: Image, context: Path, tag: str) -> Image:
    """Build the Dockerfile of `context` on `base`, from nothing kept. Raises EngineError."""
    args = {"VERSION": VERSION, "REVISION": REVISION, "SOURCE_DATE_EPOCH": EPOCH}
    if base.tag != NAME:
        args["BASE"] = base.tag
    engine.build(context, tag, args, ["--no-cache", f"--timestamp={EPOCH}", *pip_access(engine.folder)])
    return look_at(engine, tag)


def pip_settings() -> dict[str, str]:
    """What this machine tells pip, by files and variables, of how to reach PyPI."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    found = dict(line.split("=", 1) for line in listed.splitlines())
    return {name.rpartition(".")[2]: value.strip("'\"") for name, value in found.items()}


def pip_access(folder: Path) -> list[str]:
    """Arguments of `podman build` with which pip gets to PyPI as on this machine; they name a file in `folder`."""
    settings = pip_settings()
    lines = [f"{name} = {value}" for name, value in settings.items() if name in PASSED_ON]
    more = []
    if certificates := settings.get("cert"):
        lines.append(f"cert = {CERTIFICATES}")
        more = [f"--secret=id=ca.pem,src={certificates}"]
    secret = folder / "pip.conf"
    secret.write_text("\n".join(["[global]", *lines, ""]))
    return [f"--secret=id=pip.conf,src={secret}", *more]
