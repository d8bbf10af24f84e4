"""Asks the auth service about a key: `POST {base}/api/v1/keys/validate`, the key as Bearer, never in the body.

Anything but a well-formed yes is not a yes; anything but a well-formed no is not a no. An outage is a 503: when it was
a 401, users rotated good keys.
"""

import json
import logging
import re
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from app.errors import AuthUnavailable, RateLimited, Unauthenticated
from app.scope import Principal
from app.sessions import plain_session
from app.settings import AuthSettings

ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")  # what becomes a header towards MLflow is checked first
MOST_BYTES = 64 * 1024
# A schema that is behind its code answers 5xx with one of these (psycopg2): an operator's fault worth its own event.
SCHEMA_FAULTS = (b"UndefinedTable", b"psycopg2.ProgrammingError")

log = logging.getLogger("app.auth")


class AuthService:
    """The client of the auth service. `settings.service_url` is without a trailing `/api`."""

    def __init__(self, settings: AuthSettings) -> None:
        self._url = f"{settings.service_url}/api/v1/keys/validate"
        self._service_id = settings.service_id
        self._timeout = settings.timeout
        self._session = plain_session()

    def validate(self, key: str, client_ip: str) -> Principal:
        """Give the key's principal. Raises Unauthenticated, RateLimited or AuthUnavailable."""
        try:
            answer = self._session.post(
                self._url,
                headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
                json={"service_id": self._service_id, "client_ip": client_ip},
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            )
            with answer:
                body = answer.raw.read(MOST_BYTES, decode_content=True)
        except (requests.RequestException, HTTPError, OSError) as error:  # HTTPError: the body broke off
            raise unavailable(type(error).__name__) from error
        return judge(answer.status_code, body, answer.headers.get("Retry-After", ""))


def judge(status: int, body: bytes, retry_after: str) -> Principal:
    """Turn the service's answer into a principal, or raise what it means."""
    if status == 401:
        raise Unauthenticated("")
    if status == 429:
        seconds = retry_after if retry_after.isdecimal() else "60"
        raise RateLimited(
            "429: too many requests with this key.", kind="auth_service", headers=[("Retry-After", seconds)]
        )
    if status >= 500 and any(fault in body for fault in SCHEMA_FAULTS):
        log.error("auth_service_schema_error", extra={"status": status})
    if status != 200:
        raise unavailable(f"status_{status}")
    return read_principal(body)


def read_principal(body: bytes) -> Principal:
    """Read a 200's body strictly. Raises AuthUnavailable when it is not a JSON object that names a user and a key."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise unavailable("no_json") from None
    if not isinstance(fields, dict) or fields.get("valid", True) is not True:
        raise unavailable("no_yes")
    user = fields.get("user")
    nested = user.get("id") if isinstance(user, dict) else None
    user_id, key_id = _id(fields.get("user_id") or nested), _id(fields.get("key_id"))
    if not user_id or not key_id:
        raise unavailable("bad_ids")
    return Principal(
        user_id=user_id,
        key_id=key_id,
        scopes=_words(fields.get("scopes")),
        rate_limit_per_hour=_limit(fields.get("rate_limit_per_hour")),
    )


def _id(value: Any) -> str:
    return value if isinstance(value, str) and ID.fullmatch(value) else ""


def _words(value: Any) -> frozenset[str]:
    return frozenset(word for word in value if isinstance(word, str)) if isinstance(value, list) else frozenset()


def _limit(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 1000


def unavailable(kind: str) -> AuthUnavailable:
    """The auth service gave no answer that means yes or no. `kind` is a static word for the log."""
    return AuthUnavailable(
        "503: the authentication service cannot be asked just now. Your key is not at fault; try again.",
        kind=f"auth_{kind}",
        headers=[("Retry-After", "2")],
    )
