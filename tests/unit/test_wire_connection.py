"""app/wire.py: which connection a request goes out on."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, SSLError

from app.outbound import Manner
from app.wire import (
    MOST_IDLE_SECONDS,
    SOCKET_OPTIONS,
    ExactConnection,
    ExactPool,
    ExactTLSConnection,
    ExactTLSPool,
)
from tests.unit.answering import OTHER, Ends, both_ends, secured
from tests.unit.requesting import POOL_SIZE, ask

ends = pytest.fixture(both_ends)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(0.0)
        yield made


@pytest.fixture
def connection(listener: socket.socket) -> Iterator[ExactConnection]:
    made = ExactConnection("127.0.0.1", listener.getsockname()[1], socket_options=[*SOCKET_OPTIONS])
    yield made
    made.close()


def accepted(listener: socket.socket) -> list[socket.socket]:
    """The connections that were made since the last question."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(listener.accept()[0])
    return found


def test_a_connection_that_is_made_notices_a_vanished_host(connection: ExactConnection) -> None:
    connection.open(2.5, Manner("/", 7.0))
    made = connection.sock
    assert made is not None and made.gettimeout() == 2.5
    options = {name: made.getsockopt(level, name) for level, name, _ in SOCKET_OPTIONS}
    assert options == {name: value for _, name, value in SOCKET_OPTIONS}
    assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


