"""app/worker.py: what gunicorn refuses by itself is answered in our shape too."""

from __future__ import annotations

import gc
import json
import socket
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import errors as parse
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser
from gunicorn.workers.base import Worker
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from app.errors import OwnFault
from app.outgoing import Outgoing
from app.plain_head import PlainFirst
from app.scope import RequestScope
from app.worker import CLIENT_IDLE, DRAINING, REFUSALS, SEND_BUFFER, ProxyWorker, refusal

REFUSED: dict[str, tuple[Exception, int]] = {
    "a request line that is too long": (parse.LimitRequestLine(20000, 16384), 414),
    "headers that are too long": (parse.LimitRequestHeaders("x"), 431),
    "an expectation other than 100-continue": (parse.ExpectationFailed("x"), 417),
    "a request line that is none": (parse.InvalidRequestLine("x"), 400),
    "a method that is none": (parse.InvalidRequestMethod("x"), 400),
    "a version that is none": (parse.InvalidHTTPVersion("x"), 400),
    "a header that is none": (parse.InvalidHeader("x"), 400),
    "a header's name that is none": (parse.InvalidHeaderName("x"), 400),
    "a folded header": (parse.ObsoleteFolding("x"), 400),
    "a transfer coding that is unknown": (parse.UnsupportedTransferCoding("x"), 400),
    "a chunk size that is none": (parse.InvalidChunkSize(b"x"), 400),
    "contradictory schemes": (parse.InvalidSchemeHeaders(), 400),
}


@pytest.mark.parametrize(("error", "status"), REFUSED.values(), ids=REFUSED)
def test_what_gunicorns_parser_refuses_is_the_clients_error(error: Exception, status: int) -> None:
    found = refusal(error)
    assert (found.status, found.error_code, found.message, found.kind, found.outcome) == (
        status,
        "BAD_REQUEST",
        "Malformed request.",
        type(error).__name__,
        "client_error",
    )


def test_every_error_of_the_parser_is_a_refusal() -> None:
    errors = [kind for kind in vars(parse).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert [kind for kind in errors if not issubclass(kind, (*REFUSALS, parse.NoMoreData))] == []


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError("x"), KeyError("x")], ids=lambda error: type(error).__name__
)
def test_anything_else_is_our_own_fault(error: Exception) -> None:
    assert isinstance(refusal(error), OwnFault)


def test_one_refusal_does_not_change_the_status_of_the_next() -> None:
    refusal(parse.LimitRequestLine(1, 1))
    assert refusal(parse.InvalidHeader("x")).status == 400


class Client:
    def __init__(self, error: OSError | None = None) -> None:
        self.sent = b""
        self._error = error

    def sendall(self, data: bytes) -> None:
        if self._error:
            raise self._error
        self.sent += data


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[RequestScope, int, int]] = []
        self.exceptions: list[str] = []

    def line(self, scope: RequestScope, status: int, bytes_out: int) -> None:
        self.lines.append((scope, status, bytes_out))

    def exception(self, event: str) -> None:
        self.exceptions.append(event)


@pytest.fixture
def worker() -> ProxyWorker:
    made: ProxyWorker = object.__new__(ProxyWorker)  # gunicorn's own __init__ wants an arbiter's surroundings
    made.log = Log()
    return made


def test_a_malformed_request_is_answered_in_json_and_logged(worker: ProxyWorker) -> None:
    client = Client()
    worker.handle_error(None, client, ("192.0.2.1", 4711), parse.InvalidHeader("<script>"))
    head, _, body = client.sent.partition(b"\r\n\r\n")
    ((scope, status, bytes_out),) = worker.log.lines
    assert json.loads(body) == {
        "error_code": "BAD_REQUEST",
        "message": "Malformed request.",
        "request_id": scope.request_id,
    }
    assert head.decode().split("\r\n") == [
        "HTTP/1.1 400 Bad Request",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f"X-Request-ID: {scope.request_id}",
        "Connection: close",
    ]
    assert (status, bytes_out, scope.client_ip, scope.method, scope.target, scope.outcome, scope.finished) == (
        400,
        len(body),
        "192.0.2.1",
        "",
        "",
        "client_error",
        True,
    )
    assert worker.log.exceptions == []


