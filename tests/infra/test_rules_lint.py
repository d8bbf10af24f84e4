"""scripts/alb/lint.py: what AWS would refuse, or take and not do what was meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.alb import lint
from scripts.alb.rules import TERRAFORM, Rule, Unreadable, read_rules

GOOD = Rule("one", "https", 10, ("a.example",), ("/a", "/a/*"), (), (("proxy", 25), ("api", 75)))


def faults(**changed: Any) -> list[str]:
    return lint.of_rules([replace(GOOD, **changed)])


def test_the_rules_as_they_are_have_no_fault_at_any_weight() -> None:
    found = {weight: lint.of_rules(read_rules(given={"proxy_weight": weight})) for weight in (0, 1, 25, 50, 99, 100)}
    assert {weight: faults for weight, faults in found.items() if faults} == {}


def test_a_good_rule_has_no_fault() -> None:
    assert faults() == []
    assert (
        faults(priority=1, hosts=("*.a.Example",), paths=("/aZ09_-.$/~\"'@:+&*?",), methods=("GET", "M-SEARCH")) == []
    )
    assert faults(priority=50000, paths=("/" + "a" * 127,), targets=(("auth", 1),)) == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"priority": 0}, "priority 0 is not from 1 to 50000"),
        ({"priority": 50001}, "priority 50001 is not from 1 to 50000"),
        ({"listener": "http"}, "stands on the listener http; all rules stand on https"),
        ({"paths": ("/a", "/b", "/c", "/d", "/e")}, "6 values: a rule takes 5, hosts, paths and methods together"),
        ({"methods": ("GET", "PUT", "POST")}, "6 values: a rule takes 5, hosts, paths and methods together"),
        ({"paths": ("/*/*/?", "/*?*")}, "6 wildcards: a rule takes 5"),
        ({"hosts": (), "paths": ()}, "has no condition: AWS refuses it, and it would take everything"),
        ({"paths": ("/a", "/a")}, "/a stands there twice"),
        ({"paths": ("/" + "a" * 128,)}, f"/{'a' * 128} is longer than 128 characters"),
        ({"hosts": (f"{'a' * 121}.example",)}, f"{'a' * 121}.example is longer than 128 characters"),
        ({"paths": ("a/*",)}, "the path a/* does not begin with a slash"),
        ({"paths": ("*",)}, "the path * does not begin with a slash"),
        ({"targets": (("mlflow", 1),)}, "forwards straight to MLflow (mlflow), past the proxy"),
        ({"targets": (("old_mlflow", 1),)}, "forwards straight to MLflow (old_mlflow), past the proxy"),
        ({"targets": (("web", 1),)}, "forwards to web, which nobody knows"),
        ({"targets": (("api", 50), ("api", 50))}, "names a target twice"),
        ({"targets": (("proxy", 1000),)}, "weights [1000]: AWS takes 0 to 999"),
        ({"targets": (("proxy", -5), ("api", 105))}, "weights [-5, 105]: AWS takes 0 to 999"),
        ({"targets": (("proxy", 0),)}, "has no weight above 0: it takes requests and gives them to nobody"),
        ({"targets": (("proxy", 5), ("api", 75))}, "weights [5, 75] do not sum to 100"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_and_nothing_else(changed: dict[str, Any], fault: str) -> None:
    assert faults(**changed) == [f"one: {fault}"]


@pytest.mark.parametrize(
    "char", [" ", "%", "#", "(", ")", "=", ";", ",", "!", "{", "|", "\\", "^", "`", "<", "\u00e9", "\n"]
)
def test_a_path_holds_only_what_aws_allows(char: str) -> None:
    assert faults(paths=(f"/a{char}b",)) == [f"one: the path /a{char}b holds a character that AWS refuses"]


@pytest.mark.parametrize(
    "host", ["example", "*", "a.example.*", "a.exa?ple", "a.b2", "a.example:443", "a_b.example", "a.", ""]
)
def test_a_host_is_a_name_with_a_dot_and_letters_after_the_last_one(host: str) -> None:
    fault = f"one: the host {host} is no name with a dot and only letters after the last one"
    assert faults(hosts=(host,)) == [fault]


@pytest.mark.parametrize("method", ["get", "GET*", "", "A" * 41])
def test_a_method_is_made_of_capitals(method: str) -> None:
    fault = f"one: the method {method} is not made of capital letters, hyphen and underscore"
    assert faults(methods=(method,), paths=("/a",)) == [fault]


def test_a_priority_is_taken_once_on_a_listener() -> None:
    others = [replace(GOOD, name="two"), replace(GOOD, name="three", priority=11)]
    assert lint.of_rules([GOOD, *others]) == ["one and two: both have priority 10 on https"]


def test_a_load_balancer_takes_a_hundred_rules() -> None:
    rules = [replace(GOOD, name=f"r{number}", priority=number) for number in range(1, 102)]
    assert (lint.of_rules(rules[:100]), lint.of_rules(rules)) == ([], ["101 rules: a load balancer takes 100"])


def test_an_action_takes_five_targets() -> None:
    names = ("proxy", "api", "auth", "a", "b", "c")
    found = faults(targets=tuple((name, 20 if name != "c" else 0) for name in names))
    assert "one: 6 targets: an action takes 5" in found


# --- listeners and target groups ---


def test_the_listeners_and_target_groups_as_they_are_have_no_fault() -> None:
    assert (lint.of_listeners(), lint.of_target_groups()) == ([], [])


def listening(folder: Path, old: str, new: str) -> list[str]:
    text = (TERRAFORM / "alb.tf").read_text()
    assert old in text
    (folder / "alb.tf").write_text(text.replace(old, new, 1))
    (folder / "variables.tf").write_text((TERRAFORM / "variables.tf").read_text())
    return lint.of_listeners(folder)


BODY = 'jsonencode({ error_code = "ENDPOINT_NOT_FOUND", message = "Nothing is served at this address." })'


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("port              = 80", "port              = 8080", "listener http is not HTTP on port 80"),
        ("HTTP_301", "HTTP_302", "listener http does not just redirect to HTTPS"),
        ('port        = "443"', 'port        = "8443"', "listener http does not just redirect to HTTPS"),
        ("port              = 443", "port              = 8443", "listener https is not HTTPS on port 443"),
        ('status_code  = "404"', 'status_code  = "200"', "listener https does not end in a 404 with JSON"),
        ("application/json", "text/plain", "listener https does not end in a 404 with JSON"),
        ("ENDPOINT_NOT_FOUND", "NOT_FOUND", "an MLflow client does not understand"),
        (BODY, '"Not Found"', "an MLflow client does not understand"),
        (BODY, 'jsonencode({ message = "Not found." })', "an MLflow client does not understand"),
        (BODY, 'jsonencode({ error_code = "ENDPOINT_NOT_FOUND" })', "an MLflow client does not understand"),
        ('message = "Nothing', f'message = "{"a" * 1000}', "an MLflow client does not understand"),
        ('"aws_lb_listener" "http"', '"aws_lb_listener" "plain"', "listeners ['https', 'plain']"),
    ],
)
def test_what_is_wrong_with_a_listener_is_said(tmp_path: Path, old: str, new: str, fault: str) -> None:
    (found,) = listening(tmp_path, old, new)
    assert found.startswith(fault)


def test_a_default_action_that_forwards_is_refused(tmp_path: Path) -> None:
    forward = 'type = "forward"\n    target_group_arn = aws_lb_target_group.proxy.arn\n  }\n}\n'
    redirect = (TERRAFORM / "alb.tf").read_text().partition('type = "redirect"')[2].partition("\n}\n")[0]
    with pytest.raises(Unreadable, match="default action forward is not understood"):
        listening(tmp_path, f'type = "redirect"{redirect}\n}}\n', forward)


def service(name: str, group: str) -> str:
    return f'resource "aws_ecs_service" "{name}" {{\n  load_balancer {{\n    target_group_arn = {group}\n  }}\n}}\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('resource "aws_lb_target_group" "mlflow" {}', "target group mlflow: only the proxy's is made here"),
        ('resource "aws_lb_target_group_attachment" "a" {}', "attachment a: ECS alone registers targets"),
        (
            service("mlflow", "aws_lb_target_group.proxy.arn"),
            "ECS service mlflow puts its tasks into the target groups ['proxy']",
        ),
        (
            service("proxy", "var.api_target_group_arn"),
            "ECS service proxy puts its tasks into the target groups ['${var.api_target_group_arn}']",
        ),
        ('resource "aws_ecs_service" "proxy" {}', "ECS service proxy puts its tasks into the target groups []"),
    ],
)
def test_a_way_to_mlflow_that_is_no_rule_is_found(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "x.tf").write_text(text + "\n")
    assert lint.of_target_groups(tmp_path) == [fault]
