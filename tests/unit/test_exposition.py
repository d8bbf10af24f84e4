"""app/exposition.py: the figures of all workers as Prometheus reads them, and the server that has nothing else."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from app import VERSION, exposition
from app.exposition import Figures, Server, serve
from app.metrics import BUCKETS, Board
from tests.support.client import open_connection
from tests.support.metrics import OPENMETRICS, fetch, figures, scrape
from tests.unit.test_metrics import line

NAMES = {
    "mlflow_proxy_build_info": {"version"},
    "mlflow_proxy_requests_total": {"family", "method", "status_class", "outcome"},
    "mlflow_proxy_request_seconds_bucket": {"family", "le"},
    "mlflow_proxy_request_seconds_count": {"family"},
    "mlflow_proxy_request_seconds_sum": {"family"},
    "mlflow_proxy_part_seconds_bucket": {"family", "part", "le"},
    "mlflow_proxy_part_seconds_count": {"family", "part"},
    "mlflow_proxy_part_seconds_sum": {"family", "part"},
    "mlflow_proxy_bytes_total": {"family", "direction"},
    "mlflow_proxy_transfers_in_flight": set(),
    "mlflow_proxy_workers": set(),
    "mlflow_proxy_cpu_seconds_total": set(),
}


@pytest.fixture
def board() -> Board:
    """Two workers that have counted, one of them ended."""
    board = Board(2)
    first, second = board.sheet(0), board.sheet(1)
    for _ in range(3):
        first.count(line())
    second.count(line())
    second.count(line(family="health", method="GET", upstream_ms=0.0, auth_ms=0.0))
    second.count(line(family="artifacts.proxy", method="PUT", status=502, outcome="upstream_error", bytes_in=2**40))
    first.beat(2)
    second.beat(3)
    third = board.sheet(2)
    third.count(line())
    third.beat(5)
    third.leave()
    return board


@pytest.fixture
def port(board: Board) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(listener, board, os.getppid())
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield listener.getsockname()[1]
    server.shutdown()
    thread.join()
    server.server_close()


def page(board: Board) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(board))
    return generate_latest(registry).decode()


# --- the figures ---


def test_the_names_and_labels_are_these_and_no_others(board: Board) -> None:
    found: dict[str, set[str]] = {}
    for name, labels in figures(page(board)).samples:
        assert found.setdefault(name, {label for label, _ in labels}) == {label for label, _ in labels}
    assert found == NAMES


def test_figures_are_summed_over_all_workers_those_that_ended_too(board: Board) -> None:
    found = figures(page(board))
    name = "mlflow_proxy_requests_total"
    assert found.total(name, family="tracking.runs", method="POST", status_class="2xx", outcome="ok") == 5
    assert (found.total(name), found.total(name, status_class="5xx")) == (7, 1)
    assert found.total("mlflow_proxy_bytes_total", family="tracking.runs", direction="in") == 5 * 120
    assert found.total("mlflow_proxy_bytes_total", family="artifacts.proxy", direction="in") == 2**40


def test_gauges_are_summed_over_workers_that_live(board: Board) -> None:
    found = figures(page(board))
    assert (found.total("mlflow_proxy_transfers_in_flight"), found.total("mlflow_proxy_workers")) == (5, 2)
    assert found.total("mlflow_proxy_cpu_seconds_total") > 0
    assert found.total("mlflow_proxy_build_info", version=VERSION) == 1


def test_times_are_in_seconds_and_split_into_parts(board: Board) -> None:
    found = figures(page(board))
    assert found.total("mlflow_proxy_request_seconds_sum", family="tracking.runs") == pytest.approx(5 * 0.0123)
    parts = {"auth": 0.0003, "upstream": 0.0101, "own": 0.0019}
    for part, seconds in parts.items():
        sums = found.total("mlflow_proxy_part_seconds_sum", family="tracking.runs", part=part)
        assert sums == pytest.approx(5 * seconds)
    counts = {part: found.total("mlflow_proxy_part_seconds_count", family="health", part=part) for part in parts}
    assert counts == {"auth": 0, "upstream": 0, "own": 1}


def test_buckets_hold_all_that_are_smaller(board: Board) -> None:
    found = figures(page(board))
    name = "mlflow_proxy_request_seconds_bucket"
    bounds = {dict(labels)["le"] for labels in found.labels(name)}
    assert {float(bound) for bound in bounds} == {*(bound / 1000 for bound in BUCKETS), float("inf")}
    assert found.total(name, family="tracking.runs", le="0.01") == 0
    assert found.total(name, family="tracking.runs", le="0.025") == 5
    assert found.total(name, family="tracking.runs", le="+Inf") == 5


def test_before_the_first_request_there_is_a_page_too() -> None:
    found = figures(page(Board(1)))
    assert found.total("mlflow_proxy_workers") == 0 and found.labels("mlflow_proxy_requests_total") == set()


# --- the server ---


@pytest.mark.parametrize("as_openmetrics", [False, True])
def test_both_formats_say_the_same(board: Board, port: int, as_openmetrics: bool) -> None:
    found = scrape(port, as_openmetrics=as_openmetrics)
    assert found == figures(page(board))


def test_the_format_is_the_one_that_was_asked_for(port: int) -> None:
    plain, newer = fetch(port), fetch(port, headers=(("Accept", OPENMETRICS),))
    assert str(plain.header("Content-Type")).startswith("text/plain; version=0.0.4")
    assert str(newer.header("Content-Type")).startswith("application/openmetrics-text; version=1.0.0")
    assert newer.body.endswith(b"# EOF\n") and b"# EOF" not in plain.body
    assert fetch(port, headers=(("Accept-Encoding", "gzip"),)).header("Content-Encoding") == "gzip"


@pytest.mark.parametrize(
    "path", ["/", "/metrics/", "/Metrics", "/health", "/mlflow/version", "/favicon.ico", "/%6detrics"]
)
def test_nothing_else_is_served(port: int, path: str) -> None:
    response = fetch(port, path)
    assert (response.status, response.body) == (404, b"404 only /metrics is here\n")
    assert response.header("Content-Type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "<b>"])
def test_no_other_method_is_served(port: int, method: str) -> None:
    response = fetch(port, method=method)
    assert response.status in (400, 501) and b"mlflow_proxy" not in response.body


def test_a_query_does_not_matter(port: int) -> None:
    assert fetch(port, "/metrics?x=1").status == 200


def test_it_does_not_say_what_it_is_made_of(port: int) -> None:
    assert {fetch(port, path).header("Server") for path in ("/metrics", "/")} == {"hokusai-mlflow-proxy"}


def test_a_client_that_says_nothing_holds_up_nobody(port: int) -> None:
    with open_connection(port), open_connection(port) as half:
        half.sendall(b"GET /metrics HT")
        assert fetch(port).status == 200


def test_a_client_that_says_nothing_is_sent_away(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition.Page, "timeout", 0.1)
    with open_connection(port) as silent:
        assert silent.recv(1) == b""


def test_nothing_is_written_about_requests(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(port)
    fetch(port, "/nothing")
    assert capfd.readouterr() == ("", "")


def test_a_client_that_is_gone_is_no_event_and_a_fault_is(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(error: Exception) -> Any:
        def do(self: Any) -> None:
            raise error

        return do

    for error, events in ((ConnectionResetError(), []), (ValueError("x"), ["metrics_failed"])):
        monkeypatch.setattr(exposition.Page, "do_GET", raising(error))
        with open_connection(port) as sock:
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert sock.recv(1) == b""
        assert [found.getMessage() for found in caplog.records] == events
        caplog.clear()


def test_it_ends_when_the_process_that_it_belongs_to_is_gone(board: Board) -> None:
    """In a child of a child, whose parent ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        try:
            it_belongs_to = os.getpid()
            if not os.fork():
                os.close(reading)
                os.write(writing, b"%d\n" % os.getpid())
                serve(listener, board, it_belongs_to)
        finally:
            os._exit(1)
    listener.close()
    os.close(writing)
    os.waitpid(parent, 0)
    with os.fdopen(reading) as told:
        pid = int(told.readline())
        ended, _, _ = select.select([told], [], [], 10.0)  # when nobody holds the other end any more
    if not ended:
        os.kill(pid, signal.SIGKILL)
    assert ended
