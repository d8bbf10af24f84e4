"""The image at work, as Fargate runs it: confined, serving, watched, drained, refusing."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.container.engine import Engine
from tests.container.building import REPOSITORY, Image
from tests.container.running import AS_ON_FARGATE, Container, status
from tests.functional.exchanges import wait_until
from tests.support.artifacts import AUTHORIZED
from tests.support.auth_service import GOOD_KEY, AuthService
from tests.support.client import RawResponse, request
from tests.support.mlflow_server import MlflowServer, run_client
from tests.support.process import free_port
from tests.support.upstream import Recorded, RecordingUpstream

pytestmark = pytest.mark.container

SEARCH = "/api/2.0/mlflow/experiments/search"
NO_NETWORK = {"MLFLOW_SERVER_URL": "http://127.0.0.1:9", "HOKUSAI_AUTH_SERVICE_URL": "http://127.0.0.1:9"}
LISTENING = "0A"  # a socket's state in /proc/net/tcp
WRITABLE = {"/dev/shm", "/dev/mqueue"}


@pytest.fixture(scope="module")
def container(
    engine: Engine, image: Image, session_upstream: RecordingUpstream, session_auth_service: AuthService
) -> Iterator[Container]:
    """One for all tests that leave it as it was, in front of `upstream` and `auth_service`."""
    with Container(engine, image.tag, settings(session_upstream.url, session_auth_service)) as container:
        yield container


def settings(upstream_url: str, auth_service: AuthService) -> dict[str, str]:
    """As in production, with both kinds of metrics."""
    servers = {"MLFLOW_SERVER_URL": upstream_url, "HOKUSAI_AUTH_SERVICE_URL": auth_service.url}
    return {**servers, "METRICS_EMF": "true", "METRICS_PORT": str(free_port())}


def test_it_serves(container: Container, upstream: RecordingUpstream, auth_service: AuthService) -> None:
    assert request(container.port, "GET", "/health").status == 200

    assert request(container.port, "POST", f"/api/mlflow{SEARCH}", body=b"{}").status == 401
    assert upstream.requests == [] and auth_service.calls == []

    upstream.respond_with(200, body=b'{"experiments": []}')
    answer = request(container.port, "POST", f"/api/mlflow{SEARCH}", AUTHORIZED, b'{"max_results": 5}')
    assert (answer.status, answer.body) == (200, b'{"experiments": []}')
    seen = upstream.wait_for(1)[0]
    assert (seen.line, seen.body) == (f"POST {SEARCH} HTTP/1.1".encode(), b'{"max_results": 5}')
    assert GOOD_KEY not in container.output


@pytest.mark.usefixtures("upstream", "auth_service")
def test_its_figures_can_be_had_though_nothing_can_be_written(container: Container) -> None:
    assert request(container.port, "POST", f"/api/mlflow{SEARCH}", AUTHORIZED, b"{}").status == 200
    wait_until(lambda: '"_aws"' in container.output, 5, "a line for CloudWatch")
    figures = request(int(container.env["METRICS_PORT"]), "GET", "/metrics")
    assert figures.status == 200
    assert b"mlflow_proxy_requests_total{" in figures.body


def test_a_model_is_registered_through_it_with_the_real_mlflow(
    engine: Engine, image: Image, mlflow_server: MlflowServer, auth_service: AuthService, noted: list[str]
) -> None:
    with Container(engine, image.tag, settings(mlflow_server.url, auth_service)) as container:
        env = {"MLFLOW_TRACKING_URI": f"{container.url}/mlflow", "HOKUSAI_API_KEY": GOOD_KEY}
        run = run_client(REPOSITORY / "test_real_registration.py", {**env, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
        assert run.returncode == 0, run.stdout + run.stderr
        assert re.fullmatch(r"PASSED: \d+ steps in [\d.]+ s", run.stdout.splitlines()[-1])
        peaks = [int(status(pid)["VmHWM"].removesuffix(" kB")) for pid in (container.pid, *container.children())]
        noted.append(f"memory: {sum(peaks) / 1024:.0f} MiB at most in {len(peaks)} processes")


def test_gunicorn_is_process_1_and_nobody_may_do_anything_special(container: Container) -> None:
    children = container.children()
    assert len(children) == 3  # two workers, and what Prometheus asks
    for pid in (container.pid, *children):
        told = status(pid)
        assert told["Uid"].split() == told["Gid"].split() == ["10001"] * 4
        assert set(told["Groups"].split()) <= {"10001"}
        assert {told[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status(container.pid)["NSpid"].split()[-1] == "1"
    assert b"/opt/proxy/bin/gunicorn" in Path(f"/proc/{container.pid}/cmdline").read_bytes().split(b"\0")


def test_nothing_can_be_written_but_shared_memory(container: Container) -> None:
    found = container.run("find", "/", "-path", "/proc", "-prune", "-o", "-type", "d", "-writable", "-print")
    assert set(found.stdout.split()) <= WRITABLE
    for place in ("/tmp/x", "/srv/proxy/x", "/opt/proxy/x"):
        assert "Read-only file system" in container.run("python", "-c", f"open({place!r}, 'w')").stderr


def test_nothing_of_ours_can_be_written_where_the_root_can_be(engine: Engine, image: Image) -> None:
    """Whoever runs the image without a read-only root has code all the same that its process cannot change."""
    search = ["find", "/", "-xdev", "-writable", "-not", "-type", "l", "-print"]
    found = engine.attempt("run", "--rm", "--network=none", "--passwd=false", image.tag, *search)
    assert set(found.stdout.split()) == {"/tmp", "/var/tmp", "/run/lock"}


def test_the_health_check_tells_a_frozen_proxy_from_a_living_one(container: Container) -> None:
    assert container.health_check() == 0
    children = container.children()
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert container.health_check() != 0
    finally:
        for pid in children:
            os.kill(pid, signal.SIGCONT)
    assert container.health_check() == 0


def test_orphans_are_buried_so_no_init_is_needed(container: Container) -> None:
    """An orphan goes to process 1. If that never waited for it, zombies would gather until no process can start."""
    before = set(container.children())
    left = container.run("sh", "-c", "sleep 600 >/dev/null 2>&1 </dev/null & exit 0")
    assert left.returncode == 0, left.stderr
    wait_until(lambda: set(container.children()) > before, 5, "the orphan is a child of process 1")
    (orphan,) = set(container.children()) - before
    assert status(orphan)["Name"] == "sleep"
    os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: set(container.children()) == before, 5, "process 1 has waited for the orphan")
    assert request(container.port, "GET", "/health").status == 200


def test_it_drains_when_it_is_stopped(
    engine: Engine, image: Image, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    """The image's stop signal goes to process 1: what is under way ends well, nothing new begins, and the code is 0."""
    released, answers = threading.Event(), list[RawResponse]()

    def script(conn: socket.socket, _: Recorded) -> None:
        assert released.wait(30)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def ask(port: int) -> None:
        answers.append(request(port, "POST", f"/mlflow{SEARCH}", AUTHORIZED, b"{}", timeout=60))

    upstream.script(script)
    with Container(engine, image.tag, settings(upstream.url, auth_service)) as container:
        asking = threading.Thread(target=ask, args=(container.port,))
        asking.start()
        upstream.wait_for(1)
        stop = container.stop()
        wait_until(lambda: not listens(container.port), 10, "no new connection is taken")
        assert (stop.poll(), answers) == (None, [])
        released.set()
        asking.join(60)
        assert container.wait_exit() == 0
        assert stop.wait(10) == 0
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"ok")]


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except ConnectionRefusedError:
        return False
    return True


def test_it_listens_where_the_image_says(engine: Engine, image: Image) -> None:
    variables = [f"--env={name}={value}" for name, value in NO_NETWORK.items()]
    name = engine.podman("run", "--detach", *AS_ON_FARGATE, "--network=none", *variables, image.tag)
    wait_until(lambda: engine.attempt("healthcheck", "run", name).returncode == 0, 30, "it is healthy")
    pid = engine.inspect("container", name)["State"]["Pid"]
    sockets = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    assert [fields[1] for fields in sockets if fields[3] == LISTENING] == [f"00000000:{8001:04X}"]
    engine.podman("rm", "--force", "--time=0", name)


def test_without_its_settings_it_says_which_and_ends(engine: Engine, image: Image) -> None:
    done = engine.attempt("run", "--rm", *AS_ON_FARGATE, "--network=none", image.tag)
    assert done.returncode == 1
    assert "MLFLOW_SERVER_URL" in done.stderr and "HOKUSAI_AUTH_SERVICE_URL" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
