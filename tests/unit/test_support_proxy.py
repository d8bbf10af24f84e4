"""The Proxy class tried on a stand-in application: what it says about gunicorn must be so."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.client import open_connection, request
from tests.support.process import clean_environment
from tests.support.proxy import Proxy, start_failing

CONFIG = """
import os
import sys

if os.environ.get("REFUSE"):
    sys.exit("REFUSE is set")
bind = f"{os.environ['API_HOST']}:{os.environ['API_PORT']}"
workers = int(os.environ["PROXY_WORKERS"])
graceful_timeout = 1
control_socket_disable = True
"""
APPLICATION = """
import json
import os
import sys
import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/grow":
        app.held = bytearray(os.urandom(1)) * 50_000_000
    if path == "/print":
        print("plain text", flush=True)
    line = {"event": "proxy_request", "request_id": environ.get("HTTP_X_REQUEST_ID"), "path": path}
    print(json.dumps(line), flush=True)
    body = json.dumps(sorted(os.environ)).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that looks like the repository to gunicorn."""
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    (tmp_path / "wsgi.py").write_text(APPLICATION)
    return tmp_path


def test_it_serves_in_a_clean_environment_and_stops(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED_FROM_THE_SHELL", "1")
    with Proxy({"GIVEN": "1", "PROXY_WORKERS": "2"}, root=root) as proxy:
        names = request(proxy.port, "GET", "/").json()
        proxy.wait_line(lambda line: len(proxy.pids()) == 2)
        assert processes_in(root) == {proxy.pid, *proxy.pids()}
    assert "GIVEN" in names and "LEAKED_FROM_THE_SHELL" not in names
    assert not processes_in(root)
    with pytest.raises(ConnectionRefusedError):
        open_connection(proxy.port)


def test_coverage_settings_reach_the_child_processes() -> None:
    os.environ["COVERAGE_TEST_SETTING"] = "1"
    try:
        assert clean_environment({})["COVERAGE_TEST_SETTING"] == "1"
    finally:
        del os.environ["COVERAGE_TEST_SETTING"]


def test_its_lines_are_found_by_request_id_and_outlive_it(root: Path) -> None:
    with Proxy({}, root=root) as proxy:
        request(proxy.port, "GET", "/one", [("X-Request-ID", "r-1")])
        request(proxy.port, "GET", "/two", [("X-Request-ID", "r-2")])
        assert proxy.access_line("r-2")["path"] == "/two"
        assert proxy.access_line("r-1")["path"] == "/one"
        with pytest.raises(AssertionError, match="no such line"):
            proxy.access_line("r-3", timeout=0.1)
    assert [line["path"] for line in proxy.lines("proxy_request")][-2:] == ["/one", "/two"]
    assert proxy.lines("other") == []
    assert "Booting worker" in proxy.output


def test_a_line_that_is_no_json_object_is_a_failure(root: Path) -> None:
    with Proxy({}, root=root) as proxy:
        request(proxy.port, "GET", "/print")
        with pytest.raises(AssertionError, match="plain text"):
            proxy.lines()


def test_memory_of_the_workers_is_seen_to_grow(root: Path) -> None:
    with Proxy({}, root=root) as proxy:
        before = proxy.rss_kb()
        request(proxy.port, "GET", "/grow")
        assert before + 40_000 < proxy.rss_kb() <= proxy.peak_rss_kb()


def test_an_early_end_is_reported_with_the_output(root: Path) -> None:
    before = time.monotonic()
    with pytest.raises(RuntimeError, match="REFUSE is set"):
        Proxy({"REFUSE": "1"}, root=root).start()
    assert time.monotonic() - before < 10


def test_an_end_nobody_asked_for_is_reported(root: Path) -> None:
    proxy = Proxy({}, root=root)
    proxy.start()
    os.kill(proxy.pid, signal.SIGTERM)
    proxy.wait_exit()
    with pytest.raises(RuntimeError, match="ended by itself"):
        proxy.stop()


def test_an_end_that_was_asked_for_is_clean(root: Path) -> None:
    with Proxy({}, root=root) as proxy:
        proxy.send_signal(signal.SIGTERM)
        assert proxy.wait_exit() == 0


def test_one_that_does_not_stop_is_killed_and_reported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.proxy.STOP_SECONDS", 0.5)
    proxy = Proxy({}, root=root)
    proxy.start()
    os.killpg(proxy.pid, signal.SIGSTOP)
    with pytest.raises(RuntimeError, match="did not stop in time"):
        proxy.stop()
    deadline = time.monotonic() + 2.0  # a killed process takes a moment to go
    while processes_in(root) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes_in(root)


def test_a_refusal_to_start_gives_exit_code_and_output(root: Path) -> None:
    refused = start_failing({"REFUSE": "1"}, root=root)
    assert refused.returncode != 0
    assert "REFUSE is set" in refused.stderr


def test_a_start_where_a_refusal_was_expected_is_a_failure(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.proxy.START_SECONDS", 1.5)
    with pytest.raises(AssertionError, match="the proxy started"):
        start_failing({}, root=root)


def processes_in(directory: Path) -> set[int]:
    """Processes that work in this directory; those that wait only to be reaped do not."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(entry / "cwd")) == directory:
                found.add(int(entry.name))
    return found
