"""scripts/alb/automaton.py against brute force, and what it finds in the rules as they are."""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Iterable
from dataclasses import replace

import pytest

from scripts.alb import automaton, checks, tables
from scripts.alb.automaton import HOSTS, PATHS, Grammar, kinds_of
from scripts.alb.matching import Request, matches, service_of, target_of
from scripts.alb.rules import Rule, read_rules

RULES = read_rules(given={"proxy_weight": 100})
SEED = 20261121
TINY = Grammar(("ab",), {(0, 0): 0}, frozenset({0}))  # every text of a and b
TINY_PATHS = Grammar(("/", "ab"), {(0, 0): 1, (1, 0): 1, (1, 1): 1}, frozenset({1}))
TINY_HOSTS = Grammar(("ab", "."), {(0, 0): 1, (1, 0): 1, (1, 1): 0}, frozenset({1}))


def texts(alphabet: str, longest: int) -> list[str]:
    """Every text of an alphabet, shortest first."""
    return ["".join(chars) for length in range(longest + 1) for chars in itertools.product(alphabet, repeat=length)]


def stands_for(pattern: str, text: str) -> bool:
    """What a pattern means, written apart from both the automaton and the matching."""
    return _compiled(pattern).fullmatch(text) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", "(?s:.)*").replace(r"\?", "(?s:.)"))


def one_of_each(patterns: Iterable[str], some: list[str]) -> list[str]:
    """Of texts for which the same patterns stand, the first."""
    known = sorted(set(patterns))
    return list({tuple(stands_for(one, text) for one in known): text for text in reversed(some)}.values())


# --- the search, against brute force ---


@pytest.mark.parametrize("number", range(150))
def test_the_kinds_of_random_patterns_are_those_that_brute_force_finds(number: int) -> None:
    """Up to four patterns of up to four signs: brute force up to eight characters finds every kind that there is."""
    chance = random.Random(SEED + number)  # no secret: the same patterns each time
    patterns = {"".join(chance.choices("ab*?", k=chance.randint(0, 4))) for _ in range(chance.randint(1, 4))}
    shortest: dict[frozenset[str], int] = {}
    for text in texts("ab", 8):
        shortest.setdefault(frozenset(one for one in patterns if stands_for(one, text)), len(text))
    found = kinds_of(patterns, TINY).found
    assert {kind: len(text) for kind, text in found.items()} == shortest
    assert all(kind == {one for one in patterns if stands_for(one, text)} for kind, text in found.items())


