"""app/passthrough.py, Blocks: no short body that ends well, and no connection kept that still has something to say."""

from __future__ import annotations

import socket
import struct

import pytest
import requests
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import IncompleteRead, ProtocolError, ReadTimeoutError

from app.errors import ClientGone
from app.passthrough import BLOCK, Blocks
from app.scope import RequestScope
from tests.unit import samples


class Raw:
    """The part of app/incoming.py's answer that Blocks uses."""

    def __init__(self, script: list[bytes | Exception], length: int | None = None) -> None:
        self.length_remaining = length
        self.done: list[str] = []
        self._script = script

    def read1(self, size: int, decode_content: bool) -> bytes:
        assert (size, decode_content) == (BLOCK, False)
        step = self._script.pop(0) if self._script else b""
        if isinstance(step, Exception):
            raise step
        if self.length_remaining is not None:
            self.length_remaining -= len(step)
        return step

    def release_conn(self) -> None:
        self.done.append("released")

    def close(self) -> None:
        self.done.append("closed")


class ClientSocket:
    def __init__(self) -> None:
        self.options: list[tuple[int, int, bytes]] = []

    def setsockopt(self, level: int, name: int, value: bytes) -> None:
        self.options.append((level, name, value))


def blocks(raw: Raw, scope: RequestScope, client: ClientSocket | None = None) -> Blocks:
    """Blocks whose first, the empty one with which gunicorn sends the head, was taken."""
    given = requests.Response()
    given.raw = raw
    made = Blocks(given, scope, {"gunicorn.socket": client} if client else {})
    assert (next(made), scope.first_byte) == (b"", None)
    return made


def test_blocks_pass_as_they_come_and_the_first_is_timed() -> None:
    scope = samples.scope()
    made = blocks(Raw([b"a", b"bb"]), scope)
    assert (next(made), scope.first_byte is not None) == (b"a", True)
    first = scope.first_byte
    assert (list(made), scope.first_byte) == ([b"bb"], first)


def test_the_first_byte_of_an_empty_body_is_its_end() -> None:
    scope = samples.scope()
    assert (list(blocks(Raw([]), scope)), scope.first_byte is not None) == ([], True)


@pytest.mark.parametrize(
    "error",
    [
        IncompleteRead(3, 4),
        ProtocolError("x"),
        ReadTimeoutError(HTTPConnectionPool("mlflow"), "/", "x"),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_answer_that_breaks_off_resets_the_clients_connection(error: Exception) -> None:
    scope, client = samples.scope(), ClientSocket()
    made = blocks(Raw([b"a", error]), scope, client)
    next(made)
    with pytest.raises(ConnectionResetError):
        next(made)
    assert (scope.outcome, scope.error_kind) == ("upstream_aborted", type(error).__name__)
    assert client.options == [(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))]


def test_a_client_that_left_amid_a_silent_answer_is_told_apart_from_mlflows_failures() -> None:
    scope, client = samples.scope(), ClientSocket()
    with pytest.raises(ConnectionResetError):
        next(blocks(Raw([ClientGone("x", kind="client_left")]), scope, client))
    assert (scope.outcome, scope.error_kind, len(client.options)) == ("client_gone", "client_left", 1)


def test_a_failure_without_a_clients_socket_still_breaks_off() -> None:
    with pytest.raises(ConnectionResetError):
        next(blocks(Raw([ProtocolError("x")]), samples.scope()))


@pytest.mark.parametrize(
    ("length", "take", "finished", "done"),
    [
        (2, 2, False, "released"),
        (2, 1, False, "closed"),
        (2, 0, False, "closed"),
        (0, 0, False, "released"),
        (None, 2, False, "closed"),
        (None, 2, True, "released"),
        (None, 0, False, "closed"),
    ],
    ids=[
        "read to its end",
        "read in part",
        "not read",
        "of no length",
        "of unknown length, its end not seen",
        "of unknown length, its end seen",
        "of unknown length, not read",
    ],
)
def test_a_connection_is_kept_only_when_its_body_was_read_to_the_end(
    length: int | None, take: int, finished: bool, done: str
) -> None:
    raw, scope = Raw([b"a", b"b"], length), samples.scope(finished=finished)
    made = blocks(raw, scope)
    for _ in range(take):
        next(made)
    made.close()
    assert raw.done == [done]


class RawThatIsHere(Raw):
    is_here = True


def test_a_body_that_is_here_goes_out_with_the_head() -> None:
    given = requests.Response()
    given.raw = RawThatIsHere([b"a"])
    assert list(Blocks(given, samples.scope(), {})) == [b"a"]
