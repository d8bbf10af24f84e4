"""app/exporter.py: the process that Prometheus asks, and the sheets that workers get."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import exporter, exposition
from app.exporter import Exporter, listen
from app.metric_settings import MetricSettings
from app.settings import read
from tests.support.client import open_connection
from tests.support.metrics import scrape
from tests.support.process import free_port
from tests.unit.test_metrics import line


@pytest.fixture
def running() -> Iterator[tuple[Exporter, int]]:
    port = free_port()
    made = Exporter(MetricSettings(port=port), 1)
    yield made, port
    made.stop()


def worker() -> Any:
    return SimpleNamespace(log=SimpleNamespace(sheet=None), pid=4711)


def test_it_serves_what_is_counted_elsewhere(running: tuple[Exporter, int]) -> None:
    made, port = running
    made.board.sheet(0).count(line())
    made.board.sheet(3).count(line())
    assert scrape(port).total("mlflow_proxy_requests_total") == 2


def test_after_stop_nobody_listens_and_a_second_stop_does_nothing(running: tuple[Exporter, int]) -> None:
    made, port = running
    scrape(port)
    made.stop()
    with pytest.raises(ConnectionRefusedError):
        open_connection(port)
    made.stop()


def test_one_that_ended_and_was_waited_for_by_somebody_else_is_left_alone(
    running: tuple[Exporter, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """gunicorn waits for every child; the number may be another process's by then."""
    made, _ = running
    os.kill(made._pid, signal.SIGKILL)
    os.waitpid(made._pid, 0)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed a process that is not its own"))
    made.stop()


def test_one_that_ended_is_not_killed_again(running: tuple[Exporter, int], monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = running
    os.kill(made._pid, signal.SIGKILL)
    os.waitid(os.P_PID, made._pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed what had ended"))
    made.stop()


def test_what_ends_a_terminal_does_not_end_it(running: tuple[Exporter, int]) -> None:
    made, port = running
    scrape(port)
    for number in exporter.IGNORED:
        os.kill(made._pid, number)
    assert scrape(port).total("mlflow_proxy_workers") == 0


def test_the_server_does_not_keep_its_socket(running: tuple[Exporter, int]) -> None:
    """Or each worker would have it too."""
    made, port = running
    scrape(port)
    listening = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = [row[9] for row in listening if row[1] == f"0100007F:{port:04X}" and row[3] == "0A"]
    assert f"socket:[{inode}]" not in {_target(path) for path in Path("/proc/self/fd").iterdir()}
    assert f"socket:[{inode}]" in {_target(path) for path in Path(f"/proc/{made._pid}/fd").iterdir()}


def _target(path: Path) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # that of the listing itself
        return ""


def test_a_process_that_fails_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("hk_test_secret")

    monkeypatch.setattr(exposition, "serve", fail)
    monkeypatch.setattr(exporter.log, "exception", lambda event: os.write(1, event.encode()))
    made = Exporter(MetricSettings(port=free_port()), 1)
    assert os.waitstatus_to_exitcode(os.waitpid(made._pid, 0)[1]) == 1
    assert capfd.readouterr() == ("metrics_failed", "")


def test_a_port_that_is_taken_is_an_error_before_anything_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        Exporter(MetricSettings(port=taken.getsockname()[1]), 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "::1"])
def test_it_listens_where_it_is_told(host: str) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with listen(host, free_port()) as listener:
        assert listener.family == (socket.AF_INET6 if ":" in host else socket.AF_INET)


# --- sheets ---


def test_a_worker_counts_on_a_sheet_of_its_own_until_it_ends(running: tuple[Exporter, int]) -> None:
    made, port = running
    first, second = worker(), worker()
    for one in (first, second):
        made.admit(one)
        made.equip(one)
        one.log.sheet.count(line())
        one.log.sheet.beat(2)
    assert first.sheet != second.sheet
    made.dismiss(first)
    found = scrape(port)
    assert found.total("mlflow_proxy_requests_total") == 2
    assert (found.total("mlflow_proxy_workers"), found.total("mlflow_proxy_transfers_in_flight")) == (1, 2)


def test_a_worker_for_whom_there_is_no_sheet_serves_uncounted_and_it_is_told(
    running: tuple[Exporter, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = running
    monkeypatch.setattr(made.board, "take", lambda: None)
    one = worker()
    made.admit(one)
    made.equip(one)
    made.dismiss(one)
    assert one.log.sheet is None
    assert [(found.getMessage(), vars(found)["worker"]) for found in caplog.records] == [("metrics_not_counted", 4711)]


# --- what the operator says ---


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, MetricSettings(emf=False, host="127.0.0.1", port=0)),
        ({"METRICS_EMF": "true"}, MetricSettings(emf=True)),
        ({"METRICS_PORT": "9464"}, MetricSettings(port=9464)),
        ({"METRICS_PORT": "1", "METRICS_HOST": "::"}, MetricSettings(host="::", port=1)),
        ({"METRICS_PORT": " ", "METRICS_HOST": ""}, MetricSettings()),
    ],
)
def test_metrics_are_off_until_they_are_asked_for(variables: dict[str, str], expected: MetricSettings) -> None:
    settings, reader = read(variables)
    assert settings.metrics == expected
    assert [fault for fault in reader.faults if "METRICS" in fault] == []


@pytest.mark.parametrize(
    ("variables", "begin"),
    [
        ({"METRICS_PORT": "x"}, "METRICS_PORT must be a whole number"),
        ({"METRICS_PORT": "0"}, "METRICS_PORT must be a whole number of at least 1"),
        ({"METRICS_PORT": "65536"}, "METRICS_PORT must be at most 65535"),
        ({"METRICS_PORT": "8001"}, "METRICS_PORT is API_PORT"),
        ({"METRICS_PORT": "9000", "API_PORT": "9000", "API_HOST": "0.0.0.0"}, "METRICS_PORT is API_PORT"),
        ({"METRICS_EMF": "maybe"}, "METRICS_EMF must be true or false"),
    ],
)
def test_what_cannot_be_is_a_fault(variables: dict[str, str], begin: str) -> None:
    found = [fault for fault in read(variables)[1].faults if "METRICS" in fault]
    assert len(found) == 1 and found[0].startswith(begin)
