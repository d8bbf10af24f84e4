"""What the proxy is told by its environment: read here, once, and nowhere else.

`Settings.from_env` takes a mapping and gives a frozen `Settings`, or raises one `ConfigError` that names every
fault at once: an operator who fixes faults one restart at a time is an operator with an outage.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from app.cache_settings import CacheSettings, read_cache
from app.limit_settings import LimitSettings, read_limits
from app.metric_settings import MetricSettings, read_metrics
from app.policy_settings import PolicySettings, read_policy
from app.upstream_url import Base, parse_base, self_loop
from app.variables import Reader

PUBLIC_HOSTS = "registry.hokus.ai,registry.hokusai.ai,api.hokus.ai,auth.hokus.ai"
SERVICE_IDS = ("platform", "website", "prediction")  # what the auth service knows; an unknown one refuses every key
MEBIBYTE = 1024 * 1024


class ConfigError(Exception):
    """The environment does not describe a proxy that could work. `faults` holds one sentence for each reason."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("The proxy is not configured correctly:\n" + "\n".join(f"  - {fault}" for fault in faults))


@dataclass(frozen=True)
class Timeouts:
    """Seconds. A transfer that makes progress is never cut: each of these bounds one wait, not a whole request."""

    connect: float
    write: float
    read: float
    artifact_read: float
    client_idle: float


@dataclass(frozen=True)
class UpstreamSettings:
    """Where MLflow is, and how it is spoken to."""

    base: Base
    style: Literal["api", "ajax-api"]
    timeouts: Timeouts
    auth: Literal["strip", "forward", "replace"]
    authorization: str = field(repr=False)
    ca_bundle: str
    client_cert: str
    client_key: str
    pool_size: int
    native_artifacts: Literal["auto", "true", "false"]

    @property
    def own_headers(self) -> list[tuple[str, str]]:
        """What every request to MLflow has: its host, and with `replace` the credential that stands for everybody's."""
        credential = [("Authorization", self.authorization)] if self.auth == "replace" else []
        return [("Host", self.base.authority), *credential]


@dataclass(frozen=True)
class AuthSettings:
    """Who vouches for a key: the auth service when `service_url` is set, else the local key file."""

    service_url: str
    service_id: str
    timeout: float
    keys_path: str
    cache: CacheSettings = field(default_factory=CacheSettings)


