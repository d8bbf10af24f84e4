"""app/redis_line.py and app/shared_windows.py against a real Redis, without a proxy around them."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from app.limit_storage import Taken
from app.redis_line import GRACE_SECONDS, PATIENCE_SECONDS, PAUSE_SECONDS, Line, LineDown
from app.shared_windows import PREFIX, PROBE, SCHEME, SCRIPT, SharedWindows, storage_key
from app.windows import Count, Rate
from tests.support.redis_server import RedisServer

MOST_SECONDS = PATIENCE_SECONDS + GRACE_SECONDS + 0.1
HOUR, SECOND = Rate(10, 3600), Rate(4, 1)


@pytest.fixture
def windows(redis_server: RedisServer) -> SharedWindows:
    return SharedWindows(SCHEME + redis_server.url)


def admitted(windows: SharedWindows, requests: int, *rates: Rate, name: str = "k", kind: str = "key") -> int:
    return sum(windows.take(kind, name, rates).admitted for _ in range(requests))


def await_up(windows: SharedWindows) -> None:
    deadline = time.monotonic() + 10 * PAUSE_SECONDS
    while not windows.check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- counting ---


def test_as_many_as_the_limit_and_no_more_from_all_sides_at_once(redis_server: RedisServer) -> None:
    sides = [SharedWindows(SCHEME + redis_server.url) for _ in range(4)]
    with ThreadPoolExecutor(32) as pool:
        taken = list(pool.map(lambda n: sides[n % 4].take("key", "k", (Rate(100, 3600),)).admitted, range(400)))
    assert taken.count(True) == 100


def test_a_request_that_one_limit_refuses_counts_in_none(windows: SharedWindows) -> None:
    assert admitted(windows, 20, HOUR, SECOND) == 4
    hour, _ = windows.take("key", "k", (HOUR, SECOND), 0).counts
    assert hour.current == 4


def test_looking_counts_nothing_and_writes_nothing(windows: SharedWindows, redis_server: RedisServer) -> None:
    taken = windows.take("key", "k", (HOUR, SECOND), 0)
    assert taken == Taken(True, (Count(0, 0, 0.0), Count(0, 0, 0.0)))
    assert set(redis_server.dump()) <= {PROBE[0]}


def test_what_is_given_back_has_room_again(windows: SharedWindows) -> None:
    assert admitted(windows, 20, HOUR) == 10
    windows.give_back("key", "k", (HOUR,))
    assert admitted(windows, 5, HOUR) == 1  # the line keeps the order
    for _ in range(20):
        windows.give_back("key", "k", (HOUR,))
    assert admitted(windows, 20, HOUR) == 10


def test_r05_at_the_edge_of_a_window_there_is_no_second_burst(windows: SharedWindows) -> None:
    rate = Rate(50, 2)
    begun = time.monotonic()
    admitted(windows, 1, rate)
    time.sleep(max(0.0, begun + 1.8 - time.monotonic()))
    assert admitted(windows, 100, rate) == 49
    edge = windows.take("key", "k", (rate,), 0).counts[0]
    assert edge.elapsed < 2
    time.sleep(2 - edge.elapsed + 0.05)
    assert admitted(windows, 100, rate) < 50 * 0.5
    taken = windows.take("key", "k", (rate,), 0).counts[0]
    assert taken.previous == 50 and taken.current <= 1 + 50 * taken.elapsed / 2


def test_windows_are_forgotten_when_they_no_longer_count(windows: SharedWindows, redis_server: RedisServer) -> None:
    admitted(windows, 3, HOUR, SECOND)
    lasts = redis_server.command("PTTL", storage_key("key", "k"))
    assert isinstance(lasts, int) and 0 < lasts <= 2 * 3600 * 1000


def test_a_limit_that_changes_keeps_what_was_counted(windows: SharedWindows) -> None:
    assert admitted(windows, 5, Rate(3, 3600)) == 3
    assert admitted(windows, 5, Rate(5, 3600)) == 2


def test_r06_no_two_names_share_a_count(windows: SharedWindows) -> None:
    names = ["", "/", ":", "a/b", "a:b", "a", "x" * 10_240, "x" * 10_241, "é", "\ud800", "a b", "a\r\nb", "{a}", "*"]
    names += [storage_key("key", "x" * 10_240), storage_key("key", "é").rpartition(":")[2]]
    assert len({storage_key("key", name) for name in names}) == len(names)
    for name in names:
        assert admitted(windows, 5, Rate(2, 3600), name=name) == 2, name
    assert admitted(windows, 5, Rate(2, 3600), name="a", kind="address") == 2
    assert max(len(storage_key("key", name)) for name in names) < 256


def test_a_key_in_redis_names_only_what_it_was_given() -> None:
    assert storage_key("key", "key-1") == f"{PREFIX}:key:key-1"


# --- Redis away ---


def test_nobody_waits_longer_than_that(windows: SharedWindows, redis_server: RedisServer) -> None:
    """All those under way wait once and together; who comes later does not wait at all."""
    admitted(windows, 1, HOUR)
    redis_server.freeze()

    def timed(_: int) -> float:
        begun = time.monotonic()
        windows.take("key", "k", (HOUR,))
        return time.monotonic() - begun

    with ThreadPoolExecutor(20) as pool:
        assert max(pool.map(timed, range(20))) < MOST_SECONDS
    assert max(timed(n) for n in range(100)) < 0.05


def test_all_that_wait_are_told_at_once_that_there_is_nothing_to_wait_for(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.redis_line.PATIENCE_SECONDS", 5.0)
    line, refused = Line(redis_server.url, SCRIPT.read_text(), PROBE), threading.Event()

    def connect() -> None:
        refused.wait(5)
        raise redis.ConnectionError

    def ask(_: int) -> float:
        with pytest.raises(LineDown):
            line.ask(*PROBE)
        return time.monotonic()

    monkeypatch.setattr(line, "_connect", connect)
    with ThreadPoolExecutor(8) as pool:
        told = [pool.submit(ask, n) for n in range(8)]
        while len(line._questions) < 8:
            time.sleep(0.001)
        begun = time.monotonic()
        refused.set()
        assert max(future.result() for future in told) - begun < 1


def test_who_had_used_his_limit_up_has_nothing_while_redis_is_away(
    windows: SharedWindows, redis_server: RedisServer
) -> None:
    admitted(windows, 7, HOUR)
    redis_server.stop()
    assert admitted(windows, 20, HOUR) == 3
    windows.give_back("key", "k", (HOUR,))
    assert admitted(windows, 20, HOUR) == 1


def test_it_is_found_again_by_itself(
    windows: SharedWindows, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.limits")
    admitted(windows, 1, HOUR)
    assert windows.check()
    redis_server.freeze()
    assert admitted(windows, 1, HOUR) == 1 and not windows.check()
    redis_server.thaw()
    await_up(windows)
    assert admitted(windows, 20, HOUR, name="new") == 10
    assert [record.message for record in caplog.records] == ["rate_limit_storage_down", "rate_limit_storage_recovered"]
    assert caplog.records[1].__dict__["seconds"] >= 0.5


def test_a_line_that_nobody_uses_finds_out_by_itself_that_it_is_dead(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.redis_line.IDLE_SECONDS", 0.2)
    windows = SharedWindows(SCHEME + redis_server.url)
    assert admitted(windows, 1, HOUR) == 1
    redis_server.command("CLIENT", "KILL", "TYPE", "normal")
    deadline = time.monotonic() + 5
    while "rate_limit_storage_recovered" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    begun = time.monotonic()
    assert admitted(windows, 1, HOUR) == 1 and time.monotonic() - begun < PATIENCE_SECONDS


def test_an_answer_that_is_there_is_read_however_late_it_is_looked_at(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy worker sees its own clock before it sees its socket: that is no sign of an ill Redis."""
    line = Line(redis_server.url, SCRIPT.read_text(), PROBE)
    line.ask(*PROBE)
    read, late = line._connection.read_response, [True]

    def reads_late(**options: object) -> object:
        if late:
            late.clear()
            while not line._connection.can_read():
                time.sleep(0.001)
            raise redis.TimeoutError("Timeout reading")
        return read(**options)

    monkeypatch.setattr(line._connection, "read_response", reads_late)
    assert line.ask(*PROBE).startswith(b"1 ")
    assert late == [] and line.is_up


