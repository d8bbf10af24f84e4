"""A server under measurement: a process group of its own, whose processor time and memory can be read."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.cores import processes
from scripts.dev.terminal import Trouble
from tests.support.process import REPOSITORY, clean_environment, end_group, wait_for_health

START_SECONDS = 20.0
STOP_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """Context manager: started when entered, and answering /health; stopped with all it started when left.

    Its output goes to `NAME.out` and `NAME.err` in `directory`: for the proxy the former is the access log.
    """

    def __init__(
        self, name: str, command: Sequence[str], port: int, directory: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.port = name, port
        self._command = list(command)
        self._env = clean_environment(env or {})
        self._out, self._err = directory / f"{name}.out", directory / f"{name}.err"

    def __enter__(self) -> Server:
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                self._command,
                cwd=REPOSITORY,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        try:
            wait_for_health(self.port, self._process, START_SECONDS)
        except RuntimeError as error:
            raise Trouble(f"{self.name}: {error}\n{self.tail()}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        died_alone = end_group(self._process, STOP_SECONDS)
        if died_alone and error is None:
            raise Trouble(f"{self.name} ended by itself (exit code {self._process.returncode}).\n{self.tail()}")

    def tail(self) -> str:
        """The end of what it wrote."""
        text = self._out.read_text(errors="replace")[-2000:] + self._err.read_text(errors="replace")[-2000:]
        return text.strip()

    @property
    def group(self) -> int:
        """Its process group's id."""
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """Process ids of the children of the process that was started."""
        pid = self._process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def cpu_seconds(self) -> float:
        """Processor time of the whole process group so far, user and system (proc(5): stat, fields 14 and 15)."""
        total = sum(int(fields[11]) + int(fields[12]) for _, fields in processes(self.group))
        return total / TICKS

    def resident_mb(self) -> float:
        """Memory the workers hold now."""
        return sum(_status_mb(pid, "VmRSS") for pid in self.workers)

    def peak_mb(self) -> float:
        """Sum of the most memory that each worker held since `forget_peak`."""
        return sum(_status_mb(pid, "VmHWM") for pid in self.workers)

    def forget_peak(self) -> None:
        """Let the workers' peaks begin anew at what they hold now (proc(5): clear_refs)."""
        for pid in self.workers:
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status_mb(pid: int, name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if match is None:
        raise Trouble(f"/proc/{pid}/status has no {name}")
    return int(match[1]) * 1024 / 1e6
