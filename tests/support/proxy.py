"""The proxy as it is served: a real gunicorn in a process group of its own, in a clean environment."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.process import REPOSITORY, clean_environment, ended_within, free_port, kill_group, wait_for_health

COMMAND = [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"]
START_SECONDS = 20.0
STOP_SECONDS = 20.0

Line = dict[str, Any]


def start_failing(env: Mapping[str, str], *, root: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Start the proxy where it has to refuse: gives exit code, stdout, stderr. AssertionError when it keeps running."""
    defaults = {"API_HOST": "127.0.0.1", "API_PORT": str(free_port()), "PROXY_WORKERS": "1"}
    process = subprocess.Popen(
        COMMAND,
        cwd=root,
        env=clean_environment({**defaults, **env}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=START_SECONDS)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        out, err = process.communicate()
        raise AssertionError(f"the proxy started, or did not exit within {START_SECONDS} s:\n{out}{err}") from None
    kill_group(process.pid)
    return subprocess.CompletedProcess(COMMAND, process.returncode, out, err)


class Proxy:
    """Context manager, also usable with start() and stop(). `env` is all it knows but host, port and one worker."""

    def __init__(self, env: Mapping[str, str], *, root: Path = REPOSITORY) -> None:
        self._env = {"API_HOST": "127.0.0.1", "PROXY_WORKERS": "1", **env}
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        self._signalled = False
        self._lines: list[Line] = []
        self._read_to = 0

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.stop()
        except Exception as stop_error:
            if error is None:
                raise
            error.add_note(f"and the proxy did not stop cleanly: {stop_error}")

    def start(self) -> None:
        """Start gunicorn and wait for GET /health 200; RuntimeError with its output when that does not come."""
        self.port = int(self._env.get("API_PORT") or free_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self._stdout, self._stderr = _Output(), _Output()
        self._process = subprocess.Popen(
            COMMAND,
            cwd=self._root,
            env=clean_environment({**self._env, "API_PORT": str(self.port)}),
            stdin=subprocess.DEVNULL,
            stdout=self._stdout.file,
            stderr=self._stderr.file,
            start_new_session=True,
        )
        try:
            wait_for_health(self.port, self._process, START_SECONDS)
        except BaseException as error:
            self._close_output()
            error.add_note(self.output[-8000:])
            raise

    @property
    def pid(self) -> int:
        """Process id of the gunicorn master, which is also the id of the process group."""
        assert self._process is not None, "the proxy was not started"
        return self._process.pid

    @property
    def output(self) -> str:
        """All of stdout, then all of stderr, so far."""
        return (self._stdout.read() + self._stderr.read()).decode("utf-8", "replace")

    def lines(self, event: str | None = None) -> list[Line]:
        """The JSON lines of stdout so far (of one event); AssertionError for a line that is no JSON object."""
        whole, newline, _ = self._stdout.read(self._read_to).rpartition(b"\n")
        self._read_to += len(whole) + len(newline)
        self._lines += [_parsed(line) for line in whole.splitlines()]
        return [line for line in self._lines if event is None or line.get("event") == event]

    def wait_line(self, predicate: Callable[[Line], bool], timeout: float = 5.0) -> Line:
        """The first line that fits, waiting up to `timeout` seconds; AssertionError with the output otherwise."""
        deadline = time.monotonic() + timeout
        while True:
            late = time.monotonic() > deadline
            for line in self.lines():
                if predicate(line):
                    return line
            assert not late, f"no such line within {timeout} s in:\n{self.output[-8000:]}"
            time.sleep(0.01)

    def access_line(self, request_id: str, timeout: float = 5.0) -> Line:
        """The access line of the request with this id."""
        return self.wait_line(
            lambda line: line.get("event") == "proxy_request" and line.get("request_id") == request_id, timeout
        )

    def pids(self) -> list[int]:
        """Process ids of the workers: the master's children. With several, not all may be there yet after start()."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def rss_kb(self) -> int:
        """Resident memory of all workers now, in KiB."""
        return sum(_status_kb(pid, "VmRSS") for pid in self.pids())

    def peak_rss_kb(self) -> int:
        """Sum over the workers of the most resident memory each ever had, in KiB."""
        return sum(_status_kb(pid, "VmHWM") for pid in self.pids())

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the master. Later stop() accepts that the proxy may have ended by it."""
        self._signalled = True
        os.kill(self.pid, number)

    def wait_exit(self, timeout: float = STOP_SECONDS) -> int:
        """Wait for the master to end (after send_signal) and give its exit code; TimeoutExpired otherwise."""
        assert self._process is not None, "the proxy was not started"
        return self._process.wait(timeout)

    def stop(self) -> int:
        """SIGTERM, wait, and give the exit code. RuntimeError, after a SIGKILL, for whatever is not a clean end."""
        process, self._process = self._process, None
        if process is None:
            return 0
        died_alone = process.poll() is not None and not self._signalled
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        too_slow = not ended_within(process, STOP_SECONDS)
        left_behind = kill_group(process.pid) and not too_slow
        process.wait()
        self._close_output()
        if died_alone or too_slow or left_behind:
            what = "ended by itself" if died_alone else "did not stop in time" if too_slow else "left processes behind"
            raise RuntimeError(f"gunicorn {what} (exit code {process.returncode}):\n{self.output[-8000:]}")
        return process.returncode

    def _close_output(self) -> None:
        self._stdout.close()
        self._stderr.close()


class _Output:
    """A nameless file a child writes to (a pipe would block it when nobody reads); readable also after close()."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()
        self._kept: bytes | None = None

    def read(self, start: int = 0) -> bytes:
        """All from byte `start`; pread leaves the file offset, which the child shares, alone."""
        if self._kept is not None:
            return self._kept[start:]
        descriptor = self.file.fileno()
        return os.pread(descriptor, max(0, os.fstat(descriptor).st_size - start), start)

    def close(self) -> None:
        self._kept = self.read()
        self.file.close()


def _parsed(line: bytes) -> Line:
    try:
        parsed = json.loads(line)
    except ValueError:
        parsed = None
    assert isinstance(parsed, dict), f"stdout holds a line that is no JSON object: {line!r}"
    return parsed


def _status_kb(pid: int, name: str) -> int:
    """One memory figure of /proc/PID/status, in KiB; 0 for a process that has just ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        match = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(match[1]) if match else 0
    return 0
