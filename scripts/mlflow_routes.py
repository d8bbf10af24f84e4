"""Print every route the installed MLflow serves, as tab-separated rows.

Run with the Python of the MLflow environment: `.venv-mlflow/bin/python scripts/mlflow_routes.py`

Out, on stdout, sorted by path and method, no header:

    method <TAB> path <TAB> served_by <TAB> moves_with_prefix

* `method` is anything but HEAD and OPTIONS (`WEBSOCKET` for a websocket, should one ever appear).
* `path` writes its parameters `{name}`, or `{name:path}` where the value may hold slashes.
* `served_by` is `fastapi` or `flask`: whichever answers first under uvicorn, the default of `mlflow server`.
* `moves_with_prefix` is `yes` when `--static-prefix` moves the route, `no` when it answers at the root all the same.

What is listed is the default app (mlflow/server/fastapi_app.py: native routers, then the Flask app as the catch-all)
and the basic-auth app (mlflow/server/auth). No server is started, nothing is fetched, and files (the basic-auth
database) are written in a temporary directory only. Exit code 1, with the reason on stderr, when MLflow holds a kind
of route this script does not know: a list with a silent gap would be worse than none.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import re
import secrets
import sys
import tempfile
import types
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

PREFIX = "/moved-by-static-prefix"
IGNORED_METHODS = {"HEAD", "OPTIONS"}

# The only route MLflow registers on demand (`--expose-prometheus DIR`, mlflow/server/prometheus_exporter.py), and only
# where prometheus_flask_exporter is installed. Listed by hand, so that it is classified before someone switches it on.
# The exporter registers the literal path and knows nothing of MLflow's static prefix.
ON_DEMAND = {("GET", "/metrics"): ("flask", "no")}

Route = tuple[str, str]
Served = dict[Route, str]


class UnknownRouteError(Exception):
    """MLflow holds a route of a kind this script cannot describe."""


def prepare_environment(prefix: str, directory: str) -> None:
    """Make this process look like a worker of `mlflow server`; must run before the first import of mlflow."""
    sys.dont_write_bytecode = True
    for name in [name for name in os.environ if name.lstrip("_").startswith("MLFLOW_")]:
        del os.environ[name]
    os.chdir(directory)  # the basic-auth app puts its sqlite file in the working directory
    os.environ |= {
        "HOME": directory,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED": "true",  # no admin user is needed to list routes
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",  # makes the basic-auth factory return the FastAPI app, as under uvicorn
        "_MLFLOW_STATIC_PREFIX": prefix,
    }


def stand_in_for_flask_wtf() -> None:
    """The basic-auth app wants Flask-WTF (extra `mlflow[auth]`) to guard one form; it registers no route with it."""
    if importlib.util.find_spec("flask_wtf") is not None:
        return
    package = types.ModuleType("flask_wtf")
    module: Any = types.ModuleType("flask_wtf.csrf")
    module.CSRFProtect = type("CSRFProtect", (), {"init_app": lambda self, app: None})
    sys.modules |= {"flask_wtf": package, "flask_wtf.csrf": module}


def flask_routes(flask_app: Any) -> Iterator[Route]:
    for rule in flask_app.url_map.iter_rules():
        path = re.sub(r"<(?:(\w+)(?:\([^)]*\))?:)?(\w+)>", braces, rule.rule)
        yield from ((method, path) for method in rule.methods)


def braces(match: re.Match[str]) -> str:
    """`<path:name>` (Werkzeug) to `{name:path}` (Starlette)."""
    converter, name = match.groups(default="string")
    if converter not in ("string", "path"):
        raise UnknownRouteError(f"Flask converter {converter!r} in {match.string}")
    return f"{{{name}:path}}" if converter == "path" else f"{{{name}}}"


def fastapi_routes(routes: Iterable[Any]) -> Iterator[Route]:
    """The native routes. Newer FastAPI versions do not flatten an included router: it is walked, prefix applied."""
    from starlette.routing import Mount, WebSocketRoute

    for route in routes:
        if hasattr(route, "effective_route_contexts"):
            contexts = route.effective_route_contexts()
            yield from fastapi_routes(context.starlette_route or context for context in contexts)
        elif isinstance(route, WebSocketRoute):
            yield "WEBSOCKET", route.path
        elif getattr(route, "methods", None):
            yield from ((method, route.path) for method in route.methods)
        elif not (isinstance(route, Mount) and route.path == ""):  # "" is the Flask app, listed by flask_routes
            raise UnknownRouteError(f"{type(route).__module__}.{type(route).__name__} at {route!r}")


def answers_first(fastapi_app: Any, method: str, path: str) -> str:
    """Ask the router itself: the native routes are tried in order, and the mounted Flask app takes the rest."""
    from starlette.routing import Match, Mount

    sample = re.sub(r"\{\w+(:path)?\}", "sample", path)
    for route in fastapi_app.routes:
        scope = {"type": "http", "method": method, "path": sample, "root_path": "", "headers": []}
        if route.matches(scope)[0] == Match.FULL:
            return "flask" if isinstance(route, Mount) else "fastapi"
    return "fastapi"  # a websocket: nothing matches it as HTTP, and Flask serves none


def served(fastapi_app: Any, flask_app: Any) -> Served:
    routes = {*fastapi_routes(fastapi_app.routes), *flask_routes(flask_app)}
    return {
        (method, path): answers_first(fastapi_app, method, path)
        for method, path in routes
        if method not in IGNORED_METHODS
    }


def served_under(prefix: str) -> Served:
    """The routes of both apps under a static prefix ("" for none). Changes the process it runs in: give it its own."""
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(sys.stderr):
        prepare_environment(prefix, directory)
        stand_in_for_flask_wtf()
        from mlflow.server import app as flask_app
        from mlflow.server.fastapi_app import app as fastapi_app

        routes = served(fastapi_app, flask_app)
        # Imported and built second: it adds its own routes to the same Flask app.
        from mlflow.server.auth import create_app

        routes |= served(create_app(flask_app), flask_app)
        return routes


def moves(method: str, path: str, prefixed: Served) -> str:
    """`no` when the route still answers at the root under a prefix, though the prefixed path may answer as well: the
    artifact streaming routes stay, and what answers under the prefix is Flask, which holds a whole body in memory."""
    if (method, path) in prefixed:
        return "no"
    if (method, PREFIX + path) in prefixed:
        return "yes"
    raise UnknownRouteError(f"{method} {path} is neither at the root nor under the prefix when one is set")


def main() -> int:
    spawn = multiprocessing.get_context("spawn")
    try:
        # Two fresh processes, as MLflow reads its static prefix once, on import.
        with ProcessPoolExecutor(max_workers=2, mp_context=spawn, max_tasks_per_child=1) as pool:
            plain, prefixed = pool.map(served_under, ["", PREFIX])
        described = {route: (server, moves(*route, prefixed)) for route, server in plain.items()}
    except UnknownRouteError as error:
        sys.stderr.write(f"mlflow_routes: {error}\n")
        return 1
    for (method, path), columns in sorted((ON_DEMAND | described).items(), key=lambda row: row[0][::-1]):
        sys.stdout.write("\t".join((method, path, *columns)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
