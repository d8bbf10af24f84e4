"""app/probes.py: is MLflow there, asked through the same session as the traffic, and not often."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest
import requests
from urllib3.exceptions import ProtocolError

from app import VERSION
from app.errors import ProxyError, UpstreamTimeout, UpstreamUnreachable
from app.probes import FRESH_SECONDS, PROBES, Probes
from app.scope import RequestScope
from app.settings import Settings
from app.upstream import UNREACHABLE, UpstreamRequest
from tests.support.clock import Clock
from tests.unit import samples

EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=1"
MODELS = "/api/2.0/mlflow/registered-models/search?max_results=1"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts?path=hokusai-health-probe"
HEALTHY = {"status": "healthy", "message": "ok"}


class Upstream:
    """Answers each target as scripted, 200 otherwise; every answer takes `seconds` of the clock."""

    def __init__(self, settings: Settings, clock: Clock, seconds: float = 0.0) -> None:
        self.base = settings.upstream.base
        self.sent: list[UpstreamRequest] = []
        self.script: dict[str, tuple[int, bytes] | Exception] = {}
        self._clock = clock
        self._seconds = seconds

    def send(self, outgoing: UpstreamRequest, scope: RequestScope) -> requests.Response:
        self.sent.append(outgoing)
        self._clock.now += self._seconds
        step = self.script.get(outgoing.target, (200, b"3.17.2\n"))
        if isinstance(step, ProxyError):
            raise step
        answer = requests.Response()
        answer.raw = Broken(step) if isinstance(step, Exception) else Whole(step[1])
        answer.status_code = 200 if isinstance(step, Exception) else step[0]
        return answer

    @property
    def targets(self) -> list[str]:
        return [outgoing.target for outgoing in self.sent]


class Whole:
    """A body that notes that it was closed."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.closed = False

    def read(self, size: int, decode_content: bool) -> bytes:
        return self._body[:size]

    def close(self) -> None:
        self.closed = True


class Broken(Whole):
    """A body that breaks off."""

    def __init__(self, error: Exception) -> None:
        super().__init__(b"")
        self._error = error

    def read(self, size: int, decode_content: bool) -> bytes:
        raise self._error


def probes(seconds: float = 0.0, **variables: str) -> tuple[Probes, Upstream, Clock]:
    settings, clock = samples.settings(**variables), Clock()
    upstream = Upstream(settings, clock, seconds)
    return Probes(settings, cast(Any, upstream), clock), upstream, clock


def test_a_healthy_mlflow_is_reported_by_its_four_checks() -> None:
    made, upstream, _ = probes()
    assert made.summary() == {
        "status": "healthy",
        "checks": {name: HEALTHY for name in ("connectivity", "experiments_api", "models_api", "artifacts_api")},
    }
    assert sorted(upstream.targets) == sorted(["/health", EXPERIMENTS, MODELS, ARTIFACTS, "/version"])


def test_the_probes_are_plain_gets_with_the_upstreams_host_and_a_short_timeout() -> None:
    made, upstream, _ = probes()
    made.summary()
    assert {(sent.method, tuple(sent.headers), sent.body) for sent in upstream.sent} == {
        ("GET", (("Host", "mlflow.internal:5000"),), None)
    }
    assert max(sent.read_timeout for sent in upstream.sent) < 5.0


def test_the_probes_use_prefix_style_and_service_credential_of_the_traffic() -> None:
    made, upstream, _ = probes(
        MLFLOW_SERVER_URL="https://mlflow.internal/base",
        MLFLOW_API_STYLE="ajax-api",
        MLFLOW_UPSTREAM_AUTH="replace",
        MLFLOW_UPSTREAM_AUTHORIZATION="Bearer service",
    )
    made.summary()
    styled = [f"/base/ajax-{target[1:]}" for target in (EXPERIMENTS, MODELS, ARTIFACTS)]
    assert sorted(upstream.targets) == sorted(["/base/health", *styled, "/base/version"])
    assert upstream.sent[0].headers == [("Host", "mlflow.internal"), ("Authorization", "Bearer service")]


def test_switched_off_artifacts_are_disabled_and_not_asked_for() -> None:
    made, upstream, _ = probes(MLFLOW_SERVE_ARTIFACTS="false")
    report = made.summary()
    assert (report["status"], report["checks"]["artifacts_api"]) == (
        "healthy",
        {"status": "disabled", "message": "Artifact storage is switched off (MLFLOW_SERVE_ARTIFACTS)."},
    )
    assert ARTIFACTS not in upstream.targets


