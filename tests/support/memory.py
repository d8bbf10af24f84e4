"""How much memory a process group holds, and the most it ever held. Linux only (proc(5))."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path


class GroupMemory:
    """The processes of a group, from now on: `growth_kb()` is how much more than now they held at most, in KiB.

    Each process's own peak counts, so several of them at different times count as one: never too little is said.
    """

    def __init__(self, group: int) -> None:
        self._group = group
        for process in self._processes():
            (process / "clear_refs").write_text("5")  # from here on VmHWM is the peak since now
        self._before = self._total("VmRSS")

    def growth_kb(self) -> int:
        return self._total("VmHWM") - self._before

    def _total(self, figure: str) -> int:
        total = 0
        for process in self._processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                match = re.search(rf"^{figure}:\s+(\d+) kB$", (process / "status").read_text(), re.MULTILINE)
                total += int(match[1]) if match else 0
        return total

    def _processes(self) -> Iterator[Path]:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # "pid (name) state ppid pgrp ..."; a name may hold blanks and brackets
                if (process / "stat").read_text().rpartition(")")[2].split()[2] == str(self._group):
                    yield process
