"""The metrics of a real gunicorn with four workers: exact, whoever dies; the same in the lines and on the port."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.functional.exchanges import leave, part, upload_head, wait_until
from tests.functional.keyed import ARTIFACT, BEARER, SEARCH, ask, begun
from tests.support.auth_service import ALL_SCOPES, AuthService, new_key
from tests.support.client import open_connection, raw_exchange, request
from tests.support.emf import violations
from tests.support.fleet import Start
from tests.support.metrics import Figures, fetch, scrape
from tests.support.process import free_port
from tests.support.proxy import Line, Proxy, start_failing
from tests.support.upstream import Recorded, RecordingUpstream, reset_connection

REQUESTS, IN_FLIGHT = "mlflow_proxy_requests_total", "mlflow_proxy_transfers_in_flight"
UPLOAD = f"/mlflow{ARTIFACT}"
WORKERS = 4


@dataclass
class Metered:
    """A proxy and its metrics' port."""

    proxy: Proxy
    port: int

    def scrape(self) -> Figures:
        return scrape(self.port)

    def counted(self) -> int:
        """All requests but health checks: whoever starts a proxy asks for its health as often as it takes."""
        found = self.scrape()
        return int(found.total(REQUESTS) - found.total(REQUESTS, family="health"))

    def in_flight(self) -> int:
        return int(self.scrape().total(IN_FLIGHT))

    def wait_counted(self, count: int) -> None:
        """A request is counted when its last byte has left, which its client may see a moment before."""
        wait_until(lambda: self.counted() >= count, 5.0, f"{count} counted, not {self.counted()}")
        assert self.counted() == count

    def wait_in_flight(self, count: int) -> None:
        """Each worker tells once a second."""
        wait_until(lambda: self.in_flight() == count, 5.0, f"{count} under way, not {self.in_flight()}")

    def wait_workers(self, count: int = WORKERS) -> None:
        wait_until(lambda: self.scrape().total("mlflow_proxy_workers") == count, 10.0, f"{count} workers")

    def wait_started(self, count: int, within: float = 10.0) -> None:
        wait_until(lambda: len(self.workers()) == count, within, f"{count} workers in all")

    def workers(self) -> list[int]:
        """Process ids of all workers that were started; the exporter is none."""
        told = [re.fullmatch(r"Booting worker with pid: (\d+)", line["message"]) for line in self.proxy.lines("server")]
        return [int(found[1]) for found in told if found]

    def exporter(self) -> int:
        (pid,) = set(self.proxy.pids()) - set(self.workers())
        return pid


def metered(start: Start, env: dict[str, str], **more: str) -> Metered:
    """A proxy with four workers whose metrics are on."""
    port = free_port()
    more = {"PROXY_WORKERS": str(WORKERS), "METRICS_PORT": str(port), "RATE_LIMIT_BURST": "100000 per second", **more}
    made = Metered(start({**env, **more}), port)
    made.wait_workers(int(more["PROXY_WORKERS"]))
    return made


