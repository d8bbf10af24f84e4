"""The import rules of docs/architecture.md, read from the syntax trees of app/."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[1] / "app"
ROOT = APP.parent
SERVING = [ROOT / "wsgi.py", ROOT / "gunicorn.conf.py"]
MODULES = {".".join(path.relative_to(APP).with_suffix("").parts): path for path in sorted(APP.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in MODULES.items()}

COMPOSITION = "__init__"  # create_app knows all
LEAVES = {
    "settings",
    "variables",
    "policy_settings",
    "limit_settings",
    "windows",
    "cache_settings",
    "metric_settings",
    "emf",
    "finished",
    "metrics",
    "upstream_url",
    "scope",
    "resource",
    "scanners",
    "rarely",
    "addresses",
    "errors",
    "headers",
    "translate",
    "sessions",
    "answer",
    "sockets",
    "splicing",
    "turns",
    "out",
    "outbound",
    "memo",
    "chunks",
}

# Which other stages a stage may know. Whoever adds a line here adds it to docs/architecture.md too, with the reason.
MAY_KNOW = {
    "forward": {
        "inbound",
        "native",
        "passthrough",
        "transfers",
        "upstream",
    },  # the one forwarding function: translate, send, respond
    "upstream": {"inbound", "wire"},  # the body's type, and the adapter that it mounts
    "wire": {"answer_head", "incoming", "sending"},  # an exchange: the request out, the answer in, and its errors
    "sending": {"incoming"},  # whether the answer has begun, which ends the sending
    "incoming": {"answer_head", "watch"},  # how a head is read, and how it is waited for
    "drain": {"inbound"},  # how a body is read below wsgi.input
    "worker": {"drain", "outgoing", "plain_head"},  # what is left of a request, how its head is read, its answer sent
    "exporter": {"exposition"},  # loaded in its own process alone
    "probes": {"upstream"},  # health asks through the same session as the traffic
    "cli": {"local_keys"},
    "blueprints.artifacts": {"edge", "forward", "transfers"},  # the methods that exist, and the profile to choose
    "blueprints.mlflow": {"edge", "forward"},
    "blueprints.health": {"probes"},
    "policy": {"permissions"},  # the pure half of it: who may do what
    "validation": {"breaker", "identity", "key_cache"},  # what it is made of, and what a key source is
    "limits": {"limit_storage", "shared_windows"},  # where requests are counted
    "shared_windows": {"limit_storage", "redis_line"},  # what a storage is, its stand-in, and the way to Redis
    "identity": {"credentials"},  # the pure half of it: where a key may stand
}

MAY_SPEAK_HTTP = {"sessions", "upstream", "wire", "incoming", "auth_service", "passthrough"}

every_module = pytest.mark.parametrize("name", TREES)


def imports(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that a tree imports, wherever it does: `a.b` for `from a import b` as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "no relative imports: they hide what is imported"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def known(name: str) -> set[str]:
    """The modules of app that a module imports. `from app import VERSION` names none."""
    found = {imported.removeprefix("app.") for imported in imports(TREES[name]) if imported.startswith("app.")}
    return {module for module in TREES for one in found if one == module or one.startswith(f"{module}.")}


def packages(name: str) -> set[str]:
    """The names outside of app that a module imports."""
    return {imported for imported in imports(TREES[name]) if imported.split(".")[0] != "app"}


def code(name: str) -> str:
    """A module's code without comments and docstrings."""
    tree = ast.parse(MODULES[name].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = [*node.body[1:]] or [ast.Pass()]
    return ast.unparse(tree)


# --- who knows whom ---


def test_the_rules_speak_of_modules_that_exist() -> None:
    assert LEAVES | MAY_SPEAK_HTTP | set(MAY_KNOW) | set().union(*MAY_KNOW.values()) <= set(TREES)


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_a_leaf_imports_only_leaves(name: str) -> None:
    assert known(name) - LEAVES == set()


@pytest.mark.parametrize("name", sorted(set(TREES) - LEAVES - {COMPOSITION}))
def test_a_stage_knows_no_other_stage_than_it_must(name: str) -> None:
    assert known(name) - LEAVES == MAY_KNOW.get(name, set())


def test_nobody_but_the_server_knows_the_composition() -> None:
    found = {name for name in TREES for imported in imports(TREES[name]) if imported == "app.create_app"}
    assert found == set()
    assert "app.create_app" in set(imports(ast.parse((ROOT / "wsgi.py").read_text())))


def test_importing_the_package_imports_neither_flask_nor_requests() -> None:
    """gunicorn's master imports parts of it before gevent has patched the standard library."""
    top = [node for node in TREES[COMPOSITION].body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {imported for node in top for imported in imports(node)} <= {"typing.TYPE_CHECKING"}


@every_module
def test_only_these_modules_speak_http(name: str) -> None:
    found = {one for one in packages(name) if one.split(".")[0] in ("requests", "urllib3", "http", "httpx", "aiohttp")}
    allowed = {"http.HTTPStatus"}  # numbers and phrases, no client
    if name == "probes":
        allowed |= {"urllib3.exceptions.HTTPError"}
    if name == "exposition":
        allowed |= {"http.server.ThreadingHTTPServer"}  # asks nobody
    assert name in MAY_SPEAK_HTTP or found <= allowed


def test_the_headers_and_the_translation_know_neither_flask_nor_any_other_package() -> None:
    assert {name: packages(name) for name in ("headers", "translate")} == {
        "headers": {"collections.abc.Iterable", "functools.lru_cache"},
        "translate": set(),
    }


def test_only_the_exporting_process_loads_what_makes_its_pages() -> None:
    """It loads sockets and TLS before gevent could patch them, and five megabytes."""
    found = {name for name in TREES if any(one.split(".")[0] == "prometheus_client" for one in packages(name))}
    assert found == {"exposition"}
    loading = [node for node in TREES["exporter"].body if "exposition" in ast.unparse(node)]
    assert [type(node) for node in loading] == [ast.FunctionDef]


@every_module
def test_mlflow_is_a_service_and_no_library(name: str) -> None:
    assert {one for one in packages(name) if one.split(".")[0] == "mlflow"} == set()


# --- who reads and writes what ---


@every_module
def test_the_environment_is_read_nowhere_in_app(name: str) -> None:
    """wsgi.py and gunicorn.conf.py hand it to app/settings.py, which takes any mapping."""
    found = [
        ast.unparse(node)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb", "putenv")
        if ast.unparse(node.value) == "os"
    ]
    assert (found, {one for one in packages(name) if one in ("os.environ", "os.getenv")}) == ([], set())


def test_the_environment_is_handed_over_by_exactly_two_files() -> None:
    assert [path.name for path in SERVING if "Settings.from_env(os.environ)" in path.read_text()] == [
        path.name for path in SERVING
    ]
    others = [path for path in ROOT.glob("*.py") if path not in SERVING and "app.settings" in path.read_text()]
    assert others == []


def test_only_the_edge_reads_who_the_load_balancer_says_is_calling() -> None:
    assert {name for name in TREES if "HTTP_X_FORWARDED" in code(name)} == {"edge"}
    assert {name for name in TREES if re.search(r"REMOTE_ADDR|remote_addr|access_route|ProxyFix", code(name))} == {
        "edge"
    }


def test_only_one_module_reads_credentials() -> None:
    reading = {
        name for name in TREES if re.search(r"HTTP_AUTHORIZATION|HTTP_X_API_KEY|\.authorization\b\.", code(name))
    }
    assert reading == {"credentials"}


def test_only_the_access_log_writes_lines_per_request() -> None:
    assert {name for name in TREES if re.search(r"\bproxy_request\b", code(name))} == {"access_log"}
    assert {name for name in TREES if re.search(r"access_log\.(log|info|handle)|gunicorn\.access", code(name))} == {
        "access_log"
    }


def test_a_log_call_has_a_static_name_for_its_event() -> None:
    """Other lines are rare events; what varies goes into `extra`. The name of a rare error is one of a fixed list."""
    wrong = [
        f"{name}: {ast.unparse(node)}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if ast.unparse(node.func.value) in ("log", "self.log", "logging") and node.func.attr in LEVELS
        if ast.unparse(node.args[0]) != "error.kind"
        and not (isinstance(node.args[0], ast.Constant) and re.fullmatch("[a-z_]+", str(node.args[0].value)))
    ]
    assert wrong == []


LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


# --- that the rules see what they are to see ---


def test_imports_are_seen_wherever_they_stand() -> None:
    tree = ast.parse("import a.b\nfrom c import d as e\ndef f():\n    from g.h import i, j\n")
    assert list(imports(tree)) == ["a.b", "c.d", "g.h.i", "g.h.j"]


def test_what_the_composition_knows_is_seen() -> None:
    assert known(COMPOSITION) >= {"edge", "identity", "policy", "forward", "upstream", "blueprints.health"}
