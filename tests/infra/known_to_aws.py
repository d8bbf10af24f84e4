"""What AWS's command line does not know of calls of it. Run by .venv-infra, which has it (version 1).

In: on stdin a JSON list of calls, each a list of words without `aws`. Out: for each a list of faults, as JSON. Options
and the fields of answers come from AWS's own models; the expression of --query is followed through the answer's shape.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import jmespath
from awscli.clidriver import create_clidriver

SERVICES = create_clidriver()._get_command_table()
EVERYWHERE = {"query", "output", "region"}
Node = dict[str, Any]


class Followed:
    """A JMESPath expression, followed through the shape of an answer. `faults` are the fields that it does not have."""

    def __init__(self, expression: str, shape: Any) -> None:
        self.faults: list[str] = []
        self._of(jmespath.compile(expression).parsed, shape)

    def _of(self, node: Node | None, shape: Any) -> Any:
        """The shape that a node leads to, of a list that of its elements; None where only an answer could tell."""
        if node is None or shape is None:
            return None
        kind, parts = node["type"], node.get("children", [])
        if kind == "field":
            return self._field(node["value"], shape)
        if kind in ("identity", "current"):
            return shape
        if kind in ("subexpression", "pipe", "index_expression"):
            for part in parts:
                shape = self._of(part, shape)
            return shape
        if kind in ("index", "slice"):
            return shape.member if kind == "index" and shape.type_name == "list" else shape
        if kind == "flatten":
            return self._of(parts[0], shape)
        if kind.endswith("projection"):
            return self._projected(parts, shape)
        for part in parts:  # lists, objects, functions, comparisons: made by the expression itself
            self._of(part, shape)
        return None

    def _field(self, name: str, shape: Any) -> Any:
        if shape.type_name == "structure" and name in shape.members:
            return shape.members[name]
        if shape.type_name != "map" and shape.name != "policyDocumentType":  # a text that the command line unpacks
            self.faults.append(f"no {name} in {shape.name}")
        return None

    def _projected(self, parts: list[Node], shape: Any) -> Any:
        left = self._of(parts[0], shape)
        element = left.member if left is not None and left.type_name == "list" else None
        for condition in parts[2:]:
            self._of(condition, element)
        return self._of(parts[1], element)


def judged(service: str, name: str, *rest: str) -> Iterator[str]:
    """The faults of one call."""
    operations = SERVICES[service]._get_command_table() if service in SERVICES else {}
    if name == "wait" and name in operations:
        operations, name, rest = operations["wait"].subcommand_table, rest[0], rest[1:]
    if name not in operations:
        yield f"no {service} {name}"
        return
    operation = operations[name]
    given = {word.partition("=")[0][2:] for word in rest if word.startswith("--")}
    yield from (f"{service} {name} has no --{one}" for one in sorted(given - set(operation.arg_table) - EVERYWHERE))
    if "cli-input-json" not in given:
        wanted = {key for key, argument in operation.arg_table.items() if argument.required}
        yield from (f"{service} {name} needs --{one}" for one in sorted(wanted - given))
    if "query" in given:
        model = getattr(operation, "_operation_model", None)
        yield from Followed(rest[rest.index("--query") + 1], model and model.output_shape).faults


if __name__ == "__main__":
    sys.stdout.write(json.dumps([list(judged(*words)) for words in json.load(sys.stdin)]))
