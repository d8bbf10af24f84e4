"""The programs that the proxy is compared with and measured by: Debian's packages, installed when missing."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from scripts.dev.terminal import Trouble, progress

PACKAGES = ("nginx", "haproxy", "wrk")
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
# Debian's packages start what they install; with this in place nothing is started (invoke-rc.d(8)).
POLICY = Path("/usr/sbin/policy-rc.d")
APT = ["apt-get", "-qq", "-y", "-o", "Dpkg::Use-Pty=0"]


def path_of(program: str) -> str:
    """Where a program is. Raises Trouble when it is not installed."""
    found = shutil.which(program, path=SEARCH)
    if found is None:
        raise Trouble(f"{program} is not installed. On Debian and Ubuntu: apt install {' '.join(PACKAGES)}")
    return found


def missing() -> list[str]:
    """The programs that are not installed."""
    return [program for program in PACKAGES if shutil.which(program, path=SEARCH) is None]


def install() -> None:
    """Install what is missing. Raises Trouble when that cannot be done here."""
    absent = missing()
    if not absent:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Trouble(f"{', '.join(absent)} must be installed first, as root: apt install {' '.join(absent)}")
    with progress(f"installing {', '.join(absent)}"), _nothing_started():
        for arguments in (["update"], ["install", "--no-install-recommends", *absent]):
            result = subprocess.run(
                [*APT, *arguments],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if result.returncode:
                lines = (result.stderr.strip() or result.stdout.strip() or "it gave no reason").splitlines()
                raise Trouble(f"apt-get {arguments[0]} failed: {lines[-1]}")


@contextlib.contextmanager
def _nothing_started() -> Iterator[None]:
    if POLICY.exists():  # somebody else's decision
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    try:
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink()
