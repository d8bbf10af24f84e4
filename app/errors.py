"""The one family of errors and the one JSON shape in which they leave.

    {"error_code": "...", "message": "...", "request_id": "..."}

The MLflow client parses this shape (mlflow/exceptions.py, RestException), and its retry rule makes the status
behaviour: 408, 429, 500, 502, 503 and 504 are retried seven times over about four minutes, for every method
(mlflow/utils/request_utils.py). Nothing permanent is ever answered with one of those.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus

from app.scope import RequestScope

Header = tuple[str, str]
Headers = list[Header]

# The MLflow code for a status that MLflow sent without one (mlflow/exceptions.py, HTTP_STATUS_TO_ERROR_CODE).
CODE_FOR_STATUS = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "ENDPOINT_NOT_FOUND",
    409: "RESOURCE_CONFLICT",
    413: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    499: "CANCELLED",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def code_for_status(status: int) -> str:
    """MLflow's error code for an HTTP status; a family's general code for a status that MLflow has no code for."""
    return CODE_FOR_STATUS.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")


class ProxyError(Exception):
    """An answer that is not MLflow's. `message` is for the client; `kind` is a static word for the log."""

    status = 500
    error_code = "INTERNAL_ERROR"
    outcome = "proxy_error"

    def __init__(self, message: str, *, kind: str = "", headers: Sequence[Header] = (), **extra: object) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind or type(self).__name__
        self.headers: Headers = list(headers)
        self.extra = extra


class BadRequest(ProxyError):
    """A target, header or framing whose meaning could differ between us and MLflow."""

    status, error_code, outcome = 400, "BAD_REQUEST", "client_error"


class ClientGone(BadRequest):
    """The request body ended before its announced end. Not an OSError: urllib3 would take that for the upstream's."""

    outcome = "client_gone"


class Unauthenticated(ProxyError):
    """No key, or one that was refused."""

    status, error_code, outcome = 401, "UNAUTHENTICATED", "auth_denied"


class PermissionDenied(ProxyError):
    """A good key without the scope."""

    status, error_code, outcome = 403, "PERMISSION_DENIED", "auth_denied"


class EndpointNotFound(ProxyError):
    """Not in the route table."""

    status, error_code, outcome = 404, "ENDPOINT_NOT_FOUND", "client_error"


class MethodNotAllowed(ProxyError):
    """A method that no MLflow client sends."""

    status, error_code, outcome = 405, "BAD_REQUEST", "client_error"


class BodyTooLarge(ProxyError):
    """A body over the limit. Without Retry-After: the MLflow client retries a 413 that has one."""

    status, error_code, outcome = 413, "INVALID_PARAMETER_VALUE", "client_error"


class RateLimited(ProxyError):
    """Too many requests; carries Retry-After."""

    status, error_code, outcome = 429, "REQUEST_LIMIT_EXCEEDED", "rate_limited"


class Overloaded(ProxyError):
    """More transfers at once than this worker takes; carries Retry-After."""

    status, error_code, outcome = 503, "TEMPORARILY_UNAVAILABLE", "rate_limited"


class Drained(ProxyError):
    """The worker ends, and the time that it gave what was under way is over. Carries Retry-After."""

    status, error_code = 503, "TEMPORARILY_UNAVAILABLE"
    word = "drained"  # for the log

    def __init__(self) -> None:
        super().__init__(
            "503: this proxy is being replaced, and MLflow has not answered. It may still do what was asked.",
            kind=self.word,
            headers=[("Retry-After", "1")],
        )


class ArtifactsDisabled(ProxyError):
    """MLFLOW_SERVE_ARTIFACTS=false. 503 as in use today, or 501 for clients that should not retry for minutes."""

    outcome = "client_error"

    def __init__(self, status: int) -> None:
        super().__init__(
            "Artifact storage is not configured. Please contact your administrator.",
            kind="artifacts_disabled",
            error="ARTIFACTS_DISABLED",
        )
        self.status = status
        self.error_code = code_for_status(status)


class AuthUnavailable(ProxyError):
    """The auth service cannot answer. Never a 401: users would rotate good keys."""

    status, error_code, outcome = 503, "TEMPORARILY_UNAVAILABLE", "auth_unavailable"


class UpstreamUnreachable(ProxyError):
    """No connection to MLflow."""

    status, error_code, outcome = 502, "TEMPORARILY_UNAVAILABLE", "upstream_unreachable"


class UpstreamBroken(ProxyError):
    """MLflow broke the protocol, or its connection ended before an answer."""

    status, error_code, outcome = 502, "INTERNAL_ERROR", "upstream_error"


class UpstreamTimeout(ProxyError):
    """MLflow is too slow."""

    status, error_code, outcome = 504, "DEADLINE_EXCEEDED", "upstream_timeout"


class OwnFault(ProxyError):
    """Our own bug: a fixed text, the details go to the log only."""

    def __init__(self) -> None:
        super().__init__("The proxy failed to handle this request.", kind="exception")


def auth_unavailable(kind: str, seconds: int = 2) -> AuthUnavailable:
    """The auth service gave no answer that means yes or no. `kind` is a static word for the log."""
    return AuthUnavailable(
        "503: the authentication service cannot be asked just now. Your key is not at fault; try again.",
        kind=f"auth_{kind}",
        headers=[("Retry-After", str(seconds))],
    )


def auth_limited(seconds: int | str) -> RateLimited:
    """The auth service wants to hear nothing of a key for some seconds."""
    return RateLimited(
        "429: too many requests with this key.", kind="auth_service", headers=[("Retry-After", str(seconds))]
    )


def no_such_endpoint(scope: RequestScope) -> EndpointNotFound:
    """The one answer to a path that nobody here serves."""
    return EndpointNotFound(f"404: there is no endpoint {scope.method} {scope.path}.", kind="unknown_route")


def payload(error: ProxyError, request_id: str) -> bytes:
    """The JSON body of an error, as the MLflow client parses it."""
    body = {"error_code": error.error_code, "message": error.message, "request_id": request_id, **error.extra}
    return json.dumps(body).encode()


def render(error: ProxyError, scope: RequestScope) -> tuple[str, Headers, bytes]:
    """Give status line, headers and body of an error, and note it in the scope for the access line."""
    scope.outcome, scope.error_code, scope.error_kind = error.outcome, error.error_code, error.kind
    body = payload(error, scope.request_id)
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *error.headers,
    ]
    return status_line(error.status), headers, body


@lru_cache(maxsize=64)
def status_line(status: int) -> str:
    """`404 Not Found`; a status without a registered phrase gets its number twice, since WSGI asks for a phrase."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} {status}"
