"""app/validation.py: many who have the same question at once, in real threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from app.errors import ProxyError
from app.scope import Principal
from app.validation import in_background
from tests.unit.samples import KEY
from tests.unit.vouching import AWAY, BOUND, HERE, NO, THERE, WHO, Scene, too_many

MANY = 50


class Crowd:
    """Threads that ask a scene. While `held` the source thinks; `waiting` counts those who wait for its answer."""

    def __init__(self, scene: Scene, pool: ThreadPoolExecutor) -> None:
        self.scene = scene
        self.thinking = threading.Semaphore(0)  # released whenever the source begins to think
        self.waiting = threading.Semaphore(0)  # released whenever somebody begins to wait
        self._go_on = threading.Event()
        self._pool = pool
        scene.during = self._think

    def _think(self) -> None:
        self.thinking.release()
        assert self._go_on.wait(10)

    def enter(self, client_ip: str = HERE, key: str = KEY) -> Future[Principal]:
        return self._pool.submit(self.scene.validation.validate, key, client_ip)

    def lead(self, client_ip: str = HERE) -> Future[Principal]:
        """Let somebody ask, and come back when the source thinks about it."""
        leading = self.enter(client_ip)
        assert self.thinking.acquire(timeout=10)
        return leading

    def follow(self, count: int, client_ip: str = HERE) -> list[Future[Principal]]:
        """Let others ask the same, and come back when all of them wait."""
        following = [self.enter(client_ip) for _ in range(count)]
        for _ in range(count):
            assert self.waiting.acquire(timeout=10)
        return following

    def answer(self) -> None:
        self._go_on.set()


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Crowd]]:
    with ThreadPoolExecutor(MANY + 1) as pool:
        crowds: list[Crowd] = []

        class Telling(threading.Event):
            """An event that says when somebody begins to wait for it."""

            def wait(self, timeout: float | None = None) -> bool:
                crowds[0].waiting.release()
                return super().wait(timeout)

        def gather(**cache: float) -> Crowd:
            crowds.append(Crowd(Scene(**cache), pool))
            monkeypatch.setattr("app.validation.threading", SimpleNamespace(Event=Telling))
            return crowds[0]

        yield gather
        for one in crowds:
            one.answer()


def outcome(asked: Future[Principal]) -> str:
    """The source of a principal, or the kind of error."""
    error = asked.exception(10)
    if error is None:
        return asked.result().source
    assert isinstance(error, ProxyError)
    return error.kind


def test_many_with_a_cold_key_ask_once(crowd: Callable[..., Crowd]) -> None:
    one = crowd()
    asked = [one.lead(), *one.follow(MANY)]
    one.answer()
    assert [outcome(each) for each in asked] == ["service"] * (MANY + 1)
    assert {each.result() for each in asked} == {WHO}
    assert one.scene.asked == [(KEY, HERE)]
    assert one.scene.ask() == "cache"


@pytest.mark.parametrize("said", [NO, AWAY, too_many("7")], ids=lambda said: said.kind)
def test_what_is_no_yes_is_everybodys_too(crowd: Callable[..., Crowd], said: ProxyError) -> None:
    one = crowd()
    one.scene.says = said
    asked = [one.lead(), *one.follow(MANY)]
    one.answer()
    errors = [each.exception(10) for each in asked]
    assert {type(error) for error in errors} == {type(said)}
    assert all(isinstance(error, ProxyError) and error.headers == said.headers for error in errors)
    assert len({id(error) for error in errors}) == MANY + 1, "an exception that many raise grows a trace for each"
    assert one.scene.calls() == 1


def test_others_are_asked_for_at_the_same_time(crowd: Callable[..., Crowd]) -> None:
    one = crowd()
    first = one.lead()
    second = one.enter(key=KEY + "-other")
    assert one.thinking.acquire(timeout=10)
    one.answer()
    assert [outcome(first), outcome(second)] == ["service", "service"]


def test_who_waits_longer_than_the_time_budget_is_told_to_come_again(crowd: Callable[..., Crowd]) -> None:
    one = crowd(patience=0.05)
    first = one.lead()
    [late] = one.follow(1)
    error = late.exception(10)
    assert isinstance(error, ProxyError)
    assert (error.status, error.kind, error.headers) == (503, "auth_slow", [("Retry-After", "2")])
    one.answer()
    assert (outcome(first), one.scene.calls()) == ("service", 1)


def test_a_yes_for_one_address_is_one_for_all_who_wait(crowd: Callable[..., Crowd]) -> None:
    one = crowd()
    asked = [one.lead(), *one.follow(3, THERE)]
    one.answer()
    assert [outcome(each) for each in asked] == ["service"] * 4
    assert one.scene.asked == [(KEY, HERE)]


@pytest.mark.parametrize(("said", "found"), [(BOUND, "service"), (NO, "Unauthenticated")])
def test_what_may_hold_for_one_address_alone_is_asked_again_for_each_other(
    crowd: Callable[..., Crowd], said: Principal | ProxyError, found: str
) -> None:
    one = crowd()
    one.scene.says = said
    first, others = one.lead(), one.follow(10, THERE)
    one.answer()
    assert outcome(first) == found
    assert {outcome(each) for each in others} <= {found, "cache"}  # who comes a moment later finds it there
    assert one.scene.asked == [(KEY, HERE), (KEY, THERE)]


def test_who_uses_a_bound_key_elsewhere_does_not_wait_for_others(crowd: Callable[..., Crowd]) -> None:
    scene = Scene()
    scene.says = BOUND
    scene.ask()
    scene.later(400)
    one = crowd()
    one.scene, scene.during = scene, one._think
    asked = [one.lead(), one.lead(THERE)]  # both are being asked about at once
    one.answer()
    assert [outcome(each) for each in asked] == ["service"] * 2


def test_a_bug_leaves_nobody_waiting(crowd: Callable[..., Crowd]) -> None:
    one = crowd()
    think = one.scene.during

    def bug() -> None:
        think()
        raise ZeroDivisionError

    one.scene.during = bug
    first, others = one.lead(), one.follow(3)
    one.answer()
    assert isinstance(first.exception(10), ZeroDivisionError)
    assert [outcome(each) for each in others] == ["auth_abandoned"] * 3
    one.scene.during = lambda: None
    assert one.scene.ask() == "service"


def test_the_breaker_is_told_of_once_also_by_those_who_fail_together(
    crowd: Callable[..., Crowd], caplog: pytest.LogCaptureFixture
) -> None:
    one = crowd()
    one.scene.says = AWAY
    asked = [one.enter(key=f"{KEY}-{number}") for number in range(10)]
    for _ in asked:
        assert one.thinking.acquire(timeout=10)
    one.answer()
    assert [outcome(each) for each in asked] == [AWAY.kind] * 10
    assert [record.message for record in caplog.records] == ["auth_breaker"]


def test_who_needs_an_answer_takes_that_of_the_background(crowd: Callable[..., Crowd]) -> None:
    scene = Scene()
    scene.ask()
    scene.later(100)
    scene.ask()  # this one starts to look
    one = crowd()
    one.scene = scene
    scene.during = one._think
    looking = one._pool.submit(scene.work)
    assert one.thinking.acquire(timeout=10)
    scene.later(250)
    [waiting] = one.follow(1)
    one.answer()
    assert (outcome(waiting), looking.result(10), scene.calls()) == ("service", 1, 2)


def test_the_background_is_a_thread_that_keeps_nobody_from_leaving() -> None:
    found: list[threading.Thread] = []
    done = threading.Event()

    def work() -> None:
        found.append(threading.current_thread())
        done.set()

    in_background(work)
    assert done.wait(10)
    assert found[0].daemon and found[0] is not threading.current_thread()
