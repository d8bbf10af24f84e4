"""The adapter mounted in the upstream session: what requests and urllib3 get wrong for a proxy, put right in one place.

- They rewrite targets (dot segments, escapes, a bare `?`): ours are sent byte for byte.
- They send `Content-Length` and `Transfer-Encoding` together when handed a stream: exactly one is sent here.
- They copy bodies 16 KiB at a time: blocks go out as they come.
- Their connect timeout bounds the sending of the body too: sending has a timeout of its own.
- They lose an answer that comes before the body is sent: the upstream's socket is looked at before each block, and
  while it takes none.
- They reuse a connection that the upstream has just closed: one that idled longer than uvicorn keeps it is not reused.
"""

import os
import select
import socket
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse as PooledResponse
from urllib3.util import SKIP_HEADER

from app.answer_head import StrictResponse
from app.errors import ClientGone
from app.sockets import has_input, reset_on_close
from app.watch import await_answer

# uvicorn, MLflow's server, closes idle connections after 5 s (--timeout-keep-alive): stay clear of the race.
MOST_IDLE_SECONDS = 3.0

# Detect a host that vanished without a word within 30 s, instead of the kernel's two hours.
SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class Outbound(CaseInsensitiveDict[str]):
    """The headers of one request to MLflow, and with them what requests has no other place for: see `Manner`."""

    def __init__(self, pairs: Iterable[tuple[str, str]], manner: "Manner") -> None:
        super().__init__()
        self.manner = manner
        for name, value in pairs:
            self[name] = f"{self[name]}, {value}" if name in self else value
        for name in ("User-Agent", "Accept-Encoding"):
            self.setdefault(name, SKIP_HEADER)  # what the client did not send, nobody sends

    def copy(self) -> "Outbound":
        """Themselves: urllib3 copies headers to add a proxy's, and there is no proxy."""
        return self


@dataclass(frozen=True, slots=True)
class Manner:
    """How a request is sent: its exact target, the longest wait for the upstream to take a byte (seconds), whether it
    needs a fresh connection, and the client's socket, to be watched while the upstream is silent.
    """

    target: str
    write_timeout: float
    fresh: bool = False
    client: Any = None


class ExactConnection(HTTPConnection):
    """A connection that sends the target as it is and survives an upstream that answers early or falls asleep."""

    response_class = StrictResponse
    idle_since = 0.0
    cut_short = False
    client: Any = None
    sees_answers = True  # whether a readable socket means an answer

    def connect(self) -> None:
        """Connect; a connection that was never used has not idled."""
        super().connect()
        self.idle_since = monotonic()

    def putheader(self, header: Any, *values: Any) -> None:
        """Write a header. As bytes, lest a client's value be taken for urllib3's word for leaving a header out."""
        encoded: list[Any] = [v if v is SKIP_HEADER else str(v).encode("latin-1") for v in values]
        super().putheader(header, *encoded)

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """Send one request; `headers` is an `Outbound`. Raises what the body raises, and OSError for the socket's."""
        if self.sock is not None and (headers.manner.fresh or monotonic() - self.idle_since > MOST_IDLE_SECONDS):
            self.close()
        if self.sock is None:
            self.connect()
        self.cut_short = False
        self.client = headers.manner.client
        self.timeout = headers.manner.write_timeout  # after connecting: the connect timeout has done its work
        guarded = None if body is None else self._until_answered(body)
        try:
            super().request(method, headers.manner.target, guarded, headers, **options)
        except BaseException:  # the client went away, or the upstream did: what was sent is no whole request
            if self.sock is not None:
                reset_on_close(self.sock)
            raise

    def _until_answered(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        iterator = iter(blocks)
        awaits_client = getattr(blocks, "awaits_client", bool)
        while True:
            if self.sees_answers and awaits_client():
                self._wait_for_client()
            block = next(iterator, None)
            if block is None:
                return
            if self.sees_answers and has_input(self.sock):
                raise self._answered()
            yield block

    def _wait_for_client(self) -> None:
        """Wait for the client's next block. Raises when the upstream answers first."""
        if self.client is None or has_input(self.client):
            return
        readable, _, _ = select.select([self.client, self.sock], [], [], self.client.gettimeout())
        if self.sock in readable:
            raise self._answered()
        if not readable:
            raise ClientGone("The request body stopped coming.", kind="client_stalled")

    def _answered(self) -> BrokenPipeError:
        # An answer, or the end, while the body is still coming. urllib3 takes this error as "stop sending and read the
        # answer"; what was not sent is never sent, so nobody may use the connection after that.
        self.cut_short = True
        return BrokenPipeError()

    def send(self, data: Any) -> None:
        """Send bytes. While the upstream takes none, an answer of its ends the sending.

        Raises TimeoutError when it neither takes a byte nor answers for `timeout` seconds.
        """
        if self.sock is None or not self.sees_answers:
            self._send_blindly(data)
            return
        descriptor, rest = self.sock.fileno(), memoryview(data)
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                self._wait_for_room(descriptor)

    def _send_blindly(self, data: Any) -> None:
        try:
            super().send(data)
        except ssl.SSLEOFError:  # TLS's way to say that the upstream takes no more
            raise self._answered() from None

    def _wait_for_room(self, descriptor: int) -> None:
        readable, writable, _ = select.select([descriptor], [descriptor], [], self.timeout)
        if readable:
            raise self._answered()
        if not writable:
            raise TimeoutError("the upstream takes no more bytes")

    @property
    def is_connected(self) -> bool:
        """Whether an idle connection may be used again: a byte or an end that nobody asked for means no."""
        return self.sock is not None and not has_input(self.sock)

    def getresponse(self) -> PooledResponse:  # type: ignore[override]  # as in urllib3, whose response is not http.client's
        """Read status line and headers. Raises ClientGone when the client left while the upstream was silent."""
        try:
            if self.sock is not None and self.client is not None and self.sees_answers:
                await_answer(self.sock, self.client, self.timeout or 0.0)
            response = super().getresponse()
        finally:
            self.idle_since = monotonic()
        if self.cut_short and self.sock is not None:
            # Not close(): that closes the response too, which keeps the socket open until its body was read.
            sock, self.sock = self.sock, None
            reset_on_close(sock)  # it may not be reading: a FIN would wait behind what was sent
            sock.close()
        return response


class ExactTLSConnection(ExactConnection, HTTPSConnection):
    """The same over TLS, where a readable socket may hold nothing but session tickets: there an early answer is met
    when the upstream closes, which urllib3 takes as "stop sending and read the answer" by itself.
    """

    sees_answers = False


class ExactPool(HTTPConnectionPool):
    """A pool of such connections."""

    ConnectionCls = ExactConnection


class ExactTLSPool(HTTPSConnectionPool):
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

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """The answer with its raw body; its headers are read from `raw`, where repeated ones stay apart."""
        response = Response()
        response.status_code = resp.status
        response.raw = resp
        response.request = req
        response.url = req.url or ""
        return response
