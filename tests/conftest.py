"""Fixtures over tests/support. Nothing is started for tests that do not ask for it.

`upstream` and `auth_service` are the servers behind `shared_proxy`: one gunicorn serves most functional tests, each of
which finds both servers reset. A test that needs other settings starts its own: `Proxy({**proxy_env, "X": "y"})`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.auth_service import ALL_SCOPES, GOOD_KEY, AuthService
from tests.support.fleet import Start, fleet
from tests.support.mlflow_server import MlflowServer
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.upstream import RecordingUpstream

# Their assertions say what they found, as those of a test do.
pytest.register_assert_rewrite("tests.functional.exchanges", "tests.functional.keyed", "tests.faults.scenes")


def pytest_configure() -> None:
    """Hear Ctrl-C again, where a shell that started the tests in the background has all ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def session_upstream() -> Iterator[RecordingUpstream]:
    with RecordingUpstream() as server:
        yield server


@pytest.fixture(scope="session")
def session_auth_service() -> Iterator[AuthService]:
    """Grants GOOD_KEY everything."""
    with AuthService() as service:
        service.grant(GOOD_KEY, user_id="user-good", key_id="key-good", scopes=ALL_SCOPES)
        yield service


@pytest.fixture
def upstream(session_upstream: RecordingUpstream) -> Iterator[RecordingUpstream]:
    """The recording upstream, empty; what a test's scripts raised fails that test."""
    session_upstream.reset()
    yield session_upstream
    session_upstream.reset()


@pytest.fixture(scope="module")
def large() -> Iterator[RecordingUpstream]:
    """An upstream that counts and hashes bodies without keeping them."""
    with RecordingUpstream(keep_bodies=False) as server:
        yield server


@pytest.fixture
def auth_service(session_auth_service: AuthService) -> Iterator[AuthService]:
    """The auth service without calls and moods; GOOD_KEY is granted."""
    session_auth_service.reset()
    yield session_auth_service
    session_auth_service.reset()


@pytest.fixture
def proxy_env(upstream: RecordingUpstream, auth_service: AuthService) -> dict[str, str]:
    """The environment of a proxy of one's own in front of `upstream` and `auth_service`."""
    return _environment(upstream.url, auth_service)


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Starts proxies: `start(env)`. They are stopped together at the end of the file."""
    with fleet() as starting:
        yield starting


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A real Redis of the test's own, empty."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_proxy(session_upstream: RecordingUpstream, session_auth_service: AuthService) -> Iterator[Proxy]:
    """One gunicorn for all tests, with default settings, in front of `upstream` and `auth_service`."""
    with Proxy(_environment(session_upstream.url, session_auth_service)) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="session")
def real_proxy(mlflow_server: MlflowServer, session_auth_service: AuthService) -> Iterator[Proxy]:
    """One gunicorn for all tests in front of the real MLflow; GOOD_KEY may do everything."""
    with Proxy(_environment(mlflow_server.url, session_auth_service)) as proxy:
        yield proxy


def _environment(upstream_url: str, auth_service: AuthService) -> dict[str, str]:
    return {"MLFLOW_SERVER_URL": upstream_url, "HOKUSAI_AUTH_SERVICE_URL": auth_service.url}
