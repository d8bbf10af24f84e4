"""What the figures should be: ratios to what was measured in the same run, and a few absolute bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """`figure` is a path into the results, such as "upload.proxy.mb_s"; `over` another one, to divide by."""

    measure: str
    figure: str
    bound: float
    over: str | None = None
    least: bool = False  # the bound is the least, not the most
    unit: str = ""

    def value(self, results: Results) -> float | None:
        """The figure or ratio; None when it was not measured."""
        figure, over = look_up(results, self.figure), look_up(results, self.over) if self.over else 1.0
        return None if figure is None or not over else figure / over

    def met(self, value: float) -> bool:
        """Whether it is on the right side, to the last digit."""
        return value >= self.bound if self.least else value <= self.bound

    def shown(self, value: float) -> str:
        """The number as printed, with no more digits than its verdict needs: 0.699 must not look like 0.70."""
        texts = (f"{value:.{digits}f}" for digits in range(1 if self.unit else 2, 9))
        return next((text for text in texts if self.met(float(text)) == self.met(value)), str(value))

    @property
    def wanted(self) -> str:
        """`≥ 0.70`, `≤ 50 ms`."""
        bound = f"{self.bound:g} {self.unit}" if self.unit else f"{self.bound:.2f}"
        return f"{'≥' if self.least else '≤'} {bound}"


def look_up(results: Results, path: str) -> float | None:
    """The number at a dotted path; None when it is not there."""
    found: Any = results
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return float(found)


GOALS = [
    Goal("download of 1 GiB ÷ nginx's", "download.proxy.mb_s", 0.70, "download.nginx.mb_s", least=True),
    Goal("download of 1 GiB ÷ HAProxy's", "download.proxy.mb_s", 1.00, "download.haproxy.mb_s", least=True),
    Goal("upload of 1 GiB ÷ nginx's", "upload.proxy.mb_s", 0.50, "upload.nginx.mb_s", least=True),
    Goal("upload to MLflow ÷ direct", "mlflow.proxy.upload_mb_s", 0.95, "mlflow.direct.upload_mb_s", least=True),
    Goal(
        "download from MLflow ÷ direct", "mlflow.proxy.download_mb_s", 0.95, "mlflow.direct.download_mb_s", least=True
    ),
    Goal("small request, p50 ÷ hello-world's", "small.proxy.p50_ms", 3.00, "small.hello.p50_ms"),
    Goal(
        "small requests at 16 connections, rate ÷ hello-world's",
        "small.proxy.rps",
        0.30,
        "small.hello.rps",
        least=True,
    ),
    Goal("small request to MLflow, p50 ÷ direct", "mlflow.proxy.p50_ms", 1.12, "mlflow.direct.p50_ms"),
    Goal("the same with MLflow on a core of its own", "mlflow.proxy.p50_apart_ms", 1.12, "mlflow.direct.p50_apart_ms"),
    Goal("memory growth, one upload of 5 GB", "memory.rss_growth_mb_upload_5gb", 16, unit="MB"),
    Goal("memory growth, 50 transfers of 1 GB at once", "memory.rss_growth_mb_50x1gb", 100, unit="MB"),
    Goal("`/health` p99 during an upload of 2 GB", "fairness.health_p99_ms_during_upload", 50, unit="ms"),
    Goal("`/health` p99 during a download of 2 GB", "fairness.health_p99_ms_during_download", 50, unit="ms"),
    Goal("`/health` p99 with 500 slow uploads open", "fairness.health_p99_ms_500_slow", 100, unit="ms"),
]
