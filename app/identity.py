"""Credential -> principal. The key is taken from where a standard MLflow client can put it, and from nowhere else."""

import base64
import binascii
import re
from collections.abc import Mapping
from time import monotonic
from typing import NamedTuple, Protocol
from urllib.parse import unquote_plus

from flask import Request, request

from app import scope as scopes
from app.errors import BadRequest, Unauthenticated
from app.scope import Principal

KEY = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")  # anything else is no key, and no auth service is asked about it
KEY_NAMES = {"api_key", "apikey", "api-key"}


class Credential(NamedTuple):
    """What was found: the kind may be told to anybody, the key to nobody."""

    kind: str
    key: str


class KeySource(Protocol):
    """Who knows keys."""

    def validate(self, key: str, client_ip: str) -> Principal:
        """Give the key's principal. Raises Unauthenticated, RateLimited or AuthUnavailable."""


class Identity:
    """The one gate: behind it every request outside the health blueprint has a principal."""

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys

    def require(self) -> None:
        """Note the request's principal in its scope. Raises Unauthenticated and what the key source raises."""
        # The request itself: Flask's `request` looks for it anew each time that it is asked for anything.
        asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # typed as if it were no proxy
        if asked.blueprint == "health":
            return
        environ = asked.environ
        scope = scopes.of(environ)
        if holds_key(scope.suffix):
            raise BadRequest(
                "An API key in the query would end up in logs. Send it as a Bearer token (MLFLOW_TRACKING_TOKEN).",
                kind="key_in_query",
            )
        credential = find_credential(environ)
        begun = monotonic()
        try:
            if not KEY.fullmatch(credential.key):
                raise Unauthenticated("")
            scope.principal = self._keys.validate(credential.key, scope.client_ip)
        except Unauthenticated:
            raise refused(credential.kind, _is_page(environ)) from None
        finally:
            scope.auth_seconds = monotonic() - begun


def holds_key(query: str) -> bool:
    """Whether a raw query, with its question mark, has a parameter that is named like a key."""
    if not query:
        return False
    names = (pair.partition("=")[0] for pair in query[1:].split("&"))
    return any(unquote_plus(name).lower() in KEY_NAMES for name in names)


def find_credential(environ: Mapping[str, str]) -> Credential:
    """The one credential that a request carries. Raises Unauthenticated when there is none, or when two differ."""
    first, second = _from_authorization(environ), _from_api_key(environ)
    found = first or second
    if not found:
        raise Unauthenticated(
            "401: no API key was sent. Set MLFLOW_TRACKING_TOKEN to your Hokusai API key.",
            kind="no_credential",
            headers=challenge(_is_page(environ)),
        )
    if first and second and first.key != second.key:
        raise Unauthenticated(
            f"401: two different credentials were sent, {first.kind} and {second.kind}. "
            "Send one; MLFLOW_TRACKING_TOKEN alone is enough.",
            kind="two_credentials",
            headers=challenge(_is_page(environ)),
        )
    return found


def _from_authorization(environ: Mapping[str, str]) -> Credential | None:
    scheme, _, value = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    value = value.strip()
    match scheme.lower():
        case "":
            return None
        case "bearer":
            return Credential("Bearer", value)
        case "apikey":
            return Credential("ApiKey", value)
        case "basic":
            return Credential("Basic", _basic_password(value))
    return Credential("another Authorization scheme", "")


def _basic_password(value: str) -> str:
    # RFC 7617: user-id ":" password. Any user name will do; the key is the password.
    try:
        return base64.b64decode(value, validate=True).decode("latin-1").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _from_api_key(environ: Mapping[str, str]) -> Credential | None:
    value = environ.get("HTTP_X_API_KEY")
    return None if value is None else Credential("X-API-Key", value.strip())


def refused(kind: str, page: bool) -> Unauthenticated:
    """The one answer to a key that is unknown, revoked or malformed: it tells the kind seen, and the classic trap."""
    message = f"401: the API key sent as {kind} was not accepted. Set MLFLOW_TRACKING_TOKEN to a valid Hokusai API key."
    if kind == "Basic":
        message += (
            " Basic credentials come from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, ~/.mlflow/credentials"
            " or ~/.netrc, and hide the token: remove them."
        )
    return Unauthenticated(message, kind="key_refused", headers=challenge(page))


def challenge(page: bool) -> list[tuple[str, str]]:
    """WWW-Authenticate (RFC 9110 section 11.6.1): a page gets Basic, so that the browser asks; others get Bearer."""
    scheme = "Basic" if page else "Bearer"
    return [("WWW-Authenticate", f'{scheme} realm="Hokusai MLflow"')]


def _is_page(environ: Mapping[str, str]) -> bool:
    """Whether a browser asks for a page, or such a page for its scripts and data (Fetch Metadata: Sec-Fetch-Site)."""
    wants_html = environ.get("REQUEST_METHOD") == "GET" and "text/html" in environ.get("HTTP_ACCEPT", "")
    return wants_html or environ.get("HTTP_SEC_FETCH_SITE") == "same-origin"
