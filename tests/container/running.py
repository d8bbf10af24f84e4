"""A container of the image as Fargate would start it: a root that is read-only, no capabilities, half a gigabyte."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from scripts.container.engine import Engine
from tests.support.process import free_port, wait_for_health

# read-only-tmpfs: podman would lay a tmpfs over /tmp and the like, which Fargate does not.
AS_ON_FARGATE = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--memory=512m",
    "--passwd=false",
)
START_SECONDS = 30.0
STOP_SECONDS = 60.0


class Container:
    """Context manager: the image's own command under `AS_ON_FARGATE`, on a free port of this machine's network."""

    def __init__(self, engine: Engine, tag: str, env: Mapping[str, str]) -> None:
        self._engine = engine
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.name = f"proxy-{self.port}"
        self.env = {"API_PORT": str(self.port), **env}
        self._output = tempfile.TemporaryFile()
        variables = [f"--env={name}={value}" for name, value in self.env.items()]
        self._command = ["run", f"--name={self.name}", *AS_ON_FARGATE, "--network=host", *variables, tag]

    def __enter__(self) -> Container:
        self._process = self._engine.start(*self._command, output=self._output)
        try:
            wait_for_health(self.port, self._process, START_SECONDS)
        except BaseException as error:
            self._engine.attempt("rm", "--force", "--time=0", self.name)
            error.add_note(self.output[-8000:])
            self._output.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._engine.podman("rm", "--force", "--time=0", self.name)
        self._process.wait(STOP_SECONDS)
        self._output.close()

    @property
    def output(self) -> str:
        """What it wrote so far, stdout and stderr."""
        descriptor = self._output.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")

    @property
    def pid(self) -> int:
        """Its process 1, as this machine numbers it."""
        return int(self._engine.podman("container", "inspect", "--format", "{{.State.Pid}}", self.name))

    def children(self) -> list[int]:
        """The children of its process 1, as this machine numbers them."""
        pid = self.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the image's user."""
        return self._engine.attempt("exec", self.name, *command)

    def health_check(self) -> int:
        """Exit code of the image's own HEALTHCHECK, asked by the engine."""
        return self._engine.attempt("healthcheck", "run", self.name).returncode

    def stop(self) -> subprocess.Popen[bytes]:
        """Begin `podman stop`: the image's stop signal, and SIGKILL after STOP_SECONDS."""
        return self._engine.start("stop", f"--time={STOP_SECONDS:.0f}", self.name)

    def wait_exit(self) -> int:
        """Wait for its end and give the exit code of process 1."""
        self._process.wait(STOP_SECONDS)
        return int(self._engine.inspect("container", self.name)["State"]["ExitCode"])


def status(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status by their names."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
