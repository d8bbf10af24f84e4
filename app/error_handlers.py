"""How an error raised behind the edge becomes an answer: registered on the app, for every path of every mount."""

import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from app import scope as scopes
from app.errors import OwnFault, ProxyError, code_for_status, no_such_endpoint, render

log = logging.getLogger("app.errors")

RARE = ("upstream_host_rejected",)  # operators' faults that deserve an event of their own, with the fix


def register(app: Flask) -> None:
    """Answer every exception in our one JSON shape; the last resort gives a fixed text and logs where it happened."""
    app.register_error_handler(ProxyError, proxy_error)
    app.register_error_handler(HTTPException, framework_error)
    app.register_error_handler(Exception, own_fault)


def proxy_error(error: ProxyError) -> Response:
    """The answer to an error that a stage raised on purpose."""
    scope = scopes.of(request.environ)
    if error.kind in RARE:
        fix = "add the upstream's host[:port] to MLflow's --allowed-hosts (MLFLOW_SERVER_ALLOWED_HOSTS)"
        log.error(error.kind, extra={"request_id": scope.request_id, "target_url": scope.target_url, "fix": fix})
    status, headers, body = render(error, scope)
    return Response(body, status=status, headers=headers)


def framework_error(error: HTTPException) -> Response:
    """Flask's own 404 and 405: a path that no blueprint has, or a method that a health path does not take."""
    scope = scopes.of(request.environ)
    if error.code in (404, 405):
        return proxy_error(no_such_endpoint(scope))
    converted = ProxyError(f"{error.code}: the request could not be handled.", kind="framework")
    converted.status = error.code or 500
    converted.error_code = code_for_status(converted.status)
    converted.outcome = "client_error" if converted.status < 500 else "proxy_error"
    return proxy_error(converted)


def own_fault(error: Exception) -> Response:
    """Our own bug: its place goes to the log, not its text, which may hold what a client sent."""
    log.error("unhandled_exception", exc_info=error, extra={"request_id": scopes.of(request.environ).request_id})
    return proxy_error(OwnFault())
