"""Names of artifacts that do not come through as they are: which, by whose doing, and what the user is told.

Three alter or refuse names. The client puts a path into the URL as it stands, so a `?` or `#` ends it, and an escape
(`%2B`) is taken for one. MLflow decodes paths until nothing changes and drops tabs (mlflow/utils/uri.py). The proxy's
edge refuses what could mean one thing here and another there. For the first two, the proxy changes nothing: what is
stored, listed, got or said is the same as without it. The edge's refusal is a 400 whose text the user sees.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.artifacts import artifact_client, digests, fill
from tests.support.mlflow_server import MlflowServer
from tests.support.proxy import Proxy

# name -> the name under which MLflow stores it, with the proxy as without it; None when MLflow refuses it
ALTERED = {
    " leading space.bin": " leading space.bin",
    "http:x.bin": "http:x.bin",
    "a%2Bb.bin": "a+b.bin",
    "a%20b.bin": "a b.bin",
    "50%25.bin": "50%.bin",
    "a%25252525.bin": "a%.bin",
    "a%41.bin": "aA.bin",
    "a%2e%2e.bin": "a...bin",
    "%C3%A9.bin": "\u00e9.bin",
    "%E9.bin": "\ufffd.bin",
    "a%3Fb.bin": "a?b.bin",
    "a?b.bin": "a",
    "a?b=c&d.bin": "a",
    "a#b.bin": "a",
    "a%23b.bin": None,
}
# Stored as they are, but listed so: a download of their folder asks for these names and finds nothing.
LISTED = {" leading space.bin": "leading space.bin", "http:x.bin": "http:///x.bin"}
# name -> what the edge says of it
REFUSED = {
    "a%2Fb.bin": "encoded slash, backslash or dot segment in path",
    "a%2fb.bin": "encoded slash, backslash or dot segment in path",
    "a%252Fb.bin": "encoded slash, backslash or dot segment in path",
    "a%5Cb.bin": "encoded slash, backslash or dot segment in path",
    "a\\b.bin": "encoded slash, backslash or dot segment in path",
    "%2e%2e": "backslash or dot segment in path",
    "a%00.bin": "encoded control character in path",
    "a%0Ab.bin": "encoded control character in path",
    "line\nbreak.bin": "encoded control character in path",
    "tab\tb.bin": "encoded control character in path",
    "delete\x7f.bin": "encoded control character in path",
    "a%" + "25" * 12 + ".bin": "path is encoded too often",
}
names = pytest.mark.parametrize("name", ALTERED, ids=lambda name: ascii(name)[1:-1])
refused_names = pytest.mark.parametrize("name", REFUSED, ids=lambda name: ascii(name)[1:-1])


@dataclass(frozen=True)
class Seen:
    """What became of each name: the client's account, and the files in MLflow's store and in the client's hands."""

    outcomes: Mapping[str, Mapping[str, Any]]
    stored: Mapping[str, Mapping[str, str]]
    got: Mapping[str, Mapping[str, str]]

    def of(self, name: str) -> dict[str, Any]:
        outcome = self.outcomes[name]
        return {
            "upload": outcome["upload"].partition(":")[0],
            "listed": outcome["listed"],
            "download": outcome["download"].partition(":")[0],
            "stored": self.stored[name],
            "got": self.got[name],
        }


def content(name: str) -> bytes:
    return 50 * name.encode()


def seen_through(uri: str, wanted: Iterable[str], folder: Path, server: MlflowServer) -> Seen:
    # MLflow closes a connection whose upload it refused without saying so: without a proxy, the client has to retry.
    again = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}
    env = again if uri == server.url else {}
    source, target = fill(folder / "source", {name: content(name) for name in wanted}), folder / "target"
    there = f"names-{secrets.token_hex(4)}"
    outcomes = artifact_client("each", uri, env=env, source=source, folder=there, target=target)
    numbers = {name: str(number) for number, name in enumerate(outcomes)}
    stored = {name: digests(server.artifacts / there / number) for name, number in numbers.items()}
    return Seen(outcomes, stored, {name: digests(target / number) for name, number in numbers.items()})


@pytest.fixture(scope="module")
def proxied(real_proxy: Proxy, mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    uri = real_proxy.url + "/api/mlflow"
    return seen_through(uri, (*ALTERED, *REFUSED), tmp_path_factory.mktemp("proxied"), mlflow_server)


@pytest.fixture(scope="module")
def direct(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return seen_through(mlflow_server.url, ALTERED, tmp_path_factory.mktemp("direct"), mlflow_server)


@names
def test_a_name_that_mlflow_alters_becomes_the_same_with_the_proxy_as_without(
    proxied: Seen, direct: Seen, name: str
) -> None:
    assert proxied.of(name) == direct.of(name)


@names
def test_what_mlflow_makes_of_a_name_is_known(proxied: Seen, name: str) -> None:
    """So that a change in MLflow or its client shows; the content is whole, whatever the name."""
    stored = ALTERED[name]
    assert proxied.stored[name] == ({stored: hashlib.sha256(content(name)).hexdigest()} if stored else {})
    assert proxied.outcomes[name]["listed"] == ([LISTED.get(name, stored)] if stored else [])
    assert bool(proxied.outcomes[name]["upload"]) is (ALTERED[name] is None)


@refused_names
def test_a_name_that_could_be_read_in_two_ways_is_refused_with_400_and_the_reason(
    proxied: Seen, real_proxy: Proxy, name: str
) -> None:
    text = proxied.outcomes[name]["upload"]
    assert text.startswith("HTTPError: 400 Client Error")
    assert f'"error_code": "BAD_REQUEST", "message": "Malformed request: {REFUSED[name]}."' in text
    request_id = text.partition('"request_id": "')[2].partition('"')[0]
    assert real_proxy.access_line(request_id)["upstream_path"] == ""


@refused_names
def test_of_a_refused_name_nothing_is_stored(proxied: Seen, name: str) -> None:
    assert (proxied.stored[name], proxied.outcomes[name]["listed"], proxied.got[name]) == ({}, [], {})
