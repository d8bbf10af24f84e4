"""Starting: a proxy that could not work does not start, says all that is wrong at once, and never tells a secret."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.auth_service import GOOD_KEY, AuthService
from tests.support.client import request
from tests.support.fleet import Start
from tests.support.process import free_port
from tests.support.proxy import start_failing
from tests.support.upstream import RecordingUpstream

PUBLIC_HOSTS = ("registry.hokus.ai", "registry.hokusai.ai", "api.hokus.ai", "auth.hokus.ai")
# A proxy that could start; the tests make one thing of it wrong. Nothing is called while starting.
COULD_START = {"MLFLOW_SERVER_URL": "http://127.0.0.1:9", "HOKUSAI_AUTH_SERVICE_URL": "http://127.0.0.1:9"}
SEARCH = "/mlflow/api/2.0/mlflow/experiments/search"
BEARER = ("Authorization", f"Bearer {GOOD_KEY}")
Refusal = subprocess.CompletedProcess[str]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal comes within a second; one that does not come is waited for no longer than this."""
    monkeypatch.setattr("tests.support.proxy.START_SECONDS", 10.0)


def refused(**env: str) -> Refusal:
    """The end of a proxy that could start but for these settings."""
    return start_failing({**COULD_START, **env})


def faults(refusal: Refusal) -> list[str]:
    """The faults it names; there is nothing else on stderr, least of all a traceback, and no server on stdout."""
    assert refusal.returncode != 0
    assert refusal.stdout == ""
    head, *lines = refusal.stderr.splitlines()
    assert head == "The proxy is not configured correctly:" and all(line.startswith("  - ") for line in lines), refusal
    return [line.removeprefix("  - ") for line in lines]


def test_with_nothing_set_both_faults_are_named_at_once() -> None:
    upstream, auth = faults(start_failing({}))
    assert upstream.startswith("MLFLOW_SERVER_URL is not set")
    assert "HOKUSAI_AUTH_SERVICE_URL" in auth and "LOCAL_KEYS_PATH" in auth


@pytest.mark.parametrize("host", PUBLIC_HOSTS)
def test_an_upstream_that_is_a_public_host_of_ours_is_refused_with_the_explanation(host: str) -> None:
    [fault] = faults(refused(MLFLOW_SERVER_URL=f"https://{host}/mlflow"))
    assert fault.startswith(f"MLFLOW_SERVER_URL points to {host}, a public host of ours")
    assert "MLFLOW_ALLOW_PUBLIC_UPSTREAM=true" in fault


@pytest.mark.parametrize("url", ["https://REGISTRY.hokus.ai:8443", "http://registry.hokus.ai.", "https://x.hokus.ai"])
def test_a_public_host_is_known_in_any_spelling(url: str) -> None:
    [fault] = faults(refused(MLFLOW_SERVER_URL=url, PUBLIC_HOSTS="registry.hokus.ai, X.hokus.ai"))
    assert "a public host of ours" in fault


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.0.0.2"])
def test_an_upstream_that_is_the_proxy_itself_is_refused(host: str) -> None:
    port = str(free_port())
    [fault] = faults(refused(MLFLOW_SERVER_URL=f"http://{host}:{port}", API_PORT=port))
    assert f"port {port} of this machine" in fault and "API_PORT" in fault


@pytest.mark.parametrize("name", ["HOKUSAI_AUTH_SERVICE_URL", "AUTH_SERVICE_URL"])
def test_two_sources_of_keys_are_refused(name: str, tmp_path: Path) -> None:
    env = {"MLFLOW_SERVER_URL": "http://127.0.0.1:9", name: "http://127.0.0.1:9"}
    [fault] = faults(start_failing({**env, "LOCAL_KEYS_PATH": str(tmp_path / "keys.json")}))
    assert "LOCAL_KEYS_PATH are both set" in fault


