"""The same rules and default actions, read from Terraform's plan (`terraform show -json`): the second reading.

A plan is evaluated by Terraform itself, so it shows what python-hcl2 only seems to read. Target groups have no ARN
before they are made: the plan's configuration says what each block refers to. Raises `Unreadable` for what is not
understood.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from scripts.alb.balancer import Fixed, Listener, Redirect
from scripts.alb.rules import CONDITIONS, TARGETS, Rule, Unreadable, whole

Json = Mapping[str, Any]
UNCHANGED = {"host": "#{host}", "path": "/#{path}", "query": "#{query}"}  # of a redirect: as it was asked


def rules_of_plan(plan: Json) -> tuple[Rule, ...]:
    """All rules of a plan, by listener and priority; values and targets sorted, as `canonical` has them."""
    rules = [_rule(plan, name, values, written) for name, values, written in _resources(plan, "aws_lb_listener_rule")]
    return canonical(rules)


def canonical(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Rules with their values and targets sorted: to AWS they are sets, and Terraform prints them in its own order."""
    ordered = [
        replace(
            rule,
            hosts=tuple(sorted(rule.hosts)),
            paths=tuple(sorted(rule.paths)),
            methods=tuple(sorted(rule.methods)),
            targets=tuple(sorted(rule.targets)),
        )
        for rule in rules
    ]
    return tuple(sorted(ordered, key=lambda rule: (rule.listener, rule.priority, rule.name)))


def listeners_of_plan(plan: Json) -> tuple[Listener, ...]:
    """All listeners of a plan, by name."""
    found = [_listener(name, values) for name, values, _ in _resources(plan, "aws_lb_listener")]
    return tuple(sorted(found, key=lambda listener: listener.name))


def _listener(name: str, values: Json) -> Listener:
    (action,) = values["default_action"]
    if action["type"] == "fixed-response":
        (answer,) = action["fixed_response"]
        default: Fixed | Redirect = Fixed(int(answer["status_code"]), answer["content_type"], answer["message_body"])
    elif action["type"] == "redirect" and UNCHANGED.items() <= action["redirect"][0].items():
        (redirect,) = action["redirect"]
        status = int(redirect["status_code"].removeprefix("HTTP_"))
        default = Redirect(status, redirect["protocol"], int(redirect["port"]))
    else:
        raise Unreadable(f"listener {name}: its default action is not understood")
    return Listener(name, values["port"], values["protocol"], default)


def _resources(plan: Json, kind: str) -> Iterator[tuple[str, Json, Json]]:
    """Name, planned values and written expressions of each resource of a kind."""
    planned, written = plan["planned_values"]["root_module"], plan["configuration"]["root_module"]
    if planned.get("child_modules") or written.get("module_calls"):
        raise Unreadable("the plan holds modules")
    expressions = {(one["type"], one["name"]): one["expressions"] for one in written["resources"]}
    for one in planned["resources"]:
        if one["type"] == kind:
            if "index" in one:
                raise Unreadable(f"{one['address']} is one of several made from one block")
            yield one["name"], one["values"], expressions[kind, one["name"]]


def _rule(plan: Json, name: str, values: Json, written: Json) -> Rule:
    conditions: dict[str, tuple[str, ...]] = {"hosts": (), "paths": (), "methods": ()}
    for condition in values["condition"]:
        for kind, content in condition.items():
            if content and kind not in CONDITIONS:
                raise Unreadable(f"rule {name}: condition {kind} is not understood")
            for one in content:
                conditions[CONDITIONS[kind]] += tuple(one["values"])
    listener = written["listener_arn"]["references"][0].removeprefix("aws_lb_listener.").removesuffix(".arn")
    return Rule(name, listener, whole(values["priority"]), **conditions, targets=_targets(plan, name, values, written))


def _targets(plan: Json, name: str, values: Json, written: Json) -> tuple[tuple[str, int], ...]:
    if len(values["action"]) != 1 or values["action"][0]["type"] != "forward":
        raise Unreadable(f"rule {name}: it does not just forward")
    action, expressions = values["action"][0], written["action"][0]
    if not action["forward"]:
        return ((_target(name, expressions["target_group_arn"]["references"][0]), 1),)
    groups = expressions["forward"][0]["target_group"]
    by_arn: dict[str | None, str] = {}
    for group in groups:
        reference = group["arn"]["references"][0]
        arn = plan["variables"][reference.removeprefix("var.")]["value"] if reference.startswith("var.") else None
        if arn in by_arn:  # the values are a set: nothing else tells which weight belongs to which
            raise Unreadable(f"rule {name}: two of its targets cannot be told apart before they are made")
        by_arn[arn] = _target(name, reference)
    return tuple((by_arn[one.get("arn")], whole(one["weight"])) for one in action["forward"][0]["target_group"])


def _target(name: str, reference: str) -> str:
    for form in TARGETS:
        found = form.fullmatch("${" + reference + "}")
        if found:
            return found[1]
    raise Unreadable(f"rule {name}: {reference} is no direct reference to a target group")
