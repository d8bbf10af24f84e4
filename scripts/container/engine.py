"""podman with a storage of its own: what it builds and runs is in one folder, and goes with it."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

BUILD_SECONDS = 240.0
COMMAND_SECONDS = 60.0
NOFILE = 4096  # podman's own default is above what a root without CAP_SYS_RESOURCE may set


class EngineError(Exception):
    """podman ended with a non-zero exit code; the message holds the command and its output."""


class Engine:
    """Context manager over `folder`, which it empties on exit. Neither /etc/containers nor /var/lib is touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = {
            **{name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ},
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
            "TMPDIR": str(folder / "tmp"),
        }

    def __enter__(self) -> "Engine":
        (self.folder / "tmp").mkdir(parents=True)
        # runc: crun refuses mixed cgroups. A lock file: the default leaves its segment in /dev/shm.
        (self.folder / "containers.conf").write_text(
            f"""\
[containers]
default_ulimits = ["nofile={NOFILE}:{NOFILE}", "nproc={NOFILE}:{NOFILE}"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "runc"
tmp_dir = "{self.folder}/run/libpod"
[network]
network_config_dir = "{self.folder}/networks"
"""
        )
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/store"\nrunroot = "{self.folder}/run/store"\n'
        )
        (self.folder / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.podman("rm", "--all", "--force", "--time", "0")
            self.podman("image", "unmount", "--all", "--force")
        finally:
            # podman keeps its storage mounted on itself; what is still mounted cannot be removed, and must not be.
            for mounted in sorted(self._mounts(), reverse=True):
                subprocess.run(["umount", mounted], check=True, capture_output=True)
            shutil.rmtree(self.folder)

    def _mounts(self) -> list[str]:
        """Where something is mounted inside the folder."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [place for line in lines if (place := line.split()[4]).startswith(f"{self.folder}/")]

    def attempt(self, *args: str, timeout: float = COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run podman with these arguments, up to `timeout` seconds; gives exit code and output, whatever they are."""
        return subprocess.run(
            ["podman", *args], env=self._env, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )

    def start(self, *args: str, output: IO[bytes] | None = None) -> "subprocess.Popen[bytes]":
        """Start podman with these arguments and let it run; what it writes, on both ways, goes to `output`."""
        out = output or subprocess.DEVNULL
        return subprocess.Popen(
            ["podman", *args], env=self._env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )

    def podman(self, *args: str, timeout: float = COMMAND_SECONDS) -> str:
        """Run podman and give its standard output. Raises EngineError for a non-zero exit code."""
        done = self.attempt(*args, timeout=timeout)
        if done.returncode != 0:
            output = f"{done.stdout}{done.stderr}"[-8000:]
            raise EngineError(f"podman {' '.join(args)} ended with {done.returncode}:\n{output}")
        return done.stdout.strip()

    def build(self, context: Path, tag: str, args: Mapping[str, str] | None = None, more: Sequence[str] = ()) -> str:
        """Build the Dockerfile of `context` on bases that are here; gives the image's id. Raises EngineError."""
        given = [part for name, value in (args or {}).items() for part in ("--build-arg", f"{name}={value}")]
        command = ["build", "--pull=never", "--network=host", "--format=docker", f"--tag={tag}", *given, *more]
        self.podman(*command, str(context), timeout=BUILD_SECONDS)
        return self.podman("image", "inspect", "--format", "{{.Id}}", tag)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """What podman knows of an `image` or a `container`."""
        found: dict[str, Any] = json.loads(self.podman(kind, "inspect", name))[0]
        return found
