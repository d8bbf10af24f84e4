"""A07, A08 and A11 of the catalogue: the auth service is ill, has enough of us, or comes back."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.access.asking import ask
from tests.access.vouching import (
    ADMIN,
    HARD_SECONDS,
    SHORT,
    Says,
    ScriptedAuth,
    answer,
    ask_at_once,
    assert_outage,
    line,
    proxy_of,
    scripted_auth,
    warm,
)
from tests.support.auth_service import new_key
from tests.support.fleet import Start
from tests.support.process import REPOSITORY
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream, reset_connection

# --- A07 ---


def half_an_answer(conn: socket.socket) -> None:
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
    conn.close()


ILL: dict[str, Says] = {
    "500": answer(500, b"<html>"),
    "503": answer(503, b"", ("Retry-After", "1")),
    "hangs up": lambda conn: conn.close(),
    "resets": reset_connection,
    "silent": lambda conn: time.sleep(1.5),
    "garbage": lambda conn: conn.sendall(b"garbage\r\n\r\n"),
    "half an answer": half_an_answer,
    "no JSON": answer(200, b"<html>all is well</html>"),
}


def assert_survives(proxy: Proxy, key: str, admin: str, upstream: RecordingUpstream) -> None:
    """Past the hard limit, the auth service being ill: warm keys are served, admins and unknown keys are not."""
    time.sleep(HARD_SECONDS)
    upstream.reset()
    for _ in range(3):
        response = ask(proxy, key)
        seen = line(proxy, response)
        assert (response.status, seen["auth_source"], seen["key_id"], seen["outcome"]) == (200, "stale", "key-1", "ok")
    proxy.wait_line(lambda one: one["event"] == "auth_stale_served" and one["key_id"] == "key-1")
    assert ask(proxy, admin).status == 200
    assert_outage(ask(proxy, admin, target=ADMIN))
    for _ in range(3):
        unknown = ask(proxy, new_key())
        assert_outage(unknown)
        seen = line(proxy, unknown)
        assert (seen["outcome"], seen["auth_source"]) == ("auth_unavailable", "")
    assert len(upstream.wait_for(4)) == 4, "nobody else got to MLflow"


@pytest.mark.parametrize(("name", "workers"), [*((name, 1) for name in ILL), ("500", 4)])
def test_a07_a_warm_key_survives_an_ill_auth_service_and_a_cold_one_comes_again(
    start: Start, upstream: RecordingUpstream, auth: ScriptedAuth, name: str, workers: int
) -> None:
    key, admin = auth.grant(), auth.grant(scopes=["admin"], key_id="key-admin")
    proxy = proxy_of(start, upstream, auth, workers, **SHORT)
    warm(proxy, key, workers)
    warm(proxy, admin, workers)
    assert ask(proxy, admin, target=ADMIN).status == 200
    auth.ill = ILL[name]
    assert_survives(proxy, key, admin, upstream)
    told = [one["key_id"] for one in proxy.lines("auth_stale_served")]
    assert set(told) == {"key-1", "key-admin"} and len(told) <= 2 * workers, "once a minute for a key and a worker"
    if name == "500":
        assert_recovers(proxy, auth, key)


def assert_recovers(proxy: Proxy, auth: ScriptedAuth, key: str) -> None:
    auth.ill = None
    deadline = time.monotonic() + 10
    while line(proxy, ask(proxy, key))["auth_source"] == "stale":
        assert time.monotonic() < deadline, "it does not recover"
        time.sleep(0.1)


def test_a07_a_warm_key_survives_an_auth_service_that_refuses_connections(
    start: Start, upstream: RecordingUpstream
) -> None:
    with scripted_auth() as auth:
        key, admin = auth.grant(), auth.grant(scopes=["admin"], key_id="key-admin")
        proxy = proxy_of(start, upstream, auth, 1, **SHORT)
        warm(proxy, key, 1)
        warm(proxy, admin, 1)
    assert_survives(proxy, key, admin, upstream)


RESOLVER = """
import os, socket
from pathlib import Path

known = socket.getaddrinfo


