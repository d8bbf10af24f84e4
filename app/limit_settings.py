"""What the operator may say about rate limits, and about the Redis in which workers and tasks count together."""

import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from app.variables import Reader
from app.windows import Rate

RATE = re.compile(r"([1-9][0-9]{0,8}) per ([1-9][0-9]{0,4} )?(second|minute|hour)s?")
SECONDS = {"second": 1, "minute": 60, "hour": 3600}
SCHEMES = ("redis", "rediss")
OPTION = r"(ssl_ca_certs=[^&]+|ssl_cert_reqs=(none|optional|required)|ssl_check_hostname=(true|false))"
OPTIONS = re.compile(rf"{OPTION}(&{OPTION})*")  # of redis.from_url: another one would end the worker, not the start


@dataclass(frozen=True)
class LimitSettings:
    """How many requests a key may send in a short time, and an address with keys that nobody knows.

    `redis_url` is empty when each process counts for itself.
    """

    burst: Rate
    per_address: Rate
    redis_url: str = field(repr=False)


def read_limits(reader: Reader) -> LimitSettings:
    """Read the limits' variables."""
    return LimitSettings(
        burst=_rate(reader, "RATE_LIMIT_BURST", "1000 per 10 seconds"),
        per_address=_rate(reader, "RATE_LIMIT_PER_ADDRESS", "600 per minute"),
        redis_url=_redis_url(reader),
    )


def _rate(reader: Reader, name: str, default: str) -> Rate:
    given = reader.text(name, default)
    match = RATE.fullmatch(given)
    if match is None:
        reader.fault(f"{name} must be a rate like `{default}` or `100 per second`, not {given!r}.")
        return _rate(Reader({}), name, default)
    amount, times, unit = match.groups()
    return Rate(int(amount), int(times or 1) * SECONDS[unit])


def _redis_url(reader: Reader) -> str:
    """REDIS_URL, or else one made of its parts, as production names them today."""
    url, host = reader.secret("REDIS_URL"), reader.text("REDIS_HOST", "")
    port = reader.number("REDIS_PORT", 6379, 1, most=65535)
    token = reader.secret("REDIS_AUTH_TOKEN")
    scheme = "rediss" if reader.flag("REDIS_TLS_ENABLED", False) else "redis"
    if not url and host:
        user = f":{quote(token, safe='')}@" if token else ""
        url = f"{scheme}://{user}{f'[{host}]' if ':' in host else host}:{port}"
    reason = _malformed(url)
    if url and reason:
        form = "redis[s]://[:password@]host[:port][/number]"
        reader.fault(f"REDIS_URL, or what REDIS_HOST and REDIS_PORT make, {reason}. The form is {form}.")
    return url


def _malformed(url: str) -> str:
    """What is wrong with the address of a Redis, without any part of it: it may hold a password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:  # UnicodeError is one
        return "has no valid host or port"
    if parts.scheme not in SCHEMES:
        return "does not begin with redis:// or rediss://"
    if not host or port == 0:
        return "names no host or port"
    if parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        return "ends with something that is no number of a database"
    if parts.query and not (parts.scheme == "rediss" and OPTIONS.fullmatch(parts.query)):
        return "has options that are not about TLS (ssl_ca_certs, ssl_cert_reqs, ssl_check_hostname)"
    return "" if not parts.fragment else "holds a #, which a password has to spell %23"