def test_all_bad_values_are_named_at_once_each_by_its_variable() -> None:
    bad = {
        "PROXY_WORKERS": "0",
        "TRUSTED_PROXY_HOPS": "-1",
        "READ_TIMEOUT_SECONDS": "0",
        "ARTIFACT_READ_TIMEOUT_SECONDS": "nan",
        "CONNECT_TIMEOUT_SECONDS": "inf",
        "WRITE_TIMEOUT_SECONDS": "1m",
        "AUTH_TIMEOUT_SECONDS": "-5",
        "MAX_JSON_BODY_BYTES": "32M",
        "MLFLOW_SERVE_ARTIFACTS": "maybe",
        "MLFLOW_PROXY_DEBUG": "2",
        "ARTIFACTS_DISABLED_STATUS": "404",
        "MLFLOW_API_STYLE": "ajax",
        "MLFLOW_UPSTREAM_AUTH": "none",
        "AUTH_SERVICE_ID": "ml-platform",
    }
    found = faults(refused(**bad, API_PORT="eight"))
    assert {fault.split()[0] for fault in found} == {*bad, "API_PORT"}


def test_a_number_of_workers_that_is_none_is_a_fault_like_any_other() -> None:
    """gunicorn reads this variable too, and before its configuration file."""
    first, second = faults(refused(PROXY_WORKERS="two", TRUSTED_PROXY_HOPS="two"))
    assert first.startswith("PROXY_WORKERS") and second.startswith("TRUSTED_PROXY_HOPS")


@pytest.mark.parametrize("port", ["65536", "70000"])
def test_a_port_that_there_is_not_is_a_fault_like_any_other(port: str) -> None:
    [fault] = faults(refused(API_PORT=port))
    assert fault.startswith("API_PORT")


@pytest.mark.parametrize(
    "url", ["mlflow:5000", "ftp://mlflow", "http://", "http://h:99999", "http://h/?a=b", "http://[::1"]
)
def test_a_url_that_is_none_is_named_by_its_variable(url: str) -> None:
    first, second = faults(refused(MLFLOW_SERVER_URL=url, HOKUSAI_AUTH_SERVICE_URL=url))
    assert first.startswith("MLFLOW_SERVER_URL ") and second.startswith("HOKUSAI_AUTH_SERVICE_URL ")


@pytest.mark.parametrize("url", ["http://mlflow internal:5000", "http://mlflow/a b"])
def test_a_url_with_a_space_in_it_is_refused(url: str) -> None:
    assert faults(refused(MLFLOW_SERVER_URL=url))[0].startswith("MLFLOW_SERVER_URL ")


def test_missing_certificate_files_are_all_named(tmp_path: Path) -> None:
    names = ("MLFLOW_CA_BUNDLE_PATH", "MLFLOW_CLIENT_CERT_PATH", "MLFLOW_CLIENT_KEY_PATH")
    found = faults(refused(**{name: str(tmp_path / "missing.pem") for name in names}))
    assert sorted(fault.split()[0] for fault in found) == sorted(names)


@pytest.mark.parametrize("name", ["MLFLOW_CLIENT_CERT_PATH", "MLFLOW_CLIENT_KEY_PATH"])
def test_half_a_client_certificate_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "half.pem"
    path.write_text("-----BEGIN CERTIFICATE-----" if "CERT" in name else f"-----BEGIN {'PRIVATE'} KEY-----")
    assert any("belong together" in fault for fault in faults(refused(**{name: str(path)})))


def test_a_file_that_holds_no_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("this is no certificate")
    [fault] = faults(refused(MLFLOW_SERVER_URL="https://127.0.0.1:9", MLFLOW_CA_BUNDLE_PATH=str(path)))
    assert fault.startswith("MLFLOW_CA_BUNDLE_PATH")


def test_a_port_that_is_taken_is_told_and_ends_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refusal = refused(API_PORT=str(taken.getsockname()[1]))
    lines = [json.loads(line) for line in refusal.stdout.splitlines()]
    assert refusal.returncode != 0
    assert any("in use" in line["message"] and line["level"] == "ERROR" for line in lines), refusal
    assert "Traceback" not in refusal.stdout + refusal.stderr


SECRET = f"Bearer {secrets.token_urlsafe(24)}"


