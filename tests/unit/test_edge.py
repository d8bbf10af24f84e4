"""app/edge.py: the middleware, and versions, hosts and framing; targets and addresses have files of their own."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from app import scope as scopes
from app.edge import (
    METHODS,
    Edge,
    Finishing,
    malformed_head,
    refuse_malformed,
)
from app.errors import BadRequest, MethodNotAllowed
from tests.support.clock import Clock
from tests.unit import samples
from tests.unit.scripted import environ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

# --- version, Host, framing, method ---


@pytest.mark.parametrize("host", ["registry.hokus.ai", "a:1", "192.0.2.1:8001", "[2001:db8::1]", "[::1]:8001", "a_b-c"])
def test_a_host_is_a_name_or_an_address_with_a_port_at_most(host: str) -> None:
    assert malformed_head(environ(HTTP_HOST=host)) == ""


BAD_HOSTS = [
    "", " ", "a b", "a,b", "a/b", "u@h", "a@b?c", "a?b", "a#b", "a\x00b", "a:b", "a:", "a:123456", "a:1:2", "[::1",
    "::1", "[::1]x", "[evil]", "a\\b", "caf\xe9", "a%41", "a\n", "<a>",
]  # fmt: skip


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_any_other_host_is_refused(host: str) -> None:
    assert malformed_head(environ(HTTP_HOST=host)) == "bad Host"


def test_http_1_1_needs_a_host_and_http_1_0_does_not() -> None:
    without = environ()
    del without["HTTP_HOST"]
    assert malformed_head(without) == "missing Host"
    assert malformed_head({**without, "SERVER_PROTOCOL": "HTTP/1.0"}) == ""


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/2", "http/1.1", "HTTP/1.1 ", "", None])
def test_only_http_1_0_and_1_1_are_spoken(version: str | None) -> None:
    assert malformed_head(environ(SERVER_PROTOCOL=version)) == "unknown HTTP version"


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "CHUNKED", " chunked "])
def test_chunked_is_the_one_transfer_coding(coding: str) -> None:
    assert malformed_head(environ(HTTP_TRANSFER_ENCODING=coding)) == ""


@pytest.mark.parametrize(
    "coding",
    [
        "",
        "gzip, chunked",
        "identity, chunked",
        "chunked, chunked",
        "chunked,chunked",
        "xchunked",
        "chunked;q=1",
        "gzip",
    ],
)
def test_any_other_transfer_coding_is_refused(coding: str) -> None:
    assert malformed_head(environ(HTTP_TRANSFER_ENCODING=coding)) == "unsupported Transfer-Encoding"


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_that_clients_send_are_taken(method: str) -> None:
    refuse_malformed("/a", environ(method))


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get", "FOO", "", "GET "])
def test_any_other_method_is_refused_with_the_list_of_those_taken(method: str) -> None:
    with pytest.raises(MethodNotAllowed) as raised:
        refuse_malformed("/a", environ(method))
    assert raised.value.headers == [("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]


def test_a_refusal_names_its_reason_and_not_what_was_sent() -> None:
    with pytest.raises(BadRequest) as raised:
        refuse_malformed("/a/../secret", environ())
    assert (raised.value.message, raised.value.kind) == (
        "Malformed request: backslash or dot segment in path.",
        "backslash_or_dot_segment_in_path",
    )


def test_the_head_is_looked_at_too() -> None:
    with pytest.raises(BadRequest) as raised:
        refuse_malformed("/a", environ(HTTP_HOST="a,b"))
    assert raised.value.kind == "bad_Host"


# --- the middleware ---


class App:
    """A WSGI application that notes what it was called with and answers one block."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.seen.append(environ)
        start_response("200 OK", [("A", "b")])
        return [b"block"]


def noting(started: list[Any]) -> StartResponse:
    """A server's start_response, which notes what it is called with."""

    def start_response(*args: Any) -> Callable[[bytes], object]:
        started.append(args)
        return lambda _: None

    return start_response


