"""The real rules, broken in every way that we could think of: each time the named check says so.

The files are copied and their text is changed, so what is shown is the whole way from file to complaint.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.alb import checks

RULES = "alb-listener-rules.tf"
Edit = Callable[[str], str]


class Mutation(NamedTuple):
    """What is broken, in which file, how, and the check that must say so (others may, too)."""

    what: str
    file: str
    edit: Edit
    check: str


def within(rule: str, *changes: tuple[str, str]) -> Edit:
    """Replace each text, which must stand there, in the block of one rule."""

    def edit(text: str) -> str:
        block = _block(rule, text)
        new = block
        for old, wanted in changes:
            assert old in new, f"{old} is not in rule {rule}"
            new = new.replace(old, wanted)
        return text.replace(block, new)

    return edit


def anywhere(*changes: tuple[str, str]) -> Edit:
    """Replace the first of each text, which must stand there, in the whole file."""

    def edit(text: str) -> str:
        for old, wanted in changes:
            assert old in text, f"{old} is not in the file"
            text = text.replace(old, wanted, 1)
        return text

    return edit


def without(rule: str) -> Edit:
    """Remove a rule."""
    return lambda text: text.replace(_block(rule, text), "")


def forwarding(rule: str, target: str) -> Edit:
    """Give a rule one target in place of what it has."""
    action = f'  action {{\n    type             = "forward"\n    target_group_arn = {target}\n  }}\n}}\n'
    return lambda text: text.replace(_block(rule, text), _block(rule, text).partition("  action {")[0] + action)


def adding(
    priority: int, path: str, target: str = "var.api_target_group_arn", kind: str = "aws_lb_listener_rule"
) -> Edit:
    """Add a rule on a path."""
    rule = f"""
resource "{kind}" "added" {{
  listener_arn = aws_lb_listener.https.arn
  priority     = {priority}

  condition {{
    path_pattern {{
      values = ["{path}"]
    }}
  }}

  action {{
    type             = "forward"
    target_group_arn = {target}
  }}
}}
"""
    return lambda text: text + rule


def _block(rule: str, text: str) -> str:
    (found,) = re.findall(rf'^resource "aws_lb_listener_rule" "{rule}" {{$.*?^}}$', text, re.MULTILINE | re.DOTALL)
    return str(found) + "\n"


def host_condition(text: str) -> str:
    """The condition on hosts in a rule's text."""
    (found,) = re.findall(r"  condition \{\n    host_header \{.*?\n    \}\n  \}\n\n", text, re.DOTALL)
    return str(found)


def without_host(rule: str) -> Edit:
    """Let a rule take every host."""
    return lambda text: text.replace(
        _block(rule, text), _block(rule, text).replace(host_condition(_block(rule, text)), "")
    )


def swapped(one: str, other: str) -> Edit:
    """Give each of two rules the other's priority."""

    def edit(text: str) -> str:
        first, second = (re.search(r"priority     = \d+", _block(rule, text)) for rule in (one, other))
        assert first
        assert second
        text = within(one, (first[0], second[0]))(text)
        return within(other, (second[0], first[0]))(text)

    return edit


MLFLOW_GROUP = """
resource "aws_lb_target_group" "mlflow" {
  health_check {
    path    = "/mlflow"
    matcher = "200"
  }
}
"""

GET_ALONE = """  condition {
    http_request_method {
      values = ["GET"]
    }
  }

"""

IN_PROXYS_GROUP = """  load_balancer {
    target_group_arn = aws_lb_target_group.proxy.arn
    container_name   = "mlflow"
    container_port   = 5000
  }

"""

FORWARD = """type             = "forward"
    target_group_arn = aws_lb_target_group.proxy.arn
"""

THIRD_LISTENER = """
resource "aws_lb_listener" "other" {
  load_balancer_arn = aws_lb.main.arn
  port              = 8080
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}
"""

