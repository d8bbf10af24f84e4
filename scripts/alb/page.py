"""Writes docs/routing.md from the rules: `python -m scripts.alb.page --write`. Without --write it says what differs."""

import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.alb import automaton, tables
from scripts.alb.balancer import Fixed, read_balancer
from scripts.alb.matching import NOBODY, Request, service_of
from scripts.alb.rules import TERRAFORM, Rule, Unreadable, read_rules
from scripts.alb.timeouts import CLIENT, Chain, read_chain

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "routing.md"
TEXT = Path(__file__).with_name("routing.md.in")
MUTATIONS = ROOT / "tests" / "infra" / "test_rules_mutations.py"

# What each rule is for. A rule without a line here has no place on the page.
PURPOSES = {
    "auth": "the auth service's host is its own",
    "api_mlflow": "the documented tracking URI, on every host",
    "native": "clients whose tracking URI is the bare host, and the calls in which the MLflow client drops its prefix",
    "native_traces": "the rest of what the proxy serves at the root",
    "mlflow": "older users' tracking URI, on every host",
    "registry_api": "the rest of the registry host",
    "api": "other services of the API, on every host",
}


def page(folder: Path = TERRAFORM) -> str:
    """The whole page, for the rules in `folder` with every request for MLflow going to the proxy."""
    rules = read_rules(folder, {"proxy_weight": 100})
    if any(rule.methods for rule in rules):
        raise Unreadable("a rule looks at methods, for which the page has no column")
    parts = {
        "matrix": _matrix(rules),
        "default": _default(folder),
        "rules": _rules(rules),
        "shared": _and(f"`{rule.name}`" for rule in rules if len(rule.targets) > 1),
        "mutations": str(len(re.findall(r"^    Mutation\(", MUTATIONS.read_text(encoding="utf-8"), re.MULTILINE))),
        "overlaps": _overlaps(rules),
        "unreached": _table(("path", "why"), ((_code(row.path), row.why) for row in tables.unreached())),
        "cases": _cases(),
        "spellings": _spellings(),
        "timeouts": _timeouts(read_chain(folder)),
    }
    text = TEXT.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"{{{name}}}", part)
    return text


def _matrix(rules: Sequence[Rule]) -> str:
    """All kinds of paths, all kinds of hosts, and who gets them: nothing that the rules can tell apart is left out."""
    kinds = automaton.requests(rules)
    hosts = sorted({kind.hosts for kind in kinds}, key=lambda known: (not known, sorted(known)))
    rows = []
    for asked in sorted({kind.paths for kind in kinds}, key=_rank):
        mine = {kind.hosts: kind.matching for kind in kinds if kind.paths == asked}
        cells = (_service(mine[host][0] if mine[host] else None) for host in hosts)
        rows.append((_path(asked, {kind.paths for kind in kinds}), *cells))
    return _table(("path", *(_host(known) for known in hosts)), rows)


def _rank(asked: frozenset[str]) -> tuple[int, int, list[str]]:
    """The most special first, those that match nothing last."""
    return (not asked, -len(asked), sorted(asked))


def _path(asked: frozenset[str], all_kinds: Iterable[frozenset[str]]) -> str:
    """The narrowest patterns of a kind; the others stand for all that these stand for."""
    kinds = list(all_kinds)
    wider = {one for one in asked for other in asked - {one} if all(one in kind for kind in kinds if other in kind)}
    return _and(_code(pattern) for pattern in sorted(asked - wider)) if asked else "everything else"


def _host(known: frozenset[str]) -> str:
    return _and(_code(pattern) for pattern in sorted(known)) if known else "any other host"


def _service(rule: Rule | None) -> str:
    name = service_of(rule)
    return {NOBODY: "404", "proxy": "**proxy**"}.get(name, name)


def _default(folder: Path) -> str:
    (listener,) = [one for one in read_balancer(folder).listeners if one.name == "https"]
    return listener.default.body if isinstance(listener.default, Fixed) else ""


def _rules(rules: Sequence[Rule]) -> str:
    heads = ("priority", "rule", "host", "path", "service", "for")
    rows = (
        (
            str(rule.priority),
            _code(rule.name),
            " ".join(map(_code, rule.hosts)) or "any",
            " ".join(map(_code, rule.paths)) or "any",
            _service(rule),
            PURPOSES[rule.name],
        )
        for rule in rules
    )
    return _table(heads, rows)


def _overlaps(rules: Sequence[Rule]) -> str:
    found = automaton.overlaps(rules)
    rows = (
        (_code(row.first), _code(row.second), _code(_url(rules, found[row.first, row.second])), row.why)
        for row in tables.overlaps()
    )
    return _table(("first", "second", "such as", "why the first"), rows)


def _url(rules: Sequence[Rule], request: Request) -> str:
    named = {host.lower() for rule in rules for host in rule.hosts}
    return f"{request.host if request.host in named else '(any host)'}{request.path}"


def _cases() -> str:
    rows = (
        (_code(case.host), _code(case.target), {NOBODY: "404"}.get(case.service, case.service), case.why)
        for case in tables.cases()
    )
    return _table(("host", "path", "service", "why"), rows)


def _spellings() -> str:
    rows = (
        (_code(row.host), _code(row.target), *({NOBODY: "404"}.get(name, name) for name in row[2:]))
        for row in tables.spellings()
    )
    return _table(("host", "path", "as sent", "decoded", "the proxy"), rows)


def _timeouts(chain: Chain) -> str:
    rows = (
        ("the proxy: MLflow is silent in a JSON call", chain.read, "`read_timeout`", "504 in JSON"),
        ("the MLflow client, for any answer", CLIENT, "`MLFLOW_HTTP_REQUEST_TIMEOUT` of its user", "tries again"),
        ("the proxy: MLflow is silent in a transfer", chain.artifact_read, "`artifact_read_timeout`", "504 in JSON"),
        ("the load balancer: no byte, either side", chain.alb_idle, "`alb_idle_timeout`", "504 in HTML, or a close"),
        ("gunicorn: an idle connection", chain.keep_alive, "`gunicorn.conf.py`", "closes it"),
    )
    stop = (
        ("a target that leaves goes on with what runs", chain.deregistration, "`deregistration_delay`", "cut with 502"),
        ("gunicorn: requests that run at SIGTERM", chain.graceful, "`gunicorn.conf.py`", "cut"),
        ("ECS: from SIGTERM to SIGKILL", chain.stop, "`stopTimeout` of the task", "killed"),
    )
    heads = ("who waits", "seconds", "where it stands", "what then")
    written = [_table(heads, [(who, str(time), *rest) for who, time, *rest in part]) for part in (rows, stop)]
    return "\n\nWhen a task stops, the load balancer first sends it nothing new, then comes SIGTERM:\n\n".join(written)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


def _and(words: Iterable[str]) -> str:
    *first, last = list(words)
    return f"{', '.join(first)} and {last}" if first else last


def main(arguments: Sequence[str]) -> int:
    """Write the page, or print how it differs from what it should be. Exit code 1 when it differs."""
    wanted = page()
    if arguments == ["--write"]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    there = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    sys.stdout.writelines(difflib.unified_diff(there.splitlines(True), wanted.splitlines(True), "there", "wanted"))
    return int(there != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
