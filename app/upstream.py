"""The one `requests.Session` per worker process, and the only module that talks to MLflow."""

from time import monotonic
from typing import Any, NamedTuple

import requests
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import ConnectTimeout, ReadTimeout, SSLError
from urllib3.exceptions import NewConnectionError, ProtocolError

from app.errors import ProxyError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from app.headers import Pair
from app.inbound import Body
from app.outbound import Manner, Outbound
from app.scope import RequestScope
from app.sessions import plain_session
from app.settings import UpstreamSettings
from app.wire import ExactAdapter

TOO_SLOW = "504: MLflow did not answer in time."
BROKEN = "502: MLflow ended the connection without a complete answer."
UNREACHABLE = "502: MLflow cannot be reached just now."


class UpstreamRequest(NamedTuple):
    """What goes to MLflow. `target` is exact; `body` None means that there is none, not even an empty one."""

    method: str
    target: str
    headers: list[Pair]
    body: Body | None
    read_timeout: float
    fresh: bool = False  # on a connection of its own: a body that cannot be sent again must not meet a dead one
    client: Any = None  # the client's socket, to notice that it left


class Upstream:
    """Sends requests to MLflow. Made in the worker, after the fork: processes must not share a pool of sockets."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.base = settings.base
        self._timeouts = settings.timeouts
        self._verify: bool | str = settings.ca_bundle or True
        self._cert = (settings.client_cert, settings.client_key) if settings.client_cert else None
        self._session = plain_session()
        self._adapter = ExactAdapter(pool_connections=1, pool_maxsize=settings.pool_size)
        self._session.mount(self.base.origin, self._adapter)

    def send(self, outgoing: UpstreamRequest, scope: RequestScope) -> requests.Response:
        """Send a request and give the answer with its body unread; the caller closes it.

        Raises UpstreamUnreachable, UpstreamTimeout or UpstreamBroken, and what reading the request's body raises.
        """
        begun = monotonic()
        scope.attempts += 1
        try:
            # The session's adapter itself: what Session.send adds, redirects, cookies and hooks, is not wanted here.
            answer = self._adapter.send(
                self._prepare(outgoing),
                stream=True,
                timeout=(self._timeouts.connect, outgoing.read_timeout),
                verify=self._verify,
                cert=self._cert,
            )
        except requests.RequestException as error:
            raise explain(error) from error
        finally:
            scope.upstream_seconds = monotonic() - begun
        scope.upstream_status = answer.status_code
        if answer.status_code < 200:
            # http.client skips 100 only; after any other 1xx the real answer is still to come on this socket.
            answer.raw.close()
            raise UpstreamBroken(BROKEN, kind="unexpected_1xx")
        return answer

    def _prepare(self, outgoing: UpstreamRequest) -> requests.PreparedRequest:
        prepared = requests.PreparedRequest()
        # Its types know neither blocks that are memoryviews, which urllib3 sends like any buffer, nor repeated headers.
        untyped: Any = prepared
        prepared.method = outgoing.method
        prepared.url = self.base.origin + "/"  # chooses the pool; the target travels in the headers
        untyped.body = outgoing.body
        manner = Manner(outgoing.target, self._timeouts.write, outgoing.fresh, outgoing.client)
        untyped.headers = Outbound(framed(outgoing), manner)
        return prepared


def framed(outgoing: UpstreamRequest) -> list[Pair]:
    """The headers with exactly one framing header, made from the body itself (RFC 9112 section 6)."""
    if outgoing.body is None:
        return outgoing.headers
    if outgoing.body.length is None:
        return [*outgoing.headers, ("Transfer-Encoding", "chunked")]
    return [*outgoing.headers, ("Content-Length", str(outgoing.body.length))]


def explain(error: requests.RequestException) -> ProxyError:
    """The one table from the library's errors to ours."""
    if isinstance(error, ConnectTimeout):
        return UpstreamTimeout(TOO_SLOW, kind="connect_timeout")
    if isinstance(error, ReadTimeout):
        return UpstreamTimeout(TOO_SLOW, kind="read_timeout")
    if isinstance(error, SSLError):
        return UpstreamUnreachable(UNREACHABLE, kind="tls")
    if not isinstance(error, RequestsConnectionError):
        return UpstreamBroken(BROKEN, kind="protocol")
    cause = error.args[0] if error.args else None
    cause = getattr(cause, "reason", cause)  # inside urllib3's MaxRetryError
    if isinstance(cause, NewConnectionError):
        return UpstreamUnreachable(UNREACHABLE, kind="connect")
    if isinstance(cause, ProtocolError) and isinstance(cause.args[-1], TimeoutError):
        return UpstreamTimeout(TOO_SLOW, kind="write_timeout")
    return UpstreamBroken(BROKEN, kind="no_answer")
