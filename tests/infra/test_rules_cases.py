"""Which service gets which request: the written tables, asked of the rules as the Terraform files have them."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from app.edge import METHODS
from scripts.alb import checks, served, tables
from scripts.alb.matching import Request, asked, covers, decoded, service_of, target_of
from scripts.alb.rules import read_rules
from scripts.alb.tables import Case, Spelling

RULES = read_rules(given={"proxy_weight": 100})
HOSTS = ("registry.hokus.ai", "api.hokus.ai", "auth.hokus.ai")


def service(request: Request) -> str:
    return service_of(target_of(RULES, request))


@pytest.mark.parametrize("case", tables.cases(), ids=lambda case: f"{case.host}{case.target}")
def test_a_request_goes_where_the_table_says_with_every_method(case: Case) -> None:
    found = {method: service(asked(method, case.host, case.target)) for method in METHODS}
    assert found == dict.fromkeys(METHODS, case.service), case.why


def test_the_table_is_large_enough_says_why_and_repeats_nothing() -> None:
    cases = tables.cases()
    assert min(Counter(case.service for case in cases).values()) >= 9
    assert set(Counter((case.host, case.target) for case in cases).values()) == {1}
    assert [case for case in cases if not case.why] == []
    assert {case.service for case in cases} == {"proxy", "api", "auth", "none"}


def test_every_value_of_every_rule_decides_a_case() -> None:
    """A value that no case tells apart could be lost without a red row."""
    values = {(rule.name, path) for rule in RULES for path in rule.paths}
    decided = {
        (rule.name, path)
        for case in tables.cases()
        if (rule := target_of(RULES, asked("GET", case.host, case.target)))
        for path in rule.paths
        if covers(path, case.target.partition("?")[0])
    }
    assert values - decided == set()


def test_what_the_proxy_serves_reaches_it_but_for_the_written_list() -> None:
    assert checks.unserved(RULES) == []


def test_the_list_of_what_is_served_is_not_short() -> None:
    """538 routes, each on both mounts, and what of them the root serves."""
    mounted = [request for request in served.requests("registry.hokus.ai") if request.path.startswith("/mlflow/")]
    assert len(mounted) > 500
    assert [request for request in mounted if service(request) != "proxy"] == []


@pytest.mark.parametrize("host", ["api.hokus.ai", "registry.hokusai.ai", "203.0.113.7", "REGISTRY.hokus.ai:443"])
def test_what_the_mounts_serve_reaches_the_proxy_by_any_other_host_too(host: str) -> None:
    mounted = [request for request in served.requests(host) if request.path.startswith(("/mlflow/", "/api/mlflow/"))]
    assert {service(request) for request in mounted} == {"proxy"}


def test_nothing_of_the_auth_service_s_host_goes_anywhere_else() -> None:
    assert {service(request) for request in served.requests("auth.hokus.ai")} == {"auth"}


# --- paths that are spelt oddly: AWS does not say which of the two readings it takes ---


@pytest.mark.parametrize("row", tables.spellings(), ids=lambda row: f"{row.host}{row.target}")
def test_both_readings_of_an_oddly_spelt_path_are_known_and_what_the_proxy_does_with_it(row: Spelling) -> None:
    request = asked("GET", row.host, row.target)
    assert (service(request), service(decoded(request)), served.answer("GET", row.target)) == row[2:]


def test_what_only_one_reading_gives_to_the_proxy_is_refused_by_it() -> None:
    doubtful = [row for row in tables.spellings() if row.sent != row.decoded]
    assert {row.proxy for row in doubtful} == {served.REFUSED, served.UNKNOWN}
    assert len(doubtful) >= 15


WORDS = (
    "", "..", "%2e%2e", "api", "%61pi", "ajax-api", "mlflow", "%6dlflow", "mlflow%2fversion", "version", "%76ersion",
    "v1", "traces", "mlflow%2f..",
    "2.0/mlflow/experiments/search", "2%2e0/mlflow/experiments/search", "2.0/mlflow-artifacts/artifacts/a%20b",
)  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_the_proxy_forwards_only_what_every_reading_gives_to_the_same_service(host: str) -> None:
    """Every path of up to three such words: as it was sent, decoded, and decoded with dot segments resolved."""
    forwarded, wrong = 0, []
    for length in (1, 2, 3):
        for words in itertools.product(WORDS, repeat=length):
            request = Request("GET", host, "/" + "/".join(words))
            readings = (request, decoded(request), resolved(decoded(request)))
            services = {service(reading) for reading in readings}
            assert services <= {"proxy", "api", "auth", "none"}
            if served.answer("GET", request.path) == served.FORWARDED:
                forwarded += 1
                wrong += [request.path] if len(services) > 1 else []
    assert wrong == []
    assert forwarded >= 10  # else nothing was shown


def resolved(request: Request) -> Request:
    """The request as somebody would see it who resolves dot segments (RFC 3986 section 5.2.4)."""
    kept: list[str] = []
    for segment in request.path.split("/")[1:]:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    return Request(request.method, request.host, "/" + "/".join(kept), request.listener)


# --- what is answered: the proxy's own decisions, as `served` repeats them ---


@pytest.mark.parametrize(
    ("method", "target", "answer"),
    [
        ("GET", "/api/mlflow/version", served.FORWARDED),
        ("GET", "/mlflow/version?x", served.FORWARDED),
        ("GET", "/version", served.FORWARDED),
        ("POST", "/api/2.0/mlflow/experiments/create", served.FORWARDED),
        ("DELETE", "/api/2.0/mlflow/experiments/create", served.UNKNOWN),
        ("GET", "/mlflow/metrics", served.UNKNOWN),  # in the table, for nobody
        ("GET", "/graphql", served.UNKNOWN),  # not at the root
        ("GET", "/mlflow", served.ANSWERED),
        ("GET", "/mlflow/health/mlflow", served.ANSWERED),
        ("GET", "/api/mlflow/whoami", served.ANSWERED),
        ("GET", "/api/mlflow/../x", served.REFUSED),
        ("GET", "//mlflow/version", served.REFUSED),
    ],
)
def test_what_the_proxy_does_with_a_target(method: str, target: str, answer: str) -> None:
    assert served.answer(method, target) == answer
