"""The load balancer of infrastructure/terraform, played by HAProxy on free ports of 127.0.0.1.

What HAProxy does not play as AWS does it is listed in scripts/alb/haproxy.py. Beside that: a new target's first health
check is made here, once, before HAProxy sends it anything; and the deregistration delay has no end here.
"""

from __future__ import annotations

import contextlib
import csv
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from scripts.alb.balancer import read_balancer
from scripts.alb.haproxy import Places, render, server_options
from scripts.alb.rules import read_rules
from tests.support.process import clean_environment, end_group

HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
NEEDS_HAPROXY = pytest.mark.skipif(
    HAPROXY is None, reason="no haproxy to play the load balancer (apt-get install haproxy)"
)
NEEDS_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
WAIT_SECONDS = 10.0
STEP_SECONDS = 0.01
STOP_SECONDS = 5.0
MAKE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=rehearsal"
HOSTS = ("registry.hokus.ai", "auth.hokus.ai", "api.hokus.ai")


def make_certificate(folder: Path) -> Path:
    """A throw-away certificate for the public hosts and 127.0.0.1, in `cert.pem`, and with its key in `both.pem`."""
    names = ",".join([*(f"DNS:{host}" for host in HOSTS), "IP:127.0.0.1"])
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [*MAKE.split(), "-addext", f"subjectAltName={names}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    return cert


class Alb:
    """Context manager. `targets`: the ports of each target group's targets; `given`: values of Terraform variables.

    `port` is the HTTPS listener without TLS, `tls_port` the same listener with it (when there is a `certificate`, of
    make_certificate), `http_port` the HTTP listener. `change` may break the configuration on purpose.
    """

    def __init__(
        self,
        targets: Mapping[str, Sequence[int]],
        *,
        given: Mapping[str, Any] | None = None,
        certificate: Path | None = None,
        change: Callable[[str], str] = str,
    ) -> None:
        self._targets = {group: [f"127.0.0.1:{port}" for port in ports] for group, ports in targets.items()}
        self._rules, self._balancer = read_rules(given=given), read_balancer(given=given)
        self._certificate, self._change = certificate, change
        self._registered = 0

    def __enter__(self) -> Alb:
        assert HAPROXY, "haproxy is not installed"
        with contextlib.ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alb-")))
            clear, tls, plain = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3))
            self.port, self.tls_port, self.http_port = (one.getsockname()[1] for one in (clear, tls, plain))
            log = stack.enter_context(open(self._folder / "haproxy.log", "wb"))
            self._process = subprocess.Popen(
                [HAPROXY, "-db", "-f", str(self._configuration(clear, tls, plain))],
                env=clean_environment({}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[clear.fileno(), tls.fileno(), plain.fileno()],
                start_new_session=True,
            )
            self._keep = stack.pop_all()
        try:
            self._wait(lambda: self._answers() or self._process.poll() is not None, "the load balancer to be there")
            assert self._process.poll() is None, f"haproxy ended with exit code {self._process.returncode}"
        except BaseException as error:
            error.add_note(self.log)
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        died_alone = end_group(self._process, STOP_SECONDS)
        log = self.log
        self._keep.close()
        if died_alone and error is None:
            raise RuntimeError(f"haproxy ended by itself (exit code {self._process.returncode}):\n{log[-8000:]}")

    @property
    def log(self) -> str:
        """What HAProxy wrote: a line for each request, with how it ended."""
        return (self._folder / "haproxy.log").read_text("utf-8", "replace")

    def command(self, text: str) -> str:
        """Give HAProxy's admin socket a command, and give its answer."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(WAIT_SECONDS)
            admin.connect(str(self._admin))
            admin.sendall(f"{text}\n".encode())
            with admin.makefile("r", encoding="utf-8") as answer:
                return answer.read().strip()

    def register(self, group: str, port: int) -> None:
        """Let a target in once it has passed its health check; AssertionError when it does not, or HAProxy refuses."""
        check = self._balancer.groups[group].check
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=check.timeout)
        with contextlib.closing(connection):
            connection.request("GET", check.path, headers={"User-Agent": "ELB-HealthChecker/2.0"})
            status = connection.getresponse().status
        assert str(status) == check.statuses, f"{group}'s new target answered its health check {status}"
        server = f"tg_{group}/new{self._registered}"
        self._registered += 1
        answer = self.command(f"add server {server} 127.0.0.1:{port} {server_options(self._balancer, group)}")
        assert answer == "New server registered.", answer
        self._do(f"enable health {server}")
        self._do(f"enable server {server}")

    def drain(self, group: str, port: int) -> None:
        """Send a target nothing new; what it is doing goes on."""
        self._do(f"set server {self._server(group, port)} state drain")

    def outstanding(self, group: str, port: int) -> int:
        """How many requests a target is working on."""
        return int(self._line(group, port)["scur"])

    def deregister(self, group: str, port: int, timeout: float = WAIT_SECONDS) -> None:
        """Drain a target, wait until it works on nothing, and forget it with all connections to it: AWS's "unused".

        AssertionError when that takes longer than `timeout` seconds.
        """
        self.drain(group, port)
        server = self._server(group, port)
        self._wait(lambda: self.outstanding(group, port) == 0, f"{server} to finish what it was doing", timeout)
        self._do(f"set server {server} state maint")
        self._wait(lambda: self.command(f"del server {server}") == "Server deleted.", f"{server} to be unused")

    def _configuration(self, clear: socket.socket, tls: socket.socket, plain: socket.socket) -> Path:
        self._admin = self._folder / "admin.sock"
        https = [f"fd@{clear.fileno()}"]
        if self._certificate:
            pem = self._certificate.with_name("both.pem")
            https.append(f"fd@{tls.fileno()} ssl crt {pem} alpn h2,http/1.1")
        binds = {"https": https, "http": [f"fd@{plain.fileno()}"]}
        path = self._folder / "haproxy.cfg"
        path.write_text(
            self._change(render(self._rules, self._balancer, Places(str(self._admin), binds, self._targets)))
        )
        return path

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.command("show info"))
        return False

    def _do(self, text: str) -> None:
        answer = self.command(text)
        assert answer == "", f"{text}: {answer}"

    def _stat(self) -> list[dict[str, str]]:
        return list(csv.DictReader(self.command("show stat").removeprefix("# ").splitlines()))

    def _line(self, group: str, port: int) -> dict[str, str]:
        wanted = f"127.0.0.1:{port}"
        (line,) = [one for one in self._stat() if one["pxname"] == f"tg_{group}" and one["addr"] == wanted]
        return line

    def _server(self, group: str, port: int) -> str:
        return f"tg_{group}/{self._line(group, port)['svname']}"

    def _wait(self, there: Callable[[], bool], what: str, timeout: float = WAIT_SECONDS) -> None:
        deadline = time.monotonic() + timeout
        while not there():
            assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
            time.sleep(STEP_SECONDS)


def at_the_public_hosts(alb: Alb, certificate: Path, folder: Path) -> dict[str, str]:
    """What a Python process needs in its environment to meet `alb` at https://registry.hokus.ai, and nothing else.

    Every other name but this machine's own cannot be looked up there. `folder` is for the module that sees to it.
    """
    (folder / "sitecustomize.py").write_text(
        RESOLVER.format(hosts=HOSTS, ports={443: alb.tls_port, 80: alb.http_port}), encoding="utf-8"
    )
    return {"PYTHONPATH": str(folder), "REQUESTS_CA_BUNDLE": str(certificate)}


RESOLVER = """
import socket

look_up = socket.getaddrinfo


def getaddrinfo(host, port, *more, **named):
    if host in {hosts!r}:
        host, port = "127.0.0.1", {ports!r}[port]
    elif host not in ("127.0.0.1", "localhost"):
        raise socket.gaierror(socket.EAI_NONAME, f"{{host}} is not on this machine")
    return look_up(host, port, *more, **named)


socket.getaddrinfo = getaddrinfo
"""
