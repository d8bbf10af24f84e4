"""A14 of the catalogue: whatever happens to a key, no line, no answer and no request to MLflow holds it."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.access.asking import TARGET, ask
from tests.access.test_outages_a import ILL
from tests.access.vouching import ADMIN, SHORT, answer, proxy_of, scripted_auth
from tests.support.auth_service import new_key
from tests.support.client import basic, raw_exchange, request
from tests.support.faults import buggy_copy
from tests.support.fleet import Start
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream


def shapes(key: str) -> list[str]:
    """A key as it could turn up: as it is, encoded, or half of it."""
    inner = base64.b64encode(f"alice:{key}".encode()).decode()
    return [key, quote(key, safe=""), inner, base64.b64encode(key.encode()).decode(), key[8:40], key[-24:]]


def send_everywhere(proxy: Proxy, key: str) -> bytes:
    """The key in every place where somebody might put it; all that came back."""
    headers = [
        ("Authorization", f"Bearer {key}"),
        ("Authorization", f"ApiKey {key}"),
        ("Authorization", basic(key, "alice")),
    ]
    headers += [("X-API-Key", key), ("Authorization", f"Digest {key}"), ("Authorization", key)]
    headers += [("Proxy-Authorization", f"Bearer {key}"), ("Cookie", f"session={key}"), ("X-Auth-Token", key)]
    got = [request(proxy.port, "GET", TARGET, [pair]).raw for pair in headers]
    got += [request(proxy.port, "GET", f"{TARGET}{query}{key}").raw for query in ("?api_key=", "?token=", "?")]
    bearer = headers[0]
    for target in (f"{TARGET}?x=1#{key}", f"/mlflow/%2e%2e?{key}", f"{TARGET}?page_token={key}"):
        got.append(request(proxy.port, "GET", target, [bearer]).raw)
    malformed = f"GET {TARGET} HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer {key}\r\n\r\n"
    return b"".join([*got, raw_exchange(proxy.port, malformed.encode())])


def found(keys: list[str], text: str) -> list[str]:
    return [shape for key in keys for shape in shapes(key) if shape in text]


@pytest.mark.parametrize("workers", [1, 4])
def test_a14_no_key_is_found_anywhere(start: Start, upstream: RecordingUpstream, workers: int) -> None:
    with scripted_auth() as auth:
        proxy = proxy_of(start, upstream, auth, workers, **SHORT, MLFLOW_PROXY_DEBUG="true")
        good, admin, unknown, limited = auth.grant(), auth.grant(scopes=["admin"]), new_key(), new_key()
        auth.says[limited] = answer(429, {}, ("Retry-After", "1"))
        keys = [good, admin, unknown, limited]
        came = [send_everywhere(proxy, key) for key in keys]
        for says in ILL.values():
            auth.ill = says
            time.sleep(0.3)  # so that some are fresh, some are old, and some are past the hard limit
            came += [ask(proxy, key, target=target).raw for key in keys for target in (TARGET, ADMIN)]
        stale = proxy.lines("auth_stale_served")
        assert stale and {line["outcome"] for line in proxy.lines("proxy_request")} >= {"ok", "auth_denied"}
        assert found(keys, b"".join(came).decode("latin-1")) == []
        assert found(keys, proxy.output) == []
        # Where a client writes its key into a parameter of MLflow's, it is MLflow's business.
        heads = [
            seen.raw_head for seen in upstream.requests if b"token=" not in seen.target and b"?hk" not in seen.target
        ]
        assert len(heads) > 4 and found(keys, b"".join(heads).decode("latin-1")) == []


def test_a14_a_bug_of_ours_tells_no_key(start: Start, upstream: RecordingUpstream, tmp_path: Path) -> None:
    """One whose text holds the key, headers and all."""
    with scripted_auth() as auth:
        good = auth.grant()
        env = {"MLFLOW_SERVER_URL": upstream.url, "HOKUSAI_AUTH_SERVICE_URL": auth.server.url}
        proxy = start(env, buggy_copy(tmp_path))
        response = ask(proxy, good)
        assert response.status == 500
        assert proxy.wait_line(lambda line: line["event"] == "unhandled_exception")
        assert found([good], proxy.output + response.raw.decode("latin-1")) == []
