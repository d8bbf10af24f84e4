"""What the proxy serves, as requests that clients send: from its own route table and its own rules on paths."""

import functools
import re
from collections.abc import Iterator

from app.blueprints.health import LIVE_PATHS
from app.blueprints.whoami import ROUTE as WHOAMI
from app.edge import malformed_target
from app.policy import NEVER, RouteTable, read_routes
from app.translate import MOUNTS, served_at, split_mount
from scripts.alb.matching import Request

HEALTH = (*LIVE_PATHS, "/ready", *(f"{mount}/health/mlflow{more}" for mount in MOUNTS for more in ("", "/detailed")))
OWN = (*HEALTH, *(mount + WHOAMI.path for mount in MOUNTS))
PARAMETER = re.compile(r"\{\w+(:path)?\}")
FORWARDED, ANSWERED, UNKNOWN, REFUSED = "forwarded", "answered", "404", "400"

_table = RouteTable.load()


@functools.cache
def requests(host: str) -> tuple[Request, ...]:
    """Every route on every mount that serves it, with its method, an example in place of each parameter."""
    return tuple(_requests(host))


def _requests(host: str) -> Iterator[Request]:
    yield from (Request("GET", host, path) for path in OWN)
    for route in read_routes():
        path = PARAMETER.sub(lambda found: "1/2/artifacts/a%20b.bin" if found[1] else "x1", route.path)
        yield from (Request(route.method, host, mount + path) for mount in ("", *MOUNTS) if served_at(mount, path))


def answer(method: str, target: str) -> str:
    """What the proxy does with a request target: refuses it, knows nothing of it, answers by itself, asks MLflow.

    A key is not looked at here: without one, nothing but health is answered, and nothing forwarded.
    """
    if malformed_target(target):
        return REFUSED
    path = target.partition("?")[0]
    if path in OWN:
        return ANSWERED
    mount, rest = split_mount(path)
    if mount and not rest:
        return ANSWERED  # a browser's way from the bare mount to the UI's page
    route = _table.find(method, rest) if served_at(mount, rest) else None
    return FORWARDED if route and route.access != NEVER else UNKNOWN
