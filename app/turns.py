"""Letting other requests run: a socket that never blocks never does it by itself (gevent; harmless with threads)."""

import time

# So many bytes, or blocks, may pass before others have their turn. Once per small answer would cost more than it gives.
EVERY = 256 * 1024
EVERY_BLOCKS = 8


class Turns:
    """Counts what one transfer has moved, and gives way whenever it has moved enough."""

    def __init__(self) -> None:
        self._moved = self._blocks = 0

    def moved(self, size: int) -> None:
        """Note a block of `size` bytes more; may let others run."""
        self._moved += size
        self._blocks += 1
        if self._moved >= EVERY or self._blocks >= EVERY_BLOCKS:
            self._moved = self._blocks = 0
            time.sleep(0)
