"""Transfers in a process of their own, so that measuring beside them is not held up by them."""

import contextlib
import json
import multiprocessing
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.client import connect, get
from benchmarks.targets import Target
from scripts.dev.terminal import Trouble

_fork = multiprocessing.get_context("fork")
READY_SECONDS = 30.0


@contextlib.contextmanager
def running(what: Callable[..., Any], *arguments: Any) -> Iterator[Callable[[], bool]]:
    """Run a function in a child; gives a question: is it still at it? Killed at the end. Trouble when it failed."""

    def work() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this child
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        what(*arguments)

    process = _fork.Process(target=work, daemon=True)
    process.start()
    try:
        yield process.is_alive
        if process.exitcode:
            raise Trouble(f"the transfer in the background failed (exit code {process.exitcode})")
    finally:
        process.kill()
        process.join()


def slow_uploads(target: Target, path: str, count: int) -> None:
    """Hold that many uploads open, a byte a second each, until killed. Ends with an error when one is answered."""
    connections = [connect(target) for _ in range(count)]
    answered = selectors.DefaultSelector()
    for connection in connections:
        connection.sendall(target.head("PUT", path, 1_000_000))
        answered.register(connection, selectors.EVENT_READ)
    while True:
        for connection in connections:
            connection.sendall(b".")
            time.sleep(1.0 / count)
        if ready := answered.select(0):
            sample = next(one for one in connections if one is ready[0][0].fileobj)
            raise Trouble(f"a slow upload was answered: {sample.recv(1000)!r}")


def wait_for_open(upstream: Target, count: int, alive: Callable[[], bool]) -> None:
    """Return when that many bodies are on their way to the stub. Raises Trouble when they do not get there."""
    deadline = time.monotonic() + READY_SECONDS
    found = -1
    while alive() and time.monotonic() < deadline:
        found = json.loads(get(upstream, "/stub/open")[1])["bytes"]
        if found >= count:
            return
        time.sleep(0.1)
    raise Trouble(f"only {found} of {count} slow uploads reached the upstream")
