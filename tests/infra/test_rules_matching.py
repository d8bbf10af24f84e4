"""scripts/alb/matching.py: the load balancer's own rules, one by one."""

from __future__ import annotations

import itertools

import pytest

from scripts.alb.matching import Request, asked, covers, decoded, matches, service_of, shares, target_of
from scripts.alb.rules import Rule


def rule(name: str = "one", priority: int = 1, **given: tuple[str, ...]) -> Rule:
    conditions = {"hosts": (), "paths": (), "methods": (), **given}
    return Rule(name, "https", priority, **conditions, targets=((name, 1),))


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("/a", ["/a"], ["/", "/a/", "/ab", "/A", "a", "/a/b", ""]),
        ("/a*", ["/a", "/a/", "/ab", "/a/b/c", "/a?b"], ["/", "/A", "/b/a"]),
        ("/a/*", ["/a/", "/a/b", "/a/b/c", "/a//"], ["/a", "/ab", "/b/a/"]),
        ("/*/c", ["//c", "/a/c", "/a/b/c"], ["/c", "/a/c/"]),
        ("/?", ["/a", "//"], ["/", "/ab"]),
        ("/a?c", ["/abc", "/a/c"], ["/ac", "/abbc"]),
        ("*", ["", "/", "/a\nb"], []),
        ("/a.b", ["/a.b"], ["/axb"]),
        ("/a+b", ["/a+b"], ["/aab", "/ab"]),
        ("/$x", ["/$x"], ["/"]),
        ("/a**b", ["/ab", "/axb"], ["/a"]),
    ],
)
def test_a_pattern_stands_for_the_whole_text(pattern: str, yes: list[str], no: list[str]) -> None:
    assert ([text for text in yes if not covers(pattern, text)], [text for text in no if covers(pattern, text)]) == (
        [],
        [],
    )


def plainly(pattern: str, text: str) -> bool:
    """What a pattern means, said as shortly as can be."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return plainly(pattern[1:], text) or (text != "" and plainly(pattern, text[1:]))
    return text != "" and pattern[0] in ("?", text[0]) and plainly(pattern[1:], text[1:])


def test_every_short_pattern_stands_for_what_it_says() -> None:
    texts = ["".join(chars) for length in range(5) for chars in itertools.product("a/", repeat=length)]
    patterns = ["".join(signs) for length in range(5) for signs in itertools.product("a/*?", repeat=length)]
    wrong = [
        (pattern, text) for pattern in patterns for text in texts if covers(pattern, text) != plainly(pattern, text)
    ]
    assert wrong == []


@pytest.mark.parametrize("host", ["a.example", "A.EXAMPLE", "a.example:443", "A.Example:8443", "a.example:"])
def test_a_host_knows_neither_case_nor_port(host: str) -> None:
    assert matches(rule(hosts=("a.example",)), Request("GET", host, "/"))
    assert matches(rule(hosts=("A.example",)), Request("GET", host, "/"))


@pytest.mark.parametrize("host", ["", "example", "b.a.example", "a.example.b", "axexample", "a.example:443:443"])
def test_a_host_is_compared_as_a_whole(host: str) -> None:
    assert not matches(rule(hosts=("a.example",)), Request("GET", host, "/"))


def test_a_star_in_a_host_takes_any_number_of_labels_but_not_none() -> None:
    hosts = ["example.com", "a.example.com", "b.a.example.com"]
    assert [matches(rule(hosts=("*.example.com",)), Request("GET", host, "/")) for host in hosts] == [False, True, True]


def test_the_query_is_never_looked_at() -> None:
    assert asked("GET", "a.example", "/a?b=/c?d") == Request("GET", "a.example", "/a")
    assert not matches(rule(paths=("/*c*",)), asked("GET", "a.example", "/a?b=/c"))


def test_conditions_are_anded_and_values_ored() -> None:
    one = rule(hosts=("a.example", "b.example"), paths=("/a", "/b"), methods=("GET", "PUT"))
    asked_for = itertools.product(("GET", "PUT", "POST"), ("a.example", "b.example", "c.example"), ("/a", "/b", "/c"))
    assert sum(matches(one, Request(*words)) for words in asked_for) == 2 * 2 * 2


def test_a_method_knows_its_case_and_no_wildcard() -> None:
    methods = ["GET", "get", "GETS", "*"]
    assert [matches(rule(methods=("GET",)), Request(method, "a.example", "/")) for method in methods] == [
        True,
        False,
        False,
        False,
    ]
    assert not matches(rule(methods=("*",)), Request("GET", "a.example", "/"))


def test_the_lowest_priority_is_asked_first_in_whatever_order_they_come() -> None:
    rules = [rule("late", 30, paths=("/a*",)), rule("first", 10, paths=("/a",)), rule("never", 20, paths=("/b",))]
    for order in itertools.permutations(rules):
        assert [service_of(target_of(order, Request("GET", "h", path))) for path in ("/a", "/ab", "/b", "/c")] == [
            "first",
            "late",
            "never",
            "none",
        ]


def test_a_rule_of_another_listener_counts_for_nothing() -> None:
    assert target_of([rule(paths=("/*",))], Request("GET", "h", "/a", listener="http")) is None


def test_weights_are_told_as_shares_and_what_has_none_is_no_service() -> None:
    def weighted(*targets: tuple[str, int]) -> Rule:
        return Rule("one", "https", 1, (), ("/*",), (), targets)

    assert shares(weighted(("proxy", 5), ("api", 95))) == {"proxy": 0.05, "api": 0.95}
    assert shares(weighted(("proxy", 0), ("api", 0))) == {"proxy": 0, "api": 0}
    assert [service_of(weighted(("proxy", new), ("api", 100 - new))) for new in (0, 5, 100)] == [
        "api",
        "proxy+api",
        "proxy",
    ]


def test_the_other_reading_decodes_the_path_once_and_nothing_else() -> None:
    request = asked("GET", "a%62.example", "/%61%2562%3Fc?%64")
    assert decoded(request) == Request("GET", "a%62.example", "/a%62?c")
    assert decoded(Request("GET", "h", "/%ff")).path == "/\udcff"