@dataclass(frozen=True)
class Settings:
    """Everything that can be configured. See docs/configuration.md for the meaning of each variable."""

    upstream: UpstreamSettings
    auth: AuthSettings
    policy: PolicySettings
    limits: LimitSettings
    metrics: MetricSettings
    public_hosts: tuple[str, ...]
    host: str
    port: int
    workers: int
    trusted_hops: int
    alb_idle_timeout: float
    serve_artifacts: bool
    artifacts_disabled_status: int
    max_json_body: int
    transfers_per_key: int
    transfers_in_all: int
    scanner_patterns: tuple[str, ...] | None  # beside the built-in ones; None for no filter at all
    debug: bool

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read `environ` (usually `os.environ`). Raises `ConfigError` with all the faults found."""
        settings, reader = read(environ)
        if reader.faults:
            raise ConfigError(reader.faults)
        return settings


def read(environ: Mapping[str, str]) -> tuple[Settings, Reader]:
    """Build the settings and keep the reader, which knows the faults and every variable that was asked for."""
    reader = Reader(environ)
    host, port = reader.text("API_HOST", "127.0.0.1"), reader.number("API_PORT", 8001, 0, most=65535)
    settings = Settings(
        upstream=_upstream(reader, host, port),
        auth=_auth(reader),
        policy=read_policy(reader),
        limits=read_limits(reader),
        metrics=read_metrics(reader, port),
        public_hosts=_public_hosts(reader),
        host=host,
        port=port,
        workers=reader.number("PROXY_WORKERS", 2, 1),
        trusted_hops=reader.number("TRUSTED_PROXY_HOPS", 1, 0),
        alb_idle_timeout=reader.seconds("ALB_IDLE_TIMEOUT_SECONDS", 60),
        serve_artifacts=reader.flag("MLFLOW_SERVE_ARTIFACTS", True),
        artifacts_disabled_status=int(reader.choice("ARTIFACTS_DISABLED_STATUS", "503", ("503", "501"))),
        max_json_body=reader.number("MAX_JSON_BODY_BYTES", 32 * MEBIBYTE, 1),
        transfers_per_key=reader.number("TRANSFERS_PER_KEY", 64, 1),
        transfers_in_all=reader.number("TRANSFERS_IN_ALL", 400, 1),
        scanner_patterns=_scanner_patterns(reader),
        debug=reader.flag("MLFLOW_PROXY_DEBUG", False),
    )
    return settings, reader


def _upstream(reader: Reader, own_host: str, own_port: int) -> UpstreamSettings:
    base, public = _upstream_base(reader, own_host, own_port)
    style = reader.choice("MLFLOW_API_STYLE", "auto", ("auto", "api", "ajax-api"))
    if style == "auto":  # only the public hosts serve their REST API under /ajax-api/ alone
        style = "ajax-api" if base.host in public else "api"
    auth = reader.choice("MLFLOW_UPSTREAM_AUTH", "strip", ("strip", "forward", "replace"))
    authorization = reader.secret("MLFLOW_UPSTREAM_AUTHORIZATION")
    if (auth == "replace") != bool(authorization):
        reader.fault(
            "MLFLOW_UPSTREAM_AUTH=replace and MLFLOW_UPSTREAM_AUTHORIZATION belong together: set both or none."
        )
    cert, key = (
        reader.pem("MLFLOW_CLIENT_CERT_PATH", "CERTIFICATE"),
        reader.pem("MLFLOW_CLIENT_KEY_PATH", "PRIVATE KEY"),
    )
    if bool(cert) != bool(key):
        reader.fault("MLFLOW_CLIENT_CERT_PATH and MLFLOW_CLIENT_KEY_PATH belong together: set both or none.")
    return UpstreamSettings(
        base=base,
        style=cast(Literal["api", "ajax-api"], style),
        timeouts=_timeouts(reader),
        auth=cast(Literal["strip", "forward", "replace"], auth),
        authorization=authorization,
        ca_bundle=reader.pem("MLFLOW_CA_BUNDLE_PATH", "CERTIFICATE"),
        client_cert=cert,
        client_key=key,
        pool_size=reader.number("UPSTREAM_POOL_SIZE", 64, 1),
        native_artifacts=cast(
            Literal["auto", "true", "false"],
            reader.choice("MLFLOW_NATIVE_ARTIFACTS", "auto", ("auto", "true", "false")),
        ),
    )


def _timeouts(reader: Reader) -> Timeouts:
    return Timeouts(
        connect=reader.seconds("CONNECT_TIMEOUT_SECONDS", 3),
        write=reader.seconds("WRITE_TIMEOUT_SECONDS", 60),
        # Below the MLflow client's own 120 s (MLFLOW_HTTP_REQUEST_TIMEOUT), so that it sees our 504 and its reason.
        read=reader.seconds("READ_TIMEOUT_SECONDS", 110),
        # MLflow copies a whole object to or from S3 between the last byte in and the first byte out.
        artifact_read=reader.seconds("ARTIFACT_READ_TIMEOUT_SECONDS", 900),
        # A client that neither sends nor takes a byte for that long, while it should.
        client_idle=reader.seconds("CLIENT_IDLE_TIMEOUT_SECONDS", 60),
    )


def _upstream_base(reader: Reader, own_host: str, own_port: int) -> tuple[Base, frozenset[str]]:
    public = frozenset(_public_hosts(reader))
    allow_public = reader.flag("MLFLOW_ALLOW_PUBLIC_UPSTREAM", False)
    url = reader.text("MLFLOW_SERVER_URL", "") or reader.text("MLFLOW_TRACKING_URI", "")
    if not url:
        reader.fault("MLFLOW_SERVER_URL is not set: say where the internal MLflow is, e.g. http://mlflow.internal:5000")
        return Base("http", "mlflow.invalid", 80, ""), public
    try:
        base = parse_base(url)
    except ValueError as error:
        reader.fault(f"MLFLOW_SERVER_URL {error}")
        return Base("http", "mlflow.invalid", 80, ""), public
    looped = self_loop(base, own_port, frozenset() if allow_public else public, own_host)
    if looped:
        reader.fault(f"MLFLOW_SERVER_URL {looped}")
    return base, public


def _public_hosts(reader: Reader) -> tuple[str, ...]:
    return tuple(h.strip().lower() for h in reader.text("PUBLIC_HOSTS", PUBLIC_HOSTS).split(",") if h.strip())


def _scanner_patterns(reader: Reader) -> tuple[str, ...] | None:
    enabled = reader.flag("SCANNER_FILTER_ENABLED", True)
    given = reader.text("SCANNER_FILTER_EXTRA_PATTERNS", "").split(",")
    patterns = tuple(pattern.strip() for pattern in given if pattern.strip())
    if not all(pattern.startswith("/") for pattern in patterns):
        reader.fault("SCANNER_FILTER_EXTRA_PATTERNS must hold paths, separated by commas, that begin with a slash.")
    return patterns if enabled else None


def _auth(reader: Reader) -> AuthSettings:
    url = reader.text("HOKUSAI_AUTH_SERVICE_URL", "") or reader.text("AUTH_SERVICE_URL", "")
    keys_path = reader.text("LOCAL_KEYS_PATH", "")
    if not url and not keys_path:
        reader.fault(
            "Nobody can vouch for a key: set HOKUSAI_AUTH_SERVICE_URL to ask the auth service, "
            "or LOCAL_KEYS_PATH to keep keys in a local file (`flask --app wsgi keys add --user NAME`)."
        )
    if url and keys_path:
        reader.fault("HOKUSAI_AUTH_SERVICE_URL and LOCAL_KEYS_PATH are both set: keys have one source, choose it.")
    if url:
        try:
            parse_base(url)
        except ValueError as error:
            reader.fault(f"HOKUSAI_AUTH_SERVICE_URL {error}")
    return AuthSettings(
        service_url=url.rstrip("/").removesuffix("/api"),
        service_id=reader.choice("AUTH_SERVICE_ID", "platform", SERVICE_IDS),
        timeout=reader.seconds("AUTH_TIMEOUT_SECONDS", 5),
        keys_path=keys_path,
        cache=read_cache(reader),
    )
