"""A rolling deploy behind the load balancer that HAProxy plays, under load: no request fails. And one that does fail.

The order is that of ECS: a new task is let in once it is healthy; an old one is sent nothing new, finishes what it is
doing, is forgotten, and only then gets SIGTERM (Amazon ECS, "Update a service", and Elastic Load Balancing,
"Deregistration delay"). What is not played as AWS does it: scripts/alb/haproxy.py. Here all new tasks come before the
first old one goes, as with a minimum of 100 % and a maximum of 200 %.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.alb import NEEDS_HAPROXY, NEEDS_OPENSSL, Alb, at_the_public_hosts, make_certificate
from tests.support.artifacts import ARTIFACTS, digest
from tests.support.auth_service import GOOD_KEY, AuthService
from tests.support.client import RawResponse, open_connection, read_response, request
from tests.support.load import HOST, Ask, Client, Door, Load, anew, exchange, kept, transferring
from tests.support.mlflow_server import MlflowServer, run_client
from tests.support.process import REPOSITORY
from tests.support.proxy import Line, Proxy
from tests.support.upstream import RecordingUpstream

pytestmark = NEEDS_HAPROXY

REQUESTS = 5000
BEFORE, AFTER = 500, 500  # of them, at least, before the deploy begins and after the old processes are gone
THROUGH_MLFLOW = 1000  # of them, at least
IDLE_CLIENTS = 20
HELD_BYTES = 24 * 1024 * 1024  # far more than the sockets on the way can hold
BLOCK = 64 * 1024
CLIENT = "mlflow-python-client"
HEADERS = {"Authorization": f"Bearer {GOOD_KEY}", "Host": HOST}
SMALL = (  # two of the eight go through to MLflow
    Ask("GET", "/api/mlflow/version"),
    Ask("GET", "/api/mlflow/health"),
    Ask("DELETE", "/api/mlflow/api/2.0/mlflow/nothing", status=404),
    Ask("GET", "/mlflow/health/mlflow"),
    Ask("GET", "/version"),
    Ask("GET", "/api/mlflow/whoami"),
    Ask("GET", "/mlflow/health"),
    Ask("POST", "/api/2.0/mlflow/nowhere", b"{}", status=404),
)


class Held:
    """A transfer that stops on the way until it is let go; `on_the_way` is set once it has stopped."""

    def __init__(self) -> None:
        self.on_the_way, self.go_on = threading.Event(), threading.Event()

    def upload(self, port: int, target: str, content: bytes) -> RawResponse:
        def blocks() -> Iterator[bytes]:
            for start in range(0, len(content), BLOCK):
                if start == len(content) // 2:
                    self.on_the_way.set()
                    assert self.go_on.wait(60)
                yield content[start : start + BLOCK]

        return request(port, "PUT", target, list(HEADERS.items()), blocks(), timeout=60)

    def download(self, port: int, target: str) -> tuple[RawResponse, str]:
        """The answer and the SHA-256 of its body."""
        sha256 = hashlib.sha256()

        def sink(block: bytes) -> None:
            sha256.update(block)
            if not self.on_the_way.is_set():
                self.on_the_way.set()
                assert self.go_on.wait(60)

        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        with open_connection(port, timeout=60) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BLOCK)  # else the kernel may take in all of it for us
            sock.sendall(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())
            return read_response(sock, sink=sink), sha256.hexdigest()


class Transfers:
    """An upload and a download of the same bytes that are under way from begin() to close()."""

    def __init__(self, port: int, pool: ThreadPoolExecutor) -> None:
        self._port, self._pool = port, pool
        self._content = hashlib.shake_256(b"held").digest(HELD_BYTES)
        self._up, self._down = Held(), Held()
        self._stored, self._asked = (f"/api/mlflow{ARTIFACTS}/held/{name}.bin" for name in ("up", "down"))

    def begin(self) -> None:
        answer = request(self._port, "PUT", self._asked, list(HEADERS.items()), self._content, timeout=60)
        assert answer.status == 200
        self._upload = self._pool.submit(self._up.upload, self._port, self._stored, self._content)
        self._download = self._pool.submit(self._down.download, self._port, self._asked)
        assert self._up.on_the_way.wait(60) and self._down.on_the_way.wait(60)

    def under_way(self) -> int:
        return sum(not transfer.done() for transfer in (self._upload, self._download))

    def close(self) -> None:
        """Let them go on to their ends."""
        self._up.go_on.set()
        self._down.go_on.set()

    def arrived_whole(self, server: MlflowServer) -> None:
        wanted = hashlib.sha256(self._content).hexdigest()
        assert self._upload.result().status == 200
        assert stored(server, self._stored) == wanted
        answer, got = self._download.result()
        assert (answer.status, answer.complete, got) == (200, True, wanted)


class IdleClients:
    """Kept-alive connections that asked once, and ask again when told to."""

    def __init__(self, door: Door, count: int) -> None:
        self._door = door
        self._connections = [door.connect() for _ in range(count)]

    def ask(self, turn: str) -> list[str]:
        """One request on each; gives what went wrong."""
        ids = [f"idle-{turn}-{number}" for number in range(len(self._connections))]
        asked = zip(self._connections, ids, strict=True)
        return [wrong for one, name in asked if (wrong := exchange(one, self._door, SMALL[0], name))]

    def were_kept(self) -> bool:
        """Whether none was told to close: http.client would have opened another without a word."""
        return all(one.sock is not None for one in self._connections)

    def close(self) -> None:
        for one in self._connections:
            one.close()


class Tasks:
    """Context manager over the proxies of a test, as ECS handles them. What is still there at the end is stopped."""

    def __init__(self) -> None:
        self._running: list[Proxy] = []

    def __enter__(self) -> Tasks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for proxy in self._running:
            proxy.send_signal(signal.SIGTERM)
        with contextlib.ExitStack() as stack:
            for proxy in self._running:
                stack.callback(proxy.stop)

    def start(self, upstream_url: str, auth_service: AuthService, workers: int = 2) -> Proxy:
        """A proxy that is healthy, but that nobody sends anything to."""
        urls = {"MLFLOW_SERVER_URL": upstream_url, "HOKUSAI_AUTH_SERVICE_URL": auth_service.url}
        proxy = Proxy({**urls, "PROXY_WORKERS": str(workers), "RATE_LIMIT_BURST": "1000000 per 10 seconds"})
        proxy.start()
        self._running.append(proxy)
        return proxy

    def end(self, *proxies: Proxy) -> list[int]:
        """SIGTERM to each; their exit codes, once they have ended by themselves. TimeoutExpired long before 110 s."""
        for proxy in proxies:
            proxy.send_signal(signal.SIGTERM)
            self._running.remove(proxy)
        codes = [proxy.wait_exit() for proxy in proxies]
        for proxy in proxies:
            proxy.stop()  # reads what it wrote, and raises when it left a process behind
        return codes


def lines(*proxies: Proxy) -> list[Line]:
    return [line for proxy in proxies for line in proxy.lines("proxy_request")]


def clients(alb: Alb, certificate: Path) -> list[Client]:
    clear, secured = Door(alb.port, HEADERS), Door(alb.tls_port, HEADERS, certificate)
    return [
        *(kept(clear, SMALL[turn:] + SMALL[:turn]) for turn in range(3)),
        kept(secured, SMALL),
        *(anew(clear, SMALL[turn:] + SMALL[:turn]) for turn in range(2)),
        anew(secured, SMALL),
        transferring(clear, "/mlflow", "load/again.bin"),
    ]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tasks() -> Iterator[Tasks]:
    with Tasks() as one:
        yield one


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as one:
        yield one


def stored(server: MlflowServer, target: str) -> str:
    """SHA-256 of what MLflow keeps of an artifact."""
    return digest(server.artifacts / target.partition(f"{ARTIFACTS}/")[2])


@NEEDS_OPENSSL
@pytest.mark.usefixtures("auth_service")
def test_a_rolling_deploy_under_load_fails_no_request(
    mlflow_server: MlflowServer,
    session_auth_service: AuthService,
    certificate: Path,
    tasks: Tasks,
    pool: ThreadPoolExecutor,
    tmp_path: Path,
) -> None:
    there = mlflow_server.url, session_auth_service
    old = [tasks.start(*there), tasks.start(*there)]
    with Alb({"proxy": [proxy.port for proxy in old]}, certificate=certificate) as alb:
        transfers = Transfers(alb.port, pool)
        idle = IdleClients(Door(alb.port, HEADERS), IDLE_CLIENTS)
        with contextlib.closing(idle), contextlib.closing(transfers), Load(clients(alb, certificate)) as load:
            assert idle.ask("before") == []
            load.wait_for(BEFORE)
            transfers.begin()
            new = [tasks.start(*there), tasks.start(*there)]
            registration = pool.submit(register, alb, certificate, tmp_path)
            load.wait(lambda: by_the_client(old) > 0, "the registration to begin")
            for proxy in new:
                alb.register("proxy", proxy.port)
            for proxy in old:
                alb.drain("proxy", proxy.port)
            load.wait_for(BEFORE)  # of which the old ones get nothing
            assert sum(alb.outstanding("proxy", proxy.port) for proxy in old) == transfers.under_way() == 2
            transfers.close()
            for proxy in old:
                alb.deregister("proxy", proxy.port)
            assert tasks.end(*old) == [0, 0]
            load.wait_for(AFTER)
            load.wait(lambda: len(load.sent) >= REQUESTS, f"{REQUESTS} requests")
            load.wait(registration.done, "the registration to end")
            assert idle.ask("after") == []
            assert idle.were_kept()
    assert load.failures == []
    assert registration.result() == ""
    assert by_the_client(old) > 0 and by_the_client(new) > 0
    transfers.arrived_whole(mlflow_server)
    each_request_was_served_once(load, lines(*old, *new))
    assert all(proxy.lines("proxy_request") for proxy in [*old, *new])


def by_the_client(generation: list[Proxy]) -> int:
    """How many requests of the real MLflow client these have served."""
    return sum(CLIENT in line["user_agent"] for line in lines(*generation))


def register(alb: Alb, certificate: Path, folder: Path) -> str:
    """Run the acceptance script as its users do, without retries; gives its output when it fails."""
    env = {**at_the_public_hosts(alb, certificate, folder), "HOKUSAI_API_KEY": GOOD_KEY}
    run = run_client(REPOSITORY / "test_real_registration.py", {**env, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    return "" if run.returncode == 0 and "PASSED" in run.stdout else run.stdout + run.stderr


def each_request_was_served_once(load: Load, served: list[Line]) -> None:
    """No request was lost on the way, and none was sent twice."""
    assert len(load.sent) >= REQUESTS
    counted = Counter(line["request_id"] for line in served)
    assert {sent.id: counted[sent.id] for sent in load.sent if counted[sent.id] != 1} == {}
    asked = {sent.id for sent in load.sent}
    assert sum(line["upstream_status"] == 200 and line["request_id"] in asked for line in served) >= THROUGH_MLFLOW


@pytest.mark.usefixtures("auth_service")
def test_a_long_upload_is_finished_before_its_target_is_forgotten(
    mlflow_server: MlflowServer, session_auth_service: AuthService, tasks: Tasks, pool: ThreadPoolExecutor
) -> None:
    there = mlflow_server.url, session_auth_service
    old, new = tasks.start(*there, workers=1), tasks.start(*there, workers=1)
    content, target = hashlib.shake_256(b"long").digest(HELD_BYTES), f"/mlflow{ARTIFACTS}/held/long.bin"
    with Alb({"proxy": [old.port]}) as alb:
        door = Door(alb.port, HEADERS)
        held = Held()
        upload = pool.submit(held.upload, alb.port, target, content)
        assert held.on_the_way.wait(60)
        alb.register("proxy", new.port)
        forgotten = pool.submit(alb.deregister, "proxy", old.port, 60.0)
        with Load([anew(door, SMALL)]) as load:
            load.wait_for(50)
        assert load.failures == []
        assert not (upload.done() or forgotten.done())
        assert alb.outstanding("proxy", old.port) == 1
        held.go_on.set()
        assert upload.result().status == 200
        forgotten.result()
        assert tasks.end(old) == [0]
    assert stored(mlflow_server, target) == hashlib.sha256(content).hexdigest()
    (line,) = [line for line in old.lines("proxy_request") if line["action"] == "artifacts.upload"]
    assert (line["status"], line["bytes_in"]) == (200, HELD_BYTES)


def test_the_wrong_order_is_seen_to_fail(
    upstream: RecordingUpstream, auth_service: AuthService, tasks: Tasks, pool: ThreadPoolExecutor
) -> None:
    """SIGTERM to a target that is still being sent requests: what the deploy above would show if it did not drain."""
    there = upstream.url, auth_service
    old, new = tasks.start(*there, workers=1), tasks.start(*there, workers=1)
    with Alb({"proxy": [old.port, new.port]}) as alb:
        door = Door(alb.port, HEADERS)
        with Load([anew(door, SMALL), kept(door, SMALL)]) as load:
            load.wait_for(50)
            assert load.failures == []
            ended = pool.submit(tasks.end, old)
            load.wait(lambda: any(" 503 " in wrong for wrong in load.failures), "a request that nobody took")
    assert ended.result() == [0]
