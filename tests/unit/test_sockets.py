"""app/sockets.py: waiting for several sockets at once."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app.sockets import acknowledge, wait


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_waiting_ends_with_the_first_that_has_input_or_room(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    assert wait([ours], [], 0.01) == ([], [])
    assert wait([ours], [ours], 5.0) == ([], [ours])
    theirs.sendall(b"x")
    assert wait([ours, theirs], [], 5.0) == ([ours], [])
    assert wait([ours], [ours], 5.0) == ([ours], [ours])


def test_an_end_is_input(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    assert wait([ours], [], 5.0) == ([ours], [])


def test_what_has_come_is_acknowledged_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        theirs, _ = server.accept()
        with theirs:
            for _ in range(20):  # the kernel takes them for two who answer each other, and holds acknowledgements back
                ours.sendall(b"?")
                theirs.sendall(theirs.recv(1))
                ours.recv(1)
            quick = (socket.IPPROTO_TCP, socket.TCP_QUICKACK)
            ours.sendall(b"?")
            assert ours.getsockopt(*quick) == 0
            acknowledge(ours)
            assert ours.getsockopt(*quick) == 1


def test_what_is_no_tcp_needs_no_acknowledging(pair: tuple[socket.socket, socket.socket]) -> None:
    acknowledge(pair[0])


BEYOND = """
from gevent import monkey
{patch}
import fcntl, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from app.sockets import acknowledge, wait
ours, theirs = socket.socketpair()
high = socket.socket(fileno=fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD, 1500))
assert wait([high], [], 0.01) == ([], [])
theirs.sendall(b"x")
assert wait([high], [high], 5.0) == ([high], [high])
"""


@pytest.mark.parametrize("patch", ["", "monkey.patch_all()"], ids=["threads", "gevent"])
def test_a_worker_with_more_than_1024_open_sockets_can_still_wait(patch: str) -> None:
    """select cannot, and worker_connections is 10,000."""
    code = BEYOND.format(patch=patch)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, "")
