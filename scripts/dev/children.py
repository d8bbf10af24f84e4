"""Child processes that leave nothing behind: each leads a session, and so a process group, of its own.

The terminal's Ctrl-C does not reach them; they are stopped by us, group by group, with all they have started.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from scripts.dev.terminal import Trouble

PATIENCE = 15.0  # seconds between SIGTERM and SIGKILL


class Child:
    """A started process, whose output goes to a log of its own (begun anew)."""

    def __init__(self, name: str, command: Sequence[str], root: Path, environ: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=root,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise Trouble, with the end of its log, when it has ended."""
        code = self._process.poll()
        if code is not None:
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            raise Trouble(f"{self.name} has stopped by itself ({how}). {self.tail()}")

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log, under a line that says where they are from."""
        last = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()][-lines:]
        if not last:
            return f"Its log, {self.log}, is empty."
        return "\n".join([f"The end of {self.log}:", *(f"    {line[:200]}" for line in last)])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its group that is left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def gone(self) -> bool:
        """True when no process of its group is left. What only waits for its parent to take note of its end is not."""
        if self._process.poll() is None:  # ours to take note of
            return False
        try:
            os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):  # macOS: EPERM for a group in which all have ended
            return True
        return _all_ended(self._process.pid)


def stop(children: Iterable[Child], patience: float = PATIENCE) -> None:
    """End the groups: SIGTERM, up to `patience` seconds, SIGKILL. Returns when nothing of them is left."""
    left = list(children)
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        for child in left:
            child.signal(number)
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            left = [child for child in left if not child.gone()]
            time.sleep(0.05)


def _all_ended(group: int) -> bool:
    """Linux: whether all processes of a group are zombies (a container's process 1 may never reap them)."""
    states = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of_group = path.read_text().rpartition(")")[2].split()[:3]  # proc(5): the name may hold spaces
            states += [state] if int(of_group) == group else []
    return bool(states) and all(state in "ZX" for state in states)
