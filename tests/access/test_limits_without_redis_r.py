"""R03 of the catalogue: Redis away, in every way, under load. Nobody waits, limits hold, and are exact again after."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from app.redis_line import PAUSE_SECONDS
from tests.access.asking import ask, ask_at_once
from tests.access.limited import admitted, limited_key, served_by
from tests.support.auth_service import AuthService
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer, SlowPath

both = pytest.mark.parametrize("workers", [1, 4])
ROOMY = {"RATE_LIMIT_BURST": "100000 per second", "RATE_LIMIT_PER_ADDRESS": "100000 per second"}
SLOW_SECONDS = 0.3


class Scene:
    """A proxy whose way to Redis can be made bad and good again."""

    def __init__(self, server: RedisServer, path: SlowPath) -> None:
        self.server = server
        self.path = path

    def env(self, fault: str) -> dict[str, str]:
        """The proxy's settings: by the slow way only where it matters, since it can only be slow or not."""
        return {**ROOMY, "REDIS_URL": f"redis://127.0.0.1:{self.path.port if fault == 'slow' else self.server.port}"}

    def spoil(self, fault: str) -> None:
        match fault:
            case "refused":
                self.server.stop()
            case "frozen":
                self.server.freeze()
            case "slow":
                self.path.delay = 1.0
            case "full":
                self.server.command("CONFIG", "SET", "maxmemory", "1")
            case "restarted":
                self.server.stop()
                self.server.start()
            case "forgetful":
                self.server.command("SCRIPT", "FLUSH")
            case "cut off":
                self.server.command("CLIENT", "KILL", "TYPE", "normal")

    def mend(self, fault: str) -> None:
        match fault:
            case "refused":
                self.server.start()
            case "frozen":
                self.server.thaw()
            case "slow":
                self.path.delay = 0.0
            case "full":
                self.server.command("CONFIG", "SET", "maxmemory", "0")


@pytest.fixture
def scene(redis_server: RedisServer) -> Iterator[Scene]:
    with SlowPath(redis_server.port) as path:
        yield Scene(redis_server, path)


@contextlib.contextmanager
def load(proxy: Proxy, key: str) -> Iterator[list[tuple[int, float]]]:
    """Requests without a pause, four at a time, for as long as the block lasts: status and seconds of each."""
    seen: list[tuple[int, float]] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            begun = time.monotonic()
            seen.append((ask(proxy, key).status, time.monotonic() - begun))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def events(proxy: Proxy) -> tuple[int, int]:
    """How often workers lost Redis, and how often they found it again."""
    return len(proxy.lines("rate_limit_storage_down")), len(proxy.lines("rate_limit_storage_recovered"))


def await_events(proxy: Proxy, down: int, seconds: float = 10.0) -> None:
    """Wait until at least so many workers have lost Redis."""
    deadline = time.monotonic() + seconds
    while events(proxy)[0] < down:
        assert time.monotonic() < deadline, proxy.output[-3000:]
        time.sleep(0.02)


def await_recovery(proxy: Proxy, seconds: float = 10.0) -> None:
    """Wait until every worker that has lost Redis has found it again."""
    deadline = time.monotonic() + seconds
    while len(set(events(proxy))) != 1:
        assert time.monotonic() < deadline, proxy.output[-3000:]
        time.sleep(0.02)


@both
@pytest.mark.parametrize("fault", ["refused", "frozen", "slow", "full"])
def test_r03_redis_away_under_load(
    scene: Scene, proxy_env: dict[str, str], auth_service: AuthService, fault: str, workers: int
) -> None:
    roomy, spent, few = (limited_key(auth_service, limit) for limit in (1_000_000, 5, 5))
    with Proxy({**proxy_env, **scene.env(fault), "PROXY_WORKERS": str(workers)}) as proxy:
        assert admitted(proxy, spent, 20) == 5
        learnt = served_by(proxy, ask_at_once(proxy, [spent] * 40, together=32))
        assert events(proxy) == (0, 0)
        with load(proxy, roomy) as seen:
            while len(seen) < 100:
                time.sleep(0.02)
            scene.spoil(fault)
            await_events(proxy, 1)
            time.sleep(2.5 * PAUSE_SECONDS)  # meanwhile each worker tries it twice
        assert {status for status, _ in seen} == {200}
        lost, found = events(proxy)
        assert lost <= workers and found == 0  # it does not take what only looks well for well
        slow = [seconds for _, seconds in seen if seconds > SLOW_SECONDS]
        assert len(slow) <= workers, slow

        # Limits hold: who had used his up in a worker's sight has nothing there, and others have theirs in each.
        answers = ask_at_once(proxy, [spent] * 40, together=32)
        through = served_by(proxy, [response for response in answers if response.status == 200])
        assert {worker for worker in through if worker in learnt} == set()
        assert all(requests <= 5 for requests in through.values())
        answers = ask_at_once(proxy, [few] * 60, together=32)
        through = served_by(proxy, [response for response in answers if response.status == 200])
        assert through == {worker: min(5, requests) for worker, requests in served_by(proxy, answers).items()}

        scene.mend(fault)
        await_recovery(proxy)
        for _ in range(3):
            assert admitted(proxy, limited_key(auth_service, 20), 60) == 20


