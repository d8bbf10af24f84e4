"""`make run`: a real MLflow and the proxy in front of it, until Ctrl-C. Both listen on 127.0.0.1 only."""

import contextlib
import errno
import json
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from types import FrameType

from scripts.dev.checkout import Checkout
from scripts.dev.children import Child, stop
from scripts.dev.environments import ensure_mlflow, ensure_proxy
from scripts.dev.keys import add_key, read_settings, write_settings
from scripts.dev.terminal import Trouble, progress, say

READY_SECONDS = 120.0
DEFAULT_PORT = "8001"
# What a shell may hold for another MLflow, proxy or gunicorn; these few are for trying the proxy's own switches.
FOREIGN = ("MLFLOW_", "_MLFLOW_", "HOKUSAI_", "AUTH_", "GUNICORN_", "LOCAL_KEYS_PATH", "API_HOST", "FLASK_")
KEPT = ("MLFLOW_PROXY_DEBUG", "MLFLOW_SERVE_ARTIFACTS")
MLFLOW_SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for what nobody does locally
}
DEVELOPMENT_KEY_PER_HOUR = 1_000_000  # requests; a limit would only be in the way here

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # an http_proxy of the shell knows no 127.0.0.1


def run(checkout: Checkout, environ: Mapping[str, str]) -> int:
    """Start both, say what to do next, and wait for a signal. Gives the exit code; raises Trouble."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(checkout.lock("run", wait=False))
        except BlockingIOError:
            raise Trouble("`make run` is running in this checkout already; stop that one first.") from None
        port = own_port(environ)
        ensure_proxy(checkout, "run")
        ensure_mlflow(checkout)
        with Both(checkout, environ, port) as both:
            if both.ready():
                both.settle_key()
                say(greeting(port))
                both.watch()
    return 0


def own_port(environ: Mapping[str, str]) -> int:
    """The port of the proxy, from API_PORT. Raises Trouble for one that is none, or is not to be had."""
    text = environ.get("API_PORT", "").strip() or DEFAULT_PORT
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Trouble(f"API_PORT must be a port number from 1 to 65535, not {text!r}.")
    try:
        socket.create_server(("127.0.0.1", int(text))).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = int(text) + 1 if int(text) < 65535 else int(DEFAULT_PORT)
            raise Trouble(
                f"Port {text} is in use by another program; take another: make run API_PORT={other}"
            ) from None
        raise Trouble(f"Port {text} cannot be used: {error.strerror}. Take another: make run API_PORT=8002") from None
    return int(text)


class Both:
    """MLflow and the proxy, running inside a `with`; left, however it is left, with nothing of them running."""

    def __init__(self, checkout: Checkout, environ: Mapping[str, str], port: int) -> None:
        self.asked_to_stop = threading.Event()
        self._checkout, self._port = checkout, port
        self._environ = {name: value for name, value in environ.items() if not name.startswith(FOREIGN) or name in KEPT}
        self._children: list[Child] = []

    def __enter__(self) -> "Both":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
                signal.signal(number, self._on_signal)
        try:
            upstream = free_port()
            self._start_mlflow(upstream)
            self._start_proxy(upstream)
        except BaseException:
            stop(self._children)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        with progress("stopping") if self.asked_to_stop.is_set() else contextlib.nullcontext():
            stop(self._children)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked_to_stop.is_set():  # the second time: at once
            for child in self._children:
                child.signal(signal.SIGKILL)
        self.asked_to_stop.set()

    def _start_mlflow(self, port: int) -> None:
        local = self._checkout.local
        options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--serve-artifacts"]
        options += ["--backend-store-uri", f"sqlite:///{local / 'mlflow.db'}"]
        options += [
            "--artifacts-destination",
            str(local / "artifacts"),
            "--default-artifact-root",
            "mlflow-artifacts:/",
        ]
        command = [str(self._checkout.mlflow_environment / "bin" / "mlflow"), "server", *options]
        self._start("MLflow", command, "mlflow", MLFLOW_SWITCHES)

    def _start_proxy(self, upstream: int) -> None:
        gunicorn = str(self._checkout.proxy_environment / "bin" / "gunicorn")
        settings = {
            "MLFLOW_SERVER_URL": f"http://127.0.0.1:{upstream}",
            "LOCAL_KEYS_PATH": str(self._checkout.keys),
            "API_HOST": "127.0.0.1",
            "API_PORT": str(self._port),
        }
        self._start("The proxy", [gunicorn, "--config", "gunicorn.conf.py", "wsgi:app"], "proxy", settings)

    def _start(self, name: str, command: list[str], log: str, settings: Mapping[str, str]) -> None:
        environ = {**self._environ, **settings}
        self._children.append(Child(name, command, self._checkout.root, environ, self._checkout.log(log)))

    def ready(self) -> bool:
        """Wait until the proxy says that it and MLflow are well: True; False when asked to stop. Raises Trouble."""
        with progress("starting MLflow and the proxy"):
            for _ in self._moments(READY_SECONDS):
                if answers(f"http://127.0.0.1:{self._port}/api/mlflow/health/mlflow"):
                    return True
        if not self.asked_to_stop.is_set():
            raise Trouble("\n".join([f"Not ready after {READY_SECONDS:.0f} s.", *(c.tail() for c in self._children)]))
        return False

    def watch(self) -> None:
        """Return when asked to stop; raises Trouble when one of the two ends before."""
        for _ in self._moments():
            pass

    def _moments(self, seconds: float = float("inf")) -> Iterator[None]:
        """A moment every 0.2 s, until asked to stop or the time is over; raises Trouble when a child has ended."""
        deadline = time.monotonic() + seconds
        while not self.asked_to_stop.is_set() and time.monotonic() < deadline:
            for child in self._children:
                child.check()
            yield
            self.asked_to_stop.wait(0.2)

    def settle_key(self) -> None:
        """Write .local/env, with the key it holds already when the proxy takes that, else with a new one.

        Raises Trouble when a key that must work does not.
        """
        uri = f"http://127.0.0.1:{self._port}/api/mlflow"
        key = read_settings(self._checkout).get("MLFLOW_TRACKING_TOKEN", "")
        status = search_status(uri, key) if key else 401
        if status == 401:
            key = add_key(self._checkout, "developer", DEVELOPMENT_KEY_PER_HOUR)
            status = search_status(uri, key)
        if status != 200:
            raise Trouble(f"A search with the development key gave status {status}. {self._children[-1].tail()}")
        settings = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_TOKEN": key, "HOKUSAI_API_KEY": key}
        write_settings(self._checkout, settings)


def free_port() -> int:
    """A port on 127.0.0.1 that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(url: str) -> bool:
    """True when a GET gives a 200."""
    return _status(urllib.request.Request(url)) == 200


