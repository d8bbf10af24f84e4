"""benchmarks/cores.py: MLflow alone on a core, what stands before it on the others, and all as before at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.cores import apart, processes
from tests.support.process import kill_group

EVERY = os.sched_getaffinity(0)
# A process of two threads, and a child: it says so when all are there.
CODE = """
import subprocess, threading, time
subprocess.Popen(["sleep", "60"])
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def groups() -> Iterator[list[int]]:
    started = [
        subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, start_new_session=True) for _ in range(2)
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    yield [process.pid for process in started]
    for process in started:
        kill_group(process.pid)
        process.communicate()


def cores(group: int) -> list[set[int]]:
    """Those of each thread of each process of a group."""
    return [
        os.sched_getaffinity(int(thread)) for pid, _ in processes(group) for thread in os.listdir(f"/proc/{pid}/task")
    ]


def test_a_group_is_a_process_and_its_children_and_nobody_else(groups: list[int]) -> None:
    for group in groups:
        assert len(list(processes(group))) == 2
        assert {int(fields[2]) for _, fields in processes(group)} == {group}


@pytest.mark.skipif(len(EVERY) < 2, reason="one core, which all must share")
def test_every_thread_is_placed_and_let_go_again(groups: list[int]) -> None:
    alone, other = groups
    last = {max(EVERY)}
    with pytest.raises(KeyboardInterrupt), apart(alone, [other]):
        assert cores(alone) == [last] * 3
        assert cores(other) == [EVERY - last] * 3
        raise KeyboardInterrupt
    assert cores(alone) == cores(other) == [EVERY] * 3


def test_with_one_core_all_share_it(groups: list[int]) -> None:
    os.sched_setaffinity(0, {max(EVERY)})
    try:
        with apart(groups[0], groups[1:]):
            assert cores(groups[0]) == cores(groups[1]) == [{max(EVERY)}] * 3
    finally:
        os.sched_setaffinity(0, EVERY)
