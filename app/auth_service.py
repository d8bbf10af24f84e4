"""Asks the auth service about a key: `POST {base}/api/v1/keys/validate`, the key as Bearer, never in the body.

Anything but a well-formed yes is not a yes; anything but a well-formed no is not a no. An outage is a 503: when it was
a 401, users rotated good keys.
"""

import json
import logging
import re
from datetime import datetime
from typing import Any

import requests
from gevent import Timeout
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ProtocolError

from app.errors import Unauthenticated, auth_limited, auth_unavailable
from app.scope import Principal, is_name
from app.sessions import plain_session
from app.settings import AuthSettings

EMAIL = re.compile(r"[^\s@,]{1,64}@[^\s@,]{1,255}")
MOST_BYTES = 64 * 1024
CONNECT_SECONDS = 1.0
RETRY_AFTER = re.compile(r"[0-9]{1,6}")  # a date, or a time beyond days, is no help to a client
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
        pool = HTTPAdapter(pool_connections=1, pool_maxsize=settings.cache.most_calls)
        self._session.mount(settings.service_url, pool)

    def validate(self, key: str, client_ip: str) -> Principal:
        """Give the key's principal. Raises Unauthenticated, RateLimited or AuthUnavailable."""
        try:
            # requests' own timeout bounds one wait: a service that drips would be waited for without end.
            with Timeout(self._timeout, TimeoutError), self._ask(key, client_ip) as answer:
                body = answer.raw.read(MOST_BYTES + 1, decode_content=True)
        except (requests.RequestException, HTTPError, OSError) as error:  # HTTPError: the body broke off
            raise auth_unavailable(type(error).__name__) from error
        return judge(answer.status_code, body, answer.headers.get("Retry-After", ""))

    def _ask(self, key: str, client_ip: str) -> requests.Response:
        try:
            return self._post(key, client_ip)
        except requests.ConnectionError as error:
            if not hung_up(error):
                raise
        # Most likely a pooled connection that the service closed while it idled. The question may be asked twice, but
        # not on another old connection: so without the pool.
        self._session.close()
        return self._post(key, client_ip)

    def _post(self, key: str, client_ip: str) -> requests.Response:
        return self._session.post(
            self._url,
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
            json={"service_id": self._service_id, "client_ip": client_ip},
            timeout=(min(CONNECT_SECONDS, self._timeout), self._timeout),
            allow_redirects=False,
            stream=True,
        )


def hung_up(error: requests.ConnectionError) -> bool:
    """Whether the connection was closed or reset in place of an answer."""
    cause = error.args[0] if error.args else None
    return isinstance(cause, ProtocolError) and isinstance(cause.args[-1], ConnectionError)


def judge(status: int, body: bytes, retry_after: str) -> Principal:
    """Turn the service's answer into a principal, or raise what it means."""
    if status == 401:
        raise Unauthenticated("")
    if status == 429:
        raise auth_limited(retry_after if RETRY_AFTER.fullmatch(retry_after) else 60)
    if status >= 500 and any(fault in body for fault in SCHEMA_FAULTS):
        log.error("auth_service_schema_error", extra={"status": status})
    if status != 200:
        raise auth_unavailable(f"status_{status}")
    return read_principal(body)


def read_principal(body: bytes) -> Principal:
    """Read a 200's body strictly. Raises AuthUnavailable when it is not a JSON object that names a user and a key."""
    if len(body) > MOST_BYTES:  # its beginning may read well, but nobody knows how it goes on
        raise auth_unavailable("too_long")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise auth_unavailable("no_json") from None
    if not isinstance(fields, dict) or fields.get("valid", True) is not True:
        raise auth_unavailable("no_yes")
    nested = fields.get("user")
    user: dict[str, Any] = nested if isinstance(nested, dict) else {}
    user_id, key_id = _id(fields.get("user_id") or user.get("id")), _id(fields.get("key_id"))
    if not user_id or not key_id:
        raise auth_unavailable("bad_ids")
    return Principal(
        user_id=user_id,
        key_id=key_id,
        scopes=_words(fields.get("scopes")),
        rate_limit_per_hour=_limit(fields.get("rate_limit_per_hour")),
        email=_email(_either(fields, user, "email")),
        roles=_words(_either(fields, user, "roles")),
        is_admin=_either(fields, user, "is_admin") is True,  # 1 and "true" are no yes
        expires_at=_moment(fields.get("expires_at")),
        ip_bound=bool(fields.get("ip_bound") or fields.get("allowed_ips")),  # in doubt, yes: it costs a call, no more
    )


def _either(fields: dict[str, Any], user: dict[str, Any], name: str) -> Any:
    value = fields.get(name)
    return user.get(name) if value is None else value


def _id(value: Any) -> str:
    return str(value) if is_name(value) else ""


def _words(value: Any) -> frozenset[str]:
    return frozenset(word for word in value if isinstance(word, str)) if isinstance(value, list) else frozenset()


def _email(value: Any) -> str:
    return value if isinstance(value, str) and EMAIL.fullmatch(value) else ""


def _moment(value: Any) -> str:
    """The text of an ISO 8601 moment with an offset; empty for anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    return moment.isoformat(timespec="seconds") if moment and moment.tzinfo else ""


def _limit(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 1000
