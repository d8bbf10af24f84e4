"""The process that Prometheus asks, forked from the server before the workers, and who of them counts where.

It is no thread of the server's: whatever lock a thread holds when a worker is forked stays locked in that worker.
"""

import logging
import os
import signal
import socket
from typing import Any

from app.metric_settings import MetricSettings
from app.metrics import Board

log = logging.getLogger("app.metrics")

# They reach a whole terminal or control group; this process ends with the server and not before.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Exporter:
    """The exporting process and the board, from the server's side. gunicorn.conf.py calls it at each turn of a worker.

    It stays the same while the server reloads its configuration.
    """

    def __init__(self, settings: MetricSettings, workers: int) -> None:
        """Open the port and fork. Raises OSError when the port cannot be had."""
        self.board = Board(workers)
        listener = listen(settings.host, settings.port)
        server = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            _be(listener, self.board, server)
        listener.close()  # or each worker would have it
        log.info("metrics_served", extra={"host": settings.host, "port": settings.port})

    def admit(self, worker: Any) -> None:
        """Give a worker that is about to be forked a sheet to count on."""
        worker.sheet = self.board.take()

    def equip(self, worker: Any) -> None:
        """In the worker: let its log count each request there."""
        if worker.sheet is None:
            log.warning("metrics_not_counted", extra={"worker": worker.pid})
        else:
            worker.log.sheet = self.board.sheet(worker.sheet)

    def dismiss(self, worker: Any) -> None:
        """Take the sheet of a worker that has ended back, with what it has counted."""
        if worker.sheet is not None:
            self.board.give_back(worker.sheet)

    def stop(self) -> None:
        """End the process. It has nothing to finish."""
        try:
            if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
        except ChildProcessError:  # it ended before, and gunicorn has taken notice; its number may be another's now
            return


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError when it cannot be had."""
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def _be(listener: socket.socket, board: Board, server: int) -> None:
    """Serve until the server is gone. Never returns."""
    try:
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        # Not above: it loads what a worker must not have before gevent has patched it.
        from app.exposition import serve

        serve(listener, board, server)
    except BaseException:
        log.exception("metrics_failed")
        raise
    finally:
        os._exit(1)
