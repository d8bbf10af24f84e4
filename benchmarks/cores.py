"""Cores: so that MLflow can be measured as in production, where it has a machine of its own."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def apart(alone: int, others: Iterable[int]) -> Iterator[None]:
    """Keep the process group `alone` on the last core and the groups `others` off it; with one core nothing is done.

    At the end all may use every core again.
    """
    every = os.sched_getaffinity(0)
    last = {max(every)}
    groups = {alone: last, **dict.fromkeys(others, every - last or every)}
    for group, cores in groups.items():
        place(group, cores)
    try:
        yield
    finally:
        for group in groups:
            place(group, every)


def place(group: int, cores: set[int]) -> None:
    """Let every thread of a process group run on these cores only; what they start later too."""
    for process, _ in processes(group):
        for thread in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(int(thread.name), cores)


def processes(group: int) -> Iterator[tuple[int, list[str]]]:
    """The processes of a group: id, and the fields of proc(5)'s stat from the third on (the second may hold spaces)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                yield int(path.parent.name), fields