def test_the_detailed_report_adds_what_operators_ask_for() -> None:
    made, upstream, _ = probes(seconds=0.25)
    upstream.script[MODELS] = (500, b"<html>mlflow.internal</html>")
    upstream.script[EXPERIMENTS] = UpstreamUnreachable(UNREACHABLE, kind="connect")
    upstream.script[ARTIFACTS] = ProtocolError("broken at mlflow.internal")
    report = made.detailed()
    fine = {"status": "healthy", "message": "ok", "status_code": 200, "response_time_ms": 250.0, "error_class": ""}
    bad = {"status": "unhealthy", "response_time_ms": 250.0}
    assert report == {
        "status": "unhealthy",
        "checks": {
            "connectivity": fine,
            "experiments_api": {**bad, "message": UNREACHABLE, "status_code": 0, "error_class": "connect"},
            "models_api": {**bad, "message": "MLflow answered 500.", "status_code": 500, "error_class": "status_500"},
            "artifacts_api": {
                **bad,
                "message": "MLflow broke off its answer.",
                "status_code": 0,
                "error_class": "ProtocolError",
            },
        },
        "versions": {"proxy": VERSION, "mlflow": "3.17.2"},
        "configuration": {
            "api_style": "api",
            "upstream_auth": "strip",
            "serve_artifacts": True,
            "key_source": "auth_service",
            "debug": False,
        },
    }


def test_no_report_holds_an_address_or_a_secret() -> None:
    made, upstream, _ = probes(MLFLOW_UPSTREAM_AUTH="replace", MLFLOW_UPSTREAM_AUTHORIZATION="Bearer hk_test_x")
    upstream.script[EXPERIMENTS] = (500, b"at mlflow.internal:5000")
    told = repr((made.summary(), made.detailed()))
    assert [text for text in ("mlflow.internal", "auth.internal", "5000", "hk_test_x") if text in told] == []


def test_the_key_source_is_told_by_kind() -> None:
    made, _, _ = probes(HOKUSAI_AUTH_SERVICE_URL="", LOCAL_KEYS_PATH="/secret/place/keys.json")
    assert made.detailed()["configuration"]["key_source"] == "local_file"
    assert "/secret/place" not in repr(made.detailed())


@pytest.mark.parametrize("name", PROBES)
def test_one_unhealthy_check_makes_the_whole_unhealthy(name: str) -> None:
    made, upstream, _ = probes()
    upstream.script[PROBES[name]] = UpstreamTimeout("504: MLflow did not answer in time.", kind="read_timeout")
    report = made.summary()
    assert (report["status"], {check for check, found in report["checks"].items() if found["status"] != "healthy"}) == (
        "unhealthy",
        {name},
    )


def test_an_unknown_version_does_not_make_mlflow_unhealthy() -> None:
    made, upstream, _ = probes()
    upstream.script["/version"] = (404, b"Not Found")
    report = made.detailed()
    assert (report["status"], report["versions"]["mlflow"]) == ("healthy", "")


def test_a_report_is_given_again_for_two_seconds_and_then_made_anew() -> None:
    made, upstream, clock = probes()
    made.summary(), made.detailed()
    clock.now += FRESH_SECONDS - 0.01
    made.summary()
    assert len(upstream.sent) == 5
    clock.now += 0.01
    upstream.script["/health"] = (500, b"")
    assert (made.summary()["status"], len(upstream.sent)) == ("unhealthy", 10)


def test_the_two_seconds_begin_when_the_answers_are_there() -> None:
    made, upstream, _ = probes(seconds=1.0)
    made.summary(), made.summary()
    assert len(upstream.sent) == 5


def test_askers_that_come_together_share_one_round() -> None:
    made, upstream, _ = probes()
    gate, found = threading.Barrier(8), []

    def ask() -> None:
        gate.wait()
        found.append(made.summary()["status"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, len(upstream.sent)) == (["healthy"] * 8, 5)


def test_a_round_against_an_mlflow_that_hangs_takes_less_than_twice_the_time_of_one_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Askers have 5 s and one probe takes up to 3 s (app/probes.py), so probes must not wait one after the other."""
    one_probe = 0.2
    made, upstream, _ = probes()
    error = UpstreamTimeout("504: MLflow did not answer in time.", kind="read_timeout")
    send = upstream.send
    upstream.script = dict.fromkeys([*PROBES.values(), "/version"], error)

    def slowly(outgoing: UpstreamRequest, scope: RequestScope) -> requests.Response:
        time.sleep(one_probe)
        return send(outgoing, scope)

    monkeypatch.setattr(upstream, "send", slowly)
    begun = time.monotonic()
    assert made.summary()["status"] == "unhealthy"
    assert time.monotonic() - begun < 5 / 3 * one_probe


@pytest.mark.parametrize(("answered", "told"), [(b"x" * 5000, "x" * 64), (b"\xff3", "\ufffd3")], ids=["long", "binary"])
def test_a_version_is_cut_and_read_whatever_it_is(answered: bytes, told: str) -> None:
    made, upstream, _ = probes()
    upstream.script["/version"] = (200, answered)
    assert made.detailed()["versions"]["mlflow"] == told