@pytest.mark.parametrize("number", range(60))
def test_dead_rules_and_overlaps_of_random_rules_are_those_that_brute_force_finds(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(SEED - number)  # no secret: the same rules each time
    monkeypatch.setattr(automaton, "PATHS", TINY_PATHS)
    monkeypatch.setattr(automaton, "HOSTS", TINY_HOSTS)

    def some(signs: str, start: str) -> tuple[str, ...]:
        return tuple(
            start + "".join(chance.choices(signs, k=chance.randint(0, 3))) for _ in range(chance.randint(0, 2))
        )

    rules = [
        Rule(
            f"r{place}",
            "https",
            place,
            some("ab.*?", ""),
            some("ab/*?", "/"),
            tuple(chance.sample(("GET", "PUT"), chance.randint(0, 1))),
            ((chance.choice("xy"), 1),),
        )
        for place in range(1, 5)
    ]
    all_hosts = [text for text in texts("ab.", 7) if re.fullmatch(r"[ab]+(\.[ab]+)*", text)]
    hosts = one_of_each((one for rule in rules for one in rule.hosts), all_hosts)
    paths = one_of_each((one for rule in rules for one in rule.paths), ["/" + text for text in texts("ab/", 6)])
    requests = [Request(*words) for words in itertools.product(("GET", "PUT", "POST"), hosts, paths)]
    decided, both = set(), set()
    for request in requests:
        matching = [rule for rule in rules if matches(rule, request)]
        decided |= {rule.name for rule in matching[:1]}
        both |= {(a.name, b.name) for a, b in itertools.combinations(matching, 2) if a.targets != b.targets}
    reached = automaton.reached(rules)
    assert {name for name, request in reached.items() if request} == decided
    takers = {name: target_of(rules, request) for name, request in reached.items() if request}
    assert {name: taker and taker.name for name, taker in takers.items()} == {name: name for name in decided}
    assert set(automaton.overlaps(rules)) == both


@pytest.mark.parametrize("number", range(40))
def test_what_moves_between_random_rules_is_what_brute_force_sees_move(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(SEED * 2 + number)  # no secret: the same rules each time
    monkeypatch.setattr(automaton, "PATHS", TINY_PATHS)

    def table() -> list[Rule]:
        return [
            Rule(f"r{place}", "https", place, (), ("/" + "".join(chance.choices("ab*?", k=2)),), (), ((target, 1),))
            for place, target in enumerate("xyx", start=1)
        ]

    before, after = table(), table()
    asked = [Request("GET", "a", "/" + path) for path in texts("ab/", 5)]
    seen = {
        (service_of(target_of(before, one)), service_of(target_of(after, one)))
        for one in asked
        if service_of(target_of(before, one)) != service_of(target_of(after, one))
    }
    moved = automaton.moved(before, after)
    assert {(was, now) for _, was, now in moved} == seen
    for request, was, now in moved:
        assert (service_of(target_of(before, request)), service_of(target_of(after, request))) == (was, now)


def test_one_character_that_no_pattern_names_stands_for_all_of_them() -> None:
    found = kinds_of(["/a*", "/?", "/*%"], PATHS).found
    for kind, text in found.items():
        others = [text.replace(char, other) for char in set(text) - set("/a%") for other in "xyz0~"]
        assert all({one for one in ("/a*", "/?", "/*%") if stands_for(one, other)} == kind for other in others)


def test_paths_begin_with_a_slash_and_hosts_are_labels_with_dots_between() -> None:
    paths = kinds_of(["*a*", "a*", "*?*", "*"], PATHS).found.values()
    assert {text[0] for text in paths} == {"/"}
    hosts = kinds_of(["*.*", "*..*", ".*", "*.", "-*", "*-.*", "*-*", "*"], HOSTS).found
    assert hosts == {
        frozenset({"*"}): "a",
        frozenset({"*", "*.*"}): "a.a",
        frozenset({"*", "*-*"}): "a-a",
        frozenset({"*", "*.*", "*-*"}): hosts[frozenset({"*", "*.*", "*-*"})],
    }
    assert all(re.fullmatch(r"[a-z0-9]+(-+[a-z0-9]+)*(\.[a-z0-9]+(-+[a-z0-9]+)*)*", text) for text in hosts.values())


def test_what_is_in_no_alphabet_is_matched_by_nothing() -> None:
    assert kinds_of(["/a#b", "/\u00e9"], PATHS).found == {frozenset(): "/"}


def test_a_chain_of_stars_is_one_star() -> None:
    assert kinds_of(["/**", "/***a"], PATHS).found == {frozenset({"/**"}): "/", frozenset({"/**", "/***a"}): "/a"}


# --- the rules as they are ---


def test_every_rule_is_reached_and_its_witness_is_true() -> None:
    found = automaton.reached(RULES)
    assert [name for name, request in found.items() if request is None] == []
    takers = {name: target_of(RULES, request) for name, request in found.items() if request}
    assert {name: taker.name for name, taker in takers.items() if taker} == {name: name for name in found}


def test_every_overlap_is_on_the_written_list_and_the_list_holds_no_other() -> None:
    assert checks.undecided_overlaps(RULES) == []


def test_the_witness_of_an_overlap_is_taken_by_both_rules() -> None:
    by_name = {rule.name: rule for rule in RULES}
    for (first, second), request in automaton.overlaps(RULES).items():
        assert matches(by_name[first], request)
        assert matches(by_name[second], request)
        assert by_name[first].priority < by_name[second].priority


def test_every_overlap_on_the_list_has_a_reason_and_stands_there_once() -> None:
    rows = tables.overlaps()
    assert [row for row in rows if len(row.why.split()) < 6] == []
    assert len({(row.first, row.second) for row in rows}) == len(rows)


def test_no_value_is_idle() -> None:
    assert checks.idle_values(RULES) == []


def test_a_new_overlap_is_told_with_its_witness_and_one_that_is_gone_is_told_too() -> None:
    new = Rule("new", "https", 25, (), ("/api/mlflow/x",), (), (("api", 1),))
    assert "new and api_mlflow could both take GET https://a/api/mlflow/x" in checks.undecided_overlaps([*RULES, new])
    narrowed = [replace(rule, hosts=("api.hokus.ai",)) if rule.name == "mlflow" else rule for rule in RULES]
    assert "mlflow no longer comes before registry_api for any request" in checks.undecided_overlaps(narrowed)


def test_weights_make_no_overlap_come_or_go() -> None:
    for weight in checks.WEIGHTS:
        assert set(automaton.overlaps(read_rules(given={"proxy_weight": weight}))) == set(automaton.overlaps(RULES))


def test_the_same_targets_with_other_weights_are_no_overlap() -> None:
    first = Rule("first", "https", 1, (), ("/a",), (), (("proxy", 100), ("api", 0)))
    second = Rule("second", "https", 2, (), ("/a*",), (), (("api", 95), ("proxy", 5)))
    assert automaton.overlaps([first, second]) == {}
    assert set(automaton.overlaps([first, replace(second, targets=(("api", 1),))])) == {("first", "second")}


def test_a_value_is_idle_when_the_next_rule_sends_its_requests_to_the_same_service() -> None:
    first = Rule("first", "https", 1, (), ("/a", "/b"), (), (("api", 1),))
    second = Rule("second", "https", 2, (), ("/a*",), (), (("api", 1),))
    assert automaton.idle_values([first, second]) == ["first: /a"]
    assert automaton.idle_values([first, replace(second, targets=(("auth", 1),))]) == []


def test_a_dead_rule_and_an_idle_value_are_found() -> None:
    late = Rule("late", "https", 200, (), ("/api/x", "/api/y*"), (), (("auth", 1),))
    idle = replace(RULES[1], paths=(*RULES[1].paths, "/api/mlflow/api/*"))
    assert checks.dead_rules([*RULES, late]) == ["late: no request reaches it"]
    assert checks.idle_values([idle, *RULES[2:]]) == ["api_mlflow: /api/mlflow/api/* decides nothing"]


def test_nothing_moves_between_a_set_of_rules_and_the_same_with_other_numbers() -> None:
    renumbered = [replace(rule, priority=rule.priority * 10 + 1) for rule in RULES]
    assert automaton.moved(RULES, renumbered) == []
    assert automaton.moved(RULES, [rule for rule in RULES if rule.name != "api"]) != []
