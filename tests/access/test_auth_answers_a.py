"""A09 and A10 of the catalogue, and the connections to the auth service: what is an answer, and what is not."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.access.asking import ask
from tests.access.vouching import Says, ScriptedAuth, answer, assert_outage, line, proxy_of, scripted_auth, yes
from tests.support.auth_service import new_key
from tests.support.fleet import Start
from tests.support.proxy import Line, Proxy
from tests.support.upstream import RecordingUpstream, chunk, reset_connection

GIGABYTE = 1024**3
MOST_READ = 24 * 1024 * 1024  # what the kernel's buffers on both sides may take, nobody having read it


@pytest.fixture(scope="module")
def auth() -> Iterator[ScriptedAuth]:
    with scripted_auth() as service:
        yield service


@pytest.fixture(scope="module", params=[1, 4])
def proxy(
    request: pytest.FixtureRequest, start: Start, session_upstream: RecordingUpstream, auth: ScriptedAuth
) -> Proxy:
    return proxy_of(start, session_upstream, auth, request.param, AUTH_TIMEOUT_SECONDS="2")


def heal(proxy: Proxy, failed: Line) -> None:
    """Let the worker that met an illness hear enough answers for its breaker to stay closed."""
    left = 2
    while left:
        response = ask(proxy, new_key())
        assert response.status == 401, response.body
        left -= line(proxy, response)["worker"] == failed["worker"]


def with_type(body: bytes, content_type: str) -> Says:
    return answer(200, body, ("Content-Type", content_type))


NO_YES: dict[str, Says] = {
    "an empty object": answer(200, {}),
    "a list": answer(200, []),
    "null": answer(200, b"null"),
    "true": answer(200, b"true"),
    "nothing": answer(200),
    "HTML": with_type(b"<html>200 OK</html>", "text/html"),
    "a login page that names itself JSON": with_type(b"<html></html>", "application/json"),
    "valid: false": yes(valid=False),
    "valid: 'true'": yes(valid="true"),
    "no user": yes(user_id=None),
    "no key": yes(key_id=""),
    "a user of another type": yes(user_id=["user-1"]),
    "a CRLF in the user": yes(user_id="user-1\r\nX-Hokusai-Evil: yes"),
    "a CRLF in the key": yes(key_id="key-1\r\nX-Hokusai-Evil: yes"),
    "a line feed at the end": yes(user_id="user-1\n"),
    "a NUL": yes(user_id="user-1\x00"),
    "an emoji": yes(user_id="user-\U0001f600"),
    "ten kilobytes": yes(user_id="u" * 10_240),
    "201": answer(201, {"user_id": "user-1", "key_id": "key-1"}),
    "204": answer(204),
    "cut off": answer(200, b'{"user_id": "user-1", "key_id": "key-1"'),
}


@pytest.mark.parametrize("name", NO_YES)
def test_a09_what_is_no_well_formed_yes_lets_nobody_in(
    proxy: Proxy, upstream: RecordingUpstream, auth: ScriptedAuth, name: str
) -> None:
    key = new_key()
    auth.says[key] = NO_YES[name]
    response = ask(proxy, key)
    assert_outage(response)
    assert auth.asked(key) == 1
    assert "Evil" not in response.raw.decode("latin-1")
    assert upstream.requests == []
    seen = line(proxy, response)
    assert (seen["user_id"], seen["key_id"], seen["outcome"]) == ("", "", "auth_unavailable")
    heal(proxy, seen)


class Pouring:
    """An endless answer, and how much of it was taken before the proxy hung up."""

    def __init__(self, head: bytes, block: bytes) -> None:
        self._head, self._block = head, block
        self.sent = 0
        self.ended = threading.Event()

    def __call__(self, conn: socket.socket) -> None:
        try:
            conn.sendall(self._head)
            while self.sent < GIGABYTE:
                conn.sendall(self._block)
                self.sent += len(self._block)
        except OSError:
            self.ended.set()
            raise


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BEGINNING = b'{"user_id": "user-1", "key_id": "key-1"}'.ljust(100_000)
ENDLESS = {
    "a gigabyte by its length": (OK + b"Content-Length: %d\r\n\r\n" % GIGABYTE, BEGINNING),
    "a gigabyte in chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", chunk(BEGINNING)),
    "a gigabyte until the end": (OK + b"Connection: close\r\n\r\n", BEGINNING),
    "a gigabyte of headers": (OK, b"X-More: " + b"x" * 30_000 + b"\r\n"),
    "a 401 of a gigabyte": (b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % GIGABYTE, BEGINNING),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a09_a_gigabyte_is_not_read(proxy: Proxy, upstream: RecordingUpstream, auth: ScriptedAuth, name: str) -> None:
    key, pouring = new_key(), Pouring(*ENDLESS[name])
    auth.says[key] = pouring
    response = ask(proxy, key)
    assert response.status == (401 if "401" in name else 503)
    assert pouring.ended.wait(5), "the proxy reads on"
    assert pouring.sent < MOST_READ
    assert upstream.requests == []
    heal(proxy, line(proxy, response))


def test_a09_a_gigabyte_that_came_compressed_is_not_unpacked(
    proxy: Proxy, upstream: RecordingUpstream, auth: ScriptedAuth
) -> None:
    key = new_key()
    packed = gzip.compress(BEGINNING + bytes(100_000_000))
    auth.says[key] = answer(200, packed, ("Content-Encoding", "gzip"))
    before = proxy.peak_rss_kb()
    response = ask(proxy, key)
    assert_outage(response)
    assert auth.asked(key) == 1
    assert proxy.peak_rss_kb() - before < 16 * 1024
    assert upstream.requests == []
    heal(proxy, line(proxy, response))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a10_a_redirect_is_not_followed(
    proxy: Proxy, upstream: RecordingUpstream, auth: ScriptedAuth, status: int
) -> None:
    with RecordingUpstream() as evil:
        evil.respond_with(200, body=b'{"user_id": "root", "key_id": "root", "scopes": ["admin"]}')
        key = new_key()
        auth.says[key] = answer(
            status, {"user_id": "u", "key_id": "k"}, ("Location", f"{evil.url}/api/v1/keys/validate")
        )
        response = ask(proxy, key)
        assert_outage(response)
        assert (auth.asked(key), evil.connections, upstream.requests) == (1, 0, [])
    heal(proxy, line(proxy, response))


# --- connections ---


def test_idle_connections_that_were_closed_cost_nobody_a_503(
    start: Start, session_upstream: RecordingUpstream, upstream: RecordingUpstream
) -> None:
    """The service closes after half a second; keys come in about then, some just as it closes."""
    with scripted_auth() as auth:
        proxy = proxy_of(start, session_upstream, auth, 1)
        for pause in range(40):
            assert ask(proxy, auth.grant()).status == 200
            if pause % 2:
                auth.server.drop_connections()
                time.sleep(pause / 4000)
        assert auth.server.connections > 1


@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_a_connection_that_ends_just_as_it_is_used_again_is_replaced(
    start: Start, session_upstream: RecordingUpstream, upstream: RecordingUpstream, end: str
) -> None:
    """What no look at the connection can tell beforehand: the service has read the question, and hangs up."""
    with scripted_auth() as auth:
        proxy = proxy_of(start, session_upstream, auth, 1)
        assert ask(proxy, auth.grant()).status == 200
        key, met = new_key(), []

        def hang_up_once(conn: socket.socket) -> None:
            met.append(conn)
            if len(met) > 1:
                yes()(conn)
            elif end == "RST":
                reset_connection(conn)
            else:
                conn.close()

        auth.says[key] = hang_up_once
        assert ask(proxy, key).status == 200
        assert (auth.asked(key), auth.server.connections) == (2, 2)


def test_connections_are_kept_and_no_more_of_them_than_calls(
    start: Start, session_upstream: RecordingUpstream, upstream: RecordingUpstream
) -> None:
    with scripted_auth() as auth:
        proxy = proxy_of(start, session_upstream, auth, 1)
        for _ in range(20):
            assert ask(proxy, auth.grant()).status == 200
        assert (auth.asked(), auth.server.connections) == (20, 1)


def test_an_auth_service_that_takes_no_connection_is_given_up_after_a_second(
    start: Start, session_upstream: RecordingUpstream, upstream: RecordingUpstream
) -> None:
    """However long its answers may take."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:  # the queue of a listener that never accepts is full after the first few
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        urls = {"MLFLOW_SERVER_URL": session_upstream.url, "HOKUSAI_AUTH_SERVICE_URL": f"http://127.0.0.1:{port}"}
        proxy = start({**urls, "AUTH_TIMEOUT_SECONDS": "20"})
        response = ask(proxy, new_key())
        for sock in waiting:
            sock.close()
    assert_outage(response)
    seen = line(proxy, response)
    assert seen["error_kind"] == "auth_ConnectTimeout" and 900 <= seen["auth_ms"] < 3000


def drip(conn: socket.socket) -> None:
    """A byte again and again, for ten seconds: each comes within the timeout, their end does not."""
    for _ in range(200):
        time.sleep(0.05)
        conn.sendall(b"x")


@pytest.mark.parametrize("head", [OK + b"X-Drip: ", OK + b"Content-Length: 1000\r\n\r\n"], ids=["headers", "body"])
def test_an_answer_that_only_drips_is_given_up_when_the_time_is_over(
    start: Start, session_upstream: RecordingUpstream, upstream: RecordingUpstream, head: bytes
) -> None:
    """And with it goes the place that it took among the calls."""

    def say(conn: socket.socket) -> None:
        conn.sendall(head)
        drip(conn)

    with scripted_auth() as auth:
        key = new_key()
        auth.says[key] = say
        proxy = proxy_of(start, session_upstream, auth, 1, AUTH_TIMEOUT_SECONDS="0.5", AUTH_MAX_CONCURRENT="1")
        response = ask(proxy, key)
        assert_outage(response)
        assert 400 <= line(proxy, response)["auth_ms"] < 4000
        assert ask(proxy, new_key()).status == 401
