"""What exists, and who may do it: a closed table, made from what MLflow really serves. Unknown means no.

`routes.tsv` lists every (method, path) of the pinned MLflow with its family, action and access class; a test compares
it with the installed MLflow. `{name}` stands for one segment, `{name:path}` for one or more.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from flask import Response, request

from app import scope as scopes
from app.errors import PermissionDenied, no_such_endpoint
from app.scope import Principal, RequestScope, Route
from app.translate import served_at, split_mount

TABLE = Path(__file__).with_name("routes.tsv")

ADMIN_SCOPES = frozenset({"admin", "mlflow:admin", "registry:admin", "model-registry:admin"})
WRITE_SCOPES = frozenset(
    {"model:write", "mlflow:write", "mlflow:access", "admin", "mlflow:admin", "write", "full_access"}
)

# One of these scopes is needed for an access class; no entry (read): any valid key will do.
SCOPES_FOR = {"write": WRITE_SCOPES, "admin": ADMIN_SCOPES, "use": ADMIN_SCOPES | {"gateway:use"}}
NEVER = "never"  # classified, but not for third parties whatever their scopes


@dataclass(slots=True)
class _Node:
    """A place in the tree of path segments."""

    fixed: dict[str, "_Node"] = field(default_factory=dict)
    one: "_Node | None" = None  # {name}
    many: "_Node | None" = None  # {name:path}
    routes: dict[str, Route] = field(default_factory=dict)  # by method


class RouteTable:
    """Looks up routes segment by segment, from the left: a fixed one wins over `{name}`, that over `{name:path}`."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    @classmethod
    def load(cls, path: Path = TABLE) -> "RouteTable":
        """Read the table from a file of tab-separated values."""
        return cls(read_routes(path))

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.path.split("/")[1:]:
            if segment.endswith(":path}"):
                node.many = node = node.many or _Node()
            elif segment.startswith("{"):
                node.one = node = node.one or _Node()
            else:
                node = node.fixed.setdefault(segment, _Node())
        node.routes[route.method] = route

    def find(self, method: str, path: str) -> Route | None:
        """The route of a method on a percent-encoded path, HEAD counting as GET; None when there is none."""
        wanted = "GET" if method == "HEAD" else method
        node = _walk(self._root, _segments(path), wanted)
        return node.routes[wanted] if node else None

    def methods(self, path: str) -> list[str]:
        """The methods that a path knows, sorted; empty for an unknown path."""
        candidates = ("DELETE", "GET", "PATCH", "POST", "PUT")
        return [method for method in candidates if (route := self.find(method, path)) and route.access != NEVER]


def _segments(path: str) -> list[str]:
    # Decoded once, as MLflow's router does. The edge has made sure that this adds no segment and no dots.
    return [unquote(segment) for segment in path.split("/")[1:]]


def _walk(node: _Node, segments: list[str], method: str) -> _Node | None:
    if not segments:
        return node if method in node.routes else None
    head, tail = segments[0], segments[1:]
    if head in node.fixed and (found := _walk(node.fixed[head], tail, method)):
        return found
    if node.one and head and (found := _walk(node.one, tail, method)):
        return found
    if node.many and any(segments):
        for taken in range(len(segments), 0, -1):
            if found := _walk(node.many, segments[taken:], method):
                return found
    return None


def read_routes(path: Path = TABLE) -> list[Route]:
    """The table's lines, in the file's order."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [
            Route(r["method"], r["path"], r["family"], r["action"], r["access"], r["moves_with_prefix"] != "no")
            for r in rows
        ]


def permits(access: str, principal: Principal) -> bool:
    """Whether a principal's scopes suffice for an access class."""
    needed = SCOPES_FOR.get(access)
    return needed is None or not needed.isdisjoint(principal.scopes)


class Policy:
    """The two stages of the request's way that the table decides: does it exist, and may this principal do it."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    def resolve(self) -> Response | None:
        """Find the request's route and note it in the scope. Raises EndpointNotFound; answers OPTIONS itself."""
        scope = scopes.of(request.environ)
        scope.mount, scope.rest = split_mount(scope.path)
        if request.blueprint == "health":
            scope.family = scope.action = "health"
            return None
        if not served_at(scope.mount, scope.rest):
            raise no_such_endpoint(scope)
        if scope.method == "OPTIONS":
            return self._options(scope)
        route = self._table.find(scope.method, scope.rest or "/")
        if route is None or route.access == NEVER:
            raise no_such_endpoint(scope)
        scope.route, scope.family, scope.action = route, route.family, route.action
        return None

    def permit(self) -> None:
        """Raise PermissionDenied when the principal's scopes do not suffice for the route."""
        scope = scopes.of(request.environ)
        route, principal = scope.route, scope.principal
        if route is None or principal is None or permits(route.access, principal):
            return
        needed = " or ".join(sorted(SCOPES_FOR[route.access]))
        raise PermissionDenied(
            f"403: this key may not do {route.action}: it needs the scope {needed}.",
            kind=f"scope_{route.access}",
            required_scope=needed,
            current_scopes=sorted(principal.scopes),
        )

    def _options(self, scope: RequestScope) -> Response:
        # Answered here and without a key: a preflight carries no credential, and MLflow need not be asked.
        methods = self._table.methods(scope.rest or "/")
        if not methods:
            raise no_such_endpoint(scope)
        scope.action = "options"
        head = ["HEAD"] if "GET" in methods else []
        return Response(status=204, headers={"Allow": ", ".join([*methods, *head, "OPTIONS"])})
