"""What headers pass, both ways: commented sets and two pure functions over pairs of name and value.

Names are compared in lower case with `_` as `-`: several servers fold the two, and a name that only looks different
from a forbidden one has smuggled identities before (CVE-2025-64484).
"""

from collections.abc import Iterable
from functools import lru_cache

Pair = tuple[str, str]

# RFC 9110 section 7.6.1: about one connection, not about the message; each side has its own.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",  # never standardised, still sent
        "te",
        "trailer",
        "transfer-encoding",  # set anew by whoever frames the next hop
        "upgrade",  # no h2c or websocket through here
    }
)

# Credentials: ours to check. What MLflow gets instead is MLFLOW_UPSTREAM_AUTH's business.
CREDENTIALS = frozenset({"authorization", "x-api-key"})

# Never forwarded from a client, whatever the value.
CLIENT_ONLY = frozenset(
    {
        "host",  # set for the upstream: MLflow >= 3.5 answers 403 to a Host that it does not list
        "content-length",  # framing is set from what we are about to send
        "expect",  # answered by our own server; the body is already on its way
        "cookie",  # the public host's cookies (load balancer, other services) are none of MLflow's business
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-connection",
        "forwarded",  # RFC 7239: who is asking is what we say
        "x-real-ip",
        "x-original-url",  # rewrite the path in some servers
        "x-rewrite-url",
        "x-http-method-override",  # and the method
        "x-http-method",
        "x-method-override",
        "origin",  # MLflow >= 3.5 answers 403 to a state-changing request with a foreign Origin
        "referer",  # names pages of the public host
        "x-request-id",  # the edge's, echoed or made
        "script-name",
        "path-info",
    }
)

# Never forwarded from a client, whatever follows the prefix.
CLIENT_ONLY_PREFIXES = (
    "x-hokusai-",  # identities are set by us
    "x-forwarded-",  # addresses too
)

# Never passed on to a client.
UPSTREAM_ONLY = frozenset(
    {
        "server",  # our own server writes these two
        "date",
        "set-cookie",  # a client could never send it back: Cookie does not get through
        "proxy-authenticate",
        "server-timing",  # ours
        "x-request-id",  # the edge's
        "x-content-type-options",  # always set by us
    }
)

# Never passed on to a client, whatever follows the prefix.
UPSTREAM_ONLY_PREFIXES = (
    "ratelimit",  # a client is limited here: MLflow's words about its own caller, us, would mislead it
    "x-ratelimit",
)


# What neither way depends on the request, in one set each.
NEVER_UP = HOP_BY_HOP | CLIENT_ONLY
NEVER_DOWN = HOP_BY_HOP | UPSTREAM_ONLY


@lru_cache(maxsize=256)  # bounded, since clients make names up
def fold(name: str) -> str:
    """The form in which names are compared."""
    return name.lower().replace("_", "-")


def nominated(pairs: Iterable[Pair]) -> frozenset[str]:
    """The names listed in `Connection`, which are hop-by-hop too (RFC 9110 section 7.6.1)."""
    values = [value for name, value in pairs if fold(name) == "connection"]
    if not values:
        return frozenset()
    return frozenset(fold(item.strip()) for item in ",".join(values).split(",") if item.strip())


def to_upstream(pairs: list[Pair], own: Iterable[Pair], keep_credentials: bool = False) -> list[Pair]:
    """Give the headers for MLflow: what of the client's may pass, then `own`.

    What `Connection` lists is removed before our own headers are added, so a client cannot have those removed
    (CVE-2025-48865).
    """
    own = list(own)
    dropped = nominated(pairs) | {fold(name) for name, _ in own}
    if not keep_credentials:
        dropped |= CREDENTIALS
    return [pair for pair in pairs if _may_go_up(pair[0]) and fold(pair[0]) not in dropped] + own


@lru_cache(maxsize=256)
def _may_go_up(name: str) -> bool:
    folded = fold(name)
    return folded not in NEVER_UP and not folded.startswith(CLIENT_ONLY_PREFIXES)


def to_client(pairs: list[Pair], own: Iterable[Pair]) -> list[Pair]:
    """Give the headers for the client: MLflow's end-to-end headers as they came, repeated ones too, then `own`."""
    dropped = nominated(pairs) - {"content-length"}  # about the message, whatever is said: who moves it counts on it
    return [pair for pair in pairs if _may_go_down(pair[0]) and fold(pair[0]) not in dropped] + list(own)


@lru_cache(maxsize=256)
def _may_go_down(name: str) -> bool:
    folded = fold(name)
    return folded not in NEVER_DOWN and not folded.startswith(UPSTREAM_ONLY_PREFIXES)
