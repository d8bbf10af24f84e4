"""What is compared: nothing in between, nginx, HAProxy, two small Flask apps, and the proxy with everything on."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.servers import Server
from benchmarks.tools import path_of
from scripts.dev.terminal import Trouble
from tests.support.process import REPOSITORY, clean_environment, free_port

HERE = Path(__file__).resolve().parent
GUNICORN = [sys.executable, "-m", "gunicorn", "--config"]
SMALL = "/api/2.0/mlflow/experiments/get?experiment_id=0"  # a real route: in the route table, and cheap for MLflow
PUBLIC_PREFIX = "/api/mlflow"  # the documented mount of the proxy


@dataclass(frozen=True)
class Target:
    """Where to send requests. `server` is what is measured: None when that is MLflow, which is not ours to measure."""

    name: str
    port: int
    server: Server | None = None
    prefix: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    small: str = SMALL

    def head(self, method: str, path: str, length: int | None = None) -> bytes:
        """Request line and headers of one request."""
        headers = {"Host": f"127.0.0.1:{self.port}", **self.headers}
        if length is not None:
            headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@contextlib.contextmanager
def stub(directory: Path) -> Iterator[Target]:
    """The stub upstream, running: the target `direct`."""
    port = free_port()
    with Server("stub", [sys.executable, "-m", "benchmarks.stub", "--port", str(port)], port, directory) as server:
        yield Target("direct", port, server)


@contextlib.contextmanager
def line_up(names: Sequence[str], upstream: int, directory: Path, workers: int) -> Iterator[dict[str, Target]]:
    """The named servers in front of the upstream's port; `workers` is for those under gunicorn."""
    with contextlib.ExitStack() as stack:
        targets = {}
        for name in names:
            if name in ("nginx", "haproxy"):
                server = stack.enter_context(_foreign(name, upstream, directory))
                targets[name] = Target(name, server.port, server)
            elif name in ("hello", "bare"):
                server = stack.enter_context(_served(name, upstream, directory, workers))
                _wait_for_workers(server, workers)
                targets[name] = Target(name, server.port, server, small="/hello" if name == "hello" else SMALL)
            else:
                server = stack.enter_context(_served("proxy", upstream, directory, workers))
                _wait_for_workers(server, workers)
                headers = {"Authorization": f"Bearer {_new_key(upstream, directory)}"}
                targets[name] = Target(name, server.port, server, PUBLIC_PREFIX, headers)
        yield targets


def _foreign(name: str, upstream: int, directory: Path) -> Server:
    template = HERE / {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[name]
    port, filled = free_port(), directory / f"{upstream}-{template.name}"
    text = template.read_text()
    for word, value in {"PORT": str(port), "UPSTREAM": str(upstream), "DIRECTORY": str(directory)}.items():
        text = text.replace(f"@{word}@", value)
    filled.write_text(text)
    command = {"nginx": [path_of(name), "-e", "stderr", "-c"], "haproxy": [path_of(name), "-db", "-f"]}[name]
    return Server(name, [*command, str(filled)], port, directory)


def _served(name: str, upstream: int, directory: Path, workers: int) -> Server:
    """One of ours, under gunicorn.conf.py. The others are given the same settings, and use their own share."""
    port = free_port()
    env = _settings(upstream, directory) | {"API_PORT": str(port), "PROXY_WORKERS": str(workers)}
    command = {
        "hello": [*GUNICORN, "benchmarks/hello.conf.py"],
        "bare": [*GUNICORN, "gunicorn.conf.py", "benchmarks.bare_app:app"],
        "proxy": [*GUNICORN, "gunicorn.conf.py", "wsgi:app"],
    }
    return Server(name, command[name], port, directory, env)


def _wait_for_workers(server: Server, count: int) -> None:
    """gunicorn answers with its first worker. Raises Trouble when there are not as many as are to be measured."""
    deadline = time.monotonic() + 10
    while len(server.workers) != count:
        if time.monotonic() > deadline:
            raise Trouble(f"{server.name} has {len(server.workers)} workers, not {count}")
        time.sleep(0.05)


def _settings(upstream: int, directory: Path) -> dict[str, str]:
    return {
        "API_HOST": "127.0.0.1",
        "MLFLOW_SERVER_URL": f"http://127.0.0.1:{upstream}",
        "LOCAL_KEYS_PATH": str(directory / "keys.json"),
        "TRUSTED_PROXY_HOPS": "0",
        # One key for all, and 500 uploads in one worker: the defaults would rightly refuse most of them.
        "TRANSFERS_PER_KEY": "1000",
        "TRANSFERS_IN_ALL": "1000",
        "RATE_LIMIT_BURST": "999999999 per second",
    }


def _new_key(upstream: int, directory: Path) -> str:
    """A key that the running proxy takes, made as a developer would: only its hash is written."""
    words = ["keys", "add", "--user", "benchmark", "--rate-limit", "1000000000"]
    result = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *words],
        cwd=REPOSITORY,
        env=clean_environment(_settings(upstream, directory)),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise Trouble(f"no key could be made: {result.stderr.strip()[-500:]}")
    return result.stdout.strip()
