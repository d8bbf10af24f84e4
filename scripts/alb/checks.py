"""Everything that must hold of the rules, as named checks: each gives sentences, an empty list when all is well.

The tests ask each of them, and show that each kind of mistake is seen by one of them; `python -m scripts.alb.checks`
says it on the command line.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from app.edge import METHODS
from app.translate import MOUNTS
from scripts.alb import automaton, lint, served, tables
from scripts.alb.matching import asked, service_of, shares, target_of
from scripts.alb.rules import TERRAFORM, Rule, Unreadable, read_rules

WEIGHTS = (0, 5, 25, 100)  # of the rollout, in percent


def all_complaints(folder: Path = TERRAFORM) -> dict[str, list[str]]:
    """Check -> its complaints, for the checks that have any."""
    try:
        rules = read_rules(folder, {"proxy_weight": 100})
        found = {name: check(folder) for name, check in OF_FILES.items()}
    except Unreadable as error:
        return {"readable": [str(error)]}
    found |= {name: check(rules) for name, check in OF_RULES.items()}
    return {name: complaints for name, complaints in found.items() if complaints}


def wrong_cases(rules: Sequence[Rule]) -> list[str]:
    """Rows of the table of cases that go elsewhere, with any method that the proxy knows."""
    return [
        f"{request} goes to {service_of(rule)}, by {rule.name if rule else 'no rule'}, not {case.service}: {case.why}"
        for case in tables.cases()
        for request in [asked(method, case.host, case.target) for method in METHODS]
        for rule in [target_of(rules, request)]
        if service_of(rule) != case.service
    ]


def dead_rules(rules: Sequence[Rule]) -> list[str]:
    """Rules that no request reaches past all earlier ones."""
    return [f"{name}: no request reaches it" for name, request in automaton.reached(rules).items() if request is None]


def idle_values(rules: Sequence[Rule]) -> list[str]:
    """Values without which every request would go where it goes now."""
    return [f"{value} decides nothing" for value in automaton.idle_values(rules)]


def undecided_overlaps(rules: Sequence[Rule]) -> list[str]:
    """Overlaps of rules with different targets that are not on the written list, and those on it that are gone."""
    found = automaton.overlaps(rules)
    written = {(row.first, row.second) for row in tables.overlaps()}
    new = [f"{a} and {b} could both take {found[a, b]}" for a, b in sorted(set(found) - written)]
    return new + [f"{a} no longer comes before {b} for any request" for a, b in sorted(written - set(found))]


def unserved(rules: Sequence[Rule], host: str = "registry.hokus.ai") -> list[str]:
    """What the proxy serves and does not get: by its route table, and, exactly, anything at all below its mounts."""
    lost = [request for request in served.requests(host) if service_of(target_of(rules, request)) != "proxy"]
    written = {row.path for row in tables.unreached()}
    found = [f"{request} does not reach the proxy" for request in lost if request.path not in written]
    found += [f"{path} reaches the proxy" for path in sorted(written - {request.path for request in lost})]
    everything = tuple(pattern for mount in MOUNTS for pattern in (mount, f"{mount}/*"))
    first = Rule("mounts", "https", 0, (), everything, (), (("proxy", 1),))
    astray = automaton.moved(rules, [first, *rules])
    return found + [f"{request} goes to {was}, not to the proxy" for request, was, _ in astray if was != "auth"]


def wrong_weights(folder: Path = TERRAFORM) -> list[str]:
    """Whether proxy_weight shares out every rule of the proxy's, all alike, and changes nothing else."""
    found = []
    whole = read_rules(folder, {"proxy_weight": 100})
    for weight in WEIGHTS:
        rules = read_rules(folder, {"proxy_weight": weight})
        found += [f"with proxy_weight={weight}: {fault}" for fault in lint.of_rules(rules)]
        found += [
            f"with proxy_weight={weight}, {rule.name} gives the proxy {shares(rule)['proxy']:.0%}"
            for rule in rules
            if any(name == "proxy" for name, _ in rule.targets) and shares(rule)["proxy"] != weight / 100
        ]
        if [_conditions(rule) for rule in rules] != [_conditions(rule) for rule in whole]:
            found.append(f"proxy_weight={weight} changes more than weights")
    return found


def _conditions(rule: Rule) -> tuple[object, ...]:
    return (rule.name, rule.listener, rule.priority, rule.hosts, rule.paths, rule.methods)


OF_RULES: Mapping[str, Callable[[Sequence[Rule]], list[str]]] = {
    "lint": lint.of_rules,
    "cases": wrong_cases,
    "dead": dead_rules,
    "idle": idle_values,
    "overlaps": undecided_overlaps,
    "served": unserved,
}
OF_FILES: Mapping[str, Callable[[Path], list[str]]] = {
    "listeners": lint.of_listeners,
    "target groups": lint.of_target_groups,
    "weights": wrong_weights,
}


def main() -> int:
    """Print all complaints. Exit code 1 when there are any."""
    found = all_complaints()
    for name, complaints in found.items():
        for complaint in complaints:
            print(f"{name}: {complaint}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
