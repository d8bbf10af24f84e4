"""app/validation.py: how long a yes counts, what an outage does to it, and what a no does."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from app.errors import AuthUnavailable, ProxyError, RateLimited, Unauthenticated, auth_unavailable
from tests.unit.samples import KEY
from tests.unit.vouching import AWAY, BOUND, HERE, NO, THERE, WHO, Scene, too_many

OTHER = KEY + "-other"


@pytest.fixture
def scene() -> Scene:
    return Scene()


def raised(scene: Scene, key: str = KEY, client_ip: str = HERE) -> ProxyError:
    with pytest.raises(ProxyError) as found:
        scene.validation.validate(key, client_ip)
    return found.value


# --- a yes ---


def test_a_key_is_asked_about_once_while_the_answer_is_fresh(scene: Scene) -> None:
    assert scene.ask() == "service"
    for _ in range(53):
        scene.later(1)
        assert scene.ask() == "cache"
    assert (scene.asked, scene.waiting) == ([(KEY, HERE)], [])


def test_what_is_remembered_is_who_the_service_named(scene: Scene) -> None:
    assert [scene.validation.validate(KEY, HERE) for _ in range(2)] == [WHO, WHO]


def test_a_yes_that_is_no_longer_fresh_is_used_and_asked_for_in_the_background(scene: Scene) -> None:
    scene.ask()
    scene.later(60)
    assert [scene.ask() for _ in range(10)] == ["cache"] * 10
    assert scene.calls() == 1, "nobody waits for the auth service"
    assert scene.work() == 1, "ten requests ask once"
    assert scene.calls() == 1
    scene.later(53)
    assert (scene.ask(), scene.waiting) == ("cache", [])


def test_a_key_in_use_never_waits_again(scene: Scene) -> None:
    scene.ask()
    for _ in range(3600):
        scene.later(1)
        assert scene.ask() == "cache"
        scene.work()
    assert 55 <= scene.calls() <= 67, "about one call in a minute"


def test_a_key_that_rested_past_the_hard_limit_waits_for_the_service(scene: Scene) -> None:
    scene.ask()
    scene.later(299)
    assert scene.ask() == "cache"
    scene.waiting.clear()
    scene.later(2)
    assert (scene.ask(), scene.calls(), scene.waiting) == ("service", 2, [])


def test_the_hard_limit_holds_even_where_the_fresh_time_is_as_long() -> None:
    scene = Scene(fresh=60, hard=60)
    scene.ask()
    scene.later(60)
    assert (scene.ask(), scene.calls()) == ("service", 2)


def test_with_no_time_to_remember_every_request_asks() -> None:
    scene = Scene(fresh=0, hard=0, stale=0)
    assert [scene.ask() for _ in range(3)] == ["service"] * 3
    scene.says = NO
    assert [scene.ask() for _ in range(3)] == ["Unauthenticated"] * 3
    scene.says = too_many("30")
    assert [scene.ask() for _ in range(3)] == ["auth_service"] * 3
    assert scene.calls() == 9


# --- a no ---


def test_a_no_holds_for_seconds(scene: Scene) -> None:
    scene.says = NO
    assert (scene.ask(), scene.calls()) == ("Unauthenticated", 1)
    scene.later(4.9)
    assert (scene.ask(), scene.calls()) == ("Unauthenticated", 0)
    scene.later(0.1)
    scene.says = WHO
    assert (scene.ask(), scene.calls()) == ("service", 1)


def test_a_remembered_no_looks_like_a_fresh_one(scene: Scene) -> None:
    scene.says = NO
    first, second = raised(scene), raised(scene)
    assert (type(first), vars(first)) == (type(second), vars(second)) and type(first) is Unauthenticated


def test_a_revoked_key_is_refused_as_soon_as_the_background_hears_of_it(scene: Scene) -> None:
    scene.ask()
    scene.says = NO
    scene.later(60)
    assert scene.ask() == "cache"
    scene.work()
    assert scene.ask() == "Unauthenticated"


@pytest.mark.parametrize("seconds", [1, 53, 55, 100, 299])
def test_a_revoked_key_is_refused_within_the_hard_limit_however_it_is_used(scene: Scene, seconds: int) -> None:
    """Also when the background never comes to its turn."""
    scene.ask()
    scene.says = NO
    scene.later(seconds)
    scene.ask()
    scene.waiting.clear()
    scene.later(300 - seconds)
    assert scene.ask() == "Unauthenticated"


def test_a_revoked_key_is_not_served_stale_afterwards(scene: Scene) -> None:
    scene.ask()
    scene.says = NO
    scene.later(400)
    assert scene.ask() == "Unauthenticated"
    scene.says = AWAY
    scene.later(20)
    assert scene.ask() == "auth_ConnectionError"


# --- an outage ---


def test_the_auth_service_dead_for_ten_minutes_is_no_error_for_a_warm_key(scene: Scene) -> None:
    """Asked every second, the background working as it comes; admins get as far as the hard limit."""
    scene.ask()
    scene.later(50)
    assert scene.ask() == "cache"
    scene.says = AWAY
    found = []
    for _ in range(600):
        scene.later(1)
        found.append(scene.ask())
        scene.work()
    assert found == ["cache"] * 249 + ["stale"] * 351
    scene.says = WHO
    scene.later(5)
    scene.ask()
    scene.work()
    assert scene.ask() == "cache", "and it recovers by itself"


def test_the_auth_service_dead_for_ten_minutes_is_asked_once_in_five_seconds_at_most(scene: Scene) -> None:
    scene.ask()
    scene.later(60)
    scene.calls()
    scene.says = AWAY
    for _ in range(600):
        scene.later(1)
        scene.ask()
        scene.ask(f"{KEY}-{scene.now}")  # and somebody nobody knows
        scene.work()
    assert scene.calls() <= 600 / 5 + 5


def test_a_warm_key_waits_for_nothing_while_the_breaker_is_open(scene: Scene) -> None:
    scene.ask()
    scene.open_the_breaker()
    scene.later(400)
    scene.says = AWAY
    assert (scene.ask(), scene.calls()) == ("stale", 0)
    assert (scene.work(), scene.calls()) == (1, 1), "the probe is the background's"


def test_a_key_past_the_hard_limit_is_served_stale_when_its_question_fails(scene: Scene) -> None:
    scene.ask()
    scene.later(301)
    for said in (AWAY, too_many("7")):
        scene.says = said
        assert (scene.ask(), scene.calls() > 0) == ("stale", True)


@pytest.mark.parametrize(
    ("age", "found"), [(899, "stale"), (900, "auth_ConnectionError"), (901, "auth_ConnectionError")]
)
def test_fifteen_minutes_after_the_last_yes_it_counts_no_more(scene: Scene, age: int, found: str) -> None:
    scene.ask()
    scene.says = AWAY
    scene.later(age)
    assert scene.ask() == found


@pytest.mark.parametrize(("age", "found"), [(899, "stale"), (900, "auth_breaker_open")])
def test_an_open_breaker_does_not_make_a_yes_count_for_longer(scene: Scene, age: int, found: str) -> None:
    scene.ask()
    scene.later(age - 1)
    scene.open_the_breaker()
    scene.says = AWAY
    scene.later(1)
    assert (scene.ask(), scene.calls()) == (found, 0)


def test_a_yes_is_as_old_as_its_question(scene: Scene) -> None:
    """An answer may take seconds, and a key be revoked meanwhile."""
    scene.during = lambda: scene.later(4)
    scene.ask()
    scene.during = lambda: None
    scene.says = NO
    scene.later(295)
    assert scene.ask() == "cache"
    scene.later(1)
    assert scene.ask() == "Unauthenticated"


def test_stale_answers_can_be_switched_off() -> None:
    scene = Scene(stale=0)
    scene.ask()
    scene.says = AWAY
    scene.later(301)
    assert scene.ask() == "auth_ConnectionError"


def test_an_unknown_key_is_never_let_in_while_nobody_can_tell(scene: Scene) -> None:
    scene.says = AWAY
    error = raised(scene)
    assert (type(error), error.status, error.headers) == (AuthUnavailable, 503, [("Retry-After", "2")])
    scene.open_the_breaker()
    scene.says = WHO
    scene.later(1.5)
    error = raised(scene)
    assert (error.kind, error.headers, scene.calls()) == ("auth_breaker_open", [("Retry-After", "4")], 0)


def test_what_came_of_an_outage_is_not_remembered(scene: Scene) -> None:
    for said in (AWAY, auth_unavailable("no_yes"), auth_unavailable("status_500")):
        scene.says = said
        assert scene.ask() == said.kind
        scene.says = WHO
        assert scene.ask(f"{KEY}-{said.kind}") == "service"
    assert scene.ask() == "service"


def test_a_failed_look_is_not_repeated_for_five_seconds(scene: Scene) -> None:
    scene.ask()
    scene.says = AWAY
    scene.later(60)
    looks = []
    for _ in range(20):
        scene.ask()
        looks.append(scene.work())
        scene.later(1)
    assert looks == [1, 0, 0, 0, 0] * 4


def test_stale_service_is_told_once_a_minute_for_each_key_id_and_never_with_the_key(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.ask()
    scene.open_the_breaker()
    caplog.clear()
    scene.says = AWAY
    scene.later(400)
    for _ in range(119):
        assert scene.ask() == "stale"
        scene.later(1)
    told = [record.__dict__ for record in caplog.records]
    assert [(one["message"], one["levelname"], one["key_id"], one["age_seconds"]) for one in told] == [
        ("auth_stale_served", "WARNING", "key-1", 400),
        ("auth_stale_served", "WARNING", "key-1", 460),
    ]
    assert KEY not in repr(told)


# --- how much is remembered ---


def test_a_flood_of_made_up_keys_takes_bounded_memory(scene: Scene) -> None:
    good, scene.says = WHO, NO
    scene.says_to[KEY] = good
    scene.ask()

    def flood(begin: int) -> int:
        for number in range(begin, begin + 5000):
            scene.ask(f"{KEY}-{number}", f"203.0.113.{number % 250}")
            scene.later(0.0001)
        scene.asked.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        half = flood(0)
        whole = flood(5000)
    finally:
        tracemalloc.stop()
    assert whole - half < 100_000, "5,000 entries would be about 900,000 bytes"
    assert (scene.ask(), scene.calls()) == ("cache", 0)


@pytest.mark.parametrize("said", [too_many("60"), AWAY])
def test_a_flood_that_the_service_does_not_judge_takes_bounded_memory_too(scene: Scene, said: ProxyError) -> None:
    scene.says = said
    for number in range(5000):
        scene.ask(f"{KEY}-{number}")
        scene.later(0.01)
        if number % 3 == 0:
            scene.says_to[f"{KEY}-{number}"] = NO
    held = scene.validation
    assert len(held._limited) <= 2000 and len(held._cache._refused) <= 2000 and held._flights == {}


# --- the breaker ---


def test_the_breaker_is_told_of_once_when_it_opens_and_once_when_it_closes(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.says = AWAY
    for number in range(20):
        scene.ask(f"{KEY}-{number}")
    scene.says = WHO
    scene.later(5)
    for number in range(20):
        scene.ask(f"{KEY}-{number}")
    told = [(record.message, record.__dict__["state"]) for record in caplog.records]
    assert told == [("auth_breaker", "open"), ("auth_breaker", "closed")]


@pytest.mark.parametrize("said", [NO, auth_unavailable("status_403"), auth_unavailable("status_404")])
def test_an_answer_that_is_a_no_is_no_failure(scene: Scene, said: ProxyError) -> None:
    scene.says = said
    for number in range(30):
        scene.ask(f"{KEY}-{number}")
    scene.says = WHO
    assert (scene.ask(), scene.calls()) == ("service", 31)


@pytest.mark.parametrize("said", [AWAY, auth_unavailable("status_500"), auth_unavailable("no_json"), too_many("3")])
def test_the_fifth_failure_in_a_row_closes_the_way(scene: Scene, said: ProxyError) -> None:
    scene.says = said
    for number in range(10):
        scene.ask(f"{KEY}-{number}")
    assert (scene.calls(), scene.ask()) == (5, "auth_breaker_open")


def test_a_bug_says_nothing_about_the_service_and_blocks_nobody(scene: Scene) -> None:
    scene.open_the_breaker()
    scene.later(5)

    def bug() -> None:
        raise ZeroDivisionError

    scene.during = bug
    with pytest.raises(ZeroDivisionError):
        scene.validation.validate(KEY, HERE)
    scene.during = lambda: None
    assert scene.ask() == "auth_breaker_open"
    scene.later(5)
    assert scene.ask() == "service"


# --- a limit of the auth service's ---


def test_a_limited_key_is_left_alone_for_as_long_as_the_service_said(scene: Scene) -> None:
    scene.says_to[KEY] = too_many("7")
    assert [raised(scene).headers, scene.calls()] == [[("Retry-After", "7")], 1]
    scene.later(2.5)
    error = raised(scene)
    assert (type(error), error.status, error.headers, scene.calls()) == (RateLimited, 429, [("Retry-After", "5")], 0)
    scene.later(4.5)
    assert (raised(scene).headers, scene.calls()) == ([("Retry-After", "7")], 1)


def test_one_limited_key_shuts_nobody_else_out(scene: Scene) -> None:
    """However long it asks and is told to wait."""
    scene.says_to[KEY] = too_many("60")
    for number in range(600):
        scene.later(1)
        assert scene.ask() == "auth_service"
        assert scene.ask(f"{KEY}-{number // 5}") in ("service", "cache")


def test_a_service_that_limits_everybody_is_left_alone_for_as_long_as_it_said(scene: Scene) -> None:
    scene.says = too_many("30")
    for number in range(5):
        assert scene.ask(f"{KEY}-{number}") == "auth_service"
    scene.calls()
    for second in range(1, 30):
        scene.later(1)
        error = raised(scene, f"{KEY}-unknown-{second}")
        assert (error.status, error.headers) == (503, [("Retry-After", str(30 - second))])
    assert scene.calls() == 0
    scene.later(1)
    scene.says = WHO
    assert scene.ask() == "service"


def test_a_warm_key_that_is_limited_is_served_on(scene: Scene) -> None:
    scene.ask()
    scene.says = too_many("60")
    scene.later(60)
    assert (scene.ask(), scene.work(), scene.ask()) == ("cache", 1, "cache")
    scene.later(241)
    assert scene.ask() == "stale"


def test_a_service_that_wants_an_hour_of_rest_gets_no_more_than_the_time_of_a_yes(scene: Scene) -> None:
    scene.says_to[KEY] = too_many("3600")
    scene.ask()
    scene.later(60)
    scene.says_to.clear()
    assert scene.ask() == "service"


# --- addresses ---


def test_a_key_that_is_good_anywhere_is_asked_about_once(scene: Scene) -> None:
    assert [scene.ask(client_ip=address) for address in (HERE, THERE)] == ["service", "cache"]


def test_a_bound_key_is_asked_about_again_for_another_address(scene: Scene) -> None:
    scene.says = BOUND
    assert scene.ask() == "service"
    scene.says = NO
    assert scene.ask(client_ip=THERE) == "Unauthenticated"
    assert scene.asked == [(KEY, HERE), (KEY, THERE)]
    assert scene.ask() == "cache"


def test_a_bound_key_is_not_served_stale_to_another_address(scene: Scene) -> None:
    scene.says = BOUND
    scene.ask()
    scene.says = AWAY
    scene.later(400)
    assert [scene.ask(), scene.ask(client_ip=THERE)] == ["stale", "auth_ConnectionError"]


def test_a_thief_elsewhere_does_not_lock_the_owner_out(scene: Scene) -> None:
    scene.says = NO
    assert scene.ask(client_ip=THERE) == "Unauthenticated"
    scene.says = BOUND
    assert scene.ask() == "service"
    scene.says = NO
    scene.later(60)
    scene.ask(client_ip=THERE)
    assert scene.ask() == "cache"


# --- how much at once ---


def test_more_calls_than_are_allowed_at_once_are_refused_without_waiting() -> None:
    scene = Scene(most_calls=3)
    found: list[str] = []
    errors: list[ProxyError] = []

    def another() -> None:
        if len(scene.asked) < 3:
            found.append(scene.ask(f"{KEY}-{len(scene.asked)}"))
        elif not errors:
            errors.append(raised(scene, OTHER))

    scene.during = another
    found.append(scene.ask())
    assert (found, scene.calls()) == (["service"] * 3, 3)
    assert [(error.status, error.kind, error.headers) for error in errors] == [
        (503, "auth_busy", [("Retry-After", "1")])
    ]
    scene.during = lambda: None
    assert scene.ask(OTHER) == "service", "and the places are given back"


def test_a_full_house_is_no_failure_of_the_service_and_takes_no_probe() -> None:
    scene = Scene(most_calls=1)
    scene.open_the_breaker()
    scene.later(5)

    def crowd() -> None:
        for _ in range(20):
            scene.ask(OTHER)

    scene.during = crowd
    assert scene.ask() == "service"
    scene.during = lambda: None
    assert scene.ask(OTHER) == "service"


def test_a_warm_key_is_served_stale_when_there_is_no_place() -> None:
    scene = Scene(most_calls=1)
    scene.ask()
    scene.later(301)
    found: list[str] = []
    scene.during = lambda: found.append(scene.ask()) if not found else None
    assert scene.ask(OTHER) == "service"
    assert found == ["stale"]