@pytest.fixture(scope="module")
def shared(start: Start, session_upstream: RecordingUpstream, session_auth_service: AuthService) -> Metered:
    """One for most tests of this file, with documents for CloudWatch too."""
    env = {"MLFLOW_SERVER_URL": session_upstream.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    return metered(start, env, METRICS_EMF="true", READ_TIMEOUT_SECONDS="0.5")


def many(port: int, count: int, at_once: int = 8) -> Counter[int]:
    """Send so many requests of several kinds, each on a connection of its own; their statuses."""

    def one(number: int) -> int:
        if number % 10 == 0:
            return request(port, "GET", f"/mlflow{SEARCH}").status  # 401
        if number % 10 == 1:
            return request(port, "GET", "/no/such/path", [BEARER]).status  # 404
        if number % 10 == 2:
            return request(port, "PUT", UPLOAD, [BEARER], b"x" * 1000).status
        return request(port, "POST", f"/mlflow{SEARCH}", [BEARER], b"{}").status

    with ThreadPoolExecutor(at_once) as pool:
        return Counter(pool.map(one, range(count)))


@contextlib.contextmanager
def uploads(proxy: Proxy, count: int) -> Iterator[list[socket.socket]]:
    """So many uploads that stand still half-way."""
    with contextlib.ExitStack() as stack:
        data = upload_head("length", 10_000_000) + part("length", b"b" * 1000)
        yield [stack.enter_context(begun(proxy, data)) for _ in range(count)]


# --- exact over several workers ---


def test_the_sums_over_workers_are_exactly_what_was_sent(shared: Metered, upstream: RecordingUpstream) -> None:
    before, count = shared.scrape(), shared.counted()
    assert many(shared.proxy.port, 400) == {401: 40, 404: 40, 200: 320}
    shared.wait_counted(count + 400)
    after = shared.scrape()

    def more(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    calls = {"family": "tracking.experiments"}
    assert more(REQUESTS, **calls, method="POST", status_class="2xx", outcome="ok") == 280
    assert more(REQUESTS, **calls, method="GET", status_class="4xx", outcome="auth_denied") == 40
    assert more(REQUESTS, family="other", method="GET", status_class="4xx", outcome="client_error") == 40
    assert more(REQUESTS, family="artifacts.proxy", method="PUT", status_class="2xx", outcome="ok") == 40
    assert more("mlflow_proxy_bytes_total", family="artifacts.proxy", direction="in") == 40_000
    assert more("mlflow_proxy_bytes_total", **calls, direction="in") == 280 * 2
    assert more("mlflow_proxy_request_seconds_count") == 400
    assert more("mlflow_proxy_part_seconds_count", **calls, part="upstream") == 280
    served_by = {line["worker"] for line in shared.proxy.lines("proxy_request")}
    assert len(served_by) > 1, "one worker served them all: this shows nothing"


def test_nothing_in_a_label_is_a_clients_own_word(shared: Metered, upstream: RecordingUpstream) -> None:
    secret = "x-secret-9"
    count = shared.counted()
    for method, target in (
        (secret.upper(), "/mlflow/version"),
        ("GET", f"/{secret}"),
        ("GET", f"/mlflow/{secret}?{secret}"),
    ):
        request(shared.proxy.port, method, target, [("User-Agent", secret), ("X-Request-ID", secret)])
    shared.wait_counted(count + 3)
    text = fetch(shared.port).body.decode()
    assert secret.lower() not in text.lower()
    assert shared.scrape().total(REQUESTS, method="other") >= 1


# --- the same figures in the lines ---


def provoke(shared: Metered, upstream: RecordingUpstream, auth_service: AuthService) -> dict[str, int]:
    """Requests of all kinds that one proxy can be brought to; how many of each outcome there are at least."""
    proxy, search = shared.proxy, f"/mlflow{SEARCH}"

    def hang(conn: socket.socket, _: Recorded) -> None:
        upstream.stopping.wait(2.0)

    def cut(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        reset_connection(conn)

    assert ask(proxy, "POST", search, body=b"{}").status == 200
    assert ask(proxy, "PUT", UPLOAD, body=b"u" * 300_000).status == 200
    assert ask(proxy, "POST", search, [("User-Agent", "J\xfcrgen")], b"{}").status == 200
    assert request(proxy.port, "GET", "/health").status == 200
    assert request(proxy.port, "OPTIONS", search).status == 204
    assert request(proxy.port, "GET", search).status == 401
    reader = auth_service.grant(new_key(), scopes=["model:read"])
    write = "/mlflow/api/2.0/mlflow/runs/create"
    assert request(proxy.port, "POST", write, [("Authorization", f"Bearer {reader}")], b"{}").status == 403
    assert ask(proxy, "GET", "/mlflow/no/such").status == 404
    assert ask(proxy, "GET", "/mlflow/%2e%2e/x").status == 400
    assert b" 400 " in raw_exchange(proxy.port, b"garbage\r\n\r\n")
    poor = ("Authorization", f"Bearer {auth_service.grant(new_key(), scopes=ALL_SCOPES, rate_limit_per_hour=1)}")
    assert 429 in {request(proxy.port, "POST", search, [poor], b"{}").status for _ in range(WORKERS + 1)}
    upstream.respond_with(500, body=b"{}")
    assert ask(proxy, "POST", search, body=b"{}").status == 500
    upstream.script(hang)
    assert ask(proxy, "POST", search, body=b"{}").status == 504
    upstream.script(cut)
    assert ask(proxy, "GET", UPLOAD).complete is False
    upstream.reset()
    auth_service.answer(500)
    unknown = ("Authorization", f"Bearer {auth_service.grant(new_key())}")
    assert request(proxy.port, "GET", search, [unknown]).status == 503
    auth_service.reset()
    with uploads(proxy, 1) as (sock,):
        upstream.wait_for(1, heads=True)
        leave(sock, "RST")
    outcomes = "ok client_error auth_denied auth_unavailable rate_limited upstream_error upstream_timeout "
    return dict.fromkeys([*outcomes.split(), "upstream_aborted", "client_gone"], 1)


def texts(proxy: Proxy) -> list[str]:
    """Every line of stdout that is about a request, as it stands there."""
    return [text for text in proxy.output.splitlines() if '"event":"proxy_request"' in text.replace(": ", ":")]


def test_every_line_of_a_real_run_is_a_document_and_says_what_the_port_says(
    shared: Metered, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    seen = len(shared.proxy.lines("proxy_request"))
    expected = provoke(shared, upstream, auth_service)
    wait_until(
        lambda: {line["outcome"] for line in shared.proxy.lines("proxy_request")[seen:]} >= set(expected),
        5.0,
        f"a line of each: {expected}",
    )
    written = texts(shared.proxy)
    shared.wait_counted(sum('"family":"health"' not in text for text in written))  # all that this proxy ever did
    assert {text: violations(text, time.time()) for text in written if violations(text, time.time())} == {}
    lines: list[Line] = [json.loads(text) for text in written]
    assert {name for line in lines for name, value in line.items() if isinstance(value, dict | list)} == {"_aws"}
    assert_same(shared.scrape(), lines)


def assert_same(found: Figures, lines: list[Line]) -> None:
    """The lines' figures for CloudWatch, added up by family, are those for Prometheus."""

    def by_family(name: str) -> dict[str, float]:
        sums: dict[str, float] = {}
        for line in lines:
            sums[line["family"]] = sums.get(line["family"], 0) + line[name]
        return sums

    def told(name: str, scale: float = 1, **labels: str) -> dict[str, Any]:
        families = {line["family"] for line in lines}
        return {one: pytest.approx(scale * found.total(name, family=one, **labels), abs=1e-6) for one in families}

    assert by_family("Requests") == told(REQUESTS)
    assert by_family("LatencyMs") == told("mlflow_proxy_request_seconds_sum", 1000)
    for name, label in (("AuthMs", "auth"), ("UpstreamMs", "upstream"), ("OwnMs", "own")):
        assert by_family(name) == told("mlflow_proxy_part_seconds_sum", 1000, part=label), name
    assert by_family("BytesIn") == told("mlflow_proxy_bytes_total", direction="in")
    assert by_family("BytesOut") == told("mlflow_proxy_bytes_total", direction="out")
    counts = {"AuthDenied": "auth_denied", "AuthUnavailable": "auth_unavailable", "RateLimited": "rate_limited"}
    counts |= {"UpstreamTimeouts": "upstream_timeout", "UpstreamUnreachable": "upstream_unreachable"}
    for name, outcome in counts.items():
        assert by_family(name) == told(REQUESTS, outcome=outcome), name
    keys = Counter((line["family"], line["outcome"], f"{line['status'] // 100}xx") for line in lines)
    assert {key: found.total(REQUESTS, family=key[0], outcome=key[1], status_class=key[2]) for key in keys} == keys


def test_an_mlflow_that_is_away_is_counted_in_both(start: Start, proxy_env: dict[str, str]) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    made = metered(start, {**proxy_env, "MLFLOW_SERVER_URL": away}, METRICS_EMF="true", PROXY_WORKERS="1")
    assert ask(made.proxy, "GET", f"/mlflow{SEARCH}").status == 502
    line = made.proxy.wait_line(lambda found: found.get("status") == 502)
    assert (line["UpstreamUnreachable"], line["Failures"], line["UpstreamTimeouts"]) == (1, 1, 0)
    assert made.scrape().total(REQUESTS, outcome="upstream_unreachable", status_class="5xx") == 1
    assert [text for text in texts(made.proxy) if violations(text, time.time())] == []


def test_health_checks_are_a_dimension_of_their_own(shared: Metered) -> None:
    request(shared.proxy.port, "GET", "/health", [("X-Request-ID", "healthy")])
    ask(shared.proxy, "GET", "/mlflow/no/such", [("X-Request-ID", "other")])
    told = [shared.proxy.access_line(name)["_aws"]["CloudWatchMetrics"] for name in ("healthy", "other")]
    assert [one[0]["Dimensions"] for one in told] == [[["service", "family"]], [["service"], ["service", "family"]]]


def test_a_scanner_moves_no_figure(shared: Metered) -> None:
    count = shared.counted()
    for _ in range(20):
        assert request(shared.proxy.port, "GET", "/.env").status == 404
    request(shared.proxy.port, "GET", "/no/such/path")
    shared.wait_counted(count + 1)


# --- transfers under way ---


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_transfers_are_told_while_they_last_also_when_clients_vanish(
    shared: Metered, upstream: RecordingUpstream, how: str
) -> None:
    shared.wait_in_flight(0)
    with uploads(shared.proxy, 12) as sockets:
        upstream.wait_for(12, heads=True)
        shared.wait_in_flight(12)
        for sock in sockets[:5]:
            leave(sock, how)
        shared.wait_in_flight(7)
    shared.wait_in_flight(0)


def test_a_transfer_that_ends_well_is_told_no_more_and_its_line_counts_itself(
    shared: Metered, upstream: RecordingUpstream
) -> None:
    name = f"whole-{time.monotonic()}"
    with begun(shared.proxy, upload_head("length", 1000, ("X-Request-ID", name)) + b"b" * 500) as sock:
        shared.wait_in_flight(1)
        sock.sendall(b"b" * 500)
        assert sock.recv(12) == b"HTTP/1.1 200"
        assert shared.proxy.access_line(name)["TransfersInFlight"] == 1
    shared.wait_in_flight(0)


# --- workers that die ---


def test_what_a_killed_worker_has_counted_stays_and_what_it_had_under_way_goes(
    start: Start, proxy_env: dict[str, str], upstream: RecordingUpstream
) -> None:
    made = metered(start, proxy_env)
    many(made.proxy.port, 100)
    made.wait_counted(100)
    with uploads(made.proxy, 8):
        made.wait_in_flight(8)
        first = made.workers()
        assert len(first) == WORKERS
        os.kill(first[0], signal.SIGKILL)
        made.wait_started(WORKERS + 1, within=5.0)
        made.wait_workers()
        before = made.scrape()
        assert made.counted() == 100 and before.total(IN_FLIGHT) <= 8
        for pid in first[1:]:
            os.kill(pid, signal.SIGKILL)
        made.wait_in_flight(0)  # nobody is left who had one
        made.wait_started(2 * WORKERS)
        made.wait_workers()
    assert (
        made.scrape().samples.items()
        >= {key: value for key, value in before.samples.items() if "cpu" not in key[0] and key[0] != IN_FLIGHT}.items()
    )
    many(made.proxy.port, 100)
    made.wait_counted(200)


def test_a_reload_loses_nothing(start: Start, proxy_env: dict[str, str]) -> None:
    made = metered(start, proxy_env, PROXY_WORKERS="2")
    many(made.proxy.port, 40)
    made.wait_counted(40)
    for turn in (1, 2):
        os.kill(made.proxy.pid, signal.SIGHUP)
        made.wait_started(2 + 2 * turn)
        made.wait_workers(2)
        many(made.proxy.port, 40)
        made.wait_counted(40 + 40 * turn)


def test_figures_are_read_under_load_and_only_grow(shared: Metered, upstream: RecordingUpstream) -> None:
    count, stop, sent = shared.counted(), threading.Event(), Counter[int]()

    def load() -> None:
        while not stop.is_set():
            sent.update(many(shared.proxy.port, 20, 2))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        seen = [scrape(shared.port, as_openmetrics=bool(turn % 2)) for turn in range(40)]
    finally:
        stop.set()
        thread.join()
    shared.wait_counted(count + sent.total())
    assert set(sent) == {200, 401, 404}
    for earlier, later in itertools.pairwise(seen):
        fewer = [key for key, value in earlier.samples.items() if later.samples[key] < value and key[0] != IN_FLIGHT]
        assert fewer == []


# --- the exporter, from outside ---


def test_the_load_balancers_port_has_no_metrics(shared: Metered) -> None:
    for path in ("/metrics", "/mlflow/metrics", "/api/mlflow/metrics"):
        response = request(shared.proxy.port, "GET", path)
        assert response.status == 404 and response.json()["error_code"] == "ENDPOINT_NOT_FOUND"
        assert b"mlflow_proxy_" not in response.body


def test_the_metrics_port_has_nothing_of_the_proxys(shared: Metered, upstream: RecordingUpstream) -> None:
    for path in ("/", "/health", "/ready", f"/mlflow{SEARCH}", SEARCH, UPLOAD):
        response = fetch(shared.port, path, (BEARER,))
        assert (response.status, response.body) == (404, b"404 only /metrics is here\n")
    assert upstream.requests == []


def test_who_hangs_on_the_metrics_port_holds_up_neither_it_nor_a_new_worker(
    start: Start, proxy_env: dict[str, str]
) -> None:
    made = metered(start, proxy_env, PROXY_WORKERS="1")
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(open_connection(made.port)).sendall(b"GET /metrics HTTP/1.1\r\n")
        os.kill(made.workers()[0], signal.SIGKILL)
        wait_until(lambda: len(made.workers()) == 2, 5.0, "another worker")
        made.wait_workers(1)
        assert request(made.proxy.port, "GET", "/health").status == 200


def test_an_exporter_that_is_killed_takes_nobody_with_it(start: Start, proxy_env: dict[str, str]) -> None:
    made = metered(start, proxy_env, PROXY_WORKERS="2")
    os.kill(made.exporter(), signal.SIGKILL)
    wait_until(lambda: len(made.proxy.pids()) == 2, 5.0, "the exporter's end")
    assert many(made.proxy.port, 20)[200] == 16
    # No worker has its socket: nobody is left who listens.
    with pytest.raises(ConnectionRefusedError):
        open_connection(made.port)


def test_nothing_outlives_a_server_that_is_killed(proxy_env: dict[str, str]) -> None:
    port = free_port()
    proxy = Proxy({**proxy_env, "METRICS_PORT": str(port)})
    proxy.start()
    made = Metered(proxy, port)
    made.wait_workers(1)
    left = proxy.pids()
    assert len(left) == 2
    proxy.send_signal(signal.SIGKILL)
    assert proxy.wait_exit() == -signal.SIGKILL
    wait_until(lambda: not [pid for pid in left if Path(f"/proc/{pid}").exists()], 5.0, "their ends")
    socket.create_server(("127.0.0.1", port)).close()  # the port is free
    proxy.stop()


def test_metrics_are_there_while_the_proxy_drains_and_not_after(
    proxy_env: dict[str, str], upstream: RecordingUpstream
) -> None:
    port = free_port()
    with Proxy({**proxy_env, "METRICS_PORT": str(port)}) as proxy:
        made = Metered(proxy, port)
        made.wait_workers(1)
        with begun(proxy, upload_head("length", 1000) + b"b" * 500) as sock:
            made.wait_in_flight(1)
            for number in (
                signal.SIGTERM,
                signal.SIGINT,
                signal.SIGHUP,
            ):  # what reaches a whole control group or terminal
                os.kill(made.exporter(), number)
            proxy.send_signal(signal.SIGTERM)
            proxy.wait_line(lambda line: line.get("message") == "Handling signal: term")
            assert made.in_flight() == 1
            sock.sendall(b"b" * 500)
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert proxy.wait_exit() == 0
    socket.create_server(("127.0.0.1", port)).close()


def test_without_a_port_there_is_no_process_more(start: Start, proxy_env: dict[str, str]) -> None:
    proxy = start(proxy_env)
    line = proxy.wait_line(lambda found: found.get("event") == "proxy_request")
    assert len(proxy.pids()) == 1 and "_aws" not in line and "Requests" not in line
    assert proxy.lines("metrics_served") == []


def test_where_it_listens_is_told_at_the_start(shared: Metered) -> None:
    (told,) = shared.proxy.lines("metrics_served")
    assert (told["host"], told["port"]) == ("127.0.0.1", shared.port)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", shared.port), timeout=1.0)


# --- a port that cannot be had ---

COULD_START = {"MLFLOW_SERVER_URL": "http://127.0.0.1:9", "HOKUSAI_AUTH_SERVICE_URL": "http://127.0.0.1:9"}


def faults(**env: str) -> list[str]:
    """What a proxy says that could start but for these settings."""
    refusal = start_failing({**COULD_START, **env})
    assert refusal.returncode not in (0, None) and "Traceback" not in refusal.stdout + refusal.stderr
    first, *lines = refusal.stderr.splitlines()
    assert first == "The proxy is not configured correctly:"
    return [line.removeprefix("  - ") for line in lines]


@pytest.mark.parametrize("port", ["eight", "0", "-1", "65536", "80.5"])
def test_a_port_that_is_none_is_a_fault_like_any_other(port: str) -> None:
    metrics, hops = sorted(faults(METRICS_PORT=port, TRUSTED_PROXY_HOPS="none"))
    assert metrics.startswith("METRICS_PORT must be") and hops.startswith("TRUSTED_PROXY_HOPS")


def test_the_proxys_own_port_is_refused() -> None:
    port = str(free_port())
    (fault,) = faults(METRICS_PORT=port, API_PORT=port)
    assert fault.startswith("METRICS_PORT is API_PORT")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ""])
def test_a_port_that_is_taken_is_told_and_ends_it(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (fault,) = faults(METRICS_PORT=str(port), METRICS_HOST=host)
    assert f"METRICS_PORT {port}" in fault and "Address already in use" in fault


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_here_is_told_and_ends_it(host: str) -> None:
    (fault,) = faults(METRICS_PORT=str(free_port()), METRICS_HOST=host)
    assert fault.startswith(f"METRICS_HOST {host} and METRICS_PORT ")


def test_a_proxy_that_fails_later_leaves_no_exporter() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refusal = start_failing({**COULD_START, "METRICS_PORT": str(port), "API_PORT": str(taken.getsockname()[1])})
    assert refusal.returncode != 0 and "in use" in refusal.stdout
    wait_until(lambda: _is_free(port), 5.0, "the port to be free")


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_server(("127.0.0.1", port)).close()
        return True
    return False
