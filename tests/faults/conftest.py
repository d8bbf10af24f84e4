"""Proxies for the fault catalogue: one with short timeouts for most cases, and a way to start others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.auth_service import AuthService
from tests.support.fleet import Start, fleet
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

SHORT = {
    "CONNECT_TIMEOUT_SECONDS": "0.5",
    "READ_TIMEOUT_SECONDS": "1",
    "ARTIFACT_READ_TIMEOUT_SECONDS": "1.5",
    "WRITE_TIMEOUT_SECONDS": "1",
    "CLIENT_IDLE_TIMEOUT_SECONDS": "1",
    "ALB_IDLE_TIMEOUT_SECONDS": "0.5",  # and with it 5 s for the head of a request
    "MAX_JSON_BODY_BYTES": "100000",
}
WIDE = {"TRANSFERS_PER_KEY": "1000", "TRANSFERS_IN_ALL": "1000"}


@pytest.fixture(autouse=True)
def untouched(upstream: RecordingUpstream) -> Iterator[None]:
    """Each test begins without connections to `upstream`: what one leaves on them is not the next one's trouble."""
    yield
    upstream.drop_connections()


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """As for other tests, but at the end of them all, since `hasty` serves every file."""
    with fleet() as starting:
        yield starting


@pytest.fixture(scope="session")
def hasty(start: Start, session_upstream: RecordingUpstream, session_auth_service: AuthService) -> Proxy:
    """A proxy of little patience, in front of `upstream`, that lets any number of transfers run."""
    urls = {"MLFLOW_SERVER_URL": session_upstream.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    return start({**urls, **SHORT, **WIDE})


@pytest.fixture(scope="module")
def roomy(start: Start, large: RecordingUpstream, session_auth_service: AuthService) -> Proxy:
    """A proxy with usual timeouts in front of `large`, that lets any number of transfers run."""
    return start({"MLFLOW_SERVER_URL": large.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url, **WIDE})