def getaddrinfo(host, *args, **kwargs):
    if host == "auth.test" and Path({record!r}).exists():
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return known("127.0.0.1" if host == "auth.test" else host, *args, **kwargs)


socket.getaddrinfo = getaddrinfo
from app import create_app
from app.settings import Settings

app = create_app(Settings.from_env(os.environ))
"""


def test_a07_a_warm_key_survives_a_name_that_resolves_no_longer(
    start: Start, upstream: RecordingUpstream, auth: ScriptedAuth, tmp_path: Path
) -> None:
    record = tmp_path / "no-such-name"
    for name in ("app", "gunicorn.conf.py"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "wsgi.py").write_text(RESOLVER.format(record=str(record)))
    key, admin = auth.grant(), auth.grant(scopes=["admin"], key_id="key-admin")
    env = {"MLFLOW_SERVER_URL": upstream.url, "HOKUSAI_AUTH_SERVICE_URL": f"http://auth.test:{auth.server.port}"}
    proxy = start({**env, **SHORT}, tmp_path)
    warm(proxy, key, 1)
    warm(proxy, admin, 1)
    record.touch()
    auth.server.drop_connections()
    asked = auth.asked()
    assert_survives(proxy, key, admin, upstream)
    assert auth.asked() == asked


# --- A08 ---


LIMITED = answer(429, {}, ("Retry-After", "30"))


def test_a08_a_limited_key_waits_and_nobody_else_does(
    start: Start, upstream: RecordingUpstream, auth: ScriptedAuth
) -> None:
    key, other = new_key(), auth.grant()
    auth.says[key] = LIMITED
    proxy = proxy_of(start, upstream, auth, 1)
    for _ in range(5):
        response = ask(proxy, key)
        assert (response.status, response.json()["error_code"]) == (429, "REQUEST_LIMIT_EXCEEDED")
        assert 25 <= int(response.header("Retry-After") or 0) <= 30
    assert auth.asked(key) == 1
    assert ask(proxy, other).status == 200


def test_a08_an_auth_service_that_limits_everybody_is_left_alone(
    start: Start, upstream: RecordingUpstream, auth: ScriptedAuth
) -> None:
    known = auth.grant()
    proxy = proxy_of(start, upstream, auth, 1)
    warm(proxy, known, 1)
    auth.ill = LIMITED
    keys = [new_key() for _ in range(5)]
    assert [ask(proxy, key).status for key in keys] == [429] * 5
    asked = auth.asked()
    for key in [*(new_key() for _ in range(10)), *keys]:
        response = ask(proxy, key)
        assert response.status == (429 if key in keys else 503)
        assert 25 <= int(response.header("Retry-After") or 0) <= 30
    assert auth.asked() == asked
    assert ask(proxy, known).status == 200


# --- A11 ---


@pytest.mark.parametrize("workers", [1, 4])
def test_a11_an_auth_service_that_fails_is_left_alone_but_for_a_probe(
    start: Start, upstream: RecordingUpstream, auth: ScriptedAuth, workers: int
) -> None:
    """Five failures, then one call in five seconds of each worker: with four that is less than one a second."""
    good = auth.grant()
    auth.ill = answer(500)
    proxy = proxy_of(start, upstream, auth, workers, **SHORT)
    for _ in range(40):
        ask_at_once(proxy, [new_key() for _ in range(4 * workers)])
        if len(proxy.lines("auth_breaker")) == workers:
            break
    assert [one["state"] for one in proxy.lines("auth_breaker")] == ["open"] * workers
    opened_at, asked = time.monotonic(), auth.asked()
    assert asked <= workers * (5 + 4 * workers), "five in a row, and what was under way by then"
    while (passed := time.monotonic() - opened_at) < 6.5:
        response = ask(proxy, new_key())
        assert_outage(response)
        assert int(response.header("Retry-After") or 0) <= 5
        assert auth.asked() - asked <= workers * (1 + passed // 5)
    if workers == 1:
        assert auth.asked() == asked + 1, "one probe after five seconds"
    auth.ill = None
    deadline = time.monotonic() + 6
    while ask(proxy, good).status != 200:
        assert time.monotonic() < deadline, "a probe closes it"
        time.sleep(0.05)
