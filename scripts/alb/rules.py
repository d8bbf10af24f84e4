"""Reads the listener rules from the Terraform files themselves (python-hcl2), and refuses what it cannot read exactly.

There is one static block for each rule, with direct references. `for_each`, `count`, `dynamic`, expressions beyond
those of `value_of`, and places that Terraform reads and this does not raise `Unreadable`: a guess here would be a wrong
test everywhere.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2

TERRAFORM = Path(__file__).parents[2] / "infrastructure" / "terraform"
PLAIN = hcl2.SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
CONDITIONS = {"host_header": "hosts", "path_pattern": "paths", "http_request_method": "methods"}
TARGETS = (
    re.compile(r"\$\{aws_lb_target_group\.(\w+)\.arn\}"),
    re.compile(r"\$\{var\.(\w+)_target_group_arn\}"),
)
ALIASES = ("aws_alb_listener_rule", "aws_alb_listener", "aws_alb_target_group")  # Terraform takes both spellings


class Unreadable(ValueError):
    """The Terraform files hold something whose meaning this reader does not know."""


@dataclass(frozen=True)
class Rule:
    """A rule of a listener. Values of one condition are alternatives; an empty tuple is a condition that is not there.

    `targets` are names of target groups (`proxy`, `api`, `auth`) with their weights; the weights' sum is what counts.
    """

    name: str
    listener: str
    priority: int
    hosts: tuple[str, ...]
    paths: tuple[str, ...]
    methods: tuple[str, ...]
    targets: tuple[tuple[str, int], ...]


def read_rules(folder: Path = TERRAFORM, given: Mapping[str, Any] | None = None) -> tuple[Rule, ...]:
    """All rules in `folder`, in the order in which the load balancer asks them.

    `given` are values of variables, which go before the defaults of variables.tf. Raises `Unreadable`.
    """
    _refuse_hidden_places(folder)
    variables = {**defaults(folder), **(given or {})}
    blocks = blocks_of(folder, "aws_lb_listener_rule")
    rules = [_rule(name, block, variables) for name, block in blocks]
    return tuple(sorted(rules, key=lambda rule: (rule.listener, rule.priority, rule.name)))


def blocks_of(folder: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of each resource of a kind, as python-hcl2 gives them. Kept: do not change what you get."""
    for path in sorted(folder.glob("*.tf")):
        for resource in _parsed(path).get("resource", []):
            yield from resource.get(kind, {}).items()


def defaults(folder: Path = TERRAFORM) -> dict[str, Any]:
    """The variables that have a default, with it."""
    found = {}
    for path in sorted(folder.glob("*.tf")):
        for variable in _parsed(path).get("variable", []):
            found.update({name: block["default"] for name, block in variable.items() if "default" in block})
    return found


def value_of(text: Any, variables: Mapping[str, Any]) -> Any:
    """A literal, `${var.NAME}` or `${100 - var.NAME}`. Raises `Unreadable` for all else."""
    if not isinstance(text, str) or "${" not in text:
        return text
    simple = re.fullmatch(r"\$\{(100 - )?var\.(\w+)\}", text)
    if not simple or simple[2] not in variables:
        raise Unreadable(f"{text} is neither a literal nor a variable with a known value")
    value = variables[simple[2]]
    if isinstance(value, str) and "${" in value:
        raise Unreadable(f"the default of var.{simple[2]} is no literal")
    return 100 - value if simple[1] else value


def whole(value: Any) -> int:
    """A whole number as an int. Raises `Unreadable` for all else: Terraform would send 12.5 on, and AWS refuse it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unreadable(f"{value!r} is no whole number")
    return value


def _parsed(path: Path) -> dict[str, Any]:
    return _parsed_text(path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=128)
def _parsed_text(text: str) -> dict[str, Any]:
    return hcl2.loads(text, serialization_options=PLAIN)


def _refuse_hidden_places(folder: Path) -> None:
    """Terraform also takes rules from JSON, from overrides, from modules, and under an older name."""
    hidden = [path.name for path in folder.glob("*.tf.json")]
    hidden += [path.name for path in folder.glob("*.tf") if path.stem == "override" or path.stem.endswith("_override")]
    hidden += [f"a module in {path.name}" for path in folder.glob("*.tf") if _parsed(path).get("module")]
    hidden += [f"{kind}.{name}" for kind in ALIASES for name, _ in blocks_of(folder, kind)]
    if hidden:
        raise Unreadable(f"rules may stand where this does not read: {', '.join(sorted(hidden))}")


def _rule(name: str, block: Mapping[str, Any], variables: Mapping[str, Any]) -> Rule:
    known = {"listener_arn", "priority", "condition", "action", "tags"}
    if set(block) - known:
        raise Unreadable(f"rule {name}: {sorted(set(block) - known)} is not understood")
    listener = re.fullmatch(r"\$\{aws_lb_listener\.(\w+)\.arn\}", block.get("listener_arn", ""))
    if not listener:
        raise Unreadable(f"rule {name}: listener_arn is no direct reference to a listener")
    conditions: dict[str, tuple[str, ...]] = {"hosts": (), "paths": (), "methods": ()}
    for kind, values in _conditions(name, block.get("condition", [])):
        if conditions[kind]:
            raise Unreadable(f"rule {name}: two conditions on {kind}")
        conditions[kind] = tuple(str(value_of(value, variables)) for value in values)
    priority = whole(value_of(block.get("priority"), variables))
    return Rule(name, listener[1], priority, **conditions, targets=_targets(name, block.get("action", []), variables))


def _conditions(name: str, blocks: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    for block in blocks:
        for kind, contents in block.items():
            if kind not in CONDITIONS or len(contents) != 1 or set(contents[0]) != {"values"}:
                raise Unreadable(f"rule {name}: condition {kind} is not understood")
            values = contents[0]["values"]
            if not isinstance(values, list) or not values:  # empty would read as no condition: every request
                raise Unreadable(f"rule {name}: the values of {kind} are no list of what is allowed")
            yield CONDITIONS[kind], values


def _targets(name: str, actions: list[dict[str, Any]], variables: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    if len(actions) != 1 or actions[0].get("type") != "forward":
        raise Unreadable(f"rule {name}: it does not just forward")
    action = actions[0]
    if set(action) == {"type", "target_group_arn"}:
        return ((_target(name, action["target_group_arn"]), 1),)
    (forward,) = action.get("forward", [{}])
    if set(action) != {"type", "forward"} or set(forward) != {"target_group"}:
        raise Unreadable(f"rule {name}: its action holds more than target groups")
    if any(set(group) != {"arn", "weight"} for group in forward["target_group"]):
        raise Unreadable(f"rule {name}: a target group without a weight, or with more than that")
    return tuple(
        (_target(name, group["arn"]), whole(value_of(group["weight"], variables))) for group in forward["target_group"]
    )


def _target(name: str, reference: str) -> str:
    for form in TARGETS:
        found = form.fullmatch(reference)
        if found:
            return found[1]
    raise Unreadable(f"rule {name}: {reference} is no direct reference to a target group")