MUTATIONS = [
    # the order
    Mutation("the API comes before the proxy", RULES, swapped("api", "api_mlflow"), "cases"),
    Mutation(
        "the registry host's catch-all comes before the native paths", RULES, swapped("registry_api", "native"), "dead"
    ),
    Mutation(
        "the registry host's catch-all comes before /mlflow", RULES, within("registry_api", ("50", "37")), "cases"
    ),
    Mutation("auth comes after the API", RULES, within("auth", ("20", "110")), "cases"),
    Mutation("auth comes after the proxy", RULES, within("auth", ("20", "31")), "overlaps"),
    Mutation("a priority is taken twice", RULES, within("native_traces", ("36", "35")), "lint"),
    Mutation("a priority is beyond AWS's", RULES, within("api", ("100", "60000")), "lint"),
    Mutation("a catch-all comes first", RULES, adding(1, "/*"), "dead"),
    # the paths
    Mutation("/api* is narrowed to /api/*", RULES, within("api", ('"/api*"', '"/api/*"')), "cases"),
    Mutation("/api* is widened to /a*", RULES, within("api", ('"/api*"', '"/a*"')), "cases"),
    Mutation("/mlflow is left out", RULES, within("mlflow", ('"/mlflow", ', "")), "served"),
    Mutation("/mlflow/* is left out", RULES, within("mlflow", (', "/mlflow/*"', "")), "served"),
    Mutation(
        "the mount is widened to what begins like it", RULES, within("mlflow", ('"/mlflow/*"', '"/mlflow*"')), "cases"
    ),
    Mutation("a wildcard is dropped", RULES, within("api_mlflow", ("/api/mlflow/*", "/api/mlflow/")), "served"),
    Mutation("artifacts are left out", RULES, within("native", ("/api/2.0/mlflow*", "/api/2.0/mlflow/*")), "served"),
    Mutation("the newer API is left out", RULES, within("native", (', "/api/3.0/mlflow*"', "")), "served"),
    Mutation("? stands where * is meant", RULES, within("native", ("/ajax-api/*", "/ajax-api/?")), "served"),
    Mutation("a path has the wrong case", RULES, within("api_mlflow", ("/api/mlflow", "/api/MLflow")), "cases"),
    Mutation("a path has no slash in front", RULES, within("mlflow", ('"/mlflow/*"', '"mlflow/*"')), "lint"),
    Mutation("a path is written encoded", RULES, within("native_traces", ("/v1/traces", "/v1%2Ftraces")), "lint"),
    Mutation(
        "a path has a sixth value",
        RULES,
        within("native", ('"/ajax-api/*"', '"/ajax-api/*", "/v1/traces", "/version"')),
        "lint",
    ),
    Mutation(
        "a path has a sixth wildcard", RULES, within("native", ('"/ajax-api/*"', '"/ajax-api/*", "/*/?/?"')), "lint"
    ),
    Mutation(
        "a path decides nothing", RULES, within("mlflow", ('"/mlflow/*"', '"/mlflow/*", "/mlflow/api/*"')), "idle"
    ),
    # the hosts
    Mutation("the native paths count on every host", RULES, without_host("native"), "cases"),
    Mutation("the API takes every host", RULES, without_host("registry_api"), "lint"),
    Mutation("auth has another host", RULES, within("auth", ("var.auth_host", "var.registry_host")), "dead"),
    Mutation(
        "the registry host is spelt wrong",
        "variables.tf",
        anywhere(('"registry.hokus.ai"', '"registry.hokusai.ai"')),
        "cases",
    ),
    Mutation("a host has no dot", "variables.tf", anywhere(('"auth.hokus.ai"', '"auth"')), "lint"),
    Mutation("a host is a pattern for all", RULES, within("auth", ("[var.auth_host]", '["*.hokus.ai"]')), "dead"),
    # the methods
    Mutation("a rule takes GET alone", RULES, within("mlflow", ("  action {", f"{GET_ALONE}  action {{")), "cases"),
    # the targets
    Mutation("/api/mlflow goes to the API", RULES, forwarding("api_mlflow", "var.api_target_group_arn"), "cases"),
    Mutation("the API's go to the proxy", RULES, forwarding("api", "aws_lb_target_group.proxy.arn"), "cases"),
    Mutation("/mlflow goes straight to MLflow", RULES, forwarding("mlflow", "aws_lb_target_group.mlflow.arn"), "lint"),
    Mutation(
        "a rule goes straight to MLflow", RULES, adding(39, "/mlflow/health/*", "var.mlflow_target_group_arn"), "lint"
    ),
    Mutation("MLflow has a target group", "alb.tf", lambda text: text + MLFLOW_GROUP, "target groups"),
    Mutation(
        "MLflow's tasks are in the proxy's target group",
        "ecs-mlflow.tf",
        anywhere(("  network_configuration {", f"{IN_PROXYS_GROUP}  network_configuration {{")),
        "target groups",
    ),
    # the weights
    Mutation(
        "weights do not sum to 100", RULES, within("native", ("100 - var.proxy_weight", "var.proxy_weight")), "weights"
    ),
    Mutation(
        "weights are the wrong way round",
        RULES,
        within("mlflow", ("= var.proxy", "= NEW"), ("100 - var.proxy", "var.proxy"), ("NEW", "100 - var.proxy")),
        "weights",
    ),
    Mutation(
        "a rule keeps its weight in a rollout",
        RULES,
        within("mlflow", ("100 - var.proxy_weight", "0"), ("var.proxy_weight", "100")),
        "weights",
    ),
    Mutation("a rule has no weights", RULES, forwarding("mlflow", "aws_lb_target_group.proxy.arn"), "weights"),
    Mutation(
        "half a weight",
        RULES,
        within("mlflow", ("100 - var.proxy_weight", "87.5"), ("= var.proxy_weight", "= 12.5")),
        "readable",
    ),
    # rules that come and go
    Mutation("auth is gone", RULES, without("auth"), "cases"),
    Mutation("api_mlflow is gone", RULES, without("api_mlflow"), "served"),
    Mutation("native is gone", RULES, without("native"), "served"),
    Mutation("native_traces is gone", RULES, without("native_traces"), "served"),
    Mutation("mlflow is gone", RULES, without("mlflow"), "served"),
    Mutation("registry_api is gone", RULES, without("registry_api"), "cases"),
    Mutation("api is gone", RULES, without("api"), "cases"),
    Mutation("a rule takes the health pages away", RULES, adding(25, "/*/health/mlflow"), "served"),
    Mutation(
        "a rule takes one path of the mount away that no route knows", RULES, adding(25, "/mlflow/teapot"), "served"
    ),
    Mutation(
        "a rule overlaps where no case looks", RULES, adding(60, "/other*", "var.auth_target_group_arn"), "overlaps"
    ),
    Mutation("a rule comes too late", RULES, adding(200, "/api/other/*", "var.auth_target_group_arn"), "dead"),
    # rules that cannot be read
    Mutation(
        "for_each",
        RULES,
        within("mlflow", ("  priority     = 40", '  for_each     = toset(["/mlflow"])\n  priority     = 40')),
        "readable",
    ),
    Mutation(
        "count", RULES, within("mlflow", ("  priority     = 40", "  count        = 0\n  priority     = 40")), "readable"
    ),
    Mutation(
        "a target by a local", RULES, within("mlflow", ("aws_lb_target_group.proxy.arn", "local.target")), "readable"
    ),
    Mutation(
        "a condition on headers",
        RULES,
        within("mlflow", ("path_pattern {", 'http_header {\n      http_header_name = "X"')),
        "readable",
    ),
    Mutation("a rule under its older name", RULES, adding(1, "/mlflow*", kind="aws_alb_listener_rule"), "readable"),
    # the listeners
    Mutation("rules stand on HTTP", RULES, within("mlflow", ("aws_lb_listener.https", "aws_lb_listener.http")), "lint"),
    Mutation(
        "HTTP forwards",
        "alb.tf",
        lambda text: re.sub(r'type = "redirect".*?^    }\n', FORWARD, text, count=1, flags=re.MULTILINE | re.DOTALL),
        "readable",
    ),
    Mutation("HTTP redirects for a time only", "alb.tf", anywhere(("HTTP_301", "HTTP_302")), "listeners"),
    Mutation("HTTPS ends in text", "alb.tf", anywhere(("application/json", "text/plain")), "listeners"),
    Mutation("HTTPS ends in a 200", "alb.tf", anywhere(('"404"', '"200"')), "listeners"),
    Mutation("HTTPS ends in what no client reads", "alb.tf", anywhere(("error_code =", "code =")), "listeners"),
    Mutation("a third listener", "alb.tf", lambda text: text + THIRD_LISTENER, "listeners"),
]


