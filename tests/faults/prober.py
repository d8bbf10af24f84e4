"""Asks /health at a steady pace until its stdin ends, then prints how long each answer took, in milliseconds.

It begins with an answer that does not count, and an empty line that says so.

A process of its own (`python prober.py PORT INTERVAL_SECONDS`): in the tests' process the threads that play MLflow and
the clients would be measured as well.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

REQUEST = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
NO_ANSWER_MS = 30_000.0


def ask(port: int) -> float:
    """Milliseconds from connecting to the end of a 200; NO_ANSWER_MS for anything else."""
    begun = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=NO_ANSWER_MS / 1000) as sock:
            sock.sendall(REQUEST)
            answer = b""
            while block := sock.recv(4096):
                answer += block
    except OSError:
        answer = b""
    return (time.monotonic() - begun) * 1000 if answer.startswith(b"HTTP/1.1 200 ") else NO_ANSWER_MS


def main(port: int, interval: float) -> None:
    """Measure until nobody wants more."""
    took: list[float] = []
    ask(port)
    sys.stdout.write("\n")  # ready
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], interval)[0]:
        took.append(ask(port))
    json.dump(took, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