@pytest.mark.parametrize(
    ("idle", "fresh", "connects"),
    [
        (0.0, False, 0),
        (MOST_IDLE_SECONDS - 0.1, False, 0),
        (MOST_IDLE_SECONDS + 0.1, False, 1),
        (600.0, False, 1),
        (0.0, True, 1),
        (600.0, True, 1),
    ],
)
def test_a_connection_that_idled_longer_than_uvicorn_keeps_it_is_made_anew(
    connection: ExactConnection,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    idle: float,
    fresh: bool,
    connects: int,
) -> None:
    now = 1000.0
    monkeypatch.setattr("app.wire.monotonic", lambda: now)
    connection.open(2.5, Manner("/", 7.0))
    (first,) = accepted(listener)
    now += idle
    connection.open(2.5, Manner("/", 7.0, fresh=fresh))
    others = accepted(listener)
    assert (len(others), connection.idle_since, MOST_IDLE_SECONDS) == (connects, now if connects else 1000.0, 3.0)
    first.settimeout(0.0 if not connects else 5.0)
    if connects:
        assert first.recv(1) == b"", "the old one is closed"
    for sock in (first, *others):
        sock.close()


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let `mlflow.test` have these addresses, always in this order, as a resolver that sorts them gives them."""
    real = socket.getaddrinfo

    def found(host: str, port: int, *rest: int, **named: int) -> list[Any]:
        hosts = addresses if host == "mlflow.test" else [host]
        return [entry for address in hosts for entry in real(address, port, *rest, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_the_tasks_behind_one_name_all_get_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        with socket.create_server(("127.0.0.2", port)) as other:
            resolving(monkeypatch, "127.0.0.1", "127.0.0.2")
            reached = set()
            for _ in range(60):  # one chance in 2**59 that a fair choice leaves one of them out
                connection = ExactConnection("mlflow.test", port)
                connection.open(2.5, Manner("/", 7.0))
                assert connection.sock is not None
                reached.add(connection.sock.getpeername()[0])
                connection.close()
                for server in (one, other):
                    server.settimeout(0.0)
                    for sock in accepted(server):
                        sock.close()
    assert reached == {"127.0.0.1", "127.0.0.2"}


def test_a_task_that_is_gone_costs_nothing_but_a_try(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "127.0.0.3", "127.0.0.1", "127.0.0.4")
    for _ in range(10):
        connection = ExactConnection("mlflow.test", listener.getsockname()[1])
        connection.open(2.5, Manner("/", 7.0))
        assert connection.sock is not None and connection.sock.getpeername()[0] == "127.0.0.1"
        assert connection.host == "mlflow.test", "TLS asks for the name"
        connection.close()
        for sock in accepted(listener):
            sock.close()


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.1", "127.0.0.3")], ids=len)
def test_a_name_is_looked_up_once_for_a_connection(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    resolving(monkeypatch, *addresses)
    found, asked = socket.getaddrinfo, []

    def counted(host: str, *rest: Any, **named: Any) -> list[Any]:
        asked.append(host)
        return found(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    connection = ExactConnection("mlflow.test", listener.getsockname()[1])
    connection.open(2.5, Manner("/", 7.0))
    connection.close()
    assert asked.count("mlflow.test") == 1


def test_when_no_address_answers_the_last_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    resolving(monkeypatch, "127.0.0.1", "127.0.0.2")
    connection = ExactConnection("mlflow.test", port)
    with pytest.raises(NewConnectionError):
        connection.open(2.5, Manner("/", 7.0))
    assert connection.host == "mlflow.test"


def test_a_connection_on_which_something_came_unasked_is_not_used_again(
    connection: ExactConnection, listener: socket.socket
) -> None:
    assert not connection.is_connected
    connection.open(2.5, Manner("/", 7.0))
    (theirs,) = accepted(listener)
    with theirs:
        assert connection.is_connected and connection.is_connected
        theirs.sendall(OTHER)
        assert wait_for_input(connection) and not connection.is_connected
        connection.close()
        assert not connection.is_connected


def test_a_connection_that_was_ended_is_not_used_again_but_made_anew(
    connection: ExactConnection, listener: socket.socket
) -> None:
    connection.open(2.5, Manner("/", 7.0))
    accepted(listener)[0].close()
    assert wait_for_input(connection) and not connection.is_connected
    connection.close()
    with socket.socket():  # has the old one's descriptor now
        connection.open(2.5, Manner("/", 7.0))
        (theirs,) = accepted(listener)
        assert connection.is_connected, "and it is the new one that is asked"
        theirs.close()


def wait_for_input(connection: ExactConnection) -> bool:
    """What was sent over the loopback is there a moment later."""
    assert connection.sock is not None
    connection.sock.settimeout(5.0)
    with contextlib.suppress(ConnectionResetError):
        connection.sock.recv(1, socket.MSG_PEEK)
    return True


# --- the same over TLS ---


@pytest.mark.parametrize(
    ("said", "connected"),
    [
        (ssl.SSLWantReadError(), True),
        (b"x", False),
        (b"", False),
        (ssl.SSLEOFError(8, "EOF"), False),
        (OSError(), False),
    ],
    ids=["a session ticket", "a byte", "an end", "an end without its sign", "an error"],
)
def test_over_tls_a_readable_socket_may_still_be_used(ends: Ends, said: bytes | Exception, connected: bool) -> None:
    connection = ExactTLSConnection("mlflow")
    assert not connection.is_connected
    _, connection.sock = secured(ends, said)
    connection._has_input = lambda _: [(0, 1)]
    assert (connection.is_connected, connection.sock.timeouts) == (connected, [0.0])


def test_over_tls_a_socket_that_is_not_readable_is_not_read(ends: Ends) -> None:
    connection = ExactTLSConnection("mlflow")
    _, connection.sock = secured(ends, b"x")
    connection._has_input = lambda _: []
    assert connection.is_connected and connection.sock.recv(1) == b"x"


def test_over_tls_an_end_without_its_sign_is_told_from_a_proper_one(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sock = secured(ends)
    sock.suppress_ragged_eofs = True

    def connect(self: HTTPSConnection) -> None:
        self.sock = sock

    monkeypatch.setattr(HTTPSConnection, "connect", connect)
    connection = ExactTLSConnection("mlflow")
    connection.connect()
    assert connection.sock is sock and sock.suppress_ragged_eofs is False
    assert connection.is_connected and connection.idle_since > 0


# --- no connection ---


def test_where_nobody_listens_there_is_no_connection(listener: socket.socket) -> None:
    closed = ExactPool("127.0.0.1", listener.getsockname()[1], maxsize=POOL_SIZE)
    listener.close()
    with pytest.raises(MaxRetryError) as raised:
        ask(closed)
    assert isinstance(raised.value.reason, NewConnectionError)
    assert closed.pool is not None and closed.pool.qsize() == POOL_SIZE


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError("amid the handshake"), ConnectTimeoutError),
        (ConnectTimeoutError("x"), ConnectTimeoutError),
        (ssl.SSLCertVerificationError("x"), SSLError),
        (ssl.SSLError("x"), SSLError),
        (ConnectionResetError("x"), ConnectionResetError),
        (OSError("x"), OSError),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", [ExactPool, ExactTLSPool])
def test_why_there_is_no_connection_is_told(
    monkeypatch: pytest.MonkeyPatch, kind: type[ExactPool], error: Exception, reason: type[Exception]
) -> None:
    def connect(_: object) -> None:
        raise error

    pool = kind("mlflow", maxsize=POOL_SIZE)
    monkeypatch.setattr(pool.ConnectionCls, "connect", connect)
    with pytest.raises(MaxRetryError) as raised:
        ask(pool)
    assert type(raised.value.reason) is reason
    assert raised.value.__cause__ is error
    assert pool.pool is not None and pool.pool.qsize() == POOL_SIZE
