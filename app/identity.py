"""Credential -> principal: the stage that asks who is calling. Where a key may stand is in app/credentials.py."""

from time import monotonic
from typing import Protocol

from flask.globals import request_ctx

from app import scope as scopes
from app.credentials import find_credential, is_page, refused
from app.errors import Unauthenticated
from app.scope import Principal


class KeySource(Protocol):
    """Who knows keys."""

    def validate(self, key: str, client_ip: str) -> Principal:
        """Give the key's principal. Raises Unauthenticated, RateLimited or AuthUnavailable."""


class Identity:
    """The one gate: behind it every request outside the health blueprint has a principal."""

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys

    def require(self) -> None:
        """Note the request's principal in its scope.

        Raises Unauthenticated, BadRequest for a key in the query, and what the key source raises.
        """
        # The request itself: Flask's `request` looks for it anew each time that it is asked for anything.
        asked = request_ctx.request
        if asked.blueprint == "health":
            return
        environ = asked.environ
        scope = scopes.of(environ)
        credential = find_credential(environ, scope.suffix)
        begun = monotonic()
        try:
            if not credential.well_formed:
                raise Unauthenticated("")
            scope.principal = self._keys.validate(credential.key, scope.client_ip)
        except Unauthenticated:
            raise refused(credential.kind, is_page(environ)) from None
        finally:
            scope.auth_seconds = monotonic() - begun
