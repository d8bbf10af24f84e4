"""Artifacts there and back through the real client, the proxy and MLflow: what was sent is stored and comes back.

Equal means the same SHA-256, of what the client got and of what lies in MLflow's store, lest two mistakes cancel.
"""

from __future__ import annotations

import os
import secrets
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.artifacts import (
    ARTIFACTS,
    AUTHORIZED,
    artifact_client,
    client_environment,
    digest,
    digests,
    fill,
)
from tests.support.client import RawResponse, request
from tests.support.mlflow_server import MlflowServer, run_client
from tests.support.proxy import Proxy

MOUNT = "/api/mlflow"
MEBIBYTE = 2**20
LARGE_BYTES = 2 * 2**30
SIZES = {"empty.bin": 0, "one byte.bin": 1, "five megabytes.bin": 5 * MEBIBYTE + 1}
MANY = 500
# Names that come through as they are. Those that MLflow, its client or the proxy's edge alter or refuse are in
# test_artifact_names.py.
NAMES = [
    "two words.bin", "trailing space.bin ", "a+b.bin", "100%.bin", "%", "%%", "a%zz.bin", "a%2",
    "a&b=c.bin", "a;b=c.bin", "a;b/c.bin", "a'b.bin", 'a"b.bin', "~tilde.bin", "a~b.bin", "a@b,c!$()*.bin", "a:b.bin",
    "[x]{y}.bin", "<x>|^`.bin", "-dash", ".hidden", ".hidden folder/.env", "..two dots", "a..b", "...", "dot./x.bin",
    unicodedata.normalize("NFC", "caf\u00e9.bin"), unicodedata.normalize("NFD", "cafe\u0301.bin"),
    "\u6a21\u578b/\u6743\u91cd.bin", "\U0001f600.bin", "zero\u200bwidth.bin", "no\u00a0break.bin",
    "\u202eright to left",
    "x" * 251 + ".bin", "x" * 255, "\u00e9" * 125 + ".bin", "\u6a21" * 85,
    "/".join(["deep"] * 40) + "/x.bin", "/".join(["d" * 255] * 12) + "/x.bin",
    "long/" + "/".join(["\u6a21" * 85] * 12) + "/x.bin",  # more than 9 KB on the wire
    "api/2.0/mlflow-artifacts/artifacts/api/mlflow/x.bin",
]  # fmt: skip  # several names a line


@dataclass(frozen=True)
class Trip:
    """A directory's way: what was sent, what lies in MLflow's store, what came back (path -> SHA-256), what was listed
    (path -> bytes).
    """

    run_id: str
    sent: dict[str, str]
    stored: dict[str, str]
    got: dict[str, str]
    listed: dict[str, int | None]


@pytest.fixture(scope="module")
def trip(real_proxy: Proxy, mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Trip:
    """One `log_artifacts` and one `download_artifacts` of everything there is."""
    contents = {f"sizes/{name}": secrets.token_bytes(size) for name, size in SIZES.items()}
    contents |= {f"names/{name}": secrets.token_bytes(1000) for name in NAMES}
    contents |= {f"many/{number:03}.bin": secrets.token_bytes(100 + number) for number in range(MANY)}
    source, target = fill(tmp_path_factory.mktemp("s"), contents), tmp_path_factory.mktemp("t")
    seen = artifact_client("round_trip", real_proxy.url + MOUNT, source=source, target=target)
    store = mlflow_server.artifacts / seen["artifact_uri"].partition(":/")[2].lstrip("/")
    return Trip(seen["run_id"], digests(source), digests(store), digests(target), seen["listed"])


def ask(proxy: Proxy, method: str, path: str, headers: list[tuple[str, str]], body: Any = None) -> RawResponse:
    return request(proxy.port, method, f"{MOUNT}{ARTIFACTS}/{path}", [*AUTHORIZED, *headers], body, timeout=30)


@pytest.mark.parametrize("name", SIZES)
def test_a_file_of_any_size_comes_back_as_it_was_sent(trip: Trip, name: str) -> None:
    path = f"sizes/{name}"
    assert trip.stored[path] == trip.got[path] == trip.sent[path]
    assert (trip.listed[path] or 0) == SIZES[name]  # MLflow's JSON leaves a zero out, and its client makes it None


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[1:-1][:40])
def test_a_file_of_any_name_comes_back_under_its_name(trip: Trip, name: str) -> None:
    path = f"names/{name}"
    assert trip.stored[path] == trip.got[path] == trip.sent[path]


def test_500_files_at_once_come_back_and_no_other(trip: Trip) -> None:
    assert len([path for path in trip.sent if path.startswith("many/")]) == MANY
    assert trip.stored == trip.sent
    assert trip.got == trip.sent
    assert set(trip.listed) == set(trip.sent)


