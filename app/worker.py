"""gunicorn's gevent worker, some habits changed: malformed requests are answered in JSON, a body that nobody read
does not hold its connection, and it says when it drains.
"""

import errno
import gc
import socket
from functools import cache
from typing import Any

import gevent
from gunicorn.http import errors as parse
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser
from gunicorn.workers.ggevent import GeventWorker

from app.drain import finish
from app.errors import BadRequest, OwnFault, ProxyError, render
from app.outgoing import Outgoing
from app.plain_head import PlainFirst
from app.scope import RequestScope, new_request_id
from app.sockets import reset_on_close

# In the app's config:
DRAINING = "DRAINING"  # /ready answers 503 while it is true
CLIENT_IDLE = "CLIENT_IDLE_SECONDS"  # how long a client may neither send nor take a byte amid a request
TRANSFERS = "TRANSFERS_UNDER_WAY"  # asked how many artifact transfers this worker has under way

# What gunicorn's parser refuses before there is a WSGI environ, and our status for it. Others of its errors are 400.
STATUS = {parse.LimitRequestLine: 414, parse.LimitRequestHeaders: 431, parse.ExpectationFailed: 417}
REFUSALS = (parse.ParseException, parse.ConfigurationProblem)
OUR_FAULTS = (parse.InvalidResponseHeader, parse.InvalidResponseHeaderName)  # in what we answer, not in what we got
VERSIONS = ((1, 0), (1, 1))
SEND_BUFFER = 256 * 1024  # of a client's socket, in bytes


def refusal(error: BaseException) -> ProxyError:
    """Our error for one that gunicorn met; `OwnFault` for one that is nobody's malformed request."""
    if not isinstance(error, REFUSALS) or isinstance(error, OUR_FAULTS):
        return OwnFault()
    refused = BadRequest("Malformed request.", kind=type(error).__name__)
    refused.status = STATUS.get(type(error), 400)
    return refused


class ProxyWorker(GeventWorker):
    """One greenlet per connection."""

    def load_wsgi(self) -> None:
        """Load the application, and let the access log ask it what it has under way."""
        super().load_wsgi()
        self.log.transfers = self.wsgi.config.get(TRANSFERS, self.log.transfers)

    def notify(self) -> None:
        """Once a second: tell the server that this worker lives; and the metrics, where there are any."""
        super().notify()
        if self.log.sheet is not None:
            self.log.sheet.beat(self.log.transfers())

    def run(self) -> None:
        """Serve until told to stop. What a client's socket holds is bounded: it inherits that from the listener.

        The idle timeout is over when no room was made in it for so long. Left to itself the kernel lets it grow to
        megabytes and tells of room only when a third of it is free, which takes a slow reader minutes.
        """
        for listener in self.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        # What is there now stays for good: looking at it again at each collection would only make requests wait.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 100)
        # gunicorn asks for some fifteen of its settings amid each request, and each time looks the setting up first.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        # And makes a stream for errors for each request, anew; nobody here writes to it.
        wsgi.WSGIErrorsWrapper = cache(wsgi.WSGIErrorsWrapper)
        RequestParser.mesg_class = PlainFirst
        wsgi.Response = Outgoing
        self.log.later = gevent.get_hub().loop.run_callback
        try:
            super().run()
        finally:
            self.log.later = None
            self.log.write_waiting()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that never reached the app, and close. gunicorn would answer with an HTML page."""
        error = refusal(exc)
        if isinstance(error, OwnFault):
            self.log.exception("unhandled_exception")
        scope = RequestScope(
            request_id=new_request_id(),
            method=getattr(req, "method", None) or "",
            target=getattr(req, "uri", None) or "",
            client_ip=addr[0] if addr else "",
            finished=True,
        )
        status, headers, body = render(error, scope)
        headers += [("X-Request-ID", scope.request_id), ("Connection", "close")]
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        try:
            client.sendall(f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body)
        except OSError:
            scope.outcome = "client_gone"
        self.log.line(scope, error.status, len(body))

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Serve one request; then see that its body, if nobody read it, does not hold the connection."""
        if req.version not in VERSIONS:
            raise parse.InvalidHTTPVersion(req.version)  # gunicorn would echo it
        sock.settimeout(self.wsgi.config[CLIENT_IDLE])
        broken = False
        try:
            # Not GeventWorker's own, which goes on with a connection whose request was ended for the drain's sake.
            super(GeventWorker, self).handle_request(listener_name, req, sock, addr)
        except (OSError, gevent.GreenletExit) as error:
            broken = True  # it is closed as it is: to finish with it would begin with a FIN, the end of an answer
            if not isinstance(error, TimeoutError | gevent.GreenletExit):
                raise
            reset_on_close(sock)  # as a reset, which gunicorn reports without a trace, and nobody takes for an end
            why = "the client takes no more bytes" if isinstance(error, TimeoutError) else "the worker ends"
            raise ConnectionResetError(errno.ECONNRESET, why) from error
        finally:
            sock.settimeout(None)
            reusable = broken or finish(req.body, sock)
        if not reusable:
            raise StopIteration  # gunicorn's word for "close this connection"

    def handle_exit(self, sig: Any, frame: Any) -> None:
        """SIGTERM: finish what is under way, and let /ready say so on connections that are still open."""
        app = getattr(self, "wsgi", None)  # not there yet in a worker that is still starting
        if app is not None:
            app.config[DRAINING] = True
        super().handle_exit(sig, frame)
