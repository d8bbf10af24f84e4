"""What the rules can do at all: searched exactly, over every host, path and method that there is. Pure.

A set of patterns divides all texts into kinds: those that the same patterns stand for. The kinds are found by walking
the product of the patterns' automata breadth first, with the shortest text of each kind as its witness. Characters that
no pattern names are alike, so one of them stands for all. Kinds of hosts, of paths and of methods, combined, are all
the requests that any rule could tell apart: what holds for the witnesses holds for every request.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from scripts.alb.matching import NOBODY, Request, service_of
from scripts.alb.rules import Rule

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Grammar:
    """Which texts there are: an automaton over sorts of characters. Within a sort, only patterns tell them apart."""

    sorts: tuple[str, ...]
    steps: Mapping[tuple[int, int], int]  # (state, sort) -> state; what is not there cannot go on
    final: frozenset[int]


# RFC 9110 section 7.2, in lower case and without the port, as the load balancer compares it: labels with dots between.
HOSTS = Grammar((LETTERS, "-", "."), {(0, 0): 1, (1, 0): 1, (1, 1): 2, (2, 0): 1, (2, 1): 2, (1, 2): 0}, frozenset({1}))

# RFC 9112 section 3.2.1, and more: a slash, then whatever can be printed and ends neither path nor target.
PRINTABLE = LETTERS + "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in LETTERS + "/?#")
PATHS = Grammar(("/", PRINTABLE), {(0, 0): 1, (1, 0): 1, (1, 1): 1}, frozenset({1}))


@dataclass(frozen=True)
class Kinds:
    """The kinds of text that some patterns divide a grammar into: which patterns stand for it -> its shortest text."""

    found: Mapping[frozenset[str], str]
    states: int  # how many places of the product were visited


@dataclass(frozen=True)
class Kind:
    """Requests that no rule tells apart, one of them, and the rules that match it, the deciding one first."""

    hosts: frozenset[str]
    paths: frozenset[str]
    example: Request
    matching: tuple[Rule, ...]


def kinds_of(patterns: Iterable[str], grammar: Grammar) -> Kinds:
    """All kinds of texts of a grammar, exactly. Patterns are compared as they are: fold their case first if need be."""
    names = tuple(sorted(set(patterns)))
    alphabet = list(_representatives(names, grammar))
    start = (0, *(_closure(name, 1) for name in names))
    seen, ring = {start}, [(start, "")]
    found: dict[frozenset[str], str] = {}
    while ring:
        following = []
        for state, text in ring:
            if state[0] in grammar.final:
                found.setdefault(_standing_for(names, state[1:]), text)
            for sort, char in alphabet:
                place = grammar.steps.get((state[0], sort))
                if place is None:
                    continue
                then = (place, *(_step(name, mask, char) for name, mask in zip(names, state[1:], strict=True)))
                if then not in seen:
                    seen.add(then)
                    following.append((then, text + char))
        ring = following
    return Kinds(found, len(seen))


def _representatives(patterns: Sequence[str], grammar: Grammar) -> Iterator[tuple[int, str]]:
    """Each character that a pattern names, and one of each sort for all those that none does."""
    named = set("".join(patterns)) - set("*?")
    for sort, chars in enumerate(grammar.sorts):
        other = next((char for char in chars if char not in named), "")
        yield from ((sort, char) for char in chars if char in named or char == other)


def _standing_for(names: Sequence[str], masks: Sequence[int]) -> frozenset[str]:
    return frozenset(name for name, mask in zip(names, masks, strict=True) if mask >> len(name) & 1)


@functools.lru_cache(maxsize=65536)
def _step(pattern: str, mask: int, char: str) -> int:
    """The places in a pattern after one more character; bit n is the place before its n-th sign."""
    after = 0
    for place, sign in enumerate(pattern):
        if mask >> place & 1:
            after |= 1 << place if sign == "*" else (1 << place + 1 if sign in ("?", char) else 0)
    return _closure(pattern, after)


def _closure(pattern: str, mask: int) -> int:
    for place, sign in enumerate(pattern):  # from left to right, so that a chain of stars is followed to its end
        if sign == "*" and mask >> place & 1:
            mask |= 1 << place + 1
    return mask


def requests(rules: Sequence[Rule], listener: str = "https") -> list[Kind]:
    """All kinds of requests to a listener. The examples differ in what rules look at, and are as short as can be."""
    own = sorted((rule for rule in rules if rule.listener == listener), key=lambda rule: rule.priority)
    hosts = kinds_of((pattern.lower() for rule in own for pattern in rule.hosts), HOSTS).found
    paths = kinds_of((pattern for rule in own for pattern in rule.paths), PATHS).found
    named = {method for rule in own for method in rule.methods}
    verbs = [*sorted(named), *[verb for verb in VERBS if verb not in named][:1]]
    return [
        Kind(known, asked, Request(verb, host, path, listener), matching)
        for (known, host), (asked, path), verb in product(hosts.items(), paths.items(), verbs)
        for matching in [tuple(rule for rule in own if _holds(rule, known, asked, verb))]
    ]


def _holds(rule: Rule, hosts: frozenset[str], paths: frozenset[str], method: str) -> bool:
    return (
        (not rule.methods or method in rule.methods)
        and (not rule.hosts or not hosts.isdisjoint(pattern.lower() for pattern in rule.hosts))
        and (not rule.paths or not paths.isdisjoint(rule.paths))
    )


def reached(rules: Sequence[Rule]) -> dict[str, Request | None]:
    """For each rule a request that it decides, past all earlier ones; None for a dead rule."""
    found: dict[str, Request | None] = {rule.name: None for rule in rules}
    for kind in _all(rules):
        if kind.matching and found[kind.matching[0].name] is None:
            found[kind.matching[0].name] = kind.example
    return found


def overlaps(rules: Sequence[Rule]) -> dict[tuple[str, str], Request]:
    """Pairs of rules with different targets that could both take a request, the earlier one first, with that request.

    Targets differ by their names, whatever the weights: a rollout makes no pair come or go.
    """
    found: dict[tuple[str, str], Request] = {}
    for kind in _all(rules):
        for index, first in enumerate(kind.matching):
            for second in kind.matching[index + 1 :]:
                if _names(first) != _names(second):
                    found.setdefault((first.name, second.name), kind.example)
    return found


def idle_values(rules: Sequence[Rule]) -> list[str]:
    """Values without which every request would go where it goes now, as `rule: value`."""
    kinds = list(_all(rules))
    return [
        f"{rule.name}: {value}"
        for rule in rules
        for field in ("hosts", "paths", "methods")
        for value in getattr(rule, field)
        if len(getattr(rule, field)) > 1  # without its last value a condition is gone, and the rule takes all
        and not any(_decides(rule, _without(rule, field, value), kind) for kind in kinds)
    ]


def _without(rule: Rule, field: str, value: str) -> Rule:
    left: Any = tuple(other for other in getattr(rule, field) if other != value)
    return replace(rule, **{field: left})


def _decides(rule: Rule, narrowed: Rule, kind: Kind) -> bool:
    """Whether requests of a kind go elsewhere once a rule is narrowed."""
    if rule not in kind.matching[:1] or _holds(narrowed, kind.hosts, kind.paths, kind.example.method):
        return False
    return service_of(rule) != service_of(next(iter(kind.matching[1:]), None))


def moved(before: Sequence[Rule], after: Sequence[Rule]) -> list[tuple[Request, str, str]]:
    """Kinds of requests that two sets of rules send to different services: an example, the service before and after.

    Exact: an empty list says that no request at all goes elsewhere.
    """
    # Both sets in one search, so that each kind is one for both.
    sides = zip("ba", (before, after), strict=True)
    marked = [replace(rule, name=side + rule.name) for side, rules in sides for rule in rules]
    found = []
    for kind in _all(marked):
        was, now = (_first(kind, side) for side in "ba")
        if was != now:
            found.append((kind.example, was, now))
    return found


def _first(kind: Kind, side: str) -> str:
    return service_of(next((rule for rule in kind.matching if rule.name.startswith(side)), None)) or NOBODY


def _names(rule: Rule) -> frozenset[str]:
    return frozenset(name for name, _ in rule.targets)


def _all(rules: Sequence[Rule]) -> Iterator[Kind]:
    for listener in sorted({rule.listener for rule in rules}):
        yield from requests(rules, listener)
