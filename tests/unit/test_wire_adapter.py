"""app/wire.py: the adapter, its one pool and its answers."""

from __future__ import annotations

import socket

from requests import PreparedRequest
from urllib3 import HTTPHeaderDict, HTTPResponse

from app.wire import SOCKET_OPTIONS, ExactAdapter, ExactConnection, ExactPool, ExactTLSConnection, ExactTLSPool


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
    assert (first is second, first.ca_certs, first.cert_file, first.key_file) == (True, __file__, __file__, __file__)
    adapter.close()


def test_an_answer_keeps_its_repeated_headers_apart() -> None:
    request = PreparedRequest()
    request.url = "http://mlflow.internal/"
    raw = HTTPResponse(headers=HTTPHeaderDict([("A", "1"), ("A", "2")]), status=207, preload_content=False)
    answer = ExactAdapter().build_response(request, raw)
    assert (answer.status_code, answer.url, answer.request, list(answer.raw.headers.items())) == (
        207,
        request.url,
        request,
        [("A", "1"), ("A", "2")],
    )
