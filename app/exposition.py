"""The figures of all workers as Prometheus reads them, and the server that gives them to it. Nothing else is served."""

import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from http.server import ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app import VERSION
from app.metrics import (
    ALIVE,
    BUCKETS,
    BYTES_IN,
    BYTES_OUT,
    CPU,
    HISTOGRAM,
    PARTS,
    SUM,
    TRANSFERS,
    WHOLE,
    Board,
    Key,
)

PATH = "/metrics"
CLIENT_SECONDS = 5.0  # how long a client may neither send nor take a byte
LOOK_SECONDS = 0.5  # how often to look whether the gunicorn that this belongs to is still there

log = logging.getLogger("app.metrics")


class Figures(Collector):
    """Adds up what the workers have counted, those that have ended too, each time it is asked."""

    def __init__(self, board: Board) -> None:
        self._sheets = list(board.sheets())

    def collect(self) -> Iterator[Metric]:
        """The metrics, with the labels that have figures."""
        sheets = self._sheets
        requests = added(row for sheet in sheets for row in sheet.requests.read())
        families = added(row for sheet in sheets for row in sheet.families.read())
        yield InfoMetricFamily("mlflow_proxy_build", "The proxy's version.", value={"version": VERSION})
        yield from _of_requests(requests)
        yield from _of_families({key[0]: cells for key, cells in families.items()})
        yield from _of_workers([sheet.state() for sheet in sheets])


def added(rows: Iterable[tuple[Key, list[float]]]) -> dict[Key, list[float]]:
    """The sum of all rows with the same labels, cell by cell, in the order of their labels."""
    found: dict[Key, list[float]] = {}
    for key, cells in rows:
        known = found.get(key)
        found[key] = cells if known is None else [a + b for a, b in zip(known, cells, strict=True)]
    return dict(sorted(found.items()))


def _of_requests(requests: dict[Key, list[float]]) -> Iterator[Metric]:
    labels = ["family", "method", "status_class", "outcome"]
    metric = CounterMetricFamily("mlflow_proxy_requests", "Finished requests.", labels=labels)
    for key, (count,) in requests.items():
        metric.add_metric(key, count)
    yield metric


def _of_families(families: dict[str, list[float]]) -> Iterator[Metric]:
    whole = HistogramMetricFamily("mlflow_proxy_request_seconds", "From head to last byte.", labels=["family"])
    parts = HistogramMetricFamily(
        "mlflow_proxy_part_seconds", "That of the auth service, of MLflow, and the rest.", labels=["family", "part"]
    )
    moved = CounterMetricFamily("mlflow_proxy_bytes", "Bytes of bodies.", labels=["family", "direction"])
    for family, cells in families.items():
        whole.add_metric([family], *histogram(cells[WHOLE : WHOLE + HISTOGRAM]))
        for part, at in PARTS.items():
            parts.add_metric([family, part], *histogram(cells[at : at + HISTOGRAM]))
        moved.add_metric([family, "in"], cells[BYTES_IN])
        moved.add_metric([family, "out"], cells[BYTES_OUT])
    yield from (whole, parts, moved)


def histogram(cells: list[float]) -> tuple[list[tuple[str, float]], float]:
    """The buckets as Prometheus has them, each with all that are smaller, by their bounds in seconds; and the sum."""
    bounds = [*(str(bound / 1000) for bound in BUCKETS), "+Inf"]
    found, up_to = [], 0.0
    for bound, count in zip(bounds, cells[:SUM], strict=True):
        up_to += count
        found.append((bound, up_to))
    return found, cells[SUM] / 1000


def _of_workers(states: list[list[float]]) -> Iterator[Metric]:
    def total(cell: int) -> float:
        return sum(state[cell] for state in states)

    yield GaugeMetricFamily("mlflow_proxy_transfers_in_flight", "Artifact transfers under way.", total(TRANSFERS))
    yield GaugeMetricFamily("mlflow_proxy_workers", "Worker processes that serve.", total(ALIVE))
    yield CounterMetricFamily("mlflow_proxy_cpu_seconds", "Processor time of all workers, ended ones too.", total(CPU))


class Page(MetricsHandler):
    """Answers GET of one path, in the format that is asked for. Says nothing else, and logs nothing."""

    timeout = CLIENT_SECONDS
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def do_GET(self) -> None:
        """The metrics, or 404."""
        if self.path.partition("?")[0] == PATH:
            super().do_GET()
        else:
            self.send_error(404, f"only {PATH} is here")

    def version_string(self) -> str:
        """What the Server header says."""
        return "hokusai-mlflow-proxy"


class Server(ThreadingHTTPServer):
    """Serves on a socket that listens already, as long as the process `parent` is this one's."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, board: Board, parent: int) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Figures(board))
        super().__init__(listener.getsockname()[:2], Page.factory(registry), bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._parent = parent

    def service_actions(self) -> None:
        """End this process when the server is gone, however it went."""
        if os.getppid() != self._parent:
            os._exit(0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no event."""
        if not isinstance(sys.exception(), OSError):
            log.exception("metrics_failed")


def serve(listener: socket.socket, board: Board, parent: int) -> None:
    """Serve a board's figures, until the process `parent` is gone."""
    Server(listener, board, parent).serve_forever(LOOK_SECONDS)
