"""One transfer at full speed does not keep /health waiting: X01, X02."""

from __future__ import annotations

import socket
import time

import pytest

from tests.faults.scenes import GET_ARTIFACT, Prober, assert_quick
from tests.functional.exchanges import BLOCK, OK, Pouring, pour, upload_head
from tests.functional.keyed import begun
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk

pytestmark = pytest.mark.faults

QUICK_MS = 50.0
SECONDS = 4.0
INTERVAL = 0.01
ANSWERS = 100  # of /health within SECONDS: of fewer there is no p99
FAST = int(40_000_000 * SECONDS)  # bytes
CRUMBS = chunk(b"a") * 50_000
MANY_CRUMBS = 100_000  # bytes within SECONDS


def swallow(upstream: RecordingUpstream) -> list[int]:
    """Let MLflow take bodies faster than they come: no socket of the proxy's ever blocks. Gives the sizes it took."""
    took: list[int] = []

    def script(conn: socket.socket, _: Recorded) -> None:
        buffer = bytearray(4_000_000)
        while size := conn.recv_into(buffer):
            took.append(size)
        conn.close()

    upstream.script_head(script)
    return took


def assert_quick_during_an_upload(
    proxy: Proxy, upstream: RecordingUpstream, framing: str, data: bytes, least: int
) -> None:
    """Look at /health while `data` is sent over and over; in each round at least so many bytes must get to MLflow."""
    taken: list[int] = []

    def measure() -> Prober:
        upstream.reset()
        took = swallow(upstream)
        with begun(proxy, upload_head(framing, 100_000_000_000)) as sock, Prober(proxy, INTERVAL) as health:
            with Pouring(sock, lambda: data, SECONDS, whole=framing == "chunked"):
                pass
            taken.append(sum(took))
        return health

    assert_quick(measure, QUICK_MS, ANSWERS)
    assert min(taken) > least, f"that was no fast upload: {taken} bytes"


def assert_quick_during_a_download(proxy: Proxy, least: int) -> None:
    """Look at /health while a download is read as fast as it comes; each round must have got at least so many bytes."""
    taken: list[int] = []

    def measure() -> Prober:
        taken.append(0)
        until = time.monotonic() + SECONDS
        with begun(proxy, GET_ARTIFACT) as sock, Prober(proxy, INTERVAL) as health:
            while time.monotonic() < until:
                taken[-1] += len(sock.recv(1_000_000))
        return health

    assert_quick(measure, QUICK_MS, ANSWERS)
    assert min(taken) > least, f"that was no fast download: {taken} bytes"


UPLOADS = {
    "length": ("length", BLOCK * 10),
    "chunks of 300 KB": ("chunked", chunk(BLOCK)),
    "chunks of 3 MB": ("chunked", chunk(BLOCK * 10)),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_x01_a_fast_upload_leaves_health_quick(roomy: Proxy, large: RecordingUpstream, case: str) -> None:
    assert_quick_during_an_upload(roomy, large, *UPLOADS[case], FAST)


def test_x01_an_upload_in_crumbs_leaves_health_quick(roomy: Proxy, large: RecordingUpstream) -> None:
    """Chunks of one byte, as fast as they are taken: few bytes, much work."""
    assert_quick_during_an_upload(roomy, large, "chunked", CRUMBS, MANY_CRUMBS)


@pytest.mark.parametrize("framing", [b"Content-Length: 100000000000\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_x02_a_fast_download_leaves_health_quick(roomy: Proxy, large: RecordingUpstream, framing: bytes) -> None:
    large.reset()
    pour(large, framing)
    assert_quick_during_a_download(roomy, FAST)


def test_x02_a_download_in_crumbs_leaves_health_quick(roomy: Proxy, large: RecordingUpstream) -> None:
    def script(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while not large.stopping.is_set():
            conn.sendall(CRUMBS)

    large.reset()
    large.script(script)
    assert_quick_during_a_download(roomy, MANY_CRUMBS)
