"""How app/ is written: short, documented, typed; nothing printed, asserted or swallowed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[1] / "app"
MODULES = {".".join(path.relative_to(APP).with_suffix("").parts): path for path in sorted(APP.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in MODULES.items()}
MOST_LINES_OF_A_FUNCTION = 50
MOST_LINES_OF_A_FILE = 250

every_module = pytest.mark.parametrize("name", TREES)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@every_module
def test_nothing_is_printed_and_nothing_is_asserted(name: str) -> None:
    prints = [
        ast.unparse(node)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write")
    ]
    asserts = [ast.unparse(node) for node in ast.walk(TREES[name]) if isinstance(node, ast.Assert)]
    assert (prints, asserts) == ([], [])


@every_module
def test_no_function_is_longer_than_a_screen(name: str) -> None:
    lengths = {one.name: (one.end_lineno or 0) - one.lineno + 1 for one in functions(TREES[name])}
    assert {one: length for one, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == {}


@every_module
def test_no_file_is_too_long_to_be_read_at_once(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= MOST_LINES_OF_A_FILE


@every_module
def test_what_is_public_says_what_it_does(name: str) -> None:
    tree = TREES[name]
    silent = [name] if ast.get_docstring(tree) is None and tree.body else []
    for body in (tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))):
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                silent += [node.name] if ast.get_docstring(node) is None else []
    assert silent == []


@every_module
def test_every_function_has_type_hints(name: str) -> None:
    untyped = [
        one.name
        for one in functions(TREES[name])
        if one.returns is None
        or [
            argument.arg
            for argument in (*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs)
            if argument.annotation is None and argument.arg not in ("self", "cls")
        ]
    ]
    assert untyped == []


@every_module
def test_no_broad_exception_is_swallowed(name: str) -> None:
    """`except Exception` is only there to raise something better; a bare one is nowhere."""
    silent = [
        f"line {handler.lineno}"
        for handler in ast.walk(TREES[name])
        if isinstance(handler, ast.ExceptHandler)
        if handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException")
        if not any(isinstance(node, ast.Raise) for node in ast.walk(handler))
    ]
    assert silent == []


@every_module
def test_no_module_is_called_after_nothing(name: str) -> None:
    assert re.search(r"\b(utils?|helpers?|common|misc|base|manager)\b", name) is None
