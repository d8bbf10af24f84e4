"""The access line as a document of CloudWatch's embedded metric format (EMF): which figures, under which names.

Alarms and dashboards stand on these names. The rules of the format:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson

NAMESPACE = "Hokusai/MLflowProxy"
SERVICE = "mlflow-proxy"  # unless METRICS_SERVICE says otherwise
# Every name is a metric of its own in CloudWatch for the service, and one more for each family that has requests.
METRICS: Mapping[str, str] = {
    "Requests": "Count",
    "Failures": "Count",
    "UpstreamUnreachable": "Count",
    "UpstreamTimeouts": "Count",
    "AuthUnavailable": "Count",
    "AuthDenied": "Count",
    "RateLimited": "Count",
    "LatencyMs": "Milliseconds",
    "UpstreamMs": "Milliseconds",
    "AuthMs": "Milliseconds",
    "OwnMs": "Milliseconds",
    "BytesIn": "Bytes",
    "BytesOut": "Bytes",
    "TransfersInFlight": "Count",
}
DIMENSIONS = (("service",), ("service", "family"))
# The load balancer asks every task every few seconds: in the figures of the service that would hide what users see.
HEALTH = "health"
DIMENSIONS_OF_HEALTH = (("service", "family"),)

FAILURES = frozenset(
    {
        "upstream_error",
        "upstream_timeout",
        "upstream_unreachable",
        "upstream_aborted",
        "auth_unavailable",
        "proxy_error",
    }
)


def directives(dimensions: Iterable[Iterable[str]]) -> str:
    """The member of `_aws` that says what is a metric, in JSON: the same for each line."""
    metrics = [{"Name": name, "Unit": unit} for name, unit in METRICS.items()]
    sets = [list(one) for one in dimensions]
    content = [{"Namespace": NAMESPACE, "Dimensions": sets, "Metrics": metrics}]
    return '"CloudWatchMetrics":' + json.dumps(content, separators=(",", ":"))


OF_TRAFFIC, OF_HEALTH = directives(DIMENSIONS), directives(DIMENSIONS_OF_HEALTH)


def document(text: str, line: Mapping[str, Any], created: float, transfers: int) -> str:
    """A request's line, which is `text` in JSON, with its figures beside its fields, of which `service` is one.

    `created` is the line's time in seconds of the wall clock, `transfers` how many this worker has under way. Put
    together as text: what never changes is not written anew for each line.
    """
    milliseconds = round(created * 1_000_000) // 1000
    told = OF_HEALTH if line["family"] == HEALTH else OF_TRAFFIC
    amounts = {
        "LatencyMs": line["duration_ms"],
        "UpstreamMs": line["upstream_ms"],
        "AuthMs": line["auth_ms"],
        "OwnMs": own_ms(line),
        "BytesIn": line["bytes_in"],
        "BytesOut": line["bytes_out"],
        "TransfersInFlight": transfers,
    }
    return (
        f'{{"_aws":{{"Timestamp":{milliseconds},{told}}},{text[1:-1]},'
        f"{counts(line['outcome'], line['status'] >= 500)},{orjson.dumps(amounts).decode()[1:]}"
    )


@lru_cache(maxsize=64)
def counts(outcome: str, server_error: bool) -> str:
    """The members of a document that are 0 or 1, in JSON. Given by how a request ended."""
    told = {
        "Requests": True,
        "Failures": server_error or outcome in FAILURES,
        "UpstreamUnreachable": outcome == "upstream_unreachable",
        "UpstreamTimeouts": outcome == "upstream_timeout",
        "AuthUnavailable": outcome == "auth_unavailable",
        "AuthDenied": outcome == "auth_denied",
        "RateLimited": outcome == "rate_limited",
    }
    return json.dumps({name: int(value) for name, value in told.items()}, separators=(",", ":"))[1:-1]


def own_ms(line: Mapping[str, Any]) -> float:
    """What is left of a request's time without MLflow and the auth service, in milliseconds, to a tenth; never below 0.

    Beside the proxy's own work it holds the time that an answer's body takes to its client.
    """
    left = line["duration_ms"] - line["upstream_ms"] - line["auth_ms"]
    return int(left * 10 + 0.5) / 10 if left > 0 else 0.0
