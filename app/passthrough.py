"""MLflow's answer -> ours: raw bytes as they come, error pages turned into JSON, and no short body that ends well."""

import errno
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import requests
from flask import Response
from urllib3.exceptions import HTTPError

from app.answer import Answer, Sound
from app.errors import ClientGone, ProxyError, UpstreamBroken, code_for_status, status_line
from app.headers import Pair, to_client
from app.resource import MOST_BYTES, rule_of
from app.scope import RequestScope
from app.sockets import reset_on_close
from app.splicing import SIZE, Pipe
from app.turns import Turns
from app.upstream_url import Base

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

BLOCK = 256 * 1024
BROKEN = (ClientGone, HTTPError, OSError)  # what reading on may meet
PEEK = 16 * 1024  # of an error page: enough to know it by
KEPT_OF_A_PAGE = ("retry-after", "allow", "content-range")  # what a status means without its page
HOST_REJECTED = b"Invalid Host header"  # mlflow/server/security.py, text/plain with status 403


def respond(answer: requests.Response, scope: RequestScope, environ: "WSGIEnvironment", base: Base) -> Response:
    """Build the response to a proxied request. Raises a ProxyError in place of an error page of MLflow's."""
    pairs = list(answer.raw.headers.items())  # repeated headers stay apart here, unlike in answer.headers
    if answer.status_code >= 400 and not _is_json(pairs):
        raise page_error(answer, scope)
    own = [("X-Content-Type-Options", "nosniff"), ("Server-Timing", server_timing(scope))]
    headers = []
    for name, value in to_client(pairs, own):
        shown = relocated(value, base, scope.mount) if name.lower() == "location" else value
        if shown or not value:
            headers.append((name, shown))
    blocks = Blocks(answer, scope, environ, keeps=_names_what_it_created(answer, scope, pairs))
    return Answer(blocks, status_line(answer.status_code), Sound(headers), direct_passthrough=True)


def _names_what_it_created(answer: requests.Response, scope: RequestScope, pairs: list[Pair]) -> bool:
    if scope.route is None or not rule_of(scope.route).reads_answer or answer.status_code >= 300:
        return False
    small = (answer.raw.length_remaining or 0) <= MOST_BYTES
    return small and _is_json(pairs) and not any(name.lower() == "content-encoding" for name, _ in pairs)


def _is_json(pairs: list[Pair]) -> bool:
    types = [value for name, value in pairs if name.lower() == "content-type"]
    return bool(types) and "json" in types[0].lower()


def page_error(answer: requests.Response, scope: RequestScope) -> ProxyError:
    """The error to answer instead of MLflow's HTML or text, whose words may name what is internal."""
    try:
        page = answer.raw.read(PEEK, decode_content=True)
    except (HTTPError, OSError):
        page = b""
    finally:
        answer.raw.close()
    if answer.status_code == 403 and HOST_REJECTED in page:
        return UpstreamBroken("502: MLflow does not accept this proxy's requests.", kind="upstream_host_rejected")
    error = ProxyError(f"{answer.status_code}: MLflow answered with an error page.", kind="upstream_page")
    error.status, error.error_code = answer.status_code, code_for_status(answer.status_code)
    error.outcome = "upstream_error" if error.status >= 500 else "client_error"
    error.headers = [pair for pair in answer.raw.headers.items() if pair[0].lower() in KEPT_OF_A_PAGE]
    error.headers.append(("Server-Timing", server_timing(scope)))
    if error.status == 404 and "artifacts" in scope.action.split("."):
        error.error_code = "RESOURCE_NOT_FOUND"
        error.message = f"The requested resource was not found: {scope.path}"
    return error


def server_timing(scope: RequestScope) -> str:
    """`auth;dur=1.2, upstream;dur=3.4`, in milliseconds."""
    auth, upstream = (scope.auth_seconds or 0) * 1000, (scope.upstream_seconds or 0) * 1000
    return f"auth;dur={auth:.1f}, upstream;dur={upstream:.1f}"


