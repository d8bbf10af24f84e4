"""What Prometheus sees on the metrics' port, read strictly: by a parser of prometheus_client and some rules more."""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics

from tests.support.client import Header, RawResponse, request

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Figures:
    """The samples of one scrape: name and labels -> value."""

    samples: Mapping[tuple[str, Labels], float]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels; 0 when there is none."""
        wanted = frozenset(labels.items())
        return sum(value for (one, found), value in self.samples.items() if one == name and wanted <= found)

    def labels(self, name: str) -> set[Labels]:
        """The labels with which a name is there."""
        return {found for one, found in self.samples if one == name}


def fetch(port: int, path: str = "/metrics", headers: tuple[Header, ...] = (), method: str = "GET") -> RawResponse:
    """One request to the metrics' port."""
    return request(port, method, path, headers)


def scrape(port: int, *, as_openmetrics: bool = False) -> Figures:
    """Ask for the metrics, as Prometheus does. AssertionError for whatever a strict reader would not take."""
    response = fetch(port, headers=(("Accept", OPENMETRICS),) if as_openmetrics else ())
    assert response.status == 200 and response.complete, (response.status, response.fault)
    encoded = response.header("Content-Encoding") == "gzip"
    return figures((gzip.decompress(response.body) if encoded else response.body).decode(), as_openmetrics)


def figures(text: str, as_openmetrics: bool = False) -> Figures:
    """The samples of a page. AssertionError or ValueError for one that a strict reader would not take."""
    read = openmetrics.text_string_to_metric_families if as_openmetrics else parser.text_string_to_metric_families
    families = list(read(text))
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a sample stands there twice"
    assert len({family.name for family in families}) == len(families), "a metric stands there twice"
    for family in families:
        assert family.documentation and family.type != "unknown", family
        assert all(sample.timestamp is None and math.isfinite(sample.value) for sample in family.samples), family
        if family.type == "histogram":
            _judge_histogram(family)
    return Figures(found)


def _judge_histogram(family: Metric) -> None:
    rows: dict[Labels, dict[float, float]] = {}
    counts: dict[Labels, float] = {}
    for sample in family.samples:
        labels = frozenset((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            rows.setdefault(labels, {})[float(sample.labels["le"])] = sample.value
        elif sample.name.endswith("_count"):
            counts[labels] = sample.value
    assert set(rows) == set(counts)
    for labels, buckets in rows.items():
        values = [buckets[bound] for bound in sorted(buckets)]
        assert values == sorted(values), f"buckets that do not add up: {labels}"
        assert buckets[math.inf] == counts[labels], f"a count that is not its buckets': {labels}"
