"""What a request is about, in one word for the audit trail: `model-version:churn/7`, `run:4f…`, `artifact:1/a/b.bin`.

`resources.tsv` says for an action, or for all that begin with it, where the name of the thing stands; the longest
beginning counts. A resource is a kind and its parts, `kind:part/part`; alternatives stand apart by a space, and the
first whose first part is known is taken, with those of its other parts that are known up to the first that is not.

    {x}      a parameter of the route's path
    x, x.y   a member of the request's JSON body; on a GET a parameter of the query (mlflow/server/handlers.py,
             _get_request_message)
    ?x       a parameter of the query, whatever the method
    <x.y     a member of MLflow's answer, for what that creates
    file(x)  the last segment of the path that x holds

Names and ids alone: never a value, a tag, a parameter's content. What the client sent is taken as MLflow takes it, or
the trail could be made to name something else. No content makes this raise.
"""

import csv
import json
import re
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, unquote_plus

from app.scope import RequestScope, Route

TABLE: Final = Path(__file__).with_name("resources.tsv")

MOST_BYTES: Final = 64 * 1024  # of a body that is looked at, either way; a larger one streams by unread
MOST_TEXT: Final = 256  # characters of a part; MLflow's own names are no longer
MOST_PARAMETERS: Final = 200  # of a query that are looked at
LARGE: Final = 2 * 1024  # bytes of a body from which on reading it costs more than looking at its beginning

PART: Final = re.compile(r"(?P<source>[?<]?)(?P<file>file\()?(?P<name>[\w.]+)\)?|\{(?P<parameter>\w+)\}")
PARAMETER: Final = re.compile(r"\{(\w+)(?::(path))?\}")
FIRST_MEMBER: Final = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"(\w+)"[ \t\r\n]*:[ \t\r\n]*"([^"\\\x00-\x1f]+)"')


@dataclass(frozen=True, slots=True)
class Part:
    """Where one part stands: `source` is path, query, body or answer; `names` lead to it from outside in."""

    source: str
    names: tuple[str, ...]
    file: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """How the resource of one route is told: alternatives of kind and parts, and which bodies it takes."""

    alternatives: tuple[tuple[str, tuple[Part, ...]], ...]
    fixed: tuple[str, ...]  # the route's path: the texts before, between and behind its parameters
    parameters: tuple[str, ...]
    segments: int  # how many of the parameters, from the first on, are one segment and no more
    reads_body: bool
    reads_answer: bool


def read_table() -> dict[str, str]:
    """The table's lines: the beginning of an action -> how its resource is told."""
    with TABLE.open(newline="") as file:
        return {row["action"]: row["resource"] for row in csv.DictReader(file, delimiter="\t")}


ACTIONS: Final = read_table()


def rule_of(route: Route) -> Rule:
    """The rule of a route."""
    return _rule(route.method, route.path, route.action, route.access == "read")


@cache
def _rule(method: str, path: str, action: str, read_only: bool) -> Rule:
    while action and action not in ACTIONS:
        action = action.rpartition(".")[0]
    fixed, parameters, many = (tuple(PARAMETER.split(path)[start::3]) for start in range(3))
    segments = many.index("path") if "path" in many else len(many)
    alternatives: list[tuple[str, tuple[Part, ...]]] = []
    for told in ACTIONS.get(action, "").split():
        kind, _, rest = told.partition(":")
        parts = [_part(part, method) for part in rest.split("/")]
        if kept := tuple(takewhile(lambda part: _can_be_had(part, parameters, read_only), parts)):
            alternatives.append((kind, kept))
            if kept[0].source == "path":
                break  # always there
    sources = {part.source for _, parts in alternatives for part in parts}
    return Rule(tuple(alternatives), fixed, parameters, segments, "body" in sources, "answer" in sources)


def _part(text: str, method: str) -> Part:
    found = PART.fullmatch(text)
    if found is None:
        raise ValueError(f"{TABLE.name} holds a part that is none: {text}")
    if found["parameter"]:
        return Part("path", (found["parameter"],))
    source = {"?": "query", "<": "answer"}.get(found["source"]) or ("query" if method == "GET" else "body")
    return Part(source, tuple(found["name"].split(".")), bool(found["file"]))


def _can_be_had(part: Part, parameters: tuple[str, ...], read_only: bool) -> bool:
    if part.source == "path":
        return part.names[0] in parameters
    return part.source == "query" or not read_only


