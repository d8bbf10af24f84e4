"""The results as a picture: `.venv-bench/bin/python -m benchmarks.chart results/latest.json results/chart.png`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display

from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.goals import GOALS
from benchmarks.report import number

COLOURS = {
    "direct": "#c8c8c8",
    "nginx": "#9db4c8",
    "haproxy": "#b9c9a8",
    "hello": "#d9c8a0",
    "bare": "#d9b8a0",
    "proxy": "#1f6f8b",
}
LABELS = {"haproxy": "HAProxy", "hello": "hello-world", "bare": "bare Flask"}
INK, FAINT = "#333333", "#999999"
FAIRNESS = {
    "health_p99_ms_during_upload": "2 GB upload",
    "health_p99_ms_during_download": "2 GB download",
    "health_p99_ms_500_slow": "500 slow uploads",
}

Table = Mapping[str, Mapping[str, float]]


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Write the picture."""
    pyplot.rcParams.update({"font.size": 10, "text.color": INK, "axes.labelcolor": INK, "font.family": "DejaVu Sans"})
    figure, axes = pyplot.subplots(3, 3, figsize=(13, 8.2), constrained_layout=True)
    panels = [
        ("small", "p50_ms", "Small request, 1 connection: p50", "ms · less is better"),
        ("small", "rps", "Small requests, 16 connections", "per second · more is better"),
        ("small", "cpu_ms_per_request", "Processor time per small request", "ms · less is better"),
        ("upload", "mb_s", "Upload of 1 GiB, stub upstream", "MB/s · more is better"),
        ("download", "mb_s", "Download of 1 GiB, stub upstream", "MB/s · more is better"),
        ("mlflow", "p50_ms", "Through MLflow: small request, p50", "ms · less is better"),
        ("mlflow", "upload_mb_s", "Through MLflow: upload", "MB/s · more is better"),
        ("mlflow", "download_mb_s", "Through MLflow: download", "MB/s · more is better"),
    ]
    for place, (section, name, title, unit) in zip(axes.flat, panels, strict=False):
        compare(place, results[section], name, title, unit)
    fairness(axes.flat[-1], results["fairness"])
    machine = results["machine"]
    title = "The proxy beside nginx, HAProxy and a Flask hello-world"
    figure.suptitle(f"{title}   ({results['date'][:10]}, {machine['cores']} cores)", fontsize=13, x=0.01, ha="left")
    figure.get_layout_engine().set(h_pad=0.15, w_pad=0.1)
    figure.savefig(path, dpi=110, facecolor="white")


def compare(axes: Axes, table: Table, name: str, title: str, unit: str) -> None:
    """A bar for each target that has the figure."""
    targets = [target for target in COLOURS if name in table.get(target, {})]
    bars = [table[target][name] for target in targets]
    bar_panel(axes, [LABELS.get(t, t) for t in targets], bars, [COLOURS[t] for t in targets], title, unit)


def fairness(axes: Axes, table: Mapping[str, float]) -> None:
    """/health's latencies, with a line where the goal is."""
    bounds = {goal.figure.partition(".")[2]: goal.bound for goal in GOALS if goal.figure.startswith("fairness.")}
    values = [table[name] for name in FAIRNESS]
    title = "/health p99 of a busy worker"
    bar_panel(axes, list(FAIRNESS.values()), values, [COLOURS["proxy"]] * len(values), title, "ms · line: goal")
    for row, name in enumerate(FAIRNESS):
        axes.plot([bounds[name]] * 2, [row - 0.4, row + 0.4], color="#c0392b", linewidth=1.5)
    axes.set_xlim(0, max([*values, *bounds.values()]) * 1.2)


def bar_panel(
    axes: Axes, names: Sequence[str], values: Sequence[float], colours: Sequence[str], title: str, unit: str
) -> None:
    """Horizontal bars with their values written at their ends."""
    bars = axes.barh(names, values, color=colours, height=0.7)
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    texts = [number(value) for value in values]
    axes.bar_label(bars, labels=texts, padding=4, color=INK, fontsize=9, bbox=background, zorder=3)
    axes.set_xlim(0, max(values) * 1.2)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
    axes.set_xlabel(unit, loc="left", fontsize=8.5, color=FAINT)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(FAINT)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