def test_who_waits_for_what_redis_refuses_is_told_at_once(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(redis_server.url, SCRIPT.read_text(), PROBE)
    line.ask(*PROBE)
    monkeypatch.setattr("app.redis_line.PATIENCE_SECONDS", 30.0)
    with ThreadPoolExecutor(1) as pool, pytest.raises(LineDown):
        pool.submit(line.ask, "key", "no numbers").result(10)


def test_it_is_found_again_too_when_it_was_slow_and_said_nothing_wrong(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited in vain turns the line down; its thread, which got its answer, has to notice."""
    line, given_up = Line(redis_server.url, SCRIPT.read_text(), PROBE), threading.Event()
    line.ask(*PROBE)
    read = line._connection.read_response

    def reads_late(**options: object) -> object:
        assert given_up.wait(10)
        return read(**options)

    monkeypatch.setattr(line._connection, "read_response", reads_late)
    with pytest.raises(LineDown):
        line.ask(*PROBE)
    assert not line.is_up
    given_up.set()
    deadline = time.monotonic() + 10 * PAUSE_SECONDS
    while not line.is_up:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert line.ask(*PROBE).startswith(b"1 ")


def test_a_fault_of_our_own_does_not_end_the_line_for_ever(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: seen.append(arguments.exc_type))
    line = Line(redis_server.url, SCRIPT.read_text(), PROBE)
    monkeypatch.setattr(line, "_connect", lambda: 1 / 0)
    with pytest.raises(LineDown):
        line.ask(*PROBE)
    deadline = time.monotonic() + 5
    while not seen:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert seen == [ZeroDivisionError]
    monkeypatch.undo()
    while not line.is_up:
        assert time.monotonic() < deadline
        try:
            line.ask(*PROBE)
        except LineDown:
            time.sleep(0.01)
