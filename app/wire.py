"""The adapter mounted in the upstream session: what requests and urllib3 get wrong for a proxy, put right in one place.

- They rewrite targets (dot segments, escapes, a bare `?`): ours are sent byte for byte.
- They send `Content-Length` and `Transfer-Encoding` together when handed a stream: exactly one is sent here.
- They copy bodies 16 KiB at a time: blocks go out as they come.
- Their connect timeout bounds the sending of the body too: sending has a timeout of its own.
- They lose an answer that comes before the body is sent: see app/sending.py.
- They guess what a broken answer means, and forget what they read beyond its end: see app/incoming.py.
- They reuse a connection that the upstream has just closed: one that idled longer than uvicorn keeps it is not reused.

What they do well is theirs: names, connecting, TLS with its certificates, and the pool.
"""

import contextlib
import random
import socket
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from app.answer_head import BadHead
from app.incoming import Incoming
from app.outbound import Manner, Outbound
from app.sending import Sending
from app.sockets import poll_for_input, reset_on_close

# uvicorn, MLflow's server, closes idle connections after 5 s (--timeout-keep-alive): stay clear of the race.
MOST_IDLE_SECONDS = 3.0

# Ask a silent host whether it is still there, sooner than after the kernel's two hours; see ExactConnection.open too.
SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class ExactConnection(HTTPConnection):
    """A connection to MLflow, and the exchanges on it."""

    idle_since = 0.0
    _has_input: Callable[[int], list[tuple[int, int]]]

    def connect(self) -> None:
        """Connect; a connection that was never used has not idled."""
        super().connect()
        self.idle_since = monotonic()
        self._has_input = poll_for_input(self.sock)

    def _new_conn(self) -> socket.socket:
        """A socket that is connected to any of the addresses that the name has, tried in a random order.

        The resolver sorts them (RFC 6724 section 6): every worker would speak to the same one of several MLflow tasks.
        """
        name = self._dns_host
        addresses = addresses_of(name, self.port)
        try:
            for address in addresses[:-1]:
                self._dns_host = address
                with contextlib.suppress(ConnectTimeoutError, NewConnectionError):
                    return super()._new_conn()
            self._dns_host = addresses[-1] if addresses else name  # by name it would be asked for once more
            return super()._new_conn()
        finally:
            self._dns_host = name

    @property
    def is_connected(self) -> bool:
        """Whether an idle connection may be used again: a byte or an end that nobody asked for means no."""
        return self.sock is not None and not self._has_input(0)

    def open(self, timeout: float, manner: Manner) -> None:
        """Have a connection for a request. Raises what urllib3 does, `timeout` (seconds) being over among it."""
        if self.sock is not None and (manner.fresh or monotonic() - self.idle_since > MOST_IDLE_SECONDS):
            self.close()
        if self.sock is None:
            self.timeout = timeout
            self.connect()
            # A host that vanished takes no more bytes, and says nothing: sending them again and again must end some
            # time. Not before the write timeout, since a host that reads nothing for a while looks the same.
            limit = int(manner.write_timeout * 1000)
            sock: Any = self.sock
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)

    def exchange(
        self, method: str, headers: Outbound, body: Any, read_timeout: float, release: Callable[[bool], None]
    ) -> Incoming:
        """Send a request and read the head of its answer. Raises what the body raises, and urllib3's errors."""
        manner = headers.manner
        answer = Incoming(self.sock, manner.client, read_timeout, release)
        sending = Sending(self.sock, answer, manner.client, manner.write_timeout)
        try:
            answer.cut_short = not sending.send(headers.head(method), body, headers.is_chunked)
        except BaseException as error:  # the client went away, or the upstream did: what was sent is no whole request
            reset_on_close(self.sock)
            if isinstance(error, OSError):
                raise ProtocolError("Connection aborted.", error) from error
            raise
        if answer.cut_short:
            reset_on_close(self.sock)  # it may not be reading: a FIN would wait behind what was sent
        return answer.read_head(method)


