"""A request's head -> its one credential, or the 401 that says what was wrong with it. Pure.

The key is taken from where a standard MLflow client can put it, and from nowhere else. A kind of credential ("Bearer")
may be told to anybody, a key to nobody.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_plus

from app.errors import BadRequest, PermissionDenied, Unauthenticated

KEY = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")  # anything else is no key, and no auth service is asked about it
SAFE = ("GET", "HEAD", "OPTIONS")  # RFC 9110 section 9.2.1: they change nothing, and no GET of MLflow's does
KEY_NAMES = {"api_key", "apikey", "api-key", "x-api-key", "access_token"}  # the last: RFC 6750 section 2.3


class Credential(NamedTuple):
    """What was found: the kind may be told to anybody, the key to nobody."""

    kind: str
    key: str

    @property
    def well_formed(self) -> bool:
        """Whether the key could be one at all."""
        return KEY.fullmatch(self.key) is not None


def find_credential(environ: Mapping[str, str], query: str = "") -> Credential:
    """The one credential that a request carries; `query` is its raw query, with the question mark.

    Raises Unauthenticated when there is none, or when two differ, BadRequest when a key stands in the query, and
    PermissionDenied when it was a browser that added it to what a page of another site made up.
    """
    if query and holds_key(query):
        raise BadRequest(
            "An API key in the query would end up in logs. Send it as a Bearer token (MLFLOW_TRACKING_TOKEN).",
            kind="key_in_query",
        )
    found = [c for c in (_from_authorization(environ), _from_api_key(environ)) if c]
    if found and found[0].kind == "Basic" and is_forged(environ):
        raise PermissionDenied(
            "403: a page of another site sent this request with the password that the browser remembers.",
            kind="cross_site",
        )
    if not found:
        raise Unauthenticated(
            "401: no API key was sent. Set MLFLOW_TRACKING_TOKEN to your Hokusai API key.",
            kind="no_credential",
            headers=challenge(is_page(environ)),
        )
    if len(found) == 2 and found[0].key != found[1].key:
        raise Unauthenticated(
            f"401: two different credentials were sent, {found[0].kind} and {found[1].kind}. "
            "Send one; MLFLOW_TRACKING_TOKEN alone is enough.",
            kind="two_credentials",
            headers=challenge(is_page(environ)),
        )
    return found[0]


def holds_key(query: str) -> bool:
    """Whether a raw query, with its question mark, has a parameter that is named like a key."""
    names = {unquote_plus(pair.partition("=")[0]).lower() for pair in query[1:].split("&")}
    return not KEY_NAMES.isdisjoint(names)


def _from_authorization(environ: Mapping[str, str]) -> Credential | None:
    scheme, _, value = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if not value and scheme.find("%20") > 0:
        # OTEL_EXPORTER_OTLP_HEADERS is written percent-encoded; exporters that do not decode it send it as it is.
        scheme, _, value = scheme.partition("%20")
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


def is_page(environ: Mapping[str, str]) -> bool:
    """Whether a browser asks for a page, or such a page for its scripts and data (Fetch Metadata: Sec-Fetch-Site)."""
    wants_html = environ.get("REQUEST_METHOD") == "GET" and "text/html" in environ.get("HTTP_ACCEPT", "")
    return wants_html or environ.get("HTTP_SEC_FETCH_SITE") == "same-origin"


def is_forged(environ: Mapping[str, str]) -> bool:
    """Whether a page of another site wants something changed (CSRF; CVE-2023-43472 and others of MLflow's).

    A browser adds the Basic credentials that it remembers to such a request. MLflow would know it by its Origin, which
    does not get that far (app/headers.py). Fetch Metadata says it best; older browsers send Origin alone.
    """
    if environ.get("REQUEST_METHOD") in SAFE:
        return False
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and origin.partition("://")[2].lower() != environ.get("HTTP_HOST", "").lower()
