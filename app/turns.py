"""Letting other requests run: a socket that never blocks never does it by itself (gevent; harmless with threads)."""

import time
from time import monotonic

# What may pass before others have their turn: so many bytes, and, of work for few bytes, so many seconds.
EVERY = 512 * 1024
EVERY_SECONDS = 0.001
# Not 0: for that gevent runs what is ready already and looks at its sockets only now and then, so that a request that
# has just come in waits through dozens of turns.
A_MOMENT = 1e-6


class Turns:
    """Counts what one transfer has moved, and gives way whenever it has moved enough."""

    def __init__(self) -> None:
        self._moved = 0
        self._since = monotonic()

    def moved(self, size: int) -> None:
        """Note a block of `size` bytes more; may let others run."""
        self._moved += size
        if self._moved >= EVERY or monotonic() - self._since >= EVERY_SECONDS:
            time.sleep(A_MOMENT)
            self._moved, self._since = 0, monotonic()


class Queue:
    """Lets those who come together go on one by one, at least EVERY_SECONDS apart, so that others run in between.

    gevent wakes all whose time is over one after the other, before it looks at a socket again.
    """

    def __init__(self) -> None:
        self._free_at = 0.0

    def stand(self) -> None:
        """Wait for one's turn."""
        now = monotonic()
        self._free_at = max(now, self._free_at) + EVERY_SECONDS
        time.sleep(self._free_at - now)


# For requests whose time is over: those of a network that has gone, or of an MLflow that hangs, end together.
ENDING = Queue()
