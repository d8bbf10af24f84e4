"""How many transfers may run, for one key and in all, and that every ending gives its place back: X03, X05."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.faults.conftest import SHORT
from tests.faults.scenes import Prober, assert_quick
from tests.functional.exchanges import BLOCK, EMPTY, OK, answer_raw, leave, pour, wait_until
from tests.functional.keyed import ARTIFACT, SEARCH, assert_refused
from tests.support.auth_service import AuthService, new_key
from tests.support.client import RawResponse, open_connection, read_response, request
from tests.support.fleet import Start
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

pytestmark = pytest.mark.faults

PER_KEY, IN_ALL = 2, 20
QUICK_MS = 100.0
IDLE_SECONDS = 3.0


@pytest.fixture(scope="module")
def bounded(start: Start, session_upstream: RecordingUpstream, session_auth_service: AuthService) -> Proxy:
    """A proxy of little patience that lets two transfers of a key run, and 20 in all."""
    urls = {"MLFLOW_SERVER_URL": session_upstream.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    limits = {"TRANSFERS_PER_KEY": str(PER_KEY), "TRANSFERS_IN_ALL": str(IN_ALL)}
    return start({**urls, **SHORT, **limits, "CLIENT_IDLE_TIMEOUT_SECONDS": str(IDLE_SECONDS)})


@pytest.fixture
def new_user(auth_service: AuthService) -> Callable[[], str]:
    """Gives a key that nobody has used yet, of a user with no other one."""

    def make() -> str:
        key = new_key()
        return auth_service.grant(key, key_id=f"id-{key[-12:]}", user_id=f"user-{key[-12:]}", scopes=["model:write"])

    return make


def send(proxy: Proxy, key: str, method: str, target: str, body: bytes | None = None) -> RawResponse:
    return request(proxy.port, method, f"/mlflow{target}", [("Authorization", f"Bearer {key}")], body)


def open_upload(proxy: Proxy, key: str, stack: contextlib.ExitStack, *more: str) -> socket.socket:
    """An upload of a megabyte that has come to its first byte."""
    lines = [f"PUT /mlflow{ARTIFACT} HTTP/1.1", "Host: a", f"Authorization: Bearer {key}", "Content-Length: 1000000"]
    sock = stack.enter_context(open_connection(proxy.port))
    sock.sendall("\r\n".join([*lines, *more, "", "a"]).encode())
    return sock


def test_x03_more_slow_uploads_than_may_run_are_refused_and_hold_nobody(
    bounded: Proxy, upstream: RecordingUpstream, new_user: Callable[[], str]
) -> None:
    def held(key: str) -> str:
        return f"held-{key[-12:]}"

    def measure() -> Prober:
        upstream.reset()
        keys = [new_user() for _ in range(IN_ALL)]
        with Prober(bounded, 0.01) as health, contextlib.ExitStack() as stack:
            running = [open_upload(bounded, key, stack, f"X-Request-ID: {held(key)}") for key in keys]
            upstream.wait_for(IN_ALL, heads=True)
            for key in keys:
                start = time.monotonic()
                refused = read_response(open_upload(bounded, key, stack))
                assert_refused(refused, 503, "TEMPORARILY_UNAVAILABLE")
                assert int(refused.header("Retry-After") or 0) > 0
                assert time.monotonic() - start < 0.5, "it was let wait"
            assert send(bounded, keys[0], "POST", SEARCH, b"{}").status == 200, "JSON is no transfer"
            running[0].sendall(b"a" * 999_999)
            assert read_response(running[0]).status == 200
            assert send(bounded, keys[0], "PUT", ARTIFACT, b"x").status == 200, "there is a place again"
            assert len([seen for seen in upstream.requests if seen.method == b"PUT"]) == IN_ALL + 1
            time.sleep(0.5)
        for key in keys:
            bounded.access_line(held(key))  # its place is free for the next round
        return health

    assert_quick(measure, QUICK_MS)


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_x05_one_transfer_more_than_a_key_may_have_is_429_and_nothing_else_is(
    bounded: Proxy, upstream: RecordingUpstream, new_user: Callable[[], str], method: str
) -> None:
    key, other = new_user(), new_user()
    with contextlib.ExitStack() as stack:
        running = [open_upload(bounded, key, stack) for _ in range(PER_KEY)]
        upstream.wait_for(PER_KEY, heads=True)
        refused = send(bounded, key, method, ARTIFACT, b"x" if method == "PUT" else None)
        assert_refused(refused, 429, "REQUEST_LIMIT_EXCEEDED")
        assert int(refused.header("Retry-After") or 0) > 0
        assert send(bounded, other, method, ARTIFACT).status == 200
        assert send(bounded, key, "POST", SEARCH, b"{}").status == 200
        for sock in running:
            sock.sendall(b"a" * 999_999)
            assert read_response(sock).status == 200
        assert send(bounded, key, method, ARTIFACT).status == 200


def leaves_upload(proxy: Proxy, key: str, how: str) -> None:
    with contextlib.ExitStack() as stack:
        leave(open_upload(proxy, key, stack), how)


def leaves_download(proxy: Proxy, key: str, how: str) -> None:
    with open_connection(proxy.port) as sock:
        sock.sendall(f"GET /mlflow{ARTIFACT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        assert sock.recv(10_000)
        leave(sock, how)


def bad_chunk(proxy: Proxy, key: str) -> None:
    head = f"PUT /mlflow{ARTIFACT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
    with open_connection(proxy.port) as sock:
        sock.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n".encode())
        assert read_response(sock).status == 400


def stalls(proxy: Proxy, key: str) -> None:
    with contextlib.ExitStack() as stack:
        read_response(open_upload(proxy, key, stack))


def gets(status: int, method: str = "GET", body: bytes | None = None) -> Callable[[Proxy, str], None]:
    def ending(proxy: Proxy, key: str) -> None:
        assert send(proxy, key, method, ARTIFACT, body).status == status

    return ending


NOTHING: tuple[bytes, str] = (b"", "FIN")
PAGE = b"<p>no</p>"
HTML = b"HTTP/1.1 %d X\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n" + PAGE
ENDINGS: dict[str, tuple[tuple[bytes, str] | None, Callable[[Proxy, str], None]]] = {
    "a whole upload": ((EMPTY, "open"), gets(200, "PUT", BLOCK)),
    "a whole download": ((OK + b"Content-Length: 4\r\n\r\nsome", "open"), gets(200)),
    "HEAD": ((OK + b"Content-Length: 4\r\n\r\n", "open"), gets(200, "HEAD")),
    "304": ((b"HTTP/1.1 304 Not Modified\r\n\r\n", "open"), gets(304)),
    "an error page": ((HTML % 404, "open"), gets(404)),
    "no answer": (NOTHING, gets(502)),
    "no answer to an upload": (NOTHING, gets(502, "PUT", BLOCK)),
    "a silent MLflow": ((b"", "open"), gets(504)),
    "a download that breaks off": ((OK + b"Content-Length: 9\r\n\r\nsome", "RST"), gets(200)),
    "a header that may not be": ((OK + b"X-A: a\x00b\r\n\r\n", "FIN"), gets(502)),
    "a client that leaves its upload": (None, lambda proxy, key: leaves_upload(proxy, key, "FIN")),
    "a client that resets its upload": (None, lambda proxy, key: leaves_upload(proxy, key, "RST")),
    "a client that leaves its download": (None, lambda proxy, key: leaves_download(proxy, key, "FIN")),
    "a client that resets its download": (None, lambda proxy, key: leaves_download(proxy, key, "RST")),
    "a bad chunk": (None, bad_chunk),
    "a client that stalls": (None, stalls),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_x05_every_ending_gives_its_place_back(
    bounded: Proxy, upstream: RecordingUpstream, new_user: Callable[[], str], case: str
) -> None:
    key = new_user()
    answer, ending = ENDINGS[case]
    if answer:
        answer_raw(upstream, answer[0], end=answer[1])
    elif "download" in case:
        pour(upstream)
    for _ in range(PER_KEY):
        ending(bounded, key)
    upstream.reset()
    wait_until(lambda: send(bounded, key, "GET", ARTIFACT).status == 200, 1.0, "a transfer of the same key let through")
    upstream.reset()
    with contextlib.ExitStack() as stack:
        for _ in range(PER_KEY):
            open_upload(bounded, key, stack)
        upstream.wait_for(PER_KEY, heads=True)
        statuses = Counter(send(bounded, key, "GET", ARTIFACT).status for _ in range(3))
    assert statuses == {429: 3}, "more than its places came back"
