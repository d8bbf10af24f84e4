"""Reads what the Terraform files say of the load balancer beside its rules: listeners, target groups, idle timeout.

Read as in rules.py: what is not understood raises `Unreadable`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.alb.rules import TERRAFORM, Unreadable, blocks_of, defaults, value_of, whole

JSONENCODE = re.compile(r"\$\{jsonencode\(\{(.*)\}\)\}", re.DOTALL)
JSON_PAIR = re.compile(r'\s*"?(\w+)"?\s*[=:]\s*("(?:[^"\\$%]|\\.)*")\s*(?:,|$)')


@dataclass(frozen=True)
class Fixed:
    """A listener's default action that answers by itself."""

    status: int
    content_type: str
    body: str


@dataclass(frozen=True)
class Redirect:
    """A listener's default action that sends the client elsewhere: same host, path and query."""

    status: int
    protocol: str
    port: int


@dataclass(frozen=True)
class Listener:
    """A listener. `port` is the one that users know."""

    name: str
    port: int
    protocol: str
    default: Fixed | Redirect


@dataclass(frozen=True)
class Check:
    """A target group's health check; times in seconds, `statuses` as AWS writes them (`200,202` or `200-299`)."""

    path: str
    statuses: str
    interval: float
    timeout: float
    healthy: int
    unhealthy: int


@dataclass(frozen=True)
class Group:
    """A target group of ours; those of others are nothing but a name in a rule."""

    algorithm: str
    check: Check


@dataclass(frozen=True)
class Balancer:
    """The load balancer; `idle_timeout` in seconds, `groups` by the name of the resource."""

    idle_timeout: int
    drops_invalid_names: bool
    listeners: tuple[Listener, ...]
    groups: Mapping[str, Group]


def read_balancer(folder: Path = TERRAFORM, given: Mapping[str, Any] | None = None) -> Balancer:
    """The load balancer in `folder`; `given` are values of variables, as in `read_rules`. Raises `Unreadable`."""
    variables = {**defaults(folder), **(given or {})}
    balancers = [block for _, block in blocks_of(folder, "aws_lb")]
    if len(balancers) != 1:
        raise Unreadable(f"there are {len(balancers)} load balancers")
    (balancer,) = balancers
    if balancer.get("xff_header_processing_mode", "append") != "append" or balancer.get("preserve_host_header", False):
        raise Unreadable("only an X-Forwarded-For that is appended to, and a Host without its port, are understood")
    return Balancer(
        whole(value_of(balancer.get("idle_timeout", 60), variables)),
        balancer.get("drop_invalid_header_fields", False),
        tuple(_listener(name, block) for name, block in blocks_of(folder, "aws_lb_listener")),
        {name: _group(name, block, variables) for name, block in blocks_of(folder, "aws_lb_target_group")},
    )


def _listener(name: str, block: Mapping[str, Any]) -> Listener:
    (action,) = block["default_action"]
    if action["type"] == "fixed-response":
        (answer,) = action["fixed_response"]
        body = _body(answer["message_body"])
        default: Fixed | Redirect = Fixed(int(answer["status_code"]), answer["content_type"], body)
    elif action["type"] == "redirect":
        default = _redirect(name, *action["redirect"])
    else:
        raise Unreadable(f"listener {name}: default action {action['type']} is not understood")
    return Listener(name, whole(block["port"]), block["protocol"], default)


def _redirect(name: str, redirect: Mapping[str, Any]) -> Redirect:
    if set(redirect) != {"port", "protocol", "status_code"}:
        raise Unreadable(f"listener {name}: a redirect that changes more than protocol and port is not understood")
    status = int(redirect["status_code"].removeprefix("HTTP_"))
    return Redirect(status, redirect["protocol"], int(redirect["port"]))


def _body(text: str) -> str:
    """A fixed answer's body: a literal, or jsonencode() of one object of literal texts, as Terraform writes it."""
    encoded = JSONENCODE.fullmatch(text)
    if not encoded:
        return str(value_of(text, {}))
    if JSON_PAIR.sub("", encoded[1]).strip():
        raise Unreadable(f"{text} is not jsonencode() of an object of literal texts")
    pairs = {name: json.loads(value) for name, value in JSON_PAIR.findall(encoded[1])}
    compact = json.dumps(pairs, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return re.sub("[<>&\u2028\u2029]", lambda one: f"\\u{ord(one[0]):04x}", compact)


def _group(name: str, block: Mapping[str, Any], variables: Mapping[str, Any]) -> Group:
    (given,) = block["health_check"]
    check = {key: value_of(value, variables) for key, value in given.items()}
    seconds = float(check.get("interval", 30)), float(check.get("timeout", 5))
    times = whole(check.get("healthy_threshold", 5)), whole(check.get("unhealthy_threshold", 2))
    algorithm = block.get("load_balancing_algorithm_type", "round_robin")
    return Group(algorithm, Check(check["path"], check["matcher"], *seconds, *times))
