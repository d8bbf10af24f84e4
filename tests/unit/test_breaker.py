"""app/breaker.py: when a service is left alone, and when it is asked again."""

from __future__ import annotations

import pytest

from app.breaker import FAILURES_IN_A_ROW, LEAST_IN_WINDOW, PROBE_SECONDS, WINDOW_SECONDS, Breaker
from tests.support.clock import Clock


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int = FAILURES_IN_A_ROW) -> None:
    for _ in range(times):
        breaker.failed()


def test_it_is_closed_at_first(breaker: Breaker) -> None:
    assert (breaker.is_open, breaker.enter(), breaker.wait_seconds()) == (False, True, 0.0)


def test_the_figures_are_those_that_were_agreed() -> None:
    assert (FAILURES_IN_A_ROW, LEAST_IN_WINDOW, WINDOW_SECONDS, PROBE_SECONDS) == (5, 20, 10.0, 5.0)


def test_the_fifth_failure_in_a_row_opens_it(breaker: Breaker) -> None:
    fail(breaker, 4)
    assert not breaker.is_open
    fail(breaker, 1)
    assert (breaker.is_open, breaker.enter(), breaker.wait_seconds()) == (True, False, 5.0)


def test_an_answer_begins_the_row_anew(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10):
        fail(breaker, 4)
        breaker.answered()
        clock.now += WINDOW_SECONDS  # so that the other rule has nothing to say
    assert not breaker.is_open


def mixed(breaker: Breaker, outcomes: str) -> None:
    for outcome in outcomes:
        if outcome == "f":
            breaker.failed()
        else:
            breaker.answered()


@pytest.mark.parametrize(
    ("outcomes", "opens"), [("af" * 10, False), ("af" * 9 + "ff", True), ("a" * 9 + "f" * 4, False)]
)
def test_more_failures_than_answers_among_twenty_open_it(breaker: Breaker, outcomes: str, opens: bool) -> None:
    mixed(breaker, outcomes)
    assert breaker.is_open is opens


def test_nineteen_are_too_few_to_judge(breaker: Breaker) -> None:
    mixed(breaker, "ffffa" * 3 + "ffff")
    assert not breaker.is_open
    mixed(breaker, "af")
    assert breaker.is_open


def test_only_the_last_ten_seconds_count(breaker: Breaker, clock: Clock) -> None:
    mixed(breaker, "ffffa" * 3 + "ffff")
    clock.now += WINDOW_SECONDS + 0.1
    mixed(breaker, "afaf")
    assert not breaker.is_open


def test_while_it_is_open_one_question_passes_in_five_seconds(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    passed = []
    for _ in range(8 * 30):  # half a minute, asked eight times a second
        clock.now += 0.125
        if breaker.enter():
            passed.append(clock.now - 1000)
            breaker.failed()
    assert passed == [5.0, 10.0, 15.0, 20.0, 25.0, 30.0]


def test_a_probe_that_never_comes_back_does_not_keep_it_open_for_ever(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 5
    assert [breaker.enter(), breaker.enter()] == [True, False]
    clock.now += 5
    assert breaker.enter()


def test_the_first_answer_closes_it_and_what_led_there_is_forgotten(breaker: Breaker, clock: Clock) -> None:
    mixed(breaker, "fa" * 9 + "fffff")
    clock.now += 5
    assert breaker.enter()
    breaker.answered()
    assert not breaker.is_open
    fail(breaker, 4)
    assert not breaker.is_open


def test_a_failed_probe_keeps_it_open_for_five_seconds_more(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 5
    assert breaker.enter()
    clock.now += 4  # that long it took to fail
    breaker.failed()
    assert (breaker.is_open, breaker.wait_seconds()) == (True, 1.0)


@pytest.mark.parametrize(("asked_for", "waits"), [(0.0, 5.0), (3.0, 5.0), (30.0, 30.0)])
def test_a_pause_that_was_asked_for_is_kept(breaker: Breaker, clock: Clock, asked_for: float, waits: float) -> None:
    fail(breaker, 4)
    breaker.failed(asked_for)
    assert breaker.wait_seconds() == waits
    clock.now += waits - 0.1
    assert not breaker.enter()
    clock.now += 0.2
    assert breaker.enter()


def test_a_probe_that_is_asked_to_wait_waits(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 5
    assert breaker.enter()
    breaker.failed(60.0)
    assert breaker.wait_seconds() == 60.0


def test_a_busy_time_does_not_fill_the_memory(breaker: Breaker) -> None:
    for _ in range(5000):
        breaker.answered()
    assert len(breaker._recent) == 1000
