"""What comes from the load balancer: who is calling, under which id, and nothing whose meaning is in doubt.

The edge is WSGI middleware around Flask. It opens the request's scope, refuses what is malformed before anything else
looks at it, and gives every answer its X-Request-ID. Behind it `PATH_INFO` is the path as it was sent, percent-encoded:
what is decided on is what is forwarded.
"""

import logging
import re
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from gevent import GreenletExit

from app import scope as scopes
from app.addresses import forwarded_address, plain_address
from app.errors import BadRequest, Drained, MethodNotAllowed, ProxyError, render
from app.memo import Memo
from app.rarely import Rarely
from app.scanners import Scanners
from app.scope import RequestScope

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
VERSIONS = ("HTTP/1.0", "HTTP/1.1")

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
LABEL = r"[A-Za-z0-9_-]{1,63}"
# RFC 9110 section 7.2, with the lengths of RFC 1035: a name longer than that breaks Werkzeug.
HOST = re.compile(rf"(?=[^:]{{1,253}}(:|$)|\[)({LABEL}(\.{LABEL})*\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]{{1,5}})?")
PRINTABLE = re.compile(r"[\x21-\x7e]+")
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
DOT_SEGMENT = re.compile(rb"(^|/)\.{1,2}(;[^/]*)?(/|$)")
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
TRACE_ROOT = re.compile(r"Root=([^;,\s]{1,128})")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context section 3.2

PATHS: Memo[str] = Memo()  # what malformed_path says

# MLflow decodes a path up to ten times before it looks for dots in it (mlflow/utils/uri.py, _decode).
MOST_DECODINGS = 10

SCANNERS_PER_MINUTE = 10  # lines about scanners, of one process
DOUBTS_PER_MINUTE = 1

log = logging.getLogger("app.edge")


