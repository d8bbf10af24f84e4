"""Which rule takes a request, by the load balancer's own rules. Pure.

Source: Elastic Load Balancing, Application Load Balancers, "Listener rules" and "Rule condition types". Rules are asked
by priority, the lowest number first. Conditions are ANDed, their values ORed. A path pattern stands for the whole path
as it was sent, never for the query; `*` is any number of characters, slashes too, `?` exactly one; case counts. A host
pattern knows neither case nor port.

Not said by AWS: whether `%6D` in a path is compared as it was sent or decoded. Here it is as sent; `decoded` gives the
other reading, and the tests ask both.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import unquote

from scripts.alb.rules import Rule

NOBODY = "none"  # no rule takes it: the listener's default action answers
PORT = re.compile(r":[0-9]*\Z")
WILD = {"*": ".*", "?": "."}


@dataclass(frozen=True)
class Request:
    """What the rules look at. `host` is the Host header, `path` the request target without its query."""

    method: str
    host: str
    path: str
    listener: str = "https"

    def __str__(self) -> str:
        return f"{self.method} https://{self.host}{self.path}"


def asked(method: str, host: str, target: str) -> Request:
    """The request that a request line and a Host header make."""
    return Request(method, host, target.partition("?")[0])


def target_of(rules: Iterable[Rule], request: Request) -> Rule | None:
    """The rule that takes a request, or None: then the default action answers. `rules` may come in any order."""
    return min((rule for rule in rules if matches(rule, request)), key=lambda rule: rule.priority, default=None)


def matches(rule: Rule, request: Request) -> bool:
    """Whether all conditions of a rule hold. A condition that is not there holds."""
    return (
        rule.listener == request.listener
        and (not rule.methods or request.method in rule.methods)
        and (not rule.paths or _one_of(rule.paths).fullmatch(request.path) is not None)
        and (not rule.hosts or _one_of(rule.hosts, re.IGNORECASE).fullmatch(_name(request.host)) is not None)
    )


def covers(pattern: str, text: str) -> bool:
    """Whether a pattern stands for the whole of a text, case and all."""
    return _one_of((pattern,)).fullmatch(text) is not None


@functools.lru_cache(maxsize=4096)
def _one_of(patterns: tuple[str, ...], flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    """An expression for all the patterns of a condition."""
    signs = ("".join(WILD.get(sign) or re.escape(sign) for sign in pattern) for pattern in patterns)
    return re.compile("|".join(f"(?:{one})" for one in signs), re.DOTALL | re.ASCII | flags)


@functools.lru_cache(maxsize=4096)
def _name(host: str) -> str:
    return PORT.sub("", host)


def decoded(request: Request) -> Request:
    """The request as a load balancer would see it that decodes the path, once, before it compares."""
    return replace(request, path=unquote(request.path, errors="surrogateescape"))


def service_of(rule: Rule | None) -> str:
    """Who gets what a rule takes: the target's name, or several with `+` in between when their weights share it."""
    if rule is None:
        return NOBODY
    return "+".join(name for name, weight in rule.targets if weight > 0)


def shares(rule: Rule) -> dict[str, float]:
    """Target -> its part of a rule's requests, from 0 to 1; 0 for all when no weight is above 0."""
    total = sum(weight for _, weight in rule.targets)
    return {name: weight / total if total else 0.0 for name, weight in rule.targets}
