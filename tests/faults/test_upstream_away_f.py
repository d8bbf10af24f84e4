"""MLflow refuses, vanishes, hangs, or is replaced by another task: F01-F04, F17-F19."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.conftest import SHORT
from tests.faults.scenes import black_hole
from tests.functional.exchanges import EMPTY, answer_raw, assert_unharmed
from tests.functional.keyed import ARTIFACT, SEARCH, ask, assert_refused, only
from tests.support.auth_service import AuthService
from tests.support.client import RawResponse
from tests.support.faults import closed_port
from tests.support.fleet import Start
from tests.support.process import REPOSITORY
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream

pytestmark = pytest.mark.faults

REQUESTS = {"GET": (SEARCH, None), "POST": (SEARCH, b"{}"), "PUT": (ARTIFACT, b"x" * 300_000)}
every_method = pytest.mark.parametrize("method", REQUESTS)


def timed(proxy: Proxy, method: str) -> tuple[RawResponse, float]:
    """The answer to a request of REQUESTS, and after how many seconds it was there."""
    target, body = REQUESTS[method]
    begun = time.monotonic()
    response = ask(proxy, method, f"/mlflow{target}", (), body)
    return response, time.monotonic() - begun


@every_method
def test_f01_a_mlflow_that_refuses_connections_is_502_at_once(
    start: Start, proxy_env: dict[str, str], method: str
) -> None:
    with closed_port() as port:
        proxy = start({**proxy_env, "MLFLOW_SERVER_URL": f"http://127.0.0.1:{port}"})
        timed(proxy, method)  # the key is known from then on
        response, took = timed(proxy, method)
    assert_refused(response, 502, "TEMPORARILY_UNAVAILABLE")
    assert took < 0.1


@pytest.fixture(scope="module")
def void() -> Iterator[int]:
    """A port whose every packet is dropped."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        black_hole(listener)
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def before_the_void(start: Start, void: int, session_auth_service: AuthService) -> Proxy:
    return start(
        {"MLFLOW_SERVER_URL": f"http://127.0.0.1:{void}", "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url, **SHORT}
    )


@every_method
def test_f02_a_mlflow_behind_a_black_hole_is_504_at_the_connect_timeout(
    before_the_void: Proxy, auth_service: object, method: str
) -> None:
    response, took = timed(before_the_void, method)
    assert_refused(response, 504, "DEADLINE_EXCEEDED")
    assert 0.45 < took < 0.9


@pytest.mark.parametrize(("method", "patience"), [("GET", 1.0), ("POST", 1.0), ("PUT", 1.5)])
def test_f03_a_mlflow_that_never_answers_is_504_and_holds_nobody_else(
    hasty: Proxy, upstream: RecordingUpstream, method: str, patience: float
) -> None:
    def script(conn: socket.socket, seen: Recorded) -> None:
        if b"other" in seen.target:
            conn.sendall(EMPTY)
        else:
            upstream.stopping.wait(2.5)
            conn.close()

    upstream.script(script)
    with ThreadPoolExecutor(8) as threads:
        hanging = [threads.submit(timed, hasty, method) for _ in range(8)]
        upstream.wait_for(8)
        begun = time.monotonic()
        assert ask(hasty, "GET", f"/mlflow{SEARCH}?other").status == 200
        assert time.monotonic() - begun < 0.3
        for response, took in (future.result() for future in hanging):
            assert_refused(response, 504, "DEADLINE_EXCEEDED")
            assert patience - 0.1 < took < patience + 0.6
    assert len(upstream.requests) == 9, "nothing is tried again"
    for seen in upstream.requests[:8]:
        seen.wait_closed(1.0)


@every_method
def test_f04_a_request_that_was_read_is_never_sent_twice(
    hasty: Proxy, upstream: RecordingUpstream, method: str
) -> None:
    """On a connection that had served before: MLflow reads the request and closes without a byte."""
    assert ask(hasty, "GET", f"/mlflow{SEARCH}").status == 200
    upstream.reset()
    answer_raw(upstream, b"", end="FIN")
    assert_refused(timed(hasty, method)[0], 502, "INTERNAL_ERROR")
    assert only(upstream).method == method.encode()


@every_method
def test_f04_a_pooled_connection_that_was_found_closed_is_replaced(
    hasty: Proxy, upstream: RecordingUpstream, method: str
) -> None:
    for count in range(1, 5):
        assert timed(hasty, method)[0].status == 200
        assert len(upstream.wait_for(count)) == count
        upstream.drop_connections()
        time.sleep(0.03)  # the FIN is there


@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/plain"])
@pytest.mark.parametrize(("status", "code"), [(500, "INTERNAL_ERROR"), (503, "TEMPORARILY_UNAVAILABLE")])
@pytest.mark.parametrize("retry_after", ["17", "Wed, 21 Oct 2099 07:28:00 GMT", "1.5"])
def test_f17_an_error_of_mlflows_passes_with_its_retry_after(
    hasty: Proxy, upstream: RecordingUpstream, kind: str, status: int, code: str, retry_after: str
) -> None:
    body = b'{"error_code": "%s", "message": "as MLflow says it"}' % code.encode()
    headers = [("Content-Type", kind), ("Retry-After", retry_after), ("Content-Length", str(len(body)))]
    upstream.respond_with(status, headers, body)
    response = ask(hasty, "GET", f"/mlflow{SEARCH}")
    assert (response.status, response.header("Retry-After")) == (status, retry_after)
    assert response.json()["error_code"] == code
    assert len(upstream.requests) == 1, "nothing is tried again"
    assert_unharmed(hasty, upstream)


IDLE_SECONDS = 5.0  # uvicorn's --timeout-keep-alive
CONNECTIONS = 60


def test_f18_no_request_meets_the_close_of_an_idle_connection(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    """As many connections as the pool keeps, closed by MLflow after 5 s; the next requests come at 4.9 to 5.1 s."""
    all_there = threading.Barrier(CONNECTIONS)
    closing: list[threading.Timer] = []

    def serve(conn: socket.socket, seen: Recorded) -> None:
        all_there.wait(10.0)
        closing.append(threading.Timer(IDLE_SECONDS, seen.peer.hang_up))
        closing[-1].start()
        conn.sendall(EMPTY)

    def post(delay: float) -> int:
        time.sleep(delay)
        return ask(shared_proxy, "POST", f"/mlflow{SEARCH}", (), b"{}").status

    upstream.script(serve)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        assert Counter(threads.map(post, [0.0] * CONNECTIONS)) == {200: CONNECTIONS}
        upstream.script(lambda conn, _: conn.sendall(EMPTY))
        delays = [IDLE_SECONDS - 0.1 + 0.2 * number / CONNECTIONS for number in range(CONNECTIONS)]
        assert Counter(threads.map(post, delays)) == {200: CONNECTIONS}
    for timer in closing:
        timer.join()
    first, second = upstream.requests[:CONNECTIONS], upstream.requests[CONNECTIONS:]
    assert not {seen.connection for seen in first} & {seen.connection for seen in second}


# The name `mlflow.test` as a file tells it: a port, since there is but one address here.
RESOLVER = """
import os, pathlib, socket

known = socket.getaddrinfo
record = pathlib.Path({record!r})


def getaddrinfo(host, port, *more, **options):
    if host != "mlflow.test" and (host, port) != ("127.0.0.1", 5000):
        return known(host, port, *more, **options)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(record.read_text())))]


socket.getaddrinfo = getaddrinfo
from app import create_app
from app.settings import Settings

app = create_app(Settings.from_env(os.environ))
"""


@pytest.mark.parametrize("end", ["FIN", "black hole"])
def test_f19_a_new_address_is_used_once_the_old_task_is_gone(
    start: Start, proxy_env: dict[str, str], tmp_path: Path, end: str
) -> None:
    record = tmp_path / "record"
    for name in ("app", "gunicorn.conf.py"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "wsgi.py").write_text(RESOLVER.format(record=str(record)))
    with RecordingUpstream() as old, RecordingUpstream() as new:
        record.write_text(str(old.port))
        proxy = start({**proxy_env, **SHORT, "MLFLOW_SERVER_URL": "http://mlflow.test:5000"}, tmp_path)
        assert timed(proxy, "POST")[0].status == 200
        record.write_text(str(new.port))
        if end == "FIN":
            old.drop_connections()
            time.sleep(0.03)
        else:
            black_hole(old.requests[0].peer.sock)
            response, took = timed(proxy, "POST")  # what its connection has taken may have been done: not sent again
            assert_refused(response, 504, "DEADLINE_EXCEEDED")
            assert took < 1.6
        for count in (1, 2, 3):
            response, took = timed(proxy, "POST")
            assert response.status == 200 and took < 0.5
            assert len(new.wait_for(count)) == count
    assert len(old.requests) == 1
