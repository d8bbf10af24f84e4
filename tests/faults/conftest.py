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
    """Starts proxies: `start(env)`. They are stopped together at the end."""
    with fleet() as starting:
        yield starting


@pytest.fixture(scope="session")
def hasty(start: Start, session_upstream: RecordingUpstream, session_auth_service: AuthService) -> Proxy:
    """A proxy of little patience, in front of `upstream`, that lets any number of transfers run."""
    urls = {"MLFLOW_SERVER_URL": session_upstream.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    return start({**urls, **SHORT, **WIDE})


# What is not reached yet: the start of a test's name, and why.
KNOWN_LIMITS = {
    "test_c06_a_slow_reader_that_makes_progress": (
        "the idle timeout bounds a whole block: with default settings a steady reader of 16 KB/s was cut at 60 s, "
        "one of 30 KB/s was not"
    ),
    "test_f07_a_body_that_breaks_off_never_looks_complete[inside the last chunk's size-FIN]": (
        "http.client takes a last chunk's size without its line end for the end: the data are all there"
    ),
    "test_f08_what_follows_an_answer_is_nobodys[more bytes, and another answer later]": (
        "SERIOUS: http.client drops what it read past an answer's end, so a dirty connection is kept, and an answer "
        "that comes later is given to the next request, which may be another user's"
    ),
    "test_f08_a_connection_with_surplus_bytes": "as above: the surplus is dropped, the connection is kept",
    **{
        f"test_f13_an_early_answer_does_not_wait_for_a_client_that_pauses[{how}-chunked]": (
            "what gunicorn's chunk parser holds back is not known, so nobody can wait for client and upstream at once"
        )
        for how in ("closes", "keeps reading", "stops reading")
    },
    "test_f11_a_100_amid_an_upload": (
        "an unasked 100 is taken for an early answer; MLflow's server sends none, since no Expect reaches it"
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is known not to be reached."""
    for item in items:
        for start, reason in KNOWN_LIMITS.items():
            if item.path.parent.name == "faults" and item.name.startswith(start):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
