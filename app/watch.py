"""Waiting for MLflow's answer with an eye on the client: one that goes away must not hold MLflow for minutes."""

import socket
from time import monotonic
from typing import Any

from app.errors import ClientGone
from app.sockets import wait
from app.turns import ENDING

# Nearly every answer comes within this time; only after it somebody looks at the client.
PATIENCE_SECONDS = 0.5
# A client that closed its sending side may still be reading (RFC 9112 section 9.6): that long its answer is waited for.
GRACE_SECONDS = 0.5


def await_answer(upstream: Any, client: Any, timeout: float) -> None:
    """Wait until `upstream` has something to read; `client` may be None.

    Raises TimeoutError after `timeout` seconds, and ClientGone.
    """
    deadline = monotonic() + timeout
    watched = [upstream] if client is None else [upstream, client]
    while (left := deadline - monotonic()) > 0:
        readable, _ = wait(watched, [], left)
        if upstream in readable:
            return
        if readable:
            watched = [upstream]  # it said more, or that it will say no more: either way it need not be asked again
            if _has_ended(client):
                _await_briefly(upstream, min(GRACE_SECONDS, deadline - monotonic()))
                return
    ENDING.stand()
    raise TimeoutError("the upstream does not answer")


def _has_ended(client: Any) -> bool:
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _await_briefly(upstream: Any, seconds: float) -> None:
    readable, _ = wait([upstream], [], seconds)
    if not readable:
        raise ClientGone("The client left before MLflow answered.", kind="client_left")