def test_the_command_line_downloads_a_file_and_a_folder(trip: Trip, real_proxy: Proxy, tmp_path: Path) -> None:
    code = """
import sys
from mlflow.cli import cli
run, target, *paths = sys.argv[1:]
command = ["artifacts", "download", "--run-id", run, "--dst-path", target, "--artifact-path"]
for path in paths:
    cli([*command, path], standalone_mode=False)
"""
    arguments = [trip.run_id, str(tmp_path), "names/two words.bin", "sizes"]
    run = run_client(code, client_environment(real_proxy.url + MOUNT), args=arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    expected = {path: sent for path, sent in trip.sent.items() if path.startswith("sizes/")}
    expected["two words.bin"] = trip.sent["names/two words.bin"]
    assert {path.removeprefix("names/"): got for path, got in digests(tmp_path).items()} == expected


def test_a_file_and_then_a_folder_are_deleted_and_nothing_beside_them(
    real_proxy: Proxy, mlflow_server: MlflowServer
) -> None:
    folder = f"deleting-{secrets.token_hex(4)}"
    store = fill(mlflow_server.artifacts / folder, {"a b.bin": b"1", "+keep.bin": b"2", "sub dir/x.bin": b"3"})
    uri = real_proxy.url + MOUNT
    assert artifact_client("delete", uri, folder=folder, path="a b.bin") == [
        ["+keep.bin", "a b.bin", "sub dir"],
        ["+keep.bin", "sub dir"],
    ]
    assert artifact_client("delete", uri, folder=folder, path="sub dir")[1] == ["+keep.bin"]
    assert list(digests(store)) == ["+keep.bin"]


def test_a_model_with_a_file_of_its_own_is_logged_loaded_and_predicts(real_proxy: Proxy, tmp_path: Path) -> None:
    seen = artifact_client("model", real_proxy.url + MOUNT, target=tmp_path / "model")
    weights = bytes(range(256)) * 4000
    assert seen["prediction"] == [2, 4, 6, len(weights), sum(weights)]


@pytest.mark.parametrize("body", [b"", ()], ids=["Content-Length: 0", "chunked, as the client sends it"])
def test_an_empty_upload_makes_an_empty_file(real_proxy: Proxy, mlflow_server: MlflowServer, body: Any) -> None:
    path = f"empty-{secrets.token_hex(4)}/nothing.bin"
    assert ask(real_proxy, "PUT", path, [], body).status == 200
    assert (mlflow_server.artifacts / path).read_bytes() == b""
    answer = ask(real_proxy, "GET", path, [])
    assert (answer.status, answer.complete, answer.header("Content-Length"), answer.body) == (200, True, "0", b"")


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_replaces_what_was_there_also_by_less(real_proxy: Proxy, chunked: bool) -> None:
    path = f"replaced-{secrets.token_hex(4)}/model.bin"
    for content in (secrets.token_bytes(3 * MEBIBYTE), secrets.token_bytes(10), b""):
        body = (content[at : at + 100_000] for at in range(0, len(content), 100_000)) if chunked else content
        assert ask(real_proxy, "PUT", path, [], body).status == 200
        assert ask(real_proxy, "GET", path, []).body == content


def test_two_gigabytes_come_back_as_they_were_sent_in_constant_memory(
    real_proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """About 20 s. Sparse where it starts, and only there; each copy goes as soon as it was hashed."""
    if shutil.disk_usage(tmp_path).free < 3 * LARGE_BYTES:
        pytest.skip(f"less than {3 * LARGE_BYTES / 2**30:.0f} GiB free in {tmp_path}")
    source, folder = tmp_path / "large model.bin", f"large-{secrets.token_hex(4)}"
    before = real_proxy.rss_kb()
    try:
        sent = digest(marked(source, LARGE_BYTES))
        uri = real_proxy.url + MOUNT
        seen = artifact_client("large", uri, source=source, folder=folder, target=tmp_path, timeout=300)
        assert seen == [LARGE_BYTES, 0]  # listed once uploaded, and nothing once deleted
        assert digest(source) == sent
    finally:
        source.unlink(missing_ok=True)
        shutil.rmtree(mlflow_server.artifacts / folder, ignore_errors=True)
    lines = [line for line in real_proxy.lines("proxy_request") if folder in line["path"] and line["status"] == 200]
    assert {line["method"]: max(line["bytes_in"], line["bytes_out"]) for line in lines} | {"DELETE": 0} == {
        "PUT": LARGE_BYTES,
        "GET": LARGE_BYTES,
        "DELETE": 0,
    }
    assert real_proxy.peak_rss_kb() - before < 16 * 1024


def marked(path: Path, size: int) -> Path:
    """A sparse file of this size with a random MiB in every 64, the last one at its end: no two parts are alike."""
    with path.open("wb") as file:
        file.truncate(size)
        for at in (*range(0, size, 64 * MEBIBYTE), size - MEBIBYTE):
            file.seek(at)
            file.write(os.urandom(MEBIBYTE))
    return path
