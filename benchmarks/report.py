"""The results as tables: for the terminal, and for docs/performance.md, whose generated part is between two marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import pages
from benchmarks.goals import GOALS, Results

NO_VALUE = "\N{EN DASH}"
COMMAND = "make bench"  # that writes the page's part
TARGETS = ("direct", "nginx", "haproxy", "hello", "bare", "proxy")
COLUMNS = [
    ("small request, p50, ms", "small", "p50_ms"),
    ("small request, p99, ms", "small", "p99_ms"),
    ("small requests per second, 16 connections", "small", "rps"),
    ("processor time per small request, ms", "small", "cpu_ms_per_request"),
    ("upload of 1 GiB, MB/s", "upload", "mb_s"),
    ("processor time per GB uploaded, s", "upload", "cpu_s_per_gb"),
    ("download of 1 GiB, MB/s", "download", "mb_s"),
    ("processor time per GB downloaded, s", "download", "cpu_s_per_gb"),
    ("MLflow: small request, p50, ms", "mlflow", "p50_ms"),
    ("MLflow on a core of its own: small request, p50, ms", "mlflow", "p50_apart_ms"),
    ("MLflow: small requests per second, 16 connections", "mlflow", "rps"),
    ("MLflow: upload, MB/s", "mlflow", "upload_mb_s"),
    ("MLflow: download, MB/s", "mlflow", "download_mb_s"),
]

Row = Sequence[str]


def goal_rows(results: Results) -> list[Row]:
    """Measure, what came out, the goal, and whether it is met, for each goal."""
    rows: list[Row] = []
    for goal in GOALS:
        value = goal.value(results)
        if value is None:
            rows.append((goal.measure, "not measured", goal.wanted, NO_VALUE))
        else:
            shown = f"{goal.shown(value)} {goal.unit}".strip()
            rows.append((goal.measure, shown, goal.wanted, "pass" if goal.met(value) else "short"))
    return rows


def figure_rows(results: Results) -> list[Row]:
    """Each figure that was measured, a column for each target."""
    rows: list[Row] = []
    for title, section, name in COLUMNS:
        found = results.get(section, {})
        if found:
            rows.append((title, *(number(found.get(target, {}).get(name)) for target in TARGETS)))
    return rows


def profile_tables(results: Results) -> list[tuple[Row, list[Row]]]:
    """Head and rows of two tables: the time by library, and by module of the proxy's."""
    found = results.get("profile", {})
    heads = {"by_library": "library", "by_module": "module of `app/`, with what it calls"}
    return [
        ((head, "share of the time"), [(who, f"{share:.0%}") for who, share in found[name].items()])
        for name, head in heads.items()
        if name in found
    ]


def number(value: float | None) -> str:
    """Three significant digits, or whole; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


def plain(head: Row, rows: Iterable[Row]) -> str:
    """A table for the terminal."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def markdown(head: Row, rows: Iterable[Row]) -> str:
    """The same for a page; all columns but the first hold figures."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


GOAL_HEAD = ("measure", "result", "goal", "")
FIGURE_HEAD = ("figure", *TARGETS)


def for_terminal(results: Results) -> str:
    """All tables."""
    parts = [plain(FIGURE_HEAD, figure_rows(results)), plain(GOAL_HEAD, goal_rows(results))]
    parts += [plain(head, rows) for head, rows in profile_tables(results)]
    return "\n\n".join(parts)


def for_page(results: Results) -> str:
    """The generated part of the page."""
    made, used = results["machine"], results["versions"]
    names = ", ".join(f"{name} {version}" for name, version in used.items())
    parts = [
        f"Measured on {results['date'][:10]} at commit `{results['commit']}`, on {made['cores']} cores of "
        f"{made['processor']} with {made['memory_gb']} GB; {names}.",
        "### Goals",
        markdown(GOAL_HEAD, goal_rows(results)),
        "### Figures",
        markdown(FIGURE_HEAD, figure_rows(results)),
    ]
    if profile := profile_tables(results):
        parts += ["### Where the time of a small request goes", *(markdown(head, rows) for head, rows in profile)]
    return "\n\n".join(parts)


def update_page(page: Path, results: Results) -> None:
    """Put the results between the page's marks. Raises ValueError when it has none."""
    pages.renew(page, COMMAND, for_page(results))
