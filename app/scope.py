"""The record that travels with a request: each stage writes its own fields, the access line reads them all. Data only.

It lives in the WSGI environ under `KEY`, because the environ outlives Flask's request context: the last byte of a
streamed answer leaves after Flask has forgotten the request.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

KEY = "hokusai.scope"
NAME = re.compile(r"[A-Za-z0-9._:@-]{1,128}")


def is_name(value: object) -> bool:
    """Whether a user or a key may be called this: it becomes a header towards MLflow."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a key belongs to, as the auth service or the local key file says.

    `source` is where this was learned: `service` (asked just now), `cache`, `stale` (too old, but the auth service
    cannot be asked) or `local`. It is no part of who somebody is.
    """

    user_id: str
    key_id: str
    scopes: frozenset[str] = frozenset()
    rate_limit_per_hour: int = 1000
    email: str = ""
    roles: frozenset[str] = frozenset()
    is_admin: bool = False
    expires_at: str = ""  # ISO 8601 with an offset, when whoever vouches for the key says it
    ip_bound: bool = False  # it is good from some addresses only: what holds for one says nothing about another
    source: str = field(default="service", compare=False)

    @property
    def stale(self) -> bool:
        """Whether nobody vouched for it lately."""
        return self.source == "stale"


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the route table: what a method on a path means in MLflow's terms, and what it takes to do it."""

    method: str
    path: str
    family: str
    action: str
    access: str
    moves_with_prefix: bool

    @property
    def moves_artifact(self) -> bool:
        """Whether it moves an artifact's bytes: then it is bounded by how many run at once, and by nothing else."""
        return self.action.endswith(("artifacts.download", "artifacts.upload"))


@dataclass(slots=True)
class RequestScope:
    """One request, from the edge to the access line. Times are seconds of the monotonic clock."""

    request_id: str
    method: str
    target: str  # as the client sent it, query included: never logged
    client_ip: str
    client_unknown: bool = False  # X-Forwarded-For says nothing usable: `client_ip` is the peer's
    trace_id: str = ""
    user_agent: str = ""
    begun: float = field(default_factory=monotonic)
    path: str = field(init=False)  # as it came in, without the query
    suffix: str = field(init=False)  # the query with its question mark, exactly as it came in; or nothing

    mount: str = ""
    rest: str = ""  # the path behind the mount, still percent-encoded
    route: Route | None = None
    family: str = ""
    action: str = ""
    principal: Principal | None = None
    auth_seconds: float | None = None

    upstream_path: str = ""
    target_url: str = ""
    attempts: int = 0
    upstream_status: int | None = None
    upstream_seconds: float | None = None  # until MLflow's status line and headers were there

    first_byte: float | None = None
    bytes_in: int = 0
    spliced: int = 0  # bytes of the answer's body that the kernel moved past gunicorn
    kept_body: bytes | bytearray = b""  # a small request body, where the access line's resource is in it
    kept_answer: bytes | bytearray = b""  # and of MLflow's answer
    # Make headers for the answer, whoever gives it. Only then: before that, nothing waits but the caller.
    headers: list[Callable[[], list[tuple[str, str]]]] = field(default_factory=list)
    outcome: str = ""
    error_code: str = ""
    error_kind: str = ""
    at_end: list[Callable[[], None]] = field(default_factory=list)  # called once the answer was sent or cut off
    finished: bool = False  # the whole answer was handed over; what else it means when this stays False: a client gone

    def __post_init__(self) -> None:
        self.path = self.target.partition("?")[0]
        self.suffix = self.target[len(self.path) :]

    def end(self) -> None:
        """Call what waits for the end, once."""
        while self.at_end:
            self.at_end.pop()()


def new_request_id() -> str:
    """32 hexadecimal digits. They must differ, not be hard to guess: asking the kernel for them costs a system call.

    Python seeds its generator anew in each forked process (random.py, os.register_at_fork).
    """
    return f"{random.getrandbits(128):032x}"


def of(environ: dict[str, Any]) -> RequestScope:
    """The scope of the request that `environ` belongs to. The edge always opens one."""
    scope: RequestScope = environ[KEY]
    return scope