def resource_of(scope: RequestScope) -> str:
    """The resource of a request: `kind:part/part`, empty when the request names none or nobody could read which."""
    if scope.route is None:
        return ""
    rule = rule_of(scope.route)
    if rule.reads_body and len(scope.kept_body) > LARGE and (told := _at_the_beginning(rule, scope.kept_body)):
        return told
    held: dict[str, Any] = {}  # by source: what was asked for once
    for kind, parts in rule.alternatives:
        told = ""
        for part in parts:
            text = _text(part, rule, scope, held)
            if not text:
                break
            told += "/" + text if told else text
        if told:
            return f"{kind}:{told}"
    return ""


def _at_the_beginning(rule: Rule, body: bytes | bytearray) -> str:
    """The resource of a body that begins with it, as those of log-batch do; empty when that is not certain.

    It is when nothing else in the body can be that member once more, spelled so or so that only a JSON reader sees it.
    """
    kind, parts = rule.alternatives[0]
    found = FIRST_MEMBER.match(body)
    name = found[1].decode() if found else ""
    if found is None or parts != (Part("body", (name,)),) or b"\\" in body:
        return ""
    camel = _camel(name).encode()
    if body.rfind(b'"%b"' % found[1]) >= found.end(1) or (camel != found[1] and body.rfind(b'"%b"' % camel) >= 0):
        return ""
    return f"{kind}:{shown(found[2].decode(errors='replace'))}"


def _text(part: Part, rule: Rule, scope: RequestScope, held: dict[str, Any]) -> str:
    source = part.source
    if source == "path":
        text = parameter(part.names[0], rule, scope.rest)
    elif source == "query":
        if source not in held:
            held[source] = scope.target.partition("?")[2]
        text = in_query(part.names[0], held[source])
    else:
        if source not in held:
            held[source] = content(scope.kept_body if source == "body" else scope.kept_answer)
        text = member(part.names, held[source])
    return shown(text.rpartition("/")[2] if part.file else text) if text else ""


def parameter(name: str, rule: Rule, path: str) -> str:
    """A parameter of a path that fits the rule's route, decoded once. Of several `{x:path}` the first is the longest.

    That is how MLflow's native routes read them (starlette/routing.py, compile_path: `.*`).
    """
    fixed, index = rule.fixed, rule.parameters.index(name)
    path = path[len(fixed[0]) : -len(fixed[-1]) if fixed[-1] else None]
    last = len(rule.parameters) - 1
    for before in range(min(index, rule.segments)):
        path = path.partition(fixed[before + 1])[2]
    if index < rule.segments:
        return unquote(path.partition(fixed[index + 1])[0] if index < last else path)
    for behind in range(last, index, -1):
        path = path.rpartition(fixed[behind])[0]
    return unquote(path.rpartition(fixed[index])[2] if index > rule.segments else path)


def in_query(name: str, query: str) -> str:
    """The first parameter of this name in a query, as Werkzeug takes it; empty when there is none."""
    if name not in query and "%" not in query:
        return ""
    for pair in query.split("&", MOST_PARAMETERS)[:MOST_PARAMETERS]:
        key, _, value = pair.partition("=")
        if key == name or ("%" in key and unquote_plus(key) == name):
            return unquote_plus(value) if "%" in value or "+" in value else value
    return ""


def content(body: bytes | bytearray) -> Any:
    """What a JSON body holds; None for one that holds nothing readable. Encoded twice is decoded twice, as MLflow does.

    json.loads, because MLflow reads with it: of a repeated member the last counts.
    """
    if not body:
        return None
    try:
        found = json.loads(body)
        return json.loads(found) if isinstance(found, str) else found
    except (ValueError, RecursionError):
        return None


def member(names: tuple[str, ...], within: Any) -> str:
    """A text or whole number in nested objects, or the only one of a list; empty for anything else.

    MLflow takes a name with underscores in camel case too (google.protobuf.json_format), and refuses it in both.
    """
    for name in names:
        if not isinstance(within, dict):
            return ""
        within = within.get(name, within.get(_camel(name)) if "_" in name else None)
    if isinstance(within, list) and len(within) == 1:
        within = within[0]
    if isinstance(within, str):
        return within
    return str(within) if isinstance(within, int) and not isinstance(within, bool) else ""


@cache
def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in others)


def shown(text: str) -> str:
    """A part as it is logged: bounded, and on one line whatever shows it."""
    if len(text) > MOST_TEXT:
        text = text[:MOST_TEXT]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
