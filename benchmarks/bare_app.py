"""The least that any proxy made of Flask under gunicorn does: a request comes in, goes on, and its answer comes back.

No key, no rule, no access line, no header but the body's type; one way of framing, and no failure is thought of. What
a request takes here, no proxy of this make can do without.
"""

import os
import re
import socket

from flask import Flask, Response, request

from app.settings import Settings
from app.worker import CLIENT_IDLE

SETTINGS = Settings.from_env(os.environ).upstream
LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
HEAD = "GET {target} HTTP/1.1\r\nHost: " + SETTINGS.base.authority + "\r\n\r\n"

app = Flask(__name__)
app.config[CLIENT_IDLE] = SETTINGS.timeouts.client_idle  # our worker asks for it
kept: list[socket.socket] = []


@app.get("/health")
def health() -> str:
    """For whoever waits until it is up."""
    return "ok"


@app.get("/<path:path>")
def forward(path: str) -> Response:
    """The upstream's answer to the same request."""
    head = HEAD.format(target=request.environ["RAW_URI"]).encode()
    answer = ask(kept.pop(), head) if kept else b""
    while not answer:  # the connection was closed since; a new one will do
        answer = ask(socket.create_connection((SETTINGS.base.host, SETTINGS.base.port)), head)
    return Response(answer.partition(b"\r\n\r\n")[2], content_type="application/json")


def ask(sock: socket.socket, head: bytes) -> bytes:
    """Head and body of the answer; nothing when the connection was closed."""
    sock.sendall(head)
    answer = b""
    while block := sock.recv(65536):
        answer += block
        begun, end, body = answer.partition(b"\r\n\r\n")
        length = LENGTH.search(begun) if end else None
        if length and len(body) >= int(length[1]):
            kept.append(sock)
            return answer
    return b""
