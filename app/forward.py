"""The one forwarding function: translate, send, respond. No other module knows all three."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from flask import Response, request

from app import scope as scopes
from app.errors import ArtifactsDisabled
from app.headers import Pair, to_upstream
from app.inbound import Body
from app.native import NativeRoutes
from app.passthrough import respond
from app.scope import RequestScope
from app.settings import Settings
from app.transfers import Slots
from app.translate import upstream_path
from app.upstream import Upstream, UpstreamRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger("app.routing")


@dataclass(frozen=True, slots=True)
class Profile:
    """What differs between kinds of endpoints. `read_timeout` in seconds; `most_body` in bytes, None for any size."""

    read_timeout: float
    most_body: int | None
    disabled_status: int | None = None  # answered instead of forwarding, when set
    slots: Slots | None = None  # bounds how many may run at once, when set


class Forwarder:
    """Forwards the current Flask request to MLflow."""

    def __init__(self, settings: Settings, upstream: Upstream, native: NativeRoutes) -> None:
        self._settings = settings.upstream
        self._native = native
        self._debug = settings.debug
        self._upstream = upstream

    def __call__(self, profile: Profile) -> Response:
        """Translate, send, respond. Raises ProxyErrors; each stage notes in the scope what it did."""
        environ = request.environ
        scope = scopes.of(environ)
        if profile.disabled_status is not None:
            raise ArtifactsDisabled(profile.disabled_status)
        if profile.slots is not None and scope.principal is not None:
            scope.at_end.append(profile.slots.take(scope.principal.key_id))
        outgoing = self._translate(scope, environ, profile)
        if self._debug:
            self._explain(scope, outgoing)
        answer = self._upstream.send(outgoing, scope)
        return respond(answer, scope, environ, self._upstream.base)

    def _translate(self, scope: RequestScope, environ: "WSGIEnvironment", profile: Profile) -> UpstreamRequest:
        scope.upstream_path = upstream_path(scope.rest, self._prefix(scope), self._settings.style)
        scope.target_url = self._upstream.base.origin + scope.upstream_path
        pairs = client_headers(environ)
        has_body = "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ
        return UpstreamRequest(
            method=scope.method,
            target=scope.upstream_path + scope.suffix,
            headers=to_upstream(pairs, self._own_headers(scope), self._settings.auth == "forward"),
            body=Body(environ, scope, profile.most_body) if has_body else None,
            read_timeout=profile.read_timeout,
            fresh=profile.most_body is None and has_body,
            client=environ.get("gunicorn.socket"),
        )

    def _prefix(self, scope: RequestScope) -> str:
        prefix = self._upstream.base.prefix
        # A native route knows its own methods alone; HEAD is answered by the app behind the prefix.
        moves = scope.route is None or scope.route.moves_with_prefix or scope.method == "HEAD"
        return prefix if moves or not prefix or not self._native.served() else ""

    def _own_headers(self, scope: RequestScope) -> list[Pair]:
        own = [
            *self._settings.own_headers,
            ("X-Request-ID", scope.request_id),
            # MLflow's server believes this header from nearby proxies; without it a caller would look like localhost.
            ("X-Forwarded-For", scope.client_ip),
        ]
        if scope.principal is not None:
            own += [("X-Hokusai-User-Id", scope.principal.user_id), ("X-Hokusai-API-Key-Id", scope.principal.key_id)]
        return own

    def _explain(self, scope: RequestScope, outgoing: UpstreamRequest) -> None:
        steps = {
            "request_id": scope.request_id,
            "path": scope.path,
            "mount": scope.mount or "/",
            "rest": scope.rest,
            "route": scope.route.path if scope.route else "",
            "family": scope.family,
            "style": self._settings.style,
            "prefix": self._prefix(scope),
            "target_url": scope.target_url,
            "upstream_headers": ",".join(sorted(name for name, _ in outgoing.headers)),
        }
        log.info("routing_decision", extra=steps)


def client_headers(environ: dict[str, str]) -> list[Pair]:
    """The client's headers as pairs. gunicorn has joined repeated ones with a comma (RFC 9110 section 5.3)."""
    pairs = [(header_name(key), value) for key, value in environ.items() if key.startswith("HTTP_")]
    if environ.get("CONTENT_TYPE"):
        pairs.append(("Content-Type", environ["CONTENT_TYPE"]))
    return pairs


@lru_cache(maxsize=256)  # bounded, since clients make names up
def header_name(key: str) -> str:
    """`HTTP_USER_AGENT` -> `User-Agent`."""
    return key[5:].replace("_", "-").title()
