"""What the operator may say about metrics: figures in the access line, and a port for Prometheus."""

from dataclasses import dataclass

from app.emf import SERVICE
from app.variables import Reader


@dataclass(frozen=True)
class MetricSettings:
    """`emf` makes the access line a document for CloudWatch too, about `service`.

    `port` is where Prometheus asks, 0 for nowhere.
    """

    emf: bool = False
    service: str = SERVICE
    host: str = "127.0.0.1"
    port: int = 0


def read_metrics(reader: Reader, api_port: int) -> MetricSettings:
    """Take the variables of metrics. `api_port` is the proxy's own, which is never theirs."""
    settings = MetricSettings(
        emf=reader.flag("METRICS_EMF", False),
        service=reader.text("METRICS_SERVICE", SERVICE),
        host=reader.text("METRICS_HOST", "127.0.0.1"),
        port=reader.number("METRICS_PORT", 0, 1, most=65535) if reader.text("METRICS_PORT", "") else 0,
    )
    if settings.port and settings.port == api_port:
        reader.fault("METRICS_PORT is API_PORT: metrics need a port of their own, where the load balancer never asks.")
    return settings