class ExactTLSConnection(ExactConnection, HTTPSConnection):
    """The same over TLS."""

    def connect(self) -> None:
        """Connect, and have an end without TLS's own sign of it told from a proper one."""
        super().connect()
        secured: Any = self.sock
        secured.suppress_ragged_eofs = False

    @property
    def is_connected(self) -> bool:
        """As above; but what is there to read may be TLS's own, such as a session ticket."""
        if self.sock is None or not self._has_input(0):
            return self.sock is not None
        self.sock.settimeout(0.0)
        try:
            self.sock.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        return False


def addresses_of(name: str, port: int) -> list[str]:
    """The addresses of a name, shuffled; none when it has none, which connecting to it will tell."""
    try:
        found = socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    addresses = list({str(where[0]) for *_, where in found})
    random.shuffle(addresses)
    return addresses


class _Exchanging(HTTPConnectionPool):
    """What both pools do in place of urllib3's urlopen: one attempt, as it is, and the connection back when it ends."""

    def urlopen(self, method: str, url: str, body: Any = None, headers: Any = None, *_: Any, **options: Any) -> Any:
        """Send one request and give the answer, its body unread. `headers` is an `Outbound`.

        Raises MaxRetryError when there is no connection to be had, ReadTimeoutError, ProtocolError for everything else
        that MLflow does, and what the body raises.
        """
        timeout = options["timeout"]
        conn: Any = self._get_conn()  # an ExactConnection

        def release(reusable: bool) -> None:
            conn.idle_since = monotonic()
            if not reusable:
                conn.close()
            self._put_conn(conn)

        try:
            conn.open(timeout.connect_timeout, headers.manner)
        except (OSError, HTTPError) as error:
            release(False)
            raise MaxRetryError(self, url, _of_connecting(self, error)) from error
        try:
            return conn.exchange(method, headers, body, timeout.read_timeout, release)
        except BaseException as error:
            release(False)
            if isinstance(error, TimeoutError):
                raise ReadTimeoutError(self, url, "no answer") from error
            if isinstance(error, OSError | BadHead):
                raise ProtocolError("Connection aborted.", error) from error
            raise


def _of_connecting(pool: HTTPConnectionPool, error: Exception) -> Exception:
    if isinstance(error, TimeoutError):  # amid TLS's handshake
        return ConnectTimeoutError(pool, str(error))
    return SSLError(error) if isinstance(error, ssl.SSLError) else error


class ExactPool(_Exchanging):
    """A pool of such connections."""

    ConnectionCls = ExactConnection


class ExactTLSPool(_Exchanging, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = ExactTLSConnection


class ExactAdapter(HTTPAdapter):
    """Mounted for the one upstream. Never retries: MLflow's client does, and knows what it sent.

    One upstream, one TLS setting, hence one pool: requests would look it up, and read the certificates, each time.
    """

    _pool: HTTPConnectionPool | None = None

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Make the pools; `maxsize` bounds what is kept, not what is open: a full pool delays nobody."""
        self.poolmanager = PoolManager(
            num_pools=connections, maxsize=maxsize, block=False, socket_options=SOCKET_OPTIONS, **options
        )
        self.poolmanager.pool_classes_by_scheme = {"http": ExactPool, "https": ExactTLSPool}

    def get_connection_with_tls_context(
        self, request: PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        """The pool, made for the first request."""
        if self._pool is None:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            super().cert_verify(pool, request.url or "", verify, cert)
            self._pool = pool
        return self._pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: done when the pool was made."""

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        """Nothing that is used: the target travels with the headers."""
        return "/"

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """The answer with its raw body; its headers are read from `raw`, where repeated ones stay apart."""
        response = Response.__new__(Response)  # its __init__ makes a cookie jar, which takes longer than all the rest
        response.status_code = resp.status
        response.raw = resp
        response.request = req
        response.url = req.url or ""
        return response