class Edge:
    """WSGI middleware. `trusted_hops` is the number of proxies of ours that appended to X-Forwarded-For.

    Noise of scanners, by the built-in patterns and `scanner_patterns`, ends here before anything else looks at it; with
    None there is no such filter.
    """

    def __init__(
        self, app: "WSGIApplication", trusted_hops: int, scanner_patterns: Iterable[str] | None = None
    ) -> None:
        self.app = app
        self.trusted_hops = trusted_hops
        self._scanners = Scanners(scanner_patterns)
        self._of_scanners = Rarely(SCANNERS_PER_MINUTE)
        self._of_doubts = Rarely(DOUBTS_PER_MINUTE)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        scope = open_scope(environ, self.trusted_hops)
        if self._scanners.is_noise(scope.target):
            return self._ignore(scope, start_response)
        environ[scopes.KEY] = scope
        if scope.client_unknown:
            self._doubt(scope)

        def respond(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            further = [pair for make in scope.headers for pair in make()]
            return start_response(status, [*headers, *further, ("X-Request-ID", scope.request_id)], exc_info)

        try:
            refuse_malformed(scope.target, environ)
        except ProxyError as error:
            return self._answer(error, scope, respond)
        environ["PATH_INFO"], environ["SCRIPT_NAME"] = scope.path, ""
        try:
            return Finishing(self.app(environ, respond), scope)
        except GreenletExit:  # the worker ends, and no longer waits for MLflow; nothing was answered yet
            scope.end()
            return self._answer(Drained(), scope, respond)
        except BaseException:  # what the app raises here nobody closes
            scope.end()
            raise

    def _answer(self, error: ProxyError, scope: RequestScope, start_response: "StartResponse") -> Iterable[bytes]:
        status, headers, body = render(error, scope)
        start_response(status, headers)
        return Finishing([] if scope.method == "HEAD" else [body], scope)

    def _ignore(self, scope: RequestScope, start_response: "StartResponse") -> Iterable[bytes]:
        # Without a scope in the environ there is no access line: a rare event stands for all of them.
        own = [("Content-Length", "0"), ("Cache-Control", "no-store"), ("X-Request-ID", scope.request_id)]
        start_response("404 Not Found", own)
        suppressed = self._of_scanners.admit(monotonic())
        if suppressed is not None:
            what = {"method": scope.method, "path": scope.path[:200], "suppressed": suppressed}
            who = {"client_ip": scope.client_ip, "user_agent": scope.user_agent}
            log.info("scanner_request_rejected", extra={"request_id": scope.request_id, **what, **who})
        return []

    def _doubt(self, scope: RequestScope) -> None:
        suppressed = self._of_doubts.admit(monotonic())
        if suppressed is not None:
            fix = "set TRUSTED_PROXY_HOPS to how many proxies of ours append to X-Forwarded-For"
            found = {"client_ip": scope.client_ip, "suppressed": suppressed, "fix": fix}
            log.warning("client_address_unknown", extra={"request_id": scope.request_id, **found})


class Finishing:
    """An answer's blocks, which says in the scope that the last of them was taken."""

    def __init__(self, blocks: Iterable[bytes], scope: RequestScope) -> None:
        self._blocks = blocks
        self._iterator = iter(blocks)
        self._scope = scope

    def __iter__(self) -> "Finishing":
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._iterator)
        except StopIteration:
            self._scope.finished = True
            raise

    def close(self) -> None:
        """Close what is inside, as WSGI asks (PEP 3333), and end the request."""
        close = getattr(self._blocks, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._scope.end()


def open_scope(environ: "WSGIEnvironment", trusted_hops: int) -> RequestScope:
    """Begin the record of a request. Gives a scope even for a request that is about to be refused."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    forwarded_for, peer = environ.get("HTTP_X_FORWARDED_FOR", ""), environ.get("REMOTE_ADDR", "")
    address = forwarded_address(forwarded_for, trusted_hops)
    return RequestScope(
        request_id=given if REQUEST_ID.fullmatch(given) else scopes.new_request_id(),
        method=environ["REQUEST_METHOD"],
        target=environ.get("RAW_URI") or _target(environ),
        client_ip=address or plain_address(peer) or peer,
        client_unknown=bool(trusted_hops and forwarded_for and not address),
        trace_id=trace_id(environ.get("HTTP_TRACEPARENT", ""), environ.get("HTTP_X_AMZN_TRACE_ID", "")),
        user_agent=environ.get("HTTP_USER_AGENT", "")[:200],
    )


def _target(environ: "WSGIEnvironment") -> str:
    # Werkzeug's test client and development server call it REQUEST_URI.
    return str(environ.get("REQUEST_URI") or environ.get("PATH_INFO", ""))


def trace_id(traceparent: str, amzn: str) -> str:
    """The id that ties our line to the load balancer's and to a trace: W3C first, then X-Amzn-Trace-Id's Root."""
    match = TRACEPARENT.fullmatch(traceparent) or TRACE_ROOT.search(amzn)
    return match.group(1) if match else ""


def refuse_malformed(target: str, environ: "WSGIEnvironment") -> None:
    """Raise BadRequest (or MethodNotAllowed) for a request that could mean something else to MLflow than to us."""
    if environ["REQUEST_METHOD"] not in METHODS:
        raise MethodNotAllowed("Method not allowed.", kind="method", headers=[("Allow", ", ".join(METHODS))])
    reason = malformed_target(target) or malformed_head(environ)
    if reason:
        raise BadRequest(f"Malformed request: {reason}.", kind=reason.replace(" ", "_"))


def malformed_head(environ: "WSGIEnvironment") -> str:
    """What is wrong with version, Host or framing, in a static phrase; empty when nothing is."""
    if environ.get("SERVER_PROTOCOL") not in VERSIONS:
        return "unknown HTTP version"
    host = environ.get("HTTP_HOST")
    if host is None and environ["SERVER_PROTOCOL"] == "HTTP/1.1":
        return "missing Host"  # RFC 9112 section 3.2
    if host is not None and not HOST.fullmatch(host):
        return "bad Host"
    # gunicorn lets `gzip, chunked` pass without undoing the gzip: what we would forward is not what it says it is.
    if environ.get("HTTP_TRANSFER_ENCODING", "chunked").strip().lower() != "chunked":
        return "unsupported Transfer-Encoding"
    return ""


def malformed_target(target: str) -> str:
    """What is wrong with a request target, in a static phrase; empty when nothing is.

    Only origin-form is served (RFC 9112 section 3.2.1). In the path nothing may be encoded that would end a segment or
    make it a dot segment, however often it is decoded.
    """
    if not target.startswith("/") or target.startswith("//"):
        return "target is not a path"
    if not PRINTABLE.fullmatch(target) or "#" in target:
        return "forbidden character in target"
    if BAD_ESCAPE.search(target):
        return "bad percent escape"
    path = ("", target.partition("?")[0])
    known = PATHS.get(path)
    return PATHS.keep(path, malformed_path(path[1])) if known is None else known


def malformed_path(path: str) -> str:
    """What is wrong with a percent-encoded path, in a static phrase; empty when nothing is."""
    decoded = path.encode("ascii")
    if b"\\" in decoded or DOT_SEGMENT.search(decoded):
        return "backslash or dot segment in path"
    if b"%" not in decoded:
        return ""
    slashes = decoded.count(b"/")
    for _ in range(MOST_DECODINGS):
        before, decoded = decoded, unquote_to_bytes(decoded)
        if decoded == before:
            return ""
        if b"\\" in decoded or decoded.count(b"/") != slashes or DOT_SEGMENT.search(decoded):
            return "encoded slash, backslash or dot segment in path"
        if CONTROL.search(decoded):
            return "encoded control character in path"
    return "path is encoded too often"