def run(app: Any, given: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    """Call the edge as a server does; status, headers, body."""
    started: list[Any] = []
    answer = Edge(app, 1)(given, noting(started))
    body = b"".join(answer)
    ((status, headers, _),) = started
    return status, headers, body


def test_a_good_request_passes_with_its_path_as_it_was_sent() -> None:
    app, given = App(), environ(target="/mlflow/a%20b?c=d", HTTP_X_REQUEST_ID="req-1")
    assert run(app, given) == ("200 OK", [("A", "b"), ("X-Request-ID", "req-1")], b"block")
    assert [(seen["PATH_INFO"], seen["SCRIPT_NAME"]) for seen in app.seen] == [("/mlflow/a%20b", "")]
    assert given[scopes.KEY].finished


def test_a_malformed_request_is_answered_in_json_and_goes_no_further() -> None:
    app, given = App(), environ(target="/mlflow/../x", HTTP_X_REQUEST_ID="req-1")
    status, headers, body = run(app, given)
    assert (app.seen, status, json.loads(body)) == (
        [],
        "400 Bad Request",
        {
            "error_code": "BAD_REQUEST",
            "message": "Malformed request: backslash or dot segment in path.",
            "request_id": "req-1",
        },
    )
    assert headers == [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Request-ID", "req-1"),
    ]
    assert (given[scopes.KEY].finished, given[scopes.KEY].outcome) == (True, "client_error")


def test_a_malformed_head_request_gets_the_headers_alone() -> None:
    status, headers, body = run(App(), environ("HEAD", "/.."))
    assert (status, body) == ("400 Bad Request", b"")
    assert int(dict(headers)["Content-Length"]) > 0


class Blocks:
    """Blocks that know whether they were closed."""

    def __init__(self, blocks: list[bytes]) -> None:
        self.closed = False
        self._blocks = blocks

    def __iter__(self) -> Any:
        return iter(self._blocks)

    def close(self) -> None:
        self.closed = True


def test_an_answer_is_finished_only_when_its_last_block_was_taken() -> None:
    scope, blocks = samples.scope(), Blocks([b"a", b"b"])
    answer = Finishing(blocks, scope)
    assert (next(answer), next(answer), scope.finished) == (b"a", b"b", False)
    answer.close()
    assert (scope.finished, blocks.closed) == (False, True)
    assert (list(answer), scope.finished) == ([], True)


def test_an_answer_that_cannot_be_closed_need_not_be() -> None:
    Finishing([b"a"], samples.scope()).close()


def test_an_answer_that_breaks_is_not_finished() -> None:
    def breaking() -> Iterable[bytes]:
        yield b"a"
        raise ConnectionResetError

    scope = samples.scope()
    with pytest.raises(ConnectionResetError):
        list(Finishing(breaking(), scope))
    assert not scope.finished


def test_what_waits_for_the_end_is_called_too_when_the_app_gives_no_answer() -> None:
    """Such as the transfer's slot: nobody closes an answer that there is not."""
    given, ended = environ(), []

    def app(environ: dict[str, Any], _: Any) -> Iterable[bytes]:
        scopes.of(environ).at_end.append(lambda: ended.append(True))
        raise SystemExit

    with pytest.raises(SystemExit):
        run(app, given)
    assert ended == [True]


# --- scanners, and addresses in doubt ---


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """Level and content of what the edge logged, without the fields every record has."""
    plain = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
    return [
        (
            found.levelname,
            {"event": found.msg} | {name: value for name, value in vars(found).items() if name not in plain},
        )
        for found in caplog.records
        if found.name == "app.edge"
    ]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The edge's clock."""
    made = Clock()
    monkeypatch.setattr("app.edge.monotonic", made)
    return made


def scan(edge: Edge, given: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    started: list[Any] = []
    body = b"".join(edge(given, noting(started)))
    ((status, headers),) = started
    return status, headers, body


def test_a_scanners_request_is_answered_with_nothing_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.edge")
    app = App()
    given = environ(
        "POST",
        "/.ENV?token=1",
        HTTP_X_REQUEST_ID="req-1",
        HTTP_USER_AGENT="z" * 300,
        HTTP_X_FORWARDED_FOR="203.0.113.9",
    )
    assert scan(Edge(app, 1, ()), given) == (
        "404 Not Found",
        [("Content-Length", "0"), ("Cache-Control", "no-store"), ("X-Request-ID", "req-1")],
        b"",
    )
    assert app.seen == [] and scopes.KEY not in given
    assert told(caplog) == [
        (
            "INFO",
            {
                "event": "scanner_request_rejected",
                "request_id": "req-1",
                "method": "POST",
                "path": "/.ENV",
                "suppressed": 0,
                "client_ip": "203.0.113.9",
                "user_agent": "z" * 200,
            },
        )
    ]


def test_noise_is_noise_before_it_is_malformed() -> None:
    assert scan(Edge(App(), 1, ()), environ("FOO", "/.git/../../%zz", HTTP_HOST="a,b"))[0] == "404 Not Found"


def test_without_the_filter_a_scanner_is_a_client_like_any_other() -> None:
    app = App()
    run(app, environ(target="/.env"))
    assert [seen["PATH_INFO"] for seen in app.seen] == ["/.env"]


def test_many_scanners_leave_few_lines_and_a_count(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    caplog.set_level(logging.INFO, "app.edge")
    edge = Edge(App(), 1, ["/extra/"])
    for _ in range(35):
        scan(edge, environ(target="/extra/" + "x" * 500))
    assert [line["suppressed"] for _, line in told(caplog)] == [0] * 10
    clock.now += 60
    scan(edge, environ(target="/.env"))
    assert [(line["suppressed"], line["path"]) for _, line in told(caplog)][10:] == [(25, "/.env")]
    assert {len(line["path"]) for _, line in told(caplog)} == {200, 5}


def test_an_address_in_doubt_is_told_once_a_minute(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    edge = Edge(App(), 1)
    for forwarded_for in ("", "203.0.113.9", "nobody", "nobody", "nobody"):
        scan_open(edge, environ(HTTP_X_REQUEST_ID="req-1", HTTP_X_FORWARDED_FOR=forwarded_for))
    clock.now += 60
    scan_open(edge, environ(HTTP_X_FORWARDED_FOR="nobody"))
    first, second = told(caplog)
    assert (first[0], first[1]["event"], first[1]["client_ip"], first[1]["request_id"]) == (
        "WARNING",
        "client_address_unknown",
        "192.0.2.1",
        "req-1",
    )
    assert (first[1]["suppressed"], second[1]["suppressed"]) == (0, 2)
    assert "TRUSTED_PROXY_HOPS" in first[1]["fix"] and "nobody" not in str(told(caplog))


def scan_open(edge: Edge, given: dict[str, Any]) -> None:
    list(edge(given, noting([])))