def relocated(location: str, base: Base, mount: str) -> str:
    """A Location on the public side: no internal host, and under the mount that the client came in by.

    Empty when it is no address: Werkzeug could not write it.
    """
    try:
        parts = urlsplit(location)
        elsewhere = parts.netloc and parts.hostname != base.host
    except ValueError:
        return ""
    if elsewhere or not (parts.netloc or location.startswith("/")):
        return location
    path = parts.path or "/"
    if base.prefix and f"{path}/".startswith(f"{base.prefix}/"):
        path = path[len(base.prefix) :] or "/"
    if path.startswith("//"):  # at the root mount it would name a host
        path = "/" + path.lstrip("/")
    return mount + urlunsplit(("", "", path, parts.query, parts.fragment))


class Blocks:
    """The body's blocks, raw. A failure resets the client's connection: a short body never looks complete.

    With `keeps` a small body is in the scope too, once it has passed.
    """

    def __init__(
        self, answer: requests.Response, scope: RequestScope, environ: "WSGIEnvironment", keeps: bool = False
    ) -> None:
        self._keeps = keeps
        if keeps:
            scope.kept_answer = bytearray()
        self._raw = answer.raw
        self._scope = scope
        self._begun = False
        self._turns = Turns()
        self._socket: Any = environ.get("gunicorn.socket")
        self._pipe: Pipe | None = None

    def __iter__(self) -> "Blocks":
        return self

    def __next__(self) -> bytes:
        if not self._begun:
            self._begun = True
            if not getattr(self._raw, "is_here", False):
                return b""  # gunicorn writes the head with the first block: it must not wait for a body's
        if self._pipe is not None and self._raw.length_remaining:
            return self._spliced(self._pipe)
        try:
            block: bytes = self._raw.read1(BLOCK, decode_content=False)
        except BROKEN as error:
            raise self._reset(error) from error
        if self._scope.first_byte is None:
            self._scope.first_byte = time.monotonic()
            self._pipe = self._pipe_to_client()
        if not block:
            raise StopIteration
        if self._keeps:
            self._keep(block)
        self._turns.moved(len(block))
        return block

    def _spliced(self, pipe: Pipe) -> bytes:
        """Have the kernel move the next bytes; nothing of them is left for gunicorn to send."""
        try:
            moved = self._raw.move(pipe, SIZE)
        except BROKEN as error:
            raise self._reset(error) from error
        pipe.give(self._socket, moved, self._socket.gettimeout())
        self._scope.spliced += moved
        self._turns.moved(moved)
        return b""

    def _pipe_to_client(self) -> Pipe | None:
        """For what is left of a large body, once gunicorn has sent its head and first block."""
        pipe_to = getattr(self._raw, "pipe_to", None)
        pipe: Pipe | None = pipe_to(self._socket) if pipe_to else None
        if pipe is not None:
            self._scope.at_end.append(pipe.close)
        return pipe

    def _keep(self, block: bytes) -> None:
        self._scope.kept_answer += block
        if len(self._scope.kept_answer) > MOST_BYTES:  # its length was not announced
            self._keeps, self._scope.kept_answer = False, b""

    def _reset(self, error: Exception) -> ConnectionResetError:
        if isinstance(error, ClientGone):
            self._scope.outcome, self._scope.error_kind = error.outcome, error.kind
        else:
            self._scope.outcome, self._scope.error_kind = "upstream_aborted", type(error).__name__
        # gunicorn takes ECONNRESET as "the connection is gone": it logs nothing, ends no chunked body and closes, which
        # by then means a reset.
        if self._socket is not None:
            reset_on_close(self._socket)
        return ConnectionResetError(errno.ECONNRESET, "the upstream ended amid its answer")

    def close(self) -> None:
        """Give the connection back when the body was read to its end, else cut it: MLflow stops sending."""
        if self._raw.length_remaining == 0 or self._scope.finished:
            self._raw.release_conn()
        else:
            self._raw.close()
