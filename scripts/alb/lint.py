"""What AWS would refuse, or take and not do what was meant. Each function gives sentences, an empty list for nothing.

Terraform, its provider and moto let most of this pass. Sources: Elastic Load Balancing, "Listener rules", "Rule
condition types", "Quotas for your Application Load Balancers"; its API reference, Action, TargetGroupTuple and
FixedResponseActionConfig.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app.errors import code_for_status
from scripts.alb.balancer import Fixed, Listener, Redirect, read_balancer
from scripts.alb.rules import TERRAFORM, Rule, blocks_of

MOST_RULES = 100  # of one load balancer
MOST_VALUES = 5  # of one rule, hosts, paths and methods together; AWS raises this limit for nobody
MOST_WILDCARDS = 5  # of one rule; newer pages say 6
PRIORITIES = range(1, 50001)
WEIGHTS = range(1000)
LONGEST_PATTERN = 128
LONGEST_METHOD = 40
LONGEST_BODY = 1024
PATH = re.compile(r"[A-Za-z0-9_\-.$/~\"'@:+&*?]+")
HOST = re.compile(r"[A-Za-z0-9\-.*?]*\.[A-Za-z]+")
METHOD = re.compile(r"[A-Z_-]+")
SERVICES = ("proxy", "api", "auth")


def of_rules(rules: Sequence[Rule]) -> list[str]:
    """What is wrong with rules, each by itself and all together."""
    found = [f"{len(rules)} rules: a load balancer takes {MOST_RULES}"] if len(rules) > MOST_RULES else []
    for (listener, priority), count in sorted(Counter((rule.listener, rule.priority) for rule in rules).items()):
        if count > 1:
            same = sorted(rule.name for rule in rules if (rule.listener, rule.priority) == (listener, priority))
            found.append(f"{' and '.join(same)}: both have priority {priority} on {listener}")
    return found + [f"{rule.name}: {fault}" for rule in rules for fault in _of_rule(rule)]


def _of_rule(rule: Rule) -> Iterator[str]:
    if rule.listener != "https":
        yield f"stands on the listener {rule.listener}; all rules stand on https"
    if rule.priority not in PRIORITIES:
        yield f"priority {rule.priority} is not from 1 to 50000"
    values = [*rule.hosts, *rule.paths, *rule.methods]
    if not values:
        yield "has no condition: AWS refuses it, and it would take everything"
    if len(values) > MOST_VALUES:
        yield f"{len(values)} values: a rule takes {MOST_VALUES}, hosts, paths and methods together"
    wildcards = sum(value.count("*") + value.count("?") for value in values)
    if wildcards > MOST_WILDCARDS:
        yield f"{wildcards} wildcards: a rule takes {MOST_WILDCARDS}"
    yield from (f"{value} stands there twice" for value, count in Counter(values).items() if count > 1)
    yield from _of_values(rule)
    yield from _of_targets(rule)


def _of_values(rule: Rule) -> Iterator[str]:
    for value in [*rule.hosts, *rule.paths]:
        if len(value) > LONGEST_PATTERN:
            yield f"{value} is longer than {LONGEST_PATTERN} characters"
    for path in rule.paths:
        if not PATH.fullmatch(path):
            yield f"the path {path} holds a character that AWS refuses"
        if not path.startswith("/"):
            yield f"the path {path} does not begin with a slash"
    for host in rule.hosts:
        if not HOST.fullmatch(host):
            yield f"the host {host} is no name with a dot and only letters after the last one"
    for method in rule.methods:
        if not METHOD.fullmatch(method) or len(method) > LONGEST_METHOD:
            yield f"the method {method} is not made of capital letters, hyphen and underscore"


def _of_targets(rule: Rule) -> Iterator[str]:
    names = [name for name, _ in rule.targets]
    for name in names:
        if "mlflow" in name:
            yield f"forwards straight to MLflow ({name}), past the proxy"
        elif name not in SERVICES:
            yield f"forwards to {name}, which nobody knows"
    if len(set(names)) < len(names):
        yield "names a target twice"
    if len(names) > 5:
        yield f"{len(names)} targets: an action takes 5"
    weights = [weight for _, weight in rule.targets]
    if any(weight not in WEIGHTS for weight in weights):
        yield f"weights {weights}: AWS takes 0 to 999"
    if not any(weight > 0 for weight in weights):
        yield "has no weight above 0: it takes requests and gives them to nobody"
    if len(weights) > 1 and sum(weights) != 100:
        yield f"weights {weights} do not sum to 100"


def of_listeners(folder: Path = TERRAFORM) -> list[str]:
    """What is wrong with the listeners: http only redirects, https ends in a 404 as the proxy says it, no other is.

    Raises `Unreadable`, as for a default action that forwards.
    """
    listeners = {listener.name: listener for listener in read_balancer(folder).listeners}
    if sorted(listeners) != ["http", "https"]:
        return [f"listeners {sorted(listeners)}: there must be http and https, and no other"]
    return [*_of_http(listeners["http"]), *_of_https(listeners["https"])]


def _of_http(listener: Listener) -> Iterator[str]:
    if (listener.port, listener.protocol) != (80, "HTTP"):
        yield "listener http is not HTTP on port 80"
    if listener.default != Redirect(301, "HTTPS", 443):
        yield f"listener http does not just redirect to HTTPS: {listener.default}"


def _of_https(listener: Listener) -> Iterator[str]:
    if (listener.port, listener.protocol) != (443, "HTTPS"):
        yield "listener https is not HTTPS on port 443"
    default = listener.default
    if not isinstance(default, Fixed) or (default.status, default.content_type) != (404, "application/json"):
        yield f"listener https does not end in a 404 with JSON: {default}"
    elif len(default.body) > LONGEST_BODY or _code(default.body) != code_for_status(404):
        yield f"an MLflow client does not understand what listener https ends in: {default.body}"


def _code(body: str) -> str:
    """The error code that an MLflow client reads (mlflow/exceptions.py, RestException); empty when there is none."""
    try:
        content = json.loads(body)
    except ValueError:
        return ""
    readable = isinstance(content, dict) and isinstance(content.get("message"), str)
    return str(content.get("error_code", "")) if readable else ""


def of_target_groups(folder: Path = TERRAFORM) -> list[str]:
    """Ways from the load balancer to MLflow that are no rule: a target group of its own, its tasks in the proxy's."""
    groups = {name for name, _ in blocks_of(folder, "aws_lb_target_group")}
    found = [f"target group {name}: only the proxy's is made here" for name in sorted(groups - {"proxy"})]
    attached = blocks_of(folder, "aws_lb_target_group_attachment")
    found += [f"attachment {name}: ECS alone registers targets" for name, _ in attached]
    for name, block in blocks_of(folder, "aws_ecs_service"):
        registered = [_group(entry) for entry in block.get("load_balancer", [])]
        if registered != (["proxy"] if name == "proxy" else []):
            found.append(f"ECS service {name} puts its tasks into the target groups {registered}")
    return found


def _group(entry: Any) -> str:
    found = re.fullmatch(r"\$\{aws_lb_target_group\.(\w+)\.arn\}", str(entry.get("target_group_arn")))
    return found[1] if found else str(entry.get("target_group_arn"))