def search_status(uri: str, key: str) -> int:
    """The status of a search with the key: 200, or 401 when the proxy does not take it; 0 for no answer."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = json.dumps({"max_results": 1}).encode()
    return _status(urllib.request.Request(f"{uri}/api/2.0/mlflow/experiments/search", body, headers))


def _status(request: urllib.request.Request) -> int:
    """The status of an answer; 0 when there is none."""
    try:
        with _direct.open(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return 0


def greeting(port: int) -> str:
    """What to do next, ready to paste."""
    uri = f"http://127.0.0.1:{port}/api/mlflow"
    return f"""
MLflow is ready behind the proxy at {uri}

In a second terminal, in this directory:

  make register                    # register a model, end to end

  set -a; . .local/env; set +a     # address and key, for what follows
  .venv-mlflow/bin/mlflow experiments search
  .venv-mlflow/bin/python -c 'import mlflow; mlflow.log_metric("loss", 0.1)'
  curl -H "Authorization: Bearer $HOKUSAI_API_KEY" -H 'Content-Type: application/json' \\
       -d '{{"max_results": 5}}' {uri}/api/2.0/mlflow/experiments/search

In a browser: {uri}/ (any user name; the password is the key in .local/env)

Logs: .local/proxy.log and .local/mlflow.log.  Ctrl-C stops both; experiments and key are kept in .local/.
"""