@pytest.mark.parametrize("addr", [None, "", ()], ids=repr)
def test_a_client_without_an_address_is_answered_too(worker: ProxyWorker, addr: Any) -> None:
    client = Client()
    worker.handle_error(None, client, addr, parse.InvalidHeader("x"))
    assert (client.sent[:12], worker.log.lines[0][0].client_ip) == (b"HTTP/1.1 400", "")


def test_what_was_parsed_before_the_error_is_logged(worker: ProxyWorker) -> None:
    class Request:
        method = "PUT"
        uri = "/mlflow/x?secret"

    worker.handle_error(Request(), Client(), ("192.0.2.1", 1), parse.InvalidHeader("x"))
    scope = worker.log.lines[0][0]
    assert (scope.method, scope.path) == ("PUT", "/mlflow/x")


def test_our_own_fault_is_logged_with_its_place_and_told_by_a_fixed_text(worker: ProxyWorker) -> None:
    client = Client()
    worker.handle_error(None, client, ("192.0.2.1", 1), ValueError("hk_test_secret"))
    assert client.sent.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"hk_test_secret" not in client.sent
    assert (worker.log.exceptions, worker.log.lines[0][1]) == (["unhandled_exception"], 500)


def test_a_client_that_is_gone_is_logged_as_gone(worker: ProxyWorker) -> None:
    worker.handle_error(None, Client(BrokenPipeError()), ("192.0.2.1", 1), parse.InvalidHeader("x"))
    assert worker.log.lines[0][0].outcome == "client_gone"


def test_a_worker_that_is_told_to_stop_drains_and_says_so(worker: ProxyWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    app = SimpleNamespace(config={})
    stopped: list[int] = []
    monkeypatch.setattr(Worker, "handle_exit", lambda self, sig, frame: stopped.append(sig))
    worker.wsgi = app
    worker.handle_exit(15, None)
    assert (app.config, stopped) == ({DRAINING: True}, [15])


class Socket:
    """Notes what is set on it."""

    def __init__(self) -> None:
        self.options: list[tuple[Any, ...]] = []

    def setsockopt(self, *option: Any) -> None:
        self.options.append(option)

    def settimeout(self, seconds: float | None) -> None: ...


class Request:
    version, body = (1, 1), SimpleNamespace(reader=None)  # nothing is left of it


def test_a_client_that_takes_no_more_bytes_is_reset(worker: ProxyWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIN would be the end of a body that has no length."""

    def stalls(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(AsyncWorker, "handle_request", stalls)
    worker.wsgi, client = SimpleNamespace(config={CLIENT_IDLE: 1.0}), Socket()
    with pytest.raises(ConnectionResetError):
        worker.handle_request(None, Request(), client, ("192.0.2.1", 1))
    assert client.options == [(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))]


def test_a_worker_bounds_what_its_sockets_hold_and_writes_at_its_end_what_was_put_off(
    worker: ProxyWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    for name in ("collect", "freeze", "set_threshold"):
        monkeypatch.setattr(gc, name, lambda *_: None)
    monkeypatch.setattr(RequestParser, "mesg_class", None)
    monkeypatch.setattr(wsgi, "Response", None)
    monkeypatch.setattr(wsgi, "WSGIErrorsWrapper", lambda cfg: [cfg])
    worker.cfg = Config()
    worker.cfg.set("keepalive", 42)
    worker.log.write_waiting = lambda: written.append(worker.log.later)
    worker.sockets = [Socket()]
    monkeypatch.setattr(GeventWorker, "run", lambda self: written.append("served"))
    worker.run()
    assert written == ["served", None]
    assert worker.sockets[0].options == [(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)]
    assert (RequestParser.mesg_class, wsgi.Response) == (PlainFirst, Outgoing), "heads are read and written by ours"
    assert vars(worker.cfg)["keepalive"] == 42, "settings lie open"
    assert wsgi.WSGIErrorsWrapper(worker.cfg) is wsgi.WSGIErrorsWrapper(worker.cfg), "one stream for errors"
