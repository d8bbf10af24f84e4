"""What happens in more than one of these tests and nowhere else: hosts that vanish, many clients, a look at /health."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import socket
import statistics
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from tests.functional.keyed import ARTIFACT, head
from tests.support.client import open_connection
from tests.support.proxy import Proxy

ROUNDS = 3
LEAST_ANSWERS = 20
GET_ARTIFACT = head("GET", f"/mlflow{ARTIFACT}")


def black_hole(sock: socket.socket) -> None:
    """Let the kernel drop every packet to this socket, by a filter that keeps no byte: a host gone without a word.

    As for a listening socket, whoever connects gets no answer at all.
    """
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K
    attach_filter = 26  # SO_ATTACH_FILTER, which the socket module does not name
    sock.setsockopt(socket.SOL_SOCKET, attach_filter, struct.pack("HL", 1, ctypes.addressof(instruction)))


@contextlib.contextmanager
def many(proxy: Proxy, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections, on each of which `data` was sent."""
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(count):
            socks.append(stack.enter_context(open_connection(proxy.port)))
            socks[-1].sendall(data)
        yield socks


def ended(sock: socket.socket) -> bool:
    """Whether the peer has closed. What it sent before is read and thrown away; never waits."""
    patience = sock.gettimeout()
    sock.settimeout(0.0)
    try:
        while sock.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    finally:
        sock.settimeout(patience)
    return True


class Prober:
    """Context manager: looks at /health every `interval` seconds meanwhile. Its findings are there after the end."""

    def __init__(self, proxy: Proxy, interval: float = 0.02) -> None:
        self.took_ms: list[float] = []
        self._command = [sys.executable, str(Path(__file__).with_name("prober.py")), str(proxy.port), str(interval)]

    def __enter__(self) -> Prober:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        out, _none = self._process.communicate(timeout=60.0)
        self.took_ms = sorted(json.loads(out))

    @property
    def p99_ms(self) -> float:
        """The slowest answer but for one in a hundred; of fewer than a hundred, the slowest but one.

        Infinite when there are too few to say.
        """
        count = len(self.took_ms)
        return self.took_ms[-1 - max(1, count // 100)] if count >= LEAST_ANSWERS else math.inf

    @property
    def figures(self) -> str:
        """How many answers, the usual one, p99 and the five slowest, in milliseconds."""
        usual = statistics.median(self.took_ms) if self.took_ms else math.inf
        slowest = ", ".join(f"{took:.1f}" for took in self.took_ms[-5:])
        return f"{len(self.took_ms)} answers, median {usual:.1f}, p99 {self.p99_ms:.1f}, slowest {slowest} ms"


def assert_quick(measure: Callable[[], Prober], bound_ms: float, least_answers: int = LEAST_ANSWERS) -> None:
    """The best of three rounds, of at least so many answers of /health each, has its p99 under the bound.

    A worker that blocks is slow in each round, a neighbour on the machine is not. So one quick round is enough, and
    the rounds after it are spared.
    """
    rounds: list[Prober] = []
    while len(rounds) < ROUNDS:
        rounds.append(measure())
        if rounds[-1].p99_ms < bound_ms and len(rounds[-1].took_ms) >= least_answers:
            return
    figures = "\n".join(one.figures for one in rounds)
    raise AssertionError(f"no round of {least_answers} answers and a p99 under {bound_ms:.0f} ms:\n{figures}")
