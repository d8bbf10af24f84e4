"""What exists, and who may do it: a closed table, made from what MLflow really serves. Unknown means no.

`routes.tsv` lists every (method, path) of the pinned MLflow with its family, action and access class; a test compares
it with the installed MLflow. `{name}` stands for one segment, `{name:path}` for one or more.
"""

import csv
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from flask import Response, request
from flask.globals import request_ctx

from app import scope as scopes
from app.answer import Answer
from app.errors import auth_unavailable, no_such_endpoint
from app.memo import Memo
from app.permissions import Permissions
from app.scope import RequestScope, Route
from app.translate import served_at, split_mount

TABLE = Path(__file__).with_name("routes.tsv")
NEVER = "never"  # classified, but not for third parties whatever their scopes

log = logging.getLogger("app.policy")


@dataclass(slots=True, eq=False)
class _Node:
    """A place in the tree of path segments."""

    fixed: dict[str, "_Node"] = field(default_factory=dict)
    one: dict[str, "_Node"] = field(default_factory=dict)  # {name}, by what follows it in the segment: mostly nothing
    many: "_Node | None" = None  # {name:path}
    routes: dict[str, Route] = field(default_factory=dict)  # by method


class RouteTable:
    """Looks up routes segment by segment, from the left: a fixed one wins over `{name}`, that over `{name:path}`."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self._words: set[str] = set()
        self._found: Memo[Route] = Memo()
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
                node = node.one.setdefault(segment.partition("}")[2], _Node())
            else:
                self._words.add(segment)
                node = node.fixed.setdefault(segment, _Node())
        node.routes[route.method] = route

    def find(self, method: str, path: str) -> Route | None:
        """The route of a method on a path, HEAD counting as GET; None when there is none.

        A segment that spells one of the table's own words with escapes (`/%61pi/`) is unknown: MLflow would decode it,
        and no stage here should take it for a name.
        """
        key = ("GET" if method == "HEAD" else method, path)
        found = self._found.get(key) or self._search(*key)
        return found and self._found.keep(key, found)  # what is unknown is not worth remembering

    def _search(self, method: str, path: str) -> Route | None:
        segments = path.split("/")
        if segments[0] or ("%" in path and not self._words.isdisjoint(_spelled(segments))):
            return None
        return _Search(method, segments).at(self._root, 1)

    def methods(self, path: str) -> list[str]:
        """The methods that a path knows, sorted; empty for an unknown path."""
        candidates = ("DELETE", "GET", "PATCH", "POST", "PUT")
        return [method for method in candidates if (route := self.find(method, path)) and route.access != NEVER]


def _spelled(segments: list[str]) -> list[str]:
    return [unquote(segment) for segment in segments if "%" in segment]


class _Search:
    """One look-up. What led nowhere is remembered, so that the effort grows with the path's length and no faster."""

    def __init__(self, method: str, segments: list[str]) -> None:
        self._method = method
        self._segments = segments
        self._tried: dict[_Node, int] = {}  # by {name:path} node: its ends from this index on led nowhere
        self._dead: set[tuple[_Node, int]] = set()

    def at(self, node: _Node, index: int) -> Route | None:
        """The route of what is left from `index` on, beginning at `node`."""
        if index == len(self._segments):
            return node.routes.get(self._method)
        if (node, index) in self._dead:
            return None
        self._dead.add((node, index))  # if it leads somewhere, the search ends anyhow
        segment = self._segments[index]
        for child in _children(node, segment):
            if found := self.at(child, index + 1):
                return found
        return self._through(node.many, index + 1) if node.many else None

    def _through(self, many: _Node, first: int) -> Route | None:
        # The shortest name first: what follows it is the more specific route.
        last = len(self._segments)
        until = self._tried.get(many, last + 1)
        self._tried[many] = min(first, until)
        if not any(self._segments[first - 1 :]):
            return None
        for end in range(first, until):
            if found := self.at(many, end):
                return found
        return None


def _children(node: _Node, segment: str) -> Iterator[_Node]:
    if segment in node.fixed:
        yield node.fixed[segment]
    for suffix in sorted(node.one, key=len, reverse=True):
        if segment.endswith(suffix) and len(segment) > len(suffix):
            yield node.one[suffix]


def read_routes(path: Path = TABLE) -> list[Route]:
    """The table's lines, in the file's order."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [
            Route(r["method"], r["path"], r["family"], r["action"], r["access"], r["moves_with_prefix"] != "no")
            for r in rows
        ]


class Policy:
    """The two stages of the request's way that the table decides: does it exist, and may this principal do it.

    With `report` a missing scope is logged and the request goes on; what does not exist is refused all the same.
    """

    def __init__(self, table: RouteTable, permissions: Permissions, report: bool = False) -> None:
        self._table = table
        self._permissions = permissions
        self._report = report

    def resolve(self) -> Response | None:
        """Find the request's route and note it in the scope. Raises EndpointNotFound; answers OPTIONS itself."""
        asked = request_ctx.request  # itself: Flask's `request` looks for it anew each time
        scope = scopes.of(asked.environ)
        scope.mount, scope.rest = split_mount(scope.path)
        if asked.blueprint == "health":
            scope.family = scope.action = "health"
            return _allowed(["GET"]) if scope.method == "OPTIONS" else None
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
        """Raise PermissionDenied when the principal may not do what the route does.

        Raises AuthUnavailable when that takes an admin, and nobody has vouched for the key lately.
        """
        scope = scopes.of(request.environ)
        route, principal = scope.route, scope.principal
        if route is None or principal is None:
            return
        if principal.stale and route.access == "admin":  # whatever the mode: nobody vouched for this admin lately
            raise auth_unavailable("stale_admin")
        denial = self._permissions.denial(route, principal)
        if denial is None:
            return
        if not self._report:
            raise denial
        fields = {
            "request_id": scope.request_id,
            "action": route.action,
            "required": denial.extra["required_scope"],
            "key_id": principal.key_id,
        }
        log.warning("policy_would_deny", extra=fields)

    def _options(self, scope: RequestScope) -> Response:
        # Answered here and without a key: a preflight carries no credential, and MLflow need not be asked.
        methods = self._table.methods(scope.rest or "/")
        if not methods:
            raise no_such_endpoint(scope)
        scope.action = "options"
        return _allowed(methods)


def _allowed(methods: list[str]) -> Response:
    head = ["HEAD"] if "GET" in methods else []
    return Answer(status=204, headers={"Allow": ", ".join([*methods, *head, "OPTIONS"])})
