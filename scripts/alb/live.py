"""The rules that a load balancer really has, in the repository's words, and how they differ from the repository's.

Source of the shapes: Elastic Load Balancing API, DescribeRules. Only `read_live` asks AWS; the rest is pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.alb import lint, matching
from scripts.alb.automaton import moved
from scripts.alb.rules import Rule, blocks_of

LISTENERS = {("HTTP", 80): "http", ("HTTPS", 443): "https"}
FIELDS = {"host-header": "hosts", "path-pattern": "paths", "http-request-method": "methods"}
CONFIGS = {"hosts": "HostHeaderConfig", "paths": "PathPatternConfig", "methods": "HttpRequestMethodConfig"}
ACTION_KEYS = {"Type", "Order", "TargetGroupArn", "ForwardConfig"}
PARTS = ("priority", "hosts", "paths", "methods", "targets", "beyond")


class CannotTell(Exception):
    """There is nothing to compare, or no way to it; the text says what to do."""


@dataclass(frozen=True)
class Live:
    """A live rule. `beyond` is what no rule of the repository can hold: other conditions, other actions."""

    rule: Rule
    beyond: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """One thing that differs. `what`: missing, changed, takes from ours, refused, listener."""

    what: str
    rule: str
    priority: int | None
    part: str
    repository: str
    live: str


def read_live(client: Any, balancer: str, names: Mapping[str, str]) -> tuple[list[Live], dict[str, str]]:
    """All rules of a load balancer, and what its listeners do with the rest (listener -> type of action).

    Raises `CannotTell`, and botocore's errors.
    """
    try:
        (found,) = client.describe_load_balancers(Names=[balancer])["LoadBalancers"]
    except client.exceptions.LoadBalancerNotFoundException:
        raise CannotTell(f"there is no load balancer {balancer} in {client.meta.region_name}") from None
    rules, endings = [], {}
    pages = client.get_paginator("describe_listeners").paginate(LoadBalancerArn=found["LoadBalancerArn"])
    for listener in (one for page in pages for one in page["Listeners"]):
        port = (listener["Protocol"], listener["Port"])
        name = LISTENERS.get(port, f"{port[0]}:{port[1]}")
        endings[name] = listener["DefaultActions"][-1]["Type"]
        for page in client.get_paginator("describe_rules").paginate(ListenerArn=listener["ListenerArn"]):
            rules += [live_rule(rule, name, names) for rule in page["Rules"] if not rule["IsDefault"]]
    if not endings:
        raise CannotTell(f"the load balancer {balancer} has no listener")
    return sorted(rules, key=lambda one: (one.rule.listener, one.rule.priority)), endings


def live_rule(rule: Mapping[str, Any], listener: str, names: Mapping[str, str]) -> Live:
    """A rule as `describe-rules` gives it, in the repository's words."""
    parts: dict[str, tuple[str, ...]] = {"hosts": (), "paths": (), "methods": ()}
    beyond = [f"transform {one.get('Type')}" for one in rule.get("Transforms", [])]
    for condition in rule["Conditions"]:
        part = FIELDS.get(condition["Field"])
        config = condition.get(CONFIGS[part], {}) if part else {}
        values = config.get("Values") or condition.get("Values", [])
        if part is None or parts[part] or not values or set(config) - {"Values"}:
            beyond.append(f"condition {condition['Field']}")
        else:
            parts[part] = tuple(sorted(values))
    targets = []
    for action in rule["Actions"]:
        forward = action.get("ForwardConfig", {})
        groups = forward.get("TargetGroups") or [{"TargetGroupArn": action.get("TargetGroupArn", ""), "Weight": 1}]
        if action["Type"] != "forward" or set(action) - ACTION_KEYS:
            beyond.append(f"action {action['Type']}")
        else:
            targets += [(name_of(group["TargetGroupArn"], names), int(group.get("Weight", 1))) for group in groups]
            beyond += ["stickiness"] if forward.get("TargetGroupStickinessConfig", {}).get("Enabled") else []
    priority = int(rule["Priority"])
    return Live(Rule(f"rule {priority}", listener, priority, **parts, targets=tuple(targets)), tuple(beyond))


def name_of(arn: str, names: Mapping[str, str]) -> str:
    """The repository's name of a target group; the group's own where the repository does not know it."""
    own = arn.split("/")[1] if arn.count("/") == 2 else arn
    return names.get(arn) or names.get(own) or own


def compare(wanted: Sequence[Rule], live: Sequence[Live]) -> tuple[list[Difference], list[Live]]:
    """What differs between the repository's rules and the live ones, and the live rules that are none of ours."""
    differences, left = [], list(live)
    for rule, other in pairs(wanted, left):
        if other is None:
            taken = next((one for one in live if at(one.rule) == at(rule)), None)
            shown = f"its priority is taken by: {shown_whole(taken)}" if taken else ""
            differences.append(Difference("missing", rule.name, rule.priority, "", shown_whole(Live(rule, ())), shown))
            continue
        left.remove(other)
        ours, theirs = shown_parts(Live(rule, ())), shown_parts(other)
        for part in PARTS:
            if ours[part] != theirs[part]:
                differences.append(Difference("changed", rule.name, rule.priority, part, ours[part], theirs[part]))
    return differences, left