def test_as_they_are_no_check_complains(folder: Path) -> None:
    assert checks.all_complaints(folder) == {}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_each_mistake_is_seen_by_the_check_that_is_named(folder: Path, mutation: Mutation) -> None:
    path = folder / mutation.file
    before = path.read_text()
    path.write_text(mutation.edit(before))
    assert path.read_text() != before
    found = checks.all_complaints(folder)
    assert mutation.check in found, f"only {found} complain"


def test_every_check_is_needed_by_a_mutation() -> None:
    known = {"readable", *checks.OF_RULES, *checks.OF_FILES}
    assert {mutation.check for mutation in MUTATIONS} == known
    assert set(Counter(mutation.what for mutation in MUTATIONS).values()) == {1}


HARMLESS = {
    "other numbers in the same order": within("api", ("priority     = 100", "priority     = 1000")),
    "values in another order": within("mlflow", ('"/mlflow", "/mlflow/*"', '"/mlflow/*", "/mlflow"')),
    "a comment": lambda text: text + "\n# A remark.\n",
    "a host in capitals": within("auth", ("[var.auth_host]", '["AUTH.hokus.ai"]')),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_changes_nothing_is_no_mistake(folder: Path, what: str) -> None:
    path = folder / RULES
    path.write_text(HARMLESS[what](path.read_text()))
    assert checks.all_complaints(folder) == {}


def test_the_command_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert (checks.main(), capsys.readouterr().out) == (0, "")
    monkeypatch.setattr(checks, "all_complaints", lambda: {"dead": ["one: no request reaches it"]})
    assert (checks.main(), capsys.readouterr().out) == (1, "dead: one: no request reaches it\n")
