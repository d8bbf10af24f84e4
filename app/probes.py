"""Is MLflow there, and do its three API types answer? Asked through the same session as the traffic, and not often."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

from urllib3.exceptions import HTTPError

from app import VERSION
from app.errors import ProxyError
from app.scope import RequestScope
from app.settings import Settings
from app.translate import upstream_path
from app.upstream import Upstream, UpstreamRequest

FRESH_SECONDS = 2.0  # a report this young is given again: many askers cost MLflow one round of probes
# Whoever asks about health has 5 s (the SDK's probe): a probe must not wait as long as a request may.
READ_TIMEOUT_SECONDS = 3.0

PROBES = {
    "connectivity": "/health",
    "experiments_api": "/api/2.0/mlflow/experiments/search?max_results=1",
    "models_api": "/api/2.0/mlflow/registered-models/search?max_results=1",
    # A folder that does not exist: listing the root of a large store is no small question.
    "artifacts_api": "/api/2.0/mlflow-artifacts/artifacts?path=hokusai-health-probe",
}
VERSION_PATH = "/version"


@dataclass(frozen=True, slots=True)
class Check:
    """What one probe found. `status` is healthy, unhealthy or disabled; times in milliseconds."""

    status: str
    message: str
    status_code: int = 0
    response_time_ms: float = 0.0
    error_class: str = ""
    text: str = ""


class Probes:
    """Runs the probes, at most once in two seconds: askers in between wait for the round under way and share it."""

    def __init__(self, settings: Settings, upstream: Upstream, clock: Callable[[], float] = monotonic) -> None:
        self._settings = settings
        self._upstream = upstream
        self._clock = clock
        self._lock = threading.Lock()
        self._checks: dict[str, Check] = {}
        self._mlflow_version = ""
        self._taken_at = float("-inf")

    def summary(self) -> dict[str, Any]:
        """`{"status": …, "checks": {name: {"status", "message"}}}`, without addresses."""
        checks = self._fresh()
        shown = {name: {"status": check.status, "message": check.message} for name, check in checks.items()}
        return {"status": overall(checks), "checks": shown}

    def version(self) -> str:
        """MLflow's version, asked now; empty when it does not say."""
        return self._ask(VERSION_PATH).text[:64]

    def detailed(self) -> dict[str, Any]:
        """The summary with status code, time and error class of each probe, versions and configuration."""
        checks = self._fresh()
        shown = {
            name: {
                "status": check.status,
                "message": check.message,
                "status_code": check.status_code,
                "response_time_ms": check.response_time_ms,
                "error_class": check.error_class,
            }
            for name, check in checks.items()
        }
        versions = {"proxy": VERSION, "mlflow": self._mlflow_version}
        return {
            "status": overall(checks),
            "checks": shown,
            "versions": versions,
            "configuration": self._configuration(),
        }

    def _configuration(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "api_style": settings.upstream.style,
            "upstream_auth": settings.upstream.auth,
            "serve_artifacts": settings.serve_artifacts,
            "key_source": "auth_service" if settings.auth.service_url else "local_file",
            "debug": settings.debug,
        }

    def _fresh(self) -> dict[str, Check]:
        with self._lock:
            if self._clock() - self._taken_at >= FRESH_SECONDS:
                self._ask_all()
                self._taken_at = self._clock()
            return self._checks

    def _ask_all(self) -> None:
        # All at once: whoever asks about health has less time than two probes of an MLflow that hangs would take.
        with ThreadPoolExecutor(len(PROBES) + 1) as pool:
            checks = pool.map(self._probe, PROBES, PROBES.values())
            version = pool.submit(self.version)
            self._checks = dict(zip(PROBES, checks, strict=True))
            self._mlflow_version = version.result()

    def _probe(self, name: str, target: str) -> Check:
        if name == "artifacts_api" and not self._settings.serve_artifacts:
            return Check("disabled", "Artifact storage is switched off (MLFLOW_SERVE_ARTIFACTS).")
        return self._ask(target)

    def _ask(self, target: str) -> Check:
        scope = RequestScope("health-probe", "GET", target, client_ip="")
        upstream = self._settings.upstream
        path = upstream_path(target, self._upstream.base.prefix, upstream.style)
        outgoing = UpstreamRequest("GET", path, upstream.own_headers, None, READ_TIMEOUT_SECONDS)
        begun = self._clock()
        try:
            answer = self._upstream.send(outgoing, scope)
            text = answer.raw.read(4096, decode_content=True).decode(errors="replace").strip()
            answer.raw.close()
        except ProxyError as error:
            return Check("unhealthy", error.message, 0, _ms(self._clock() - begun), error.kind)
        except (HTTPError, OSError) as error:  # the answer's body ended early
            kind = type(error).__name__
            return Check("unhealthy", "MLflow broke off its answer.", 0, _ms(self._clock() - begun), kind)
        return judge(answer.status_code, text, _ms(self._clock() - begun), upstream.auth)


def judge(status: int, text: str, milliseconds: float, auth: str) -> Check:
    """What an answer says about MLflow. A 401 is an answer where keys are forwarded: a probe has none to send."""
    if status < 300 or (status == 401 and auth == "forward"):
        return Check("healthy", "ok", status, milliseconds, "", text if status < 300 else "")
    rejected = status == 403 and "Invalid Host header" in text
    kind = "upstream_host_rejected" if rejected else f"status_{status}"
    return Check("unhealthy", f"MLflow answered {status}.", status, milliseconds, kind)


def overall(checks: dict[str, Check]) -> str:
    """`healthy` when no check is unhealthy; what is switched off counts as well."""
    return "unhealthy" if any(check.status == "unhealthy" for check in checks.values()) else "healthy"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
