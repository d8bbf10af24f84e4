"""app/wire.py: the adapter, its one pool and its answers."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Any

import pytest
from requests import PreparedRequest
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import ConnectTimeout, ReadTimeout, SSLError
from urllib3 import HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, ProtocolError

from app.outbound import Manner, Outbound
from app.wire import (
    SOCKET_OPTIONS,
    ExactAdapter,
    ExactConnection,
    ExactPool,
    ExactTLSConnection,
    ExactTLSPool,
)
from tests.support.upstream import RecordingUpstream
from tests.unit.answering import scripted


def test_the_adapter_makes_exact_pools_whose_sockets_notice_a_vanished_host() -> None:
    adapter = ExactAdapter(pool_connections=1, pool_maxsize=5)
    pools = [adapter.poolmanager.connection_from_url(f"{scheme}://h") for scheme in ("http", "https")]
    assert [(type(pool), pool.ConnectionCls) for pool in pools] == [
        (ExactPool, ExactConnection),
        (ExactTLSPool, ExactTLSConnection),
    ]
    assert [pool.conn_kw["socket_options"] for pool in pools] == [SOCKET_OPTIONS, SOCKET_OPTIONS]
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in SOCKET_OPTIONS
    assert [(pool.pool.maxsize, pool.block) for pool in pools if pool.pool] == [(5, False), (5, False)]
    adapter.close()


def test_the_adapter_never_retries() -> None:
    assert (ExactAdapter().max_retries.total, ExactAdapter().max_retries.read) == (0, False)


def test_the_adapter_looks_its_one_pool_up_once_and_reads_the_certificates_once() -> None:
    adapter = ExactAdapter(pool_connections=1, pool_maxsize=5)
    request = PreparedRequest()
    request.url = "https://mlflow.internal/"
    first = adapter.get_connection_with_tls_context(request, __file__, cert=(__file__, __file__))
    adapter.cert_verify(first, request.url, "/no/such/bundle", ("/no/such/cert", "/no/such/key"))
    second = adapter.get_connection_with_tls_context(request, __file__, cert=(__file__, __file__))
    assert isinstance(first, HTTPSConnectionPool)
    assert (first is second, first.ca_certs, first.cert_file, first.key_file) == (True, __file__, __file__, __file__)
    adapter.close()


def test_an_answer_is_the_raw_one_whose_repeated_headers_stay_apart() -> None:
    request = PreparedRequest()
    request.url = "http://mlflow.internal/"
    raw = scripted(b"HTTP/1.1 207 Multi-Status\r\nA: 1\r\nA: 2\r\nContent-Length: 4\r\n\r\nbody")
    answer = ExactAdapter().build_response(request, raw)
    assert (answer.raw, answer.status_code, answer.url, answer.request) == (raw, 207, request.url, request)
    assert list(answer.raw.headers.items()) == [("A", "1"), ("A", "2"), ("Content-Length", "4")]
    assert answer.raw.read1(9) == b"body", "it was not read on the way"


def test_the_adapter_sends_what_travels_with_the_headers(upstream: RecordingUpstream) -> None:
    """The request's own URL chooses the pool and nothing else."""
    adapter = ExactAdapter(pool_connections=1, pool_maxsize=5)
    request: Any = PreparedRequest()  # typed, it could not have our headers, which app/upstream.py gives it too
    request.method, request.url, request.body = "PROPFIND", f"{upstream.url}/", None
    request.headers = Outbound([("Host", "h"), ("x-A", "1")], Manner("/a/../%2e?", 5.0))
    answer = adapter.send(request, stream=True, timeout=(2.0, 5.0))
    assert (answer.status_code, answer.raw.read(100)) == (200, b'{"ok": true}')
    answer.raw.release_conn()
    assert upstream.wait_for(1)[0].raw_head == b"PROPFIND /a/../%2e? HTTP/1.1\r\nHost: h\r\nx-A: 1\r\n\r\n"
    adapter.close()


def ask(adapter: ExactAdapter, url: str, body: object = None, timeout: float = 5.0) -> None:
    request: Any = PreparedRequest()
    request.method, request.url, request.body = "PUT", url, body
    request.headers = Outbound([("Transfer-Encoding", "chunked")], Manner("/", timeout))
    adapter.send(request, stream=True, timeout=(2.0, timeout))


def test_the_errors_are_those_that_requests_makes_of_urllib3s(upstream: RecordingUpstream) -> None:
    """app/upstream.py has a table from these to ours."""
    adapter = ExactAdapter(pool_connections=1, pool_maxsize=5)
    over = threading.Event()
    upstream.script(lambda *_: over.wait(5.0))
    with pytest.raises(ReadTimeout):
        ask(adapter, upstream.url, timeout=0.05)
    over.set()
    upstream.script(lambda conn, _: conn.sendall(b"garbage"))
    with pytest.raises(RequestsConnectionError) as raised:
        ask(adapter, upstream.url)
    assert isinstance(raised.value.args[0], ProtocolError)
    adapter.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectTimeoutError("x"), ConnectTimeout),
        (ssl.SSLError("x"), SSLError),
        (OSError("x"), RequestsConnectionError),
    ],
    ids=repr,
)
def test_why_there_is_no_connection_is_told_in_requests_words(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[Exception]
) -> None:
    def connect(_: object) -> None:
        raise error

    monkeypatch.setattr(ExactConnection, "connect", connect)
    with pytest.raises(RequestsConnectionError) as raised:
        ask(ExactAdapter(), "http://mlflow.internal/")
    assert type(raised.value) is expected