def pairs(wanted: Sequence[Rule], live: Sequence[Live]) -> Iterator[tuple[Rule, Live | None]]:
    """Each rule of the repository with the live one that is meant to be it: with its conditions, else in its place."""
    left = list(live)
    later = []
    for rule in wanted:
        same = [one for one in left if conditions(one.rule) == conditions(rule)]
        found = min(same, key=lambda one: one.rule.priority != rule.priority, default=None)
        if found:
            left.remove(found)
            yield rule, found
        else:
            later.append(rule)
    for rule in later:
        # A rule that shares nothing with ours is somebody else's, who took the number.
        there = next((one for one in left if at(one.rule) == at(rule) and values(one.rule) & values(rule)), None)
        if there:
            left.remove(there)
        yield rule, there


def conditions(rule: Rule) -> tuple[Any, ...]:
    """What a rule asks for, whatever the order of its values; hosts know no case."""
    return rule.listener, {host.lower() for host in rule.hosts}, set(rule.paths), set(rule.methods)


def values(rule: Rule) -> set[str]:
    return {*rule.hosts, *rule.paths, *rule.methods}


def at(rule: Rule) -> tuple[str, int]:
    return rule.listener, rule.priority


def shares(rule: Rule) -> dict[str, int]:
    """Target -> how many of 100 requests it gets. A weight of 0 is as good as no target."""
    total = sum(weight for _, weight in rule.targets) or 1
    found: dict[str, int] = {}
    for name, weight in rule.targets:
        found[name] = found.get(name, 0) + round(100 * weight / total)
    return {name: share for name, share in sorted(found.items()) if share}


def shown_parts(one: Live) -> dict[str, str]:
    """A rule's parts as text, the same for the same meaning."""
    rule = one.rule
    targets = shares(rule)
    return {
        "priority": str(rule.priority),
        "hosts": " ".join(sorted(host.lower() for host in rule.hosts)) or "any",
        "paths": " ".join(sorted(rule.paths)) or "any",
        "methods": " ".join(sorted(rule.methods)) or "any",
        "targets": " ".join(name if share == 100 else f"{name} {share}%" for name, share in targets.items()) or "none",
        "beyond": ", ".join(one.beyond) or "nothing",
    }


def shown_whole(one: Live) -> str:
    """A rule on one line."""
    parts = shown_parts(one)
    asked = [f"{part} {parts[part]}" for part in ("hosts", "paths", "methods") if parts[part] != "any"]
    extra = [parts["beyond"]] if one.beyond else []
    return f"{', '.join([*asked, *extra]) or 'everything'} -> {parts['targets']}"


def weight_of(wanted: Sequence[Rule], live: Sequence[Live]) -> int | None:
    """How many of 100 requests for MLflow go to the proxy, if all rules that share them agree."""
    shared = [other for rule, other in pairs(wanted, live) if other and len(rule.targets) > 1]
    found = {shares(other.rule).get("proxy", 0) for other in shared}
    return found.pop() if len(found) == 1 else None


def conflicts(wanted: Sequence[Rule], others: Sequence[Live]) -> list[Difference]:
    """What rules that are none of ours do beside ours: take requests from them, break AWS's limits or our own."""
    known = {rule.listener for rule in wanted}
    beside = {one.rule.name: one for one in others if one.rule.listener in known}
    after = [*wanted, *(one.rule for one in beside.values())]
    takers: dict[str, Difference] = {}
    for example, was, now in moved(wanted, after):
        taker = matching.target_of(after, example)
        if was == matching.NOBODY or taker is None or taker.name not in beside:
            continue  # what none of ours takes may be anybody's
        text = shown_whole(beside[taker.name])
        here, there = f"{example} -> {was}", f"{example} -> {now or 'what the rule says'}"
        takers.setdefault(taker.name, Difference("takes from ours", text, taker.priority, "", here, there))
    # A target that the repository does not know is no fault of a rule that is not the repository's.
    refused = [fault for fault in lint.of_rules(after) if "nobody knows" not in fault]
    return [*takers.values(), *(Difference("refused", "", None, "", "", fault) for fault in refused)]


def ends(folder: Path, live: Mapping[str, str]) -> list[Difference]:
    """Listeners that are missing or end otherwise than in the files; a listener more is a way in that nobody checks."""
    wanted = {name: block["default_action"][0]["type"] for name, block in blocks_of(folder, "aws_lb_listener")}
    return [
        Difference("listener", name, None, "default action", wanted.get(name, "no such"), live.get(name, "no such"))
        for name in sorted({*wanted, *live})
        if wanted.get(name) != live.get(name)
    ]
