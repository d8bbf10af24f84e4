"""Transfers in parallel, and more connections than there are files: X04, X06."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.conftest import SHORT, WIDE
from tests.faults.scenes import GET_ARTIFACT, ended, many
from tests.functional.exchanges import BLOCK, EMPTY, FRAMINGS, OK, wait_until
from tests.functional.keyed import ARTIFACT, SEARCH, ask
from tests.support.client import read_response, request
from tests.support.fleet import Start
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk

pytestmark = pytest.mark.faults

SIZE, PARALLEL = 64_000_000, 16
NOISE = os.urandom(1_000_000)


def blocks_of(number: int) -> Iterator[bytes]:
    """SIZE bytes, other ones for each number."""
    own = NOISE[number:] + NOISE[:number]
    return (own for _ in range(SIZE // len(own)))


def digest_of(number: int) -> str:
    digest = hashlib.sha256()
    for block in blocks_of(number):
        digest.update(block)
    return digest.hexdigest()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_x04_parallel_uploads_arrive_as_they_are_in_flat_memory(
    roomy: Proxy, large: RecordingUpstream, framing: str
) -> None:
    def upload(number: int) -> int:
        headers = [("Content-Length", str(SIZE))] if framing == "length" else []
        return ask(roomy, "PUT", f"/mlflow{ARTIFACT}-{number}", headers, blocks_of(number), timeout=60.0).status

    large.reset()
    before = roomy.rss_kb()
    with ThreadPoolExecutor(PARALLEL) as threads:
        assert set(threads.map(upload, range(PARALLEL))) == {200}
        expected = dict(enumerate(threads.map(digest_of, range(PARALLEL))))
    assert roomy.peak_rss_kb() - before < 100 * 1024
    assert {int(seen.target.rpartition(b"-")[2]): seen.sha256 for seen in large.requests} == expected


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n" % SIZE, b"Transfer-Encoding: chunked\r\n"])
def test_x04_parallel_downloads_arrive_as_they_are_in_flat_memory(
    roomy: Proxy, large: RecordingUpstream, framing: bytes
) -> None:
    def answer(conn: socket.socket, seen: Recorded) -> None:
        chunked = b"chunked" in framing
        conn.sendall(OK + framing + b"\r\n")
        for block in blocks_of(int(seen.target.rpartition(b"-")[2])):
            conn.sendall(chunk(block) if chunked else block)
        conn.sendall(chunk(b"") if chunked else b"")

    def download(number: int) -> tuple[bool, str]:
        digest = hashlib.sha256()
        response = ask(roomy, "GET", f"/mlflow{ARTIFACT}-{number}", sink=digest.update, timeout=60.0)
        return response.complete, digest.hexdigest()

    large.reset()
    large.script(answer)
    before = roomy.rss_kb()
    with ThreadPoolExecutor(PARALLEL) as threads:
        got = list(threads.map(download, range(PARALLEL)))
        assert got == [(True, digest) for digest in threads.map(digest_of, range(PARALLEL))]
    assert roomy.peak_rss_kb() - before < 100 * 1024


FILES = 256
CONNECTIONS = 1000


@pytest.fixture
def cramped(start: Start, proxy_env: dict[str, str]) -> Proxy:
    """A proxy that may open 256 files and sockets per process."""
    proxy = start({**proxy_env, **SHORT, **WIDE})
    for pid in (proxy.pid, *proxy.pids()):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    return proxy


def recovers(proxy: Proxy, workers: list[int]) -> None:
    """Within 5 s requests are served again, by the same process, and it said nothing that is no JSON on stdout."""

    def served() -> bool:
        with contextlib.suppress(OSError):
            return ask(proxy, "GET", f"/mlflow{SEARCH}", timeout=1.0).status == 200
        return False

    wait_until(served, 5.0, "a request served")
    assert ask(proxy, "PUT", f"/mlflow{ARTIFACT}", (), BLOCK).status == 200
    assert request(proxy.port, "GET", "/health").status == 200
    assert proxy.pids() == workers and proxy.lines()


def test_x06_more_idle_connections_than_files_do_no_lasting_harm(cramped: Proxy, upstream: RecordingUpstream) -> None:
    workers = cramped.pids()
    with many(cramped, CONNECTIONS) as socks:
        time.sleep(1.0)
        assert not ended(socks[0])
    recovers(cramped, workers)


def test_x06_more_transfers_than_files_are_answered_or_refused(cramped: Proxy, upstream: RecordingUpstream) -> None:
    def answer(conn: socket.socket, _: Recorded) -> None:
        upstream.stopping.wait(0.3)
        conn.sendall(EMPTY)

    workers = cramped.pids()
    # The key is known when it gets tight: this is about transfers, not about asking the auth service without a socket.
    assert ask(cramped, "GET", f"/mlflow{SEARCH}").status == 200
    upstream.script(answer)
    closing = GET_ARTIFACT[:-2] + b"Connection: close\r\n\r\n"
    with many(cramped, CONNECTIONS, closing) as socks:
        for sock in socks:
            sock.settimeout(30.0)
        statuses = Counter(read_response(sock).status for sock in socks)
    assert set(statuses) <= {200, 502, 503} and statuses[200] >= 100, statuses
    recovers(cramped, workers)
