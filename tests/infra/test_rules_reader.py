"""scripts/alb/rules.py: what is read exactly, and what is refused rather than guessed at."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.alb.rules import TERRAFORM, Rule, Unreadable, read_rules, value_of, whole

RULE = """
resource "aws_lb_listener_rule" "one" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 10

  condition {
    host_header {
      values = ["a.example", var.host]
    }
  }

  condition {
    path_pattern {
      values = ["/a", "/a/*"] # why
    }
  }

  condition {
    http_request_method {
      values = ["GET"]
    }
  }

  action {
    type = "forward"

    forward {
      target_group {
        arn    = aws_lb_target_group.proxy.arn
        weight = var.weight
      }

      target_group {
        arn    = var.api_target_group_arn
        weight = 100 - var.weight
      }
    }
  }
}
"""
VARIABLES = 'variable "host" {\n  default = "b.example"\n}\n\nvariable "weight" {\n  default = 25\n}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules.tf").write_text(RULE)
    (tmp_path / "variables.tf").write_text(VARIABLES)
    return tmp_path


def test_a_rule_is_read_with_everything_in_it(folder: Path) -> None:
    hosts, paths, targets = ("a.example", "b.example"), ("/a", "/a/*"), (("proxy", 25), ("api", 75))
    assert read_rules(folder) == (Rule("one", "https", 10, hosts, paths, ("GET",), targets),)


def test_given_values_go_before_defaults(folder: Path) -> None:
    (rule,) = read_rules(folder, {"host": "c.example", "weight": 0})
    assert (rule.hosts, rule.targets) == (("a.example", "c.example"), (("proxy", 0), ("api", 100)))


def test_a_single_target_has_all_the_weight(folder: Path) -> None:
    start, _, _ = RULE.partition("  action {")
    (folder / "rules.tf").write_text(
        start
        + '  action {\n    type             = "forward"\n    target_group_arn = var.auth_target_group_arn\n  }\n}\n'
    )
    assert read_rules(folder)[0].targets == (("auth", 1),)


def test_rules_come_by_listener_and_priority(folder: Path) -> None:
    for name, listener, priority in (("a", "https", 30), ("b", "http", 40), ("c", "https", 5)):
        text = RULE.replace('"one"', f'"{name}"').replace("https", listener).replace("= 10\n", f"= {priority}\n")
        (folder / f"{name}.tf").write_text(text)
    assert [rule.name for rule in read_rules(folder)] == ["b", "c", "one", "a"]


METHODS = '    http_request_method {\n      values = ["GET"]\n    }\n'
REFUSED = {
    "for_each": ("  priority     = 10", "  for_each = toset([])\n  priority     = 10"),
    "count": ("  priority     = 10", "  count = 1\n  priority     = 10"),
    "dynamic": ("  action {", '  dynamic "condition" {\n    for_each = []\n    content {}\n  }\n\n  action {'),
    "lifecycle": ("  action {", "  lifecycle {\n    ignore_changes = [action]\n  }\n\n  action {"),
    "listener by local": ("aws_lb_listener.https.arn", "local.listener"),
    "no listener": ("  listener_arn = aws_lb_listener.https.arn\n", ""),
    "target by local": ("aws_lb_target_group.proxy.arn", "local.target"),
    "target by index": ("aws_lb_target_group.proxy.arn", "aws_lb_target_group.proxy[0].arn"),
    "priority by expression": ("priority     = 10", "priority     = 10 + 1"),
    "half a priority": ("priority     = 10", "priority     = 10.5"),
    "no priority": ("  priority     = 10\n", ""),
    "weight by expression": ("weight = var.weight\n", "weight = var.weight / 2\n"),
    "half a weight": ("weight = var.weight\n", "weight = 12.5\n"),
    "no weight": ("        weight = var.weight\n", ""),
    "values by variable": ('["/a", "/a/*"]', "var.paths"),
    "no values": ('["/a", "/a/*"]', "[]"),
    "a value in a text": ('"/a"', '"/${var.host}"'),
    "an unknown variable": ("var.host", "var.nothing"),
    "a condition on headers": (
        METHODS,
        '    http_header {\n      http_header_name = "X"\n      values = ["GET"]\n    }\n',
    ),
    "a condition on addresses": (METHODS, '    source_ip {\n      values = ["192.0.2.0/24"]\n    }\n'),
    "paths twice": (METHODS, '    path_pattern {\n      values = ["/b"]\n    }\n'),
    "a redirect": ('type = "forward"', 'type = "redirect"'),
    "stickiness": ("    forward {\n", "    forward {\n      stickiness {\n        duration = 60\n      }\n\n"),
    "an order": ('    type = "forward"\n', '    type  = "forward"\n    order = 1\n'),
    "two actions": ("  action {", '  action {\n    type = "authenticate-oidc"\n  }\n\n  action {'),
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_is_not_understood_is_refused(folder: Path, change: str) -> None:
    old, new = REFUSED[change]
    assert old in RULE
    (folder / "rules.tf").write_text(RULE.replace(old, new))
    with pytest.raises(Unreadable):
        read_rules(folder)


HIDDEN = {
    "more.tf.json": '{"resource": {"aws_lb_listener_rule": {}}}',
    "override.tf": "",
    "alb_override.tf": "",
    "modules.tf": 'module "rules" {\n  source = "./rules"\n}\n',
    "older.tf": RULE.replace("aws_lb_listener_rule", "aws_alb_listener_rule"),
    "older_groups.tf": 'resource "aws_alb_target_group" "mlflow" {}\n',
}


@pytest.mark.parametrize("name", HIDDEN)
def test_places_that_terraform_reads_and_this_does_not_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_text(HIDDEN[name])
    with pytest.raises(Unreadable, match="rules may stand where this does not read"):
        read_rules(folder)


def test_a_default_that_is_no_literal_is_refused(folder: Path) -> None:
    (folder / "variables.tf").write_text(VARIABLES.replace('"b.example"', '"b.${local.domain}"'))
    with pytest.raises(Unreadable, match=r"default of var\.host"):
        read_rules(folder)


def test_the_values_that_are_understood() -> None:
    known = {"weight": 25, "host": "a.example"}
    assert [value_of(text, known) for text in ("x", 5, "${var.host}", "${var.weight}", "${100 - var.weight}")] == [
        "x",
        5,
        "a.example",
        25,
        75,
    ]
    for text in ("${var.other}", "a${var.host}", "${50 - var.weight}", "${local.host}"):
        with pytest.raises(Unreadable):
            value_of(text, known)


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_only_a_whole_number_is_one(value: object) -> None:
    assert whole(7) == 7
    with pytest.raises(Unreadable, match="is no whole number"):
        whole(value)


def test_the_real_files_are_read() -> None:
    names = [rule.name for rule in read_rules(TERRAFORM)]
    assert names == ["auth", "api_mlflow", "native", "native_traces", "mlflow", "registry_api", "api"]
