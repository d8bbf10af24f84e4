"""app/settings.py: what the environment must not say, and that every fault of it is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import ConfigError, Settings, read
from tests.unit.samples import ENVIRONMENT, pem, settings


def faults(**variables: str) -> list[str]:
    """The faults of the complete environment with some variables changed."""
    return read({**ENVIRONMENT, **variables})[1].faults


def test_an_empty_environment_names_both_things_that_are_missing() -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.from_env({})
    assert [fault.split(":")[0] for fault in raised.value.faults] == [
        "MLFLOW_SERVER_URL is not set",
        "Nobody can vouch for a key",
    ]


def test_all_faults_are_told_at_once() -> None:
    bad = {
        "MLFLOW_SERVER_URL": "ftp://mlflow.internal",
        "API_PORT": "eight",
        "PROXY_WORKERS": "0",
        "READ_TIMEOUT_SECONDS": "soon",
        "MLFLOW_SERVE_ARTIFACTS": "maybe",
        "MLFLOW_API_STYLE": "rest",
        "AUTH_SERVICE_ID": "ml-platform",
        "MLFLOW_CA_BUNDLE_PATH": "/no/such/file.pem",
    }
    with pytest.raises(ConfigError) as raised:
        settings(**bad)
    assert {fault.split()[0] for fault in raised.value.faults} == set(bad)
    assert str(raised.value).splitlines() == [
        "The proxy is not configured correctly:",
        *[f"  - {fault}" for fault in raised.value.faults],
    ]


@pytest.mark.parametrize(
    ("variable", "text", "fault"),
    [
        ("API_PORT", "-1", "API_PORT must be a whole number of at least 0, not '-1'."),
        ("API_PORT", "8001.0", "API_PORT must be a whole number of at least 0, not '8001.0'."),
        ("API_PORT", "²", "API_PORT must be a whole number of at least 0, not '²'."),
        ("PROXY_WORKERS", "0", "PROXY_WORKERS must be a whole number of at least 1, not '0'."),
        ("TRUSTED_PROXY_HOPS", "one", "TRUSTED_PROXY_HOPS must be a whole number of at least 0, not 'one'."),
        ("AUTH_MAX_CONCURRENT", "0", "AUTH_MAX_CONCURRENT must be a whole number of at least 1, not '0'."),
        ("UPSTREAM_POOL_SIZE", "0", "UPSTREAM_POOL_SIZE must be a whole number of at least 1, not '0'."),
        ("MAX_JSON_BODY_BYTES", "32M", "MAX_JSON_BODY_BYTES must be a whole number of at least 1, not '32M'."),
        ("MLFLOW_PROXY_DEBUG", "ja", "MLFLOW_PROXY_DEBUG must be true or false, not 'ja'."),
        ("MLFLOW_API_STYLE", "API", "MLFLOW_API_STYLE must be one of auto, api, ajax-api, not 'API'."),
        ("ARTIFACTS_DISABLED_STATUS", "404", "ARTIFACTS_DISABLED_STATUS must be one of 503, 501, not '404'."),
        ("AUTH_SERVICE_ID", "mlflow", "AUTH_SERVICE_ID must be one of platform, website, prediction, not 'mlflow'."),
        ("MLFLOW_UPSTREAM_AUTH", "keep", "MLFLOW_UPSTREAM_AUTH must be one of strip, forward, replace, not 'keep'."),
        ("MLFLOW_CA_BUNDLE_PATH", "/no/such", "MLFLOW_CA_BUNDLE_PATH names a file that cannot be read."),
    ],
)
def test_a_value_that_cannot_be_meant_is_a_fault_that_says_why(variable: str, text: str, fault: str) -> None:
    assert faults(**{variable: text}) == [fault]


@pytest.mark.parametrize(
    "variable",
    [
        "CONNECT_TIMEOUT_SECONDS",
        "WRITE_TIMEOUT_SECONDS",
        "READ_TIMEOUT_SECONDS",
        "ARTIFACT_READ_TIMEOUT_SECONDS",
        "AUTH_TIMEOUT_SECONDS",
        "ALB_IDLE_TIMEOUT_SECONDS",
    ],
)
@pytest.mark.parametrize("text", ["0", "-1", "inf", "-inf", "nan", "1e-999", "1e999", "five", "5s"])
def test_a_time_is_a_finite_number_of_seconds_above_zero(variable: str, text: str) -> None:
    assert faults(**{variable: text}) == [f"{variable} must be a time in seconds above zero, not {text!r}."]


@pytest.mark.parametrize("variable", ["WRITE_TIMEOUT_SECONDS", "READ_TIMEOUT_SECONDS", "CLIENT_IDLE_TIMEOUT_SECONDS"])
def test_a_time_is_no_longer_than_the_kernel_counts(variable: str) -> None:
    """Or every request would be a 500: TCP_USER_TIMEOUT takes milliseconds in 32 bits."""
    assert faults(**{variable: "1000000"}) == []
    assert faults(**{variable: "1000001"}) == [f"{variable} must be at most 1000000 seconds, not '1000001'."]


@pytest.mark.parametrize("variable", ["AUTH_CACHE_SECONDS", "AUTH_CACHE_HARD_SECONDS", "AUTH_STALE_SECONDS"])
@pytest.mark.parametrize("text", ["-1", "-0.1", "soon", "inf", "nan", "1e999"])
def test_a_time_that_may_be_none_is_zero_or_more(variable: str, text: str) -> None:
    assert faults(**{variable: text}) == [f"{variable} must be a time in seconds, zero or above, not {text!r}."]


@pytest.mark.parametrize(
    ("fresh", "hard", "wrong"), [("0", "0", 0), ("60", "60", 0), ("0.5", "0.4", 1), ("301", "300", 1)]
)
def test_an_answer_counts_no_longer_than_it_may_be_used(fresh: str, hard: str, wrong: int) -> None:
    found = faults(AUTH_CACHE_SECONDS=fresh, AUTH_CACHE_HARD_SECONDS=hard)
    assert [fault.split(" is below ")[0] for fault in found] == ["AUTH_CACHE_HARD_SECONDS"] * wrong


def test_a_port_above_65535_is_a_fault() -> None:
    assert [fault.split()[0] for fault in faults(API_PORT="65536")] == ["API_PORT"]


@pytest.mark.parametrize(
    "url",
    ["mlflow.internal:5000", "ftp://mlflow.internal", "http://", "http://[::1", "http://h:65536", "http://h/?a=b"],
)
@pytest.mark.parametrize("variable", ["MLFLOW_SERVER_URL", "HOKUSAI_AUTH_SERVICE_URL"])
def test_an_address_that_is_none_is_a_fault(variable: str, url: str) -> None:
    assert [fault.split()[0] for fault in faults(**{variable: url})] == [variable]


@pytest.mark.parametrize("host", ["registry.hokus.ai", "REGISTRY.hokus.ai", "registry.hokusai.ai", "api.hokus.ai"])
def test_a_public_host_of_ours_is_refused_as_upstream_with_the_explanation(host: str) -> None:
    (fault,) = faults(MLFLOW_SERVER_URL=f"https://{host}/mlflow")
    assert fault.startswith(f"MLFLOW_SERVER_URL points to {host.lower()}, a public host of ours")
    assert "MLFLOW_ALLOW_PUBLIC_UPSTREAM=true" in fault


def test_a_public_host_with_the_roots_dot_is_the_same_host() -> None:
    assert len(faults(MLFLOW_SERVER_URL="https://registry.hokus.ai./mlflow")) == 1


def test_the_public_hosts_can_be_named() -> None:
    own = {"PUBLIC_HOSTS": " one.example ,, TWO.example"}
    assert [len(faults(MLFLOW_SERVER_URL=f"http://{host}", **own)) for host in ("one.example", "two.example")] == [1, 1]
    assert faults(MLFLOW_SERVER_URL="https://registry.hokus.ai", **own) == []


def test_the_older_variable_cannot_make_a_loop_either() -> None:
    assert len(faults(MLFLOW_SERVER_URL="", MLFLOW_TRACKING_URI="https://registry.hokus.ai/api/mlflow")) == 1


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_its_own_port_on_this_machine_is_always_a_loop(allowed: str) -> None:
    variables = {"MLFLOW_SERVER_URL": "http://127.0.0.1:9000", "API_PORT": "9000"}
    assert len(faults(MLFLOW_ALLOW_PUBLIC_UPSTREAM=allowed, **variables)) == 1


def test_the_address_it_listens_on_is_a_loop() -> None:
    assert len(faults(API_HOST="192.0.2.5", MLFLOW_SERVER_URL="http://192.0.2.5:8001")) == 1


def test_keys_have_one_source() -> None:
    assert faults(LOCAL_KEYS_PATH="keys.json") == [
        "HOKUSAI_AUTH_SERVICE_URL and LOCAL_KEYS_PATH are both set: keys have one source, choose it."
    ]


def test_without_a_source_of_keys_it_does_not_start() -> None:
    (fault,) = faults(HOKUSAI_AUTH_SERVICE_URL="")
    assert fault.startswith("Nobody can vouch for a key: set HOKUSAI_AUTH_SERVICE_URL")


@pytest.mark.parametrize(
    "variables",
    [
        {"MLFLOW_UPSTREAM_AUTH": "replace"},
        {"MLFLOW_UPSTREAM_AUTHORIZATION": "Bearer service"},
        {"MLFLOW_UPSTREAM_AUTH": "forward", "MLFLOW_UPSTREAM_AUTHORIZATION": "Bearer service"},
    ],
    ids=["replace without a credential", "a credential that nobody sends", "a credential beside forward"],
)
def test_the_service_credential_and_its_mode_belong_together(variables: dict[str, str]) -> None:
    (fault,) = faults(**variables)
    assert fault.startswith("MLFLOW_UPSTREAM_AUTH=replace and MLFLOW_UPSTREAM_AUTHORIZATION belong together")
    assert "service" not in fault.replace("service credential", "")


@pytest.mark.parametrize("variable", ["MLFLOW_CLIENT_CERT_PATH", "MLFLOW_CLIENT_KEY_PATH"])
def test_certificate_and_key_belong_together(variable: str, tmp_path: Path) -> None:
    kind = "CERTIFICATE" if "CERT" in variable else "PRIVATE KEY"
    assert faults(**{variable: pem(tmp_path / "half.pem", kind)}) == [
        "MLFLOW_CLIENT_CERT_PATH and MLFLOW_CLIENT_KEY_PATH belong together: set both or none."
    ]


def test_a_secret_comes_from_one_place(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file")
    found = faults(
        MLFLOW_UPSTREAM_AUTH="replace",
        MLFLOW_UPSTREAM_AUTHORIZATION="from-environment",
        MLFLOW_UPSTREAM_AUTHORIZATION_FILE=str(tmp_path / "secret"),
    )
    assert found == ["MLFLOW_UPSTREAM_AUTHORIZATION and MLFLOW_UPSTREAM_AUTHORIZATION_FILE are both set: choose one."]


def test_a_secrets_file_that_is_missing_is_a_fault() -> None:
    found = faults(MLFLOW_UPSTREAM_AUTH="replace", MLFLOW_UPSTREAM_AUTHORIZATION_FILE="/no/such/file")
    assert found[0] == "MLFLOW_UPSTREAM_AUTHORIZATION_FILE names a file that cannot be read."


def test_a_secrets_file_that_is_a_directory_is_a_fault_like_the_others(tmp_path: Path) -> None:
    """Docker makes a directory of a bind mount whose file is missing."""
    found = faults(MLFLOW_UPSTREAM_AUTH="replace", MLFLOW_UPSTREAM_AUTHORIZATION_FILE=str(tmp_path))
    assert found[0] == "MLFLOW_UPSTREAM_AUTHORIZATION_FILE names a file that cannot be read."


def test_a_secrets_file_that_is_no_text_is_a_fault_like_the_others(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    found = faults(MLFLOW_UPSTREAM_AUTH="replace", MLFLOW_UPSTREAM_AUTHORIZATION_FILE=str(tmp_path / "secret"))
    assert found[0].startswith("MLFLOW_UPSTREAM_AUTHORIZATION_FILE ")


@pytest.mark.parametrize("secret", ["Bearer a\nX-Hokusai-User-Id: b", "Bearer a\rb", "Bearer \x00", "Bearer \u20ac"])
def test_a_secret_that_is_no_header_value_is_a_fault_and_not_told(secret: str) -> None:
    found = faults(MLFLOW_UPSTREAM_AUTH="replace", MLFLOW_UPSTREAM_AUTHORIZATION=secret)
    assert [fault.split()[0] for fault in found] == ["MLFLOW_UPSTREAM_AUTHORIZATION"]
    assert secret not in found[0]
