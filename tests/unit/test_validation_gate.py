"""app/validation.py: which questions about keys count against the address that they come from."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import ProxyError, RateLimited, Unauthenticated, auth_unavailable
from app.scope import Principal
from app.validation import Validation
from tests.support.clock import Clock
from tests.unit import samples

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Source:
    """Says what it was told to."""

    def __init__(self) -> None:
        self.says: Principal | ProxyError = Principal("user", "key")
        self.asked = 0

    def validate(self, key: str, client_ip: str) -> Principal:
        self.asked += 1
        if isinstance(self.says, ProxyError):
            raise self.says
        return self.says


class Gate:
    """Counts, and lets so many through."""

    def __init__(self, most: int = 1) -> None:
        self.most = most
        self.inside: Counter[str] = Counter()
        self.entered = 0

    def enter(self, client_ip: str) -> None:
        if self.inside[client_ip] >= self.most:
            raise RateLimited("429", kind="rate_address")
        self.inside[client_ip] += 1
        self.entered += 1

    def leave(self, client_ip: str) -> None:
        self.inside[client_ip] -= 1


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def gate() -> Gate:
    return Gate()


def make(source: Source, gate: Gate | None, clock: Clock | None = None) -> Validation:
    return Validation(source, samples.settings().auth, clock or Clock(), lambda work: work(), gate)


def test_a_key_that_is_good_counts_only_while_it_is_asked_about(source: Source, gate: Gate) -> None:
    validation = make(source, gate)
    for number in range(5):
        assert validation.validate(f"key-{number}", HERE).key_id == "key"
    assert (gate.entered, gate.inside[HERE]) == (5, 0)


def test_a_key_that_is_refused_counts(source: Source, gate: Gate) -> None:
    validation = make(source, gate)
    source.says = Unauthenticated("")
    with pytest.raises(Unauthenticated):
        validation.validate("one", HERE)
    with pytest.raises(RateLimited):
        validation.validate("two", HERE)
    assert (source.asked, gate.inside[HERE]) == (1, 1)
    with pytest.raises(Unauthenticated):
        validation.validate("two", THERE)


def test_an_outage_counts_against_nobody(source: Source, gate: Gate) -> None:
    validation = make(source, gate)
    source.says = auth_unavailable("status_500")
    for number in range(20):  # with the breaker open from somewhere on
        with pytest.raises(ProxyError):
            validation.validate(f"key-{number}", HERE)
    assert gate.inside[HERE] == 0


def test_a_key_that_was_good_before_does_not_even_knock(source: Source, gate: Gate) -> None:
    """Neither when it is asked about behind somebody's back, nor past its hard limit."""
    clock = Clock()
    validation = make(source, gate, clock)
    validation.validate("key", HERE)
    gate.inside[HERE] = gate.most
    for later in (70.0, 1000.0, 100_000.0):
        clock.now += later
        assert validation.validate("key", HERE).key_id == "key"
    assert (gate.entered, source.asked) == (1, 4)


def test_a_refusal_of_the_gates_is_no_sign_of_an_ill_auth_service(source: Source, gate: Gate) -> None:
    validation = make(source, gate)
    gate.inside[HERE] = gate.most
    for number in range(50):
        with pytest.raises(RateLimited):
            validation.validate(f"key-{number}", HERE)
    assert validation.validate("key", THERE).key_id == "key"
    gate.inside[HERE] = 0
    assert validation.validate("key-1", HERE).key_id == "key"


def test_without_a_gate_nothing_counts(source: Source) -> None:
    assert make(source, None).validate("key", HERE).key_id == "key"


def test_who_waits_for_an_answer_is_not_refused_for_another_address(source: Source) -> None:
    """The same key from two places: one of them has used its limit up, and was the first to ask."""
    knocked, opened, joined = threading.Event(), threading.Event(), threading.Event()

    class Slow(Gate):
        def enter(self, client_ip: str) -> None:
            if client_ip == HERE:
                knocked.set()
                opened.wait(5)
                raise RateLimited("429", kind="rate_address")

    class Watched(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            joined.set()
            return super().wait(timeout)

    validation = make(source, Slow())
    with ThreadPoolExecutor(2) as pool:
        refused = pool.submit(validation.validate, "key", HERE)
        assert knocked.wait(5)
        (flight,) = validation._flights.values()
        flight.landed = Watched()
        waiting = pool.submit(validation.validate, "key", THERE)
        assert joined.wait(5)
        opened.set()
        assert waiting.result(5).key_id == "key"
        assert isinstance(refused.exception(5), RateLimited)
