"""Hokusai MLflow proxy. The body of `create_app`, top to bottom, is a request's way.

Importing this package must stay light: gunicorn's master imports parts of it before the workers exist, and gevent must
patch the standard library before Flask and requests are imported. So they are imported inside `create_app`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.forward import Forwarder
    from app.scope import Route
    from app.settings import Settings

VERSION = "0.1.0"


def create_app(settings: "Settings") -> "Flask":
    """Build the application for some settings. Opens no connection and starts nothing."""
    from app import cli, error_handlers
    from app.auth_service import AuthService
    from app.blueprints import health, whoami
    from app.edge import Edge
    from app.forward import Forwarder
    from app.framework import Application
    from app.identity import Identity
    from app.limits import make_limits
    from app.local_keys import LocalKeys
    from app.native import NativeRoutes
    from app.permissions import Permissions
    from app.policy import Policy, RouteTable, read_routes
    from app.probes import Probes
    from app.upstream import Upstream
    from app.validation import Validation
    from app.worker import CLIENT_IDLE, DRAINING

    app = Application(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # no redirects on API paths, ever
    app.config[CLIENT_IDLE] = settings.upstream.timeouts.client_idle
    local_keys = LocalKeys(settings.auth.keys_path) if settings.auth.keys_path else None
    routes = read_routes()
    permissions = Permissions(settings.policy)
    policy = Policy(RouteTable([*routes, whoami.ROUTE]), permissions, settings.policy.report)
    upstream = Upstream(settings.upstream)
    probes = Probes(settings, upstream)
    forward = Forwarder(settings, upstream, NativeRoutes(settings.upstream.native_artifacts, probes.version))
    limits, gate = make_limits(settings.limits)

    # edge: who calls, under which id; scanners end here with 404, malformed requests with 400
    app.front = Edge(app.wsgi_app, settings.trusted_hops, settings.scanner_patterns)
    # policy, first half: what is not in the route table is 404 and costs neither the auth service nor MLflow anything
    app.before_request(policy.resolve)
    # identity: 401, or 503 when nobody can tell
    app.before_request(Identity(local_keys or Validation(AuthService(settings.auth), settings.auth, gate=gate)).require)
    # limits: 429
    app.before_request(limits.require)
    # policy, second half: 403
    app.before_request(policy.permit)
    # the endpoint: health and whoami answer by themselves; the others pick a profile and call forward
    app.register_blueprint(health.make_blueprint(probes, DRAINING))
    app.register_blueprint(whoami.make_blueprint(routes, permissions.allows, settings.public_hosts, limits.remaining))
    _serve_mlflow(app, settings, forward, routes)
    # errors: whatever a stage raised leaves in one JSON shape
    error_handlers.register(app)
    # access_log: gunicorn writes the request's line when its last byte has left
    app.cli.add_command(cli.keys_group(local_keys))
    return app


def _serve_mlflow(app: "Flask", settings: "Settings", forward: "Forwarder", routes: "list[Route]") -> None:
    """Register MLflow's own paths, on each mount: artifact transfers, and everything else."""
    from app.blueprints import artifacts, mlflow
    from app.transfers import Slots
    from app.translate import MOUNTS
    from app.worker import TRANSFERS

    slots = Slots(settings.transfers_per_key, settings.transfers_in_all)
    app.config[TRANSFERS] = slots.under_way
    for mount in (*MOUNTS, ""):
        transfers = artifacts.make_blueprint(forward, settings, routes, slots)
        app.register_blueprint(transfers, url_prefix=mount, name=f"artifacts {mount}")
        app.register_blueprint(mlflow.make_blueprint(forward, settings), url_prefix=mount, name=f"mlflow {mount}")
