"""A real redis-server on a free port of 127.0.0.1, to be stopped, frozen and started again; and a slow way to it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from types import TracebackType

import redis

from tests.support.process import clean_environment, ended_within, free_port

START_SECONDS = 10.0
STOP_SECONDS = 10.0


class RedisServer:
    """Context manager, also usable with start() and stop(). Keeps nothing on disk; the port stays the same.

    `arguments` are redis-server's own; `{port}` in them is the port.
    """

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._arguments = [argument.format(port=self.port) for argument in arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers. RuntimeError when it is not installed, or does not come."""
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("this test needs redis-server: apt-get install redis-server, or brew install redis")
        self._home = tempfile.TemporaryDirectory()
        own = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no", "--dir"]
        self._process = subprocess.Popen(
            [program, *own, self._home.name, *self._arguments],
            env=clean_environment({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("redis-server did not start")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, frozen or not: from here on its port refuses connections."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        if not ended_within(process, STOP_SECONDS):
            process.kill()
            process.wait()
        self._home.cleanup()

    def freeze(self) -> None:
        """Let it answer nothing more; the kernel still takes connections for it."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "redis-server is not running"
        self._process.send_signal(number)

    def command(self, *words: str | int) -> object:
        """What one command answers, on a connection of its own."""
        with redis.Redis(port=self.port, socket_timeout=5, decode_responses=True) as client:
            return client.execute_command(*words)

    def dump(self) -> dict[str, dict[str, str]]:
        """All that it holds; the proxy keeps hashes only."""
        with redis.Redis(port=self.port, socket_timeout=5, decode_responses=True) as client:
            return {key: client.hgetall(key) for key in client.scan_iter()}

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5):
            return True  # it listens once it can serve; by TLS or not, with a password or not
        return False


class SlowPath:
    """Context manager: a way to a port on which answers take `delay` seconds longer. The delay may change any time."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self._target = port
        self._stopping = threading.Event()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> SlowPath:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stopping.set()
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [near, far]
            for source, target, slow in ((near, far, False), (far, near, True)):
                thread = threading.Thread(target=self._carry, args=(source, target, slow))
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if slow:
                    self._stopping.wait(self.delay)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