def test_a_secret_in_two_places_is_refused_and_not_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    env = {"MLFLOW_UPSTREAM_AUTHORIZATION": SECRET, "MLFLOW_UPSTREAM_AUTHORIZATION_FILE": str(path)}
    refusal = refused(**env, MLFLOW_UPSTREAM_AUTH="strip")
    assert len(faults(refusal)) == 2
    assert SECRET.split()[1] not in refusal.stdout + refusal.stderr


@pytest.mark.parametrize("name", ["MLFLOW_SERVER_URL", "HOKUSAI_AUTH_SERVICE_URL"])
@pytest.mark.parametrize("port", ["5000", "99999"])
def test_a_password_in_a_url_is_refused_and_not_told(name: str, port: str) -> None:
    password = secrets.token_urlsafe(12)
    refusal = refused(**{name: f"https://user:{password}@mlflow.internal:{port}"})
    assert faults(refusal)[0].startswith(name)
    assert password not in refusal.stdout + refusal.stderr


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"Bearer one\nBearer two"])
def test_a_secret_file_that_holds_no_secret_is_a_fault_like_any_other(tmp_path: Path, content: bytes | None) -> None:
    """A directory, nothing, no text, or what no header can carry; and the other faults are named beside it."""
    path = tmp_path / "secret"
    path.mkdir() if content is None else path.write_bytes(content)
    env = {"MLFLOW_UPSTREAM_AUTH": "replace", "MLFLOW_UPSTREAM_AUTHORIZATION_FILE": str(path)}
    found = faults(refused(**env, TRUSTED_PROXY_HOPS="none"))
    assert any("MLFLOW_UPSTREAM_AUTHORIZATION" in fault for fault in found)
    assert any(fault.startswith("TRUSTED_PROXY_HOPS") for fault in found)


def test_a_secret_comes_from_its_file(
    start: Start, proxy_env: dict[str, str], upstream: RecordingUpstream, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    env = {"MLFLOW_UPSTREAM_AUTH": "replace", "MLFLOW_UPSTREAM_AUTHORIZATION_FILE": str(path)}
    proxy = start({**proxy_env, **env, "MLFLOW_PROXY_DEBUG": "true"})
    assert request(proxy.port, "GET", SEARCH, [BEARER]).status == 200
    assert upstream.requests[0].values("Authorization") == [SECRET.encode()]
    assert SECRET.split()[1] not in proxy.output


@pytest.mark.parametrize("suffix", ["", "/", "/api", "/api/"])
def test_the_older_names_are_understood_with_and_without_the_api_suffix(
    start: Start, upstream: RecordingUpstream, auth_service: AuthService, suffix: str
) -> None:
    proxy = start({"MLFLOW_TRACKING_URI": upstream.url + "/", "AUTH_SERVICE_URL": auth_service.url + suffix})
    assert request(proxy.port, "GET", SEARCH, [BEARER]).status == 200
    assert [call.path for call in auth_service.calls] == ["/api/v1/keys/validate"]
    assert upstream.requests[0].target == SEARCH.removeprefix("/mlflow").encode()


def test_the_newer_names_win_over_the_older(
    start: Start, proxy_env: dict[str, str], upstream: RecordingUpstream
) -> None:
    older = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "AUTH_SERVICE_URL": "http://127.0.0.1:9"}
    proxy = start({**older, **proxy_env})
    assert request(proxy.port, "GET", SEARCH, [BEARER]).status == 200


def test_a_public_upstream_that_is_meant_is_called_in_the_external_style(
    start: Start, proxy_env: dict[str, str], upstream: RecordingUpstream
) -> None:
    """`localhost` stands for a public host here: no test calls one."""
    env = {"MLFLOW_SERVER_URL": f"http://localhost:{upstream.port}/mlflow", "PUBLIC_HOSTS": "localhost"}
    assert len(faults(refused(**env))) == 1
    proxy = start({**proxy_env, **env, "MLFLOW_ALLOW_PUBLIC_UPSTREAM": "true"})
    assert request(proxy.port, "GET", SEARCH, [BEARER]).status == 200
    assert upstream.requests[0].target == b"/mlflow/ajax-api/2.0/mlflow/experiments/search"
