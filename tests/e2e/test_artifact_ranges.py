"""Parts of artifacts: a download that broke off and goes on, and what HEAD says, against a real MLflow on the wire."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.artifacts import ARTIFACTS, AUTHORIZED
from tests.support.client import RawResponse, open_connection, raw_exchange, read_response, request
from tests.support.mlflow_server import MlflowServer
from tests.support.proxy import Proxy

SIZE = 20 * 2**20 + 7
# What names the moment or the request, and what each server says of itself.
PER_ANSWER = {"date", "server", "connection", "server-timing", "x-request-id", "x-content-type-options"}


@dataclass(frozen=True)
class Stored:
    """An artifact in MLflow's store: its path there, its content, and the file."""

    path: str
    content: bytes
    file: Path


@pytest.fixture(scope="module")
def stored(mlflow_server: MlflowServer) -> Iterator[Stored]:
    path, content = f"ranges-{secrets.token_hex(4)}/model.bin", secrets.token_bytes(SIZE)
    file = mlflow_server.artifacts / path
    file.parent.mkdir()
    file.write_bytes(content)
    yield Stored(path, content, file)


def target(stored: Stored) -> str:
    return f"/api/mlflow{ARTIFACTS}/{stored.path}"


def get(proxy: Proxy, stored: Stored, *headers: tuple[str, str], method: str = "GET") -> RawResponse:
    return request(proxy.port, method, target(stored), [*AUTHORIZED, *headers], timeout=30)


def plain(answer: RawResponse) -> dict[str, str]:
    """The headers that say something of the artifact."""
    return {name.lower(): value for name, value in answer.headers if name.lower() not in PER_ANSWER}


def first_half(proxy: Proxy, stored: Stored) -> tuple[bytes, str]:
    """Ask for all of it and break off half-way, as a lost connection does; gives what came, and the ETag."""
    head = f"GET {target(stored)} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED[0][0]}: {AUTHORIZED[0][1]}\r\n\r\n".encode()
    received = b""
    with open_connection(proxy.port, timeout=30) as sock:
        sock.sendall(head)
        while len(received) < SIZE // 2:
            received += sock.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    etag = next(line for line in head.decode().split("\r\n") if line.lower().startswith("etag:"))
    return body, etag.partition(": ")[2]


def test_a_download_that_broke_off_goes_on_where_it_stopped(real_proxy: Proxy, stored: Stored) -> None:
    begun, etag = first_half(real_proxy, stored)
    assert 0 < len(begun) < SIZE
    rest = get(real_proxy, stored, ("Range", f"bytes={len(begun)}-"), ("If-Range", etag))
    assert (rest.status, rest.complete) == (206, True)
    assert rest.header("Content-Range") == f"bytes {len(begun)}-{SIZE - 1}/{SIZE}"
    assert rest.header("Content-Length") == str(SIZE - len(begun))
    assert hashlib.sha256(begun + rest.body).digest() == hashlib.sha256(stored.content).digest()
    assert rest.header("ETag") == etag


def test_of_an_artifact_that_changed_meanwhile_the_whole_comes_and_not_the_rest(
    real_proxy: Proxy, mlflow_server: MlflowServer
) -> None:
    path = f"changed-{secrets.token_hex(4)}/model.bin"
    mine = Stored(path, b"", mlflow_server.artifacts / path)
    mine.file.parent.mkdir()
    mine.file.write_bytes(b"old" * 1000)
    etag = get(real_proxy, mine).header("ETag")
    time.sleep(0.01)  # MLflow's ETag is made of time and size
    mine.file.write_bytes(b"new" * 1001)
    whole = get(real_proxy, mine, ("Range", "bytes=1500-"), ("If-Range", str(etag)))
    assert (whole.status, whole.header("Content-Range"), whole.body) == (200, None, b"new" * 1001)
    assert whole.header("ETag") != etag


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-0", 0, 0), ("bytes=-5", SIZE - 5, SIZE - 1), (f"bytes=7-{SIZE * 2}", 7, SIZE - 1), ("bytes=5-9", 5, 9)],
)
def test_a_range_is_answered_with_that_part(
    real_proxy: Proxy, stored: Stored, asked: str, first: int, last: int
) -> None:
    part = get(real_proxy, stored, ("Range", asked))
    assert (part.status, part.header("Content-Range")) == (206, f"bytes {first}-{last}/{SIZE}")
    assert part.body == stored.content[first : last + 1]


def test_several_ranges_come_as_mlflow_puts_them_together(real_proxy: Proxy, stored: Stored) -> None:
    parts = get(real_proxy, stored, ("Range", "bytes=0-3,100-107"))
    kind = parts.header("Content-Type") or ""
    assert (parts.status, parts.complete) == (206, True)
    assert kind.startswith("multipart/byteranges; boundary=")
    assert stored.content[:4] in parts.body and stored.content[100:108] in parts.body
    assert parts.body.rstrip().endswith(f"--{kind.partition('=')[2]}--".encode())


def test_a_range_beyond_the_end_is_416_with_the_size_and_never_a_body_of_the_artifact(
    real_proxy: Proxy, stored: Stored
) -> None:
    beyond = get(real_proxy, stored, ("Range", f"bytes={SIZE}-"))
    assert (beyond.status, beyond.header("Content-Range")) == (416, f"bytes */{SIZE}")
    assert set(beyond.json()) == {"error_code", "message", "request_id"}


def test_an_answer_to_get_says_of_the_artifact_what_mlflow_says(
    real_proxy: Proxy, mlflow_server: MlflowServer, stored: Stored
) -> None:
    for method in ("GET", "HEAD"):
        direct = request(mlflow_server.port, method, f"{ARTIFACTS}/{stored.path}", timeout=30)
        assert plain(get(real_proxy, stored, method=method)) == plain(direct)


def test_head_says_what_get_says_and_sends_nothing(real_proxy: Proxy, stored: Stored) -> None:
    """But for the ETag: HEAD is answered by MLflow's Flask application, GET by its streaming route; each makes one of
    its own, with the proxy as without.
    """
    head, whole = get(real_proxy, stored, method="HEAD"), get(real_proxy, stored)
    assert (head.status, head.body, whole.status) == (200, b"", 200)
    for name in ("Content-Length", "Content-Type", "Content-Disposition", "Accept-Ranges", "Last-Modified"):
        assert head.header(name) == whole.header(name) is not None
    assert whole.header("Content-Length") == str(SIZE)


def test_after_head_the_connection_carries_the_next_request(real_proxy: Proxy, stored: Stored) -> None:
    lines = f"{target(stored)} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED[0][0]}: {AUTHORIZED[0][1]}\r\n"
    with open_connection(real_proxy.port) as sock:
        sock.sendall(f"HEAD {lines}\r\n".encode())
        assert read_response(sock, "HEAD").status == 200
        sock.sendall(f"GET {lines}Range: bytes=1-3\r\n\r\n".encode())
        part = read_response(sock)
    assert (part.status, part.body) == (206, stored.content[1:4])


def test_what_was_there_before_the_break_is_not_lost_for_others(real_proxy: Proxy, stored: Stored) -> None:
    """Ten downloads that break off leave the proxy able to serve the whole."""
    for _ in range(10):
        first_half(real_proxy, stored)
    assert get(real_proxy, stored).body == stored.content
    assert raw_exchange(real_proxy.port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")