@pytest.mark.parametrize("fault", ["restarted", "forgetful", "cut off"])
def test_r03_redis_back_at_once(scene: Scene, proxy_env: dict[str, str], auth_service: AuthService, fault: str) -> None:
    roomy = limited_key(auth_service, 1_000_000)
    with Proxy({**proxy_env, **scene.env(fault)}) as proxy:
        with load(proxy, roomy) as seen:
            while len(seen) < 100:
                time.sleep(0.02)
            scene.spoil(fault)
            await_events(proxy, 1)
            await_recovery(proxy)
        assert {status for status, _ in seen} == {200}
        assert len([seconds for _, seconds in seen if seconds > SLOW_SECONDS]) <= 1
        assert admitted(proxy, limited_key(auth_service, 20), 60) == 20


def test_r03_the_request_that_finds_out_waits_and_no_other(
    redis_server: RedisServer, proxy_env: dict[str, str], auth_service: AuthService
) -> None:
    """Nor do those that come while the proxy tries whether Redis is well again."""
    key = limited_key(auth_service, 1_000_000)
    with Proxy({**proxy_env, **ROOMY, "REDIS_URL": redis_server.url}) as proxy:
        ask(proxy, key)
        redis_server.freeze()
        seconds = []
        for _ in range(80):
            begun = time.monotonic()
            assert ask(proxy, key).status == 200
            seconds.append(time.monotonic() - begun)
            time.sleep(0.02)
        assert 0.1 < seconds[0] < SLOW_SECONDS
        assert [taken for taken in seconds[1:] if taken > 0.1] == []
        assert len(proxy.lines("rate_limit_storage_down")) == 1


@pytest.mark.parametrize("away", ["nobody listens", "no such name", "frozen"])
def test_it_starts_and_limits_without_redis(
    redis_server: RedisServer, proxy_env: dict[str, str], auth_service: AuthService, away: str
) -> None:
    url = "redis://no-such-host.invalid:6379" if away == "no such name" else redis_server.url
    if away == "nobody listens":
        redis_server.stop()
    if away == "frozen":
        redis_server.freeze()
    key = limited_key(auth_service, 5)
    with Proxy({**proxy_env, **ROOMY, "REDIS_URL": url}) as proxy:
        begun = time.monotonic()
        assert ask(proxy, key).status == 200
        assert time.monotonic() - begun < SLOW_SECONDS + 0.2  # the worker's very first request beside
        assert admitted(proxy, key, 20) == 4
        assert len(proxy.lines("rate_limit_storage_down")) == 1
        if away == "frozen":
            redis_server.thaw()
            await_recovery(proxy)
            assert admitted(proxy, limited_key(auth_service, 5), 20) == 5


def test_no_line_of_the_log_tells_redis_password(
    redis_server: RedisServer, proxy_env: dict[str, str], auth_service: AuthService
) -> None:
    """Redis asks for none: the one that is sent is refused, and told to nobody."""
    secret = "made-up-for-this-test"
    url = redis_server.url.replace("redis://", f"redis://:{secret}@")
    with Proxy({**proxy_env, "REDIS_URL": url}) as proxy:
        assert ask(proxy, limited_key(auth_service, 5)).status == 200
        proxy.wait_line(lambda line: line.get("event") == "rate_limit_storage_down")
        assert secret not in proxy.output
