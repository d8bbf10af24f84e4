"""app/settings.py: what the environment may say. Its faults are in test_settings_faults.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.cache_settings import CacheSettings
from app.limit_settings import LimitSettings
from app.metric_settings import MetricSettings
from app.policy_settings import PolicySettings
from app.settings import AuthSettings, Settings, Timeouts, UpstreamSettings
from app.upstream_url import Base
from app.windows import Rate
from tests.unit import samples
from tests.unit.samples import settings

ADMIN_SCOPES = frozenset({"admin", "mlflow:admin", "registry:admin", "model-registry:admin"})


def test_the_smallest_environment_gives_the_documented_defaults() -> None:
    assert settings() == Settings(
        upstream=UpstreamSettings(
            base=Base("http", "mlflow.internal", 5000, ""),
            style="api",
            timeouts=Timeouts(connect=3.0, write=60.0, read=110.0, artifact_read=900.0, client_idle=60.0),
            auth="strip",
            authorization="",
            ca_bundle="",
            client_cert="",
            client_key="",
            pool_size=64,
            native_artifacts="auto",
        ),
        auth=AuthSettings(
            service_url="http://auth.internal:8000",
            service_id="platform",
            timeout=5.0,
            keys_path="",
            cache=CacheSettings(fresh=60.0, hard=300.0, stale=900.0, most_calls=20),
        ),
        policy=PolicySettings(report=False, locked=False, admin_emails=frozenset(), admin_scopes=ADMIN_SCOPES),
        limits=LimitSettings(burst=Rate(1000, 10), per_address=Rate(600, 60), redis_url=""),
        metrics=MetricSettings(emf=False, host="127.0.0.1", port=0),
        public_hosts=("registry.hokus.ai", "registry.hokusai.ai", "api.hokus.ai", "auth.hokus.ai"),
        host="127.0.0.1",
        port=8001,
        workers=2,
        trusted_hops=1,
        alb_idle_timeout=60.0,
        serve_artifacts=True,
        artifacts_disabled_status=503,
        max_json_body=33554432,
        transfers_per_key=64,
        transfers_in_all=400,
        scanner_patterns=(),
        debug=False,
    )


def test_every_variable_reaches_its_setting(tmp_path: Path) -> None:
    files = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    for path in files.values():
        samples.pem(Path(path), "PRIVATE KEY" if path.endswith("key") else "CERTIFICATE")
    assert settings(
        MLFLOW_SERVER_URL="https://MLflow.internal/base/",
        MLFLOW_API_STYLE="ajax-api",
        CONNECT_TIMEOUT_SECONDS="1.5",
        WRITE_TIMEOUT_SECONDS="7",
        READ_TIMEOUT_SECONDS="8",
        ARTIFACT_READ_TIMEOUT_SECONDS="9",
        MLFLOW_UPSTREAM_AUTH="replace",
        MLFLOW_UPSTREAM_AUTHORIZATION="Bearer service",
        MLFLOW_CA_BUNDLE_PATH=files["ca"],
        MLFLOW_CLIENT_CERT_PATH=files["cert"],
        MLFLOW_CLIENT_KEY_PATH=files["key"],
        UPSTREAM_POOL_SIZE="5",
        MLFLOW_NATIVE_ARTIFACTS="false",
        CLIENT_IDLE_TIMEOUT_SECONDS="10",
        TRANSFERS_PER_KEY="6",
        TRANSFERS_IN_ALL="7",
        SCANNER_FILTER_EXTRA_PATTERNS="/a,/b/",
        HOKUSAI_AUTH_SERVICE_URL="",
        LOCAL_KEYS_PATH="/somewhere/keys.json",
        AUTH_SERVICE_ID="website",
        AUTH_TIMEOUT_SECONDS="0.5",
        AUTH_CACHE_SECONDS="1.5",
        AUTH_CACHE_HARD_SECONDS="2.5",
        AUTH_STALE_SECONDS="0",
        AUTH_MAX_CONCURRENT="7",
        POLICY_MODE="report",
        REGISTRY_LOCKDOWN="true",
        REGISTRY_ADMIN_USER_EMAILS="A@example.org",
        REGISTRY_ADMIN_SCOPES="owner",
        RATE_LIMIT_BURST="5 per second",
        RATE_LIMIT_PER_ADDRESS="6 per minute",
        REDIS_HOST="redis.internal",
        REDIS_PORT="6380",
        REDIS_AUTH_TOKEN="token",
        REDIS_TLS_ENABLED="true",
        METRICS_EMF="true",
        METRICS_SERVICE="mlflow-proxy-staging",
        METRICS_HOST="127.0.0.3",
        METRICS_PORT="9464",
        PUBLIC_HOSTS="mlflow.example.org, Other.example.org",
        API_HOST="::",
        API_PORT="0",
        PROXY_WORKERS="3",
        TRUSTED_PROXY_HOPS="0",
        ALB_IDLE_TIMEOUT_SECONDS="120",
        MLFLOW_SERVE_ARTIFACTS="False",
        ARTIFACTS_DISABLED_STATUS="501",
        MAX_JSON_BODY_BYTES="1",
        MLFLOW_PROXY_DEBUG="TRUE",
    ) == Settings(
        upstream=UpstreamSettings(
            base=Base("https", "mlflow.internal", 443, "/base"),
            style="ajax-api",
            timeouts=Timeouts(connect=1.5, write=7.0, read=8.0, artifact_read=9.0, client_idle=10.0),
            auth="replace",
            authorization="Bearer service",
            ca_bundle=files["ca"],
            client_cert=files["cert"],
            client_key=files["key"],
            pool_size=5,
            native_artifacts="false",
        ),
        auth=AuthSettings("", "website", 0.5, "/somewhere/keys.json", CacheSettings(1.5, 2.5, 0.0, 7)),
        policy=PolicySettings(True, True, frozenset({"a@example.org"}), frozenset({"owner"})),
        limits=LimitSettings(Rate(5, 1), Rate(6, 60), "rediss://:token@redis.internal:6380"),
        metrics=MetricSettings(True, "mlflow-proxy-staging", "127.0.0.3", 9464),
        public_hosts=("mlflow.example.org", "other.example.org"),
        host="::",
        port=0,
        workers=3,
        trusted_hops=0,
        alb_idle_timeout=120.0,
        serve_artifacts=False,
        artifacts_disabled_status=501,
        max_json_body=1,
        transfers_per_key=6,
        transfers_in_all=7,
        scanner_patterns=("/a", "/b/"),
        debug=True,
    )


@pytest.mark.parametrize("variable", ["MLFLOW_SERVER_URL", "MLFLOW_TRACKING_URI"])
def test_mlflow_is_named_by_either_variable(variable: str) -> None:
    found = settings(**{"MLFLOW_SERVER_URL": "", variable: "http://other.internal:5001"})
    assert found.upstream.base == Base("http", "other.internal", 5001, "")


def test_the_older_names_are_only_fallbacks() -> None:
    found = settings(MLFLOW_TRACKING_URI="http://ignored:1", AUTH_SERVICE_URL="http://ignored:2")
    assert (found.upstream.base.host, found.auth.service_url) == ("mlflow.internal", "http://auth.internal:8000")


def test_the_auth_service_is_named_by_its_older_variable_too() -> None:
    found = settings(HOKUSAI_AUTH_SERVICE_URL="", AUTH_SERVICE_URL="http://older.internal:8000")
    assert found.auth.service_url == "http://older.internal:8000"


@pytest.mark.parametrize("end", ["", "/", "/api", "/api/"])
def test_the_auth_services_base_may_or_may_not_end_in_api(end: str) -> None:
    found = settings(HOKUSAI_AUTH_SERVICE_URL=f"https://auth.internal{end}")
    assert found.auth.service_url == "https://auth.internal"


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "on", " True "])
def test_a_flag_is_on(text: str) -> None:
    assert settings(MLFLOW_PROXY_DEBUG=text).debug is True


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "off", "", "  "])
def test_a_flag_is_off(text: str) -> None:
    assert settings(MLFLOW_PROXY_DEBUG=text).debug is False


@pytest.mark.parametrize(
    "variable",
    ["API_HOST", "API_PORT", "MLFLOW_API_STYLE", "READ_TIMEOUT_SECONDS", "MLFLOW_SERVE_ARTIFACTS", "AUTH_SERVICE_ID"],
)
@pytest.mark.parametrize("text", ["", " ", "\t"], ids=["empty", "a space", "a tab"])
def test_an_empty_variable_counts_as_one_that_is_not_set(variable: str, text: str) -> None:
    assert settings(**{variable: text}) == settings()


def test_a_proxy_elsewhere_may_mean_the_public_host_and_speaks_its_style() -> None:
    found = settings(MLFLOW_SERVER_URL="https://registry.hokus.ai/mlflow", MLFLOW_ALLOW_PUBLIC_UPSTREAM="true")
    assert (found.upstream.style, found.upstream.base.prefix) == ("ajax-api", "/mlflow")


@pytest.mark.parametrize(
    ("host", "style", "expected"),
    [
        ("mlflow.internal", "auto", "api"),
        ("registry.hokus.ai", "auto", "ajax-api"),
        ("mlflow.internal", "ajax-api", "ajax-api"),
        ("registry.hokus.ai", "api", "api"),
    ],
)
def test_the_style_follows_the_upstream_unless_it_is_said(host: str, style: str, expected: str) -> None:
    found = settings(MLFLOW_SERVER_URL=f"http://{host}", MLFLOW_API_STYLE=style, MLFLOW_ALLOW_PUBLIC_UPSTREAM="true")
    assert found.upstream.style == expected


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("Bearer service\n")
    variables = {"MLFLOW_UPSTREAM_AUTH": "replace", "MLFLOW_UPSTREAM_AUTHORIZATION_FILE": str(tmp_path / "secret")}
    assert settings(**variables).upstream.authorization == "Bearer service"


def test_the_secret_is_not_in_the_settings_text() -> None:
    found = settings(MLFLOW_UPSTREAM_AUTH="replace", MLFLOW_UPSTREAM_AUTHORIZATION="Bearer hk_test_x")
    assert "hk_test_x" not in repr(found)


def test_settings_cannot_be_changed() -> None:
    found: Any = settings()  # the checker would refuse it sooner
    with pytest.raises(AttributeError):
        found.debug = True
