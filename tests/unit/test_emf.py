"""app/emf.py: each access line is a document that CloudWatch takes, with the figures that alarms stand on."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from app import access_log
from app.access_log import Line
from app.blueprints import whoami
from app.emf import DIMENSIONS, DIMENSIONS_OF_HEALTH, FAILURES, METRICS, NAMESPACE, SERVICE, document, own_ms
from app.finished import Finished, Measured
from app.policy import read_routes
from tests.support.emf import UNITS, violations
from tests.unit.logged import NOW, fields

OUTCOMES = (
    "ok client_error auth_denied auth_unavailable rate_limited upstream_error upstream_timeout upstream_unreachable "
    "upstream_aborted client_gone proxy_error"
).split()
# What each of the counts counts, by outcome; Failures beside that every status from 500 on.
COUNTED = {
    "UpstreamUnreachable": {"upstream_unreachable"},
    "UpstreamTimeouts": {"upstream_timeout"},
    "AuthUnavailable": {"auth_unavailable"},
    "AuthDenied": {"auth_denied"},
    "RateLimited": {"rate_limited"},
    "Failures": {
        *("upstream_error", "upstream_timeout", "upstream_unreachable", "upstream_aborted"),
        *("auth_unavailable", "proxy_error"),
    },
}


def measured(status: int = 200, transfers: int = 0, created: float = NOW, **changed: Any) -> Measured:
    told = {**fields(status, **changed), "service": SERVICE}
    return Measured("gunicorn.access", logging.INFO, told, created, transfers)


def parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


# --- the document ---

KINDS: dict[str, dict[str, Any]] = {
    "a call": {"family": "tracking.runs", "upstream_seconds": 1.5, "auth_seconds": 0.01, "bytes_in": 2**40},
    "what does not exist": {"status": 404},
    "no answer": {"status": 0, "finished": False},
    "a health check": {"family": "health"},
    "quotes and a line break of a client's": {"user_agent": 'a"}\r\n{"_aws":1,"Requests":5}'},
    "a letter beyond ASCII": {"user_agent": "J\xfcrgen"},
    "half of a surrogate pair": {"user_agent": "a\ud800b"},
    "the longest target": {"target": "/" + "a" * 16_000, "upstream_path": "/" + "a" * 16_000},
    **{f"an end: {outcome}": {"outcome": outcome, "status": 503} for outcome in OUTCOMES},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_line_of_any_kind_is_a_document_that_cloudwatch_takes(kind: dict[str, Any]) -> None:
    text = Line().format(measured(**kind))
    assert violations(text, NOW) == []
    assert text.isascii()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_it_is_the_line_with_figures_beside_its_fields_and_nothing_else(kind: dict[str, Any]) -> None:
    found = parsed(Line().format(measured(**kind)))
    plain = parsed(Line().format(Finished("gunicorn.access", logging.INFO, fields(**kind), NOW)))
    assert {name: value for name, value in found.items() if name in plain} == plain
    assert set(found) - set(plain) == {"_aws", "service", *METRICS}
    assert [name for name, value in found.items() if isinstance(value, dict | list)] == ["_aws"]


def test_no_figure_has_the_name_of_a_field() -> None:
    assert {"_aws", "service", *METRICS} & {*fields(), "ts", "level"} == set()


def test_the_names_and_units_are_those_that_alarms_and_dashboards_stand_on() -> None:
    counts = ("Requests", *COUNTED, "TransfersInFlight")
    times, sizes = ("LatencyMs", "UpstreamMs", "AuthMs", "OwnMs"), ("BytesIn", "BytesOut")
    expected = {
        **dict.fromkeys(counts, "Count"),
        **dict.fromkeys(times, "Milliseconds"),
        **dict.fromkeys(sizes, "Bytes"),
    }
    assert METRICS == expected and set(METRICS.values()) <= UNITS


def test_the_metrics_are_told_with_their_units_under_the_services_name() -> None:
    found = parsed(Line().format(measured()))
    assert found["_aws"]["CloudWatchMetrics"] == [
        {
            "Namespace": "Hokusai/MLflowProxy",
            "Dimensions": [["service"], ["service", "family"]],
            "Metrics": [{"Name": name, "Unit": unit} for name, unit in METRICS.items()],
        }
    ]
    assert (found["service"], SERVICE, NAMESPACE) == ("mlflow-proxy", "mlflow-proxy", "Hokusai/MLflowProxy")


def test_health_checks_count_for_their_family_and_not_for_the_service() -> None:
    assert (DIMENSIONS, DIMENSIONS_OF_HEALTH) == ((("service",), ("service", "family")), (("service", "family"),))
    (told,) = parsed(Line().format(measured(family="health")))["_aws"]["CloudWatchMetrics"]
    assert told["Dimensions"] == [["service", "family"]]


def test_every_family_is_a_dimension_that_cloudwatch_takes() -> None:
    families = {route.family for route in [*read_routes(), whoami.ROUTE]} | {"health", "other"}
    assert [one for one in families if violations(Line().format(measured(family=one)), NOW)] == []


@pytest.mark.parametrize("fraction", [0.0, 0.0009, 0.001, 0.1239, 0.5, 0.9989, 0.999, 0.9999994, 0.9999999])
def test_its_time_is_that_of_the_line(fraction: float) -> None:
    found = parsed(Line().format(measured(created=1_700_000_000 + fraction)))
    told = found["_aws"]["Timestamp"]
    assert found["ts"] == access_log.moment(told / 1000) and type(told) is int


def test_what_never_changes_is_not_written_anew_for_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    Line().format(measured())
    monkeypatch.setattr(json, "dumps", lambda *_, **__: pytest.fail("written anew"))
    assert Line().format(measured()).startswith('{"_aws":{"Timestamp":1700000000123,"CloudWatchMetrics":[{"Namespace"')


def test_a_line_that_is_not_measured_says_nothing_of_it() -> None:
    text = Line().format(Finished("gunicorn.access", logging.INFO, fields(), NOW))
    assert "_aws" not in text and next(iter(parsed(text))) == "event"


# --- the figures ---


@pytest.mark.parametrize("status", [0, 200, 308, 404, 499, 500, 502, 599])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_is_counted_follows_from_how_it_ended(outcome: str, status: int) -> None:
    found = parsed(Line().format(measured(status, outcome=outcome)))
    expected = {name: int(outcome in ends) for name, ends in COUNTED.items()}
    expected["Failures"] |= int(status >= 500)
    assert {name: found[name] for name in expected} == expected
    assert found["Requests"] == 1


def test_a_failure_is_ours_or_mlflows_or_the_auth_services_and_never_the_clients() -> None:
    assert set(OUTCOMES) - FAILURES == {"ok", "client_error", "auth_denied", "rate_limited", "client_gone"}
    assert FAILURES < set(OUTCOMES)


def test_amounts_are_those_of_the_fields() -> None:
    changed: dict[str, Any] = {"upstream_seconds": 1.5, "auth_seconds": 0.0123, "bytes_in": 12345}
    found = parsed(Line().format(measured(transfers=7, **changed)))
    assert {name: found[name] for name in METRICS if name not in COUNTED and name != "Requests"} == {
        "LatencyMs": 2345.6,
        "UpstreamMs": 1500.0,
        "AuthMs": 12.3,
        "OwnMs": 833.3,
        "BytesIn": 12345,
        "BytesOut": 67,
        "TransfersInFlight": 7,
    }


@pytest.mark.parametrize(
    ("duration", "upstream", "auth", "own"),
    [
        (10.0, 0.0, 0.0, 10.0),
        (12.3, 10.1, 0.3, 1.9),
        (10.0, 10.0, 0.1, 0.0),
        (0.3, 0.1, 0.2, 0.0),
        (0.0, 5.0, 0.0, 0.0),
    ],
)
def test_our_own_time_is_what_is_left_and_never_below_nothing(
    duration: float, upstream: float, auth: float, own: float
) -> None:
    assert own_ms({"duration_ms": duration, "upstream_ms": upstream, "auth_ms": auth}) == own


# --- that the judge sees what it is to see ---

LINE = {
    **{"family": "x", "outcome": "ok", "status": 200, "duration_ms": 1.0, "upstream_ms": 0.5, "auth_ms": 0.1},
    **{"bytes_in": 1, "bytes_out": 2},
}
LINE["service"] = SERVICE
SOUND = document(json.dumps(LINE), LINE, NOW, 0)


def directive(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["_aws"]["CloudWatchMetrics"][0]
    return found


BREAKAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no metadata": lambda d: d.pop("_aws"),
    "metadata that is a text": lambda d: d.update(_aws="x"),
    "more metadata": lambda d: d["_aws"].update(LogGroupName="x"),
    "no time": lambda d: d["_aws"].pop("Timestamp"),
    "a time in seconds": lambda d: d["_aws"].update(Timestamp=1_700_000_000),
    "a time with a fraction": lambda d: d["_aws"].update(Timestamp=1_700_000_000_123.5),
    "a time as text": lambda d: d["_aws"].update(Timestamp="1700000000123"),
    "a time of three weeks ago": lambda d: d["_aws"].update(Timestamp=1_700_000_000_123 - 21 * 86_400_000),
    "no directive": lambda d: d["_aws"].update(CloudWatchMetrics=[]),
    "a directive that is no list": lambda d: d["_aws"].update(CloudWatchMetrics=directive(d)),
    "no namespace": lambda d: directive(d).pop("Namespace"),
    "an empty namespace": lambda d: directive(d).update(Namespace=""),
    "a namespace that is too long": lambda d: directive(d).update(Namespace="x" * 1025),
    "a namespace of AWS's": lambda d: directive(d).update(Namespace="AWS/ECS"),
    "dimensions in one list": lambda d: directive(d).update(Dimensions=["service"]),
    "no dimensions": lambda d: directive(d).update(Dimensions=[]),
    "a dimension without a value": lambda d: d.pop("service"),
    "a dimension that is a number": lambda d: d.update(family=5),
    "a dimension that is empty": lambda d: d.update(family=""),
    "a dimension that is too long": lambda d: d.update(family="x" * 1025),
    "31 dimensions": lambda d: (
        directive(d).update(Dimensions=[[f"d{n}" for n in range(31)]]),
        d.update({f"d{n}": "x" for n in range(31)}),
    ),
    "a dimension twice": lambda d: directive(d).update(Dimensions=[["service", "service"]]),
    "no metrics": lambda d: directive(d).update(Metrics=[]),
    "101 metrics": lambda d: (
        directive(d).update(Metrics=[{"Name": f"m{n}"} for n in range(101)]),
        d.update({f"m{n}": 1 for n in range(101)}),
    ),
    "a metric without a value": lambda d: d.pop("Requests"),
    "a metric that is a text": lambda d: d.update(Requests="1"),
    "a metric that is true": lambda d: d.update(Requests=True),
    "a metric that is nothing": lambda d: d.update(Requests=None),
    "a metric that is an object": lambda d: d.update(Requests={"Value": 1}),
    "a metric of 101 values": lambda d: d.update(Requests=[1] * 101),
    "a metric of no values": lambda d: d.update(Requests=[]),
    "a metric of another case": lambda d: d.update(requests=d.pop("Requests")),
    "a metric without a name": lambda d: directive(d)["Metrics"].append({"Unit": "Count"}),
    "a metric twice": lambda d: directive(d)["Metrics"].append({"Name": "Requests"}),
    "a unit that is none": lambda d: directive(d)["Metrics"][0].update(Unit="Counts"),
    "a unit of another case": lambda d: directive(d)["Metrics"][0].update(Unit="count"),
    "a resolution that is none": lambda d: directive(d)["Metrics"][0].update(StorageResolution=30),
    "more of a metric": lambda d: directive(d)["Metrics"][0].update(Value=1),
    "a line that is too long": lambda d: d.update(path="x" * 300_000),
}


@pytest.mark.parametrize("broken", BREAKAGES.values(), ids=BREAKAGES)
def test_the_judge_refuses(broken: Callable[[dict[str, Any]], Any]) -> None:
    assert violations(SOUND, NOW) == []
    changed = copy.deepcopy(parsed(SOUND))
    broken(changed)
    assert violations(json.dumps(changed), NOW) != []


@pytest.mark.parametrize(
    "text",
    ["", "[]", SOUND + "x", "x" + SOUND, f" {SOUND}", SOUND + "\n", SOUND[:-1] + ',"Requests":2}', "{}",
     SOUND.replace('"LatencyMs":1.0', '"LatencyMs":NaN'), SOUND.replace("{", "{\n", 1)],
)  # fmt: skip
def test_the_judge_refuses_text_that_is_no_one_json_object(text: str) -> None:
    assert violations(text, NOW) != []


def test_the_judge_takes_what_the_format_allows() -> None:
    allowed = parsed(SOUND)
    directive(allowed)["Metrics"][0]["StorageResolution"] = 1
    directive(allowed)["Metrics"].append({"Name": "More"})
    directive(allowed)["Dimensions"].append([])
    allowed["More"] = [1, 2.5]
    assert violations(json.dumps(allowed), NOW) == []
