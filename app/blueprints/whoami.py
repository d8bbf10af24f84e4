"""Who am I: what a key is, what it may do, how much of it is left, and the settings to paste. Asks MLflow nothing.

Served under both mounts to any valid key. The key itself is never part of the answer.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from flask import Blueprint, Response, jsonify, request

from app import scope as scopes
from app.scope import Principal, Route
from app.translate import MOUNTS

ROUTE = Route("GET", "/whoami", "whoami", "whoami.get", "read", False)  # ours: routes.tsv lists MLflow's
CLASSES = ("read", "write", "use", "admin")
NOBODY = Principal("", "")  # for the type's sake: identity lets no request without a principal come here
PORT = re.compile(r":[0-9]+\Z")
KEY = "<your key>"

# By client; {uri} is the tracking URI. A client takes the key from MLFLOW_TRACKING_TOKEN where it knows that variable.
SETTINGS = {
    "python": """\
import os
import mlflow
os.environ["MLFLOW_TRACKING_TOKEN"] = "{key}"
mlflow.set_tracking_uri("{uri}")
""",
    "r": """\
Sys.setenv(MLFLOW_TRACKING_TOKEN = "{key}")
mlflow::mlflow_set_tracking_uri("{uri}")
""",
    "java": """\
import org.mlflow.tracking.MlflowClient;
import org.mlflow.tracking.creds.BasicMlflowHostCreds;
MlflowClient client = new MlflowClient(new BasicMlflowHostCreds("{uri}", "{key}"));
""",
    "typescript": """\
import * as mlflow from "@mlflow/core";
mlflow.init({{ trackingUri: "{uri}", trackingServerToken: "{key}", experimentId: "<experiment id>" }});
""",
    "otlp": """\
export OTEL_EXPORTER_OTLP_TRACES_ENDPOINT='{uri}/v1/traces'
export OTEL_EXPORTER_OTLP_TRACES_PROTOCOL='http/protobuf'
export OTEL_EXPORTER_OTLP_TRACES_HEADERS='authorization=Bearer%20{key},x-mlflow-experiment-id=<experiment id>'
""",
}


class Remaining(Protocol):
    """Who counts requests."""

    def __call__(self, principal: Principal) -> dict[str, Any]:
        """The limits of a key and what is left of them, as JSON fields. Counts nothing itself."""


class Allows(Protocol):
    """Who knows the rules."""

    def __call__(self, route: Route, principal: Principal) -> bool:
        """Whether a principal may do what a route does."""


def make_blueprint(
    routes: Iterable[Route], allows: Allows, public_hosts: Sequence[str], remaining: Remaining | None = None
) -> Blueprint:
    """The blueprint, registered once, at the root. `routes` are MLflow's, `public_hosts` ours, the main one first."""
    blueprint = Blueprint("whoami", __name__)
    known = tuple(routes)

    def whoami() -> Response:
        principal = scopes.of(request.environ).principal or NOBODY
        limits = {"rate_limit_per_hour": principal.rate_limit_per_hour, **(remaining(principal) if remaining else {})}
        uri = origin(request.environ.get("HTTP_HOST", ""), public_hosts) + MOUNTS[0]
        answer = jsonify(
            **described(principal),
            limits=limits,
            families=families(route for route in known if allows(route, principal)),
            settings={client: text.format(uri=uri, key=KEY) for client, text in SETTINGS.items()},
        )
        answer.headers["Cache-Control"] = "no-store"
        return answer

    for mount in MOUNTS:
        blueprint.add_url_rule(mount + ROUTE.path, "whoami", whoami, methods=[ROUTE.method])
    return blueprint


def described(principal: Principal) -> dict[str, Any]:
    """What is known of a principal, as JSON fields; null for what whoever vouches for the key did not say."""
    return {
        "key_id": principal.key_id,
        "user_id": principal.user_id,
        "email": principal.email or None,
        "scopes": sorted(principal.scopes),
        "roles": sorted(principal.roles),
        "is_admin": principal.is_admin,
        "expires_at": principal.expires_at or None,
    }


def families(allowed: Iterable[Route]) -> dict[str, list[str]]:
    """By access class the families in which at least one route is allowed."""
    found: dict[str, set[str]] = {access: set() for access in CLASSES}
    for route in allowed:
        found[route.access].add(route.family)
    return {access: sorted(names) for access, names in found.items()}


def origin(host: str, public_hosts: Sequence[str]) -> str:
    """`scheme://host` of this proxy, as the caller sees it. `host` is the request's Host header.

    A client can write what it likes there, so it counts only when it is one of our public hosts or this machine;
    otherwise our main public host is named.
    """
    name, separator, port = host.lower().rpartition(":") if PORT.search(host) else (host.lower(), "", "")
    if name in public_hosts:
        return f"https://{name}"
    if is_loopback(name):
        return f"http://{name}{separator}{port}"
    return f"https://{public_hosts[0] if public_hosts else '<host>'}"


def is_loopback(name: str) -> bool:
    """Whether a host name without its port means the machine on which it is used."""
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"
