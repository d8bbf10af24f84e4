"""Requests through the load balancer that HAProxy plays: each arrives where the model says, as it was sent.

First before stubs, which keep every byte they get, then before the real proxy and a real MLflow. The model is
scripts/alb/matching.py; what is not played as AWS does it: scripts/alb/haproxy.py. HAProxy writes the names of headers
in lower case towards the target, and compares paths as they were sent, not decoded.
"""

from __future__ import annotations

import http.client
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import NamedTuple

import pytest

from scripts.alb.matching import NOBODY, asked, service_of, target_of
from scripts.alb.rules import read_rules
from tests.support.alb import NEEDS_HAPROXY, Alb
from tests.support.auth_service import GOOD_KEY
from tests.support.client import RawResponse, request
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream

pytestmark = NEEDS_HAPROXY

RULES = read_rules()
REGISTRY, AUTH, API = "registry.hokus.ai", "auth.hokus.ai", "api.hokus.ai"
HOSTS = (
    *(
        REGISTRY,
        "Registry.Hokus.AI",
        f"{REGISTRY}:443",
        "REGISTRY.hokus.ai:8443",
        f"x{REGISTRY}",
        f"{REGISTRY}.",
        "hokus.ai",
    ),
    *(AUTH, "Auth.hokus.ai:443", f"a.{AUTH}", API, API, "127.0.0.1", "192.0.2.7:80"),
)
METHODS = ("GET", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
WORDS = (
    *(
        "api",
        "mlflow",
        "API",
        "Mlflow",
        "mlflowx",
        "apidocs",
        "2.0",
        "3.0",
        "ajax-api",
        "mlflow-artifacts",
        "v1",
        "traces",
    ),
    *(
        "version",
        "health",
        "experiments",
        "search",
        "",
        ".",
        "..",
        "%2F",
        "%2f..",
        "%2e%2e",
        "m%6Cflow",
        "a%20b",
        "~x'",
    ),
)
NEAR = (
    *("/api/mlflow", "/api/mlflow/", "/mlflow", "/mlflow/", "/api/2.0/mlflow/runs/get", "/api/3.0/mlflow/traces"),
    *(
        "/ajax-api/2.0/mlflow/runs/get",
        "/v1/traces",
        "/version",
        "/api",
        "/api/v1/keys/validate",
        "/mlflow/health/mlflow",
    ),
)
CHARACTERS = "/aAm.%2?*-_~:;=@!$&'()+,\"<>[]{}|^`"
SEED = 20261121
STUBBED, REAL = 400, 250
OUTCOMES = {"proxy", "api", "auth", NOBODY}
EACH_AT_LEAST = 20  # of every outcome, or the sample says nothing
THROWS = 1000
RISK = 1e-9  # that a balancer which shares rightly is called wrong
KEY = ("Authorization", f"Bearer {GOOD_KEY}")
Stubs = Mapping[str, RecordingUpstream]


class Sample(NamedTuple):
    """A request line and a Host header."""

    method: str
    host: str
    target: str

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def service(self) -> str:
        """Where the model sends it."""
        return service_of(target_of(RULES, asked(self.method, self.host, self.target)))


def samples(count: int) -> Iterator[tuple[str, Sample]]:
    """Requests with their ids: paths of words that matter, and paths of rules with a character changed."""
    chance = random.Random(SEED)
    for number in range(count):
        if chance.random() < 0.5:
            path = "/" + "/".join(chance.choices(WORDS, k=chance.randint(0, 5)))
        else:
            path = changed(chance, chance.choice(NEAR))
        query = chance.choice(("", "", "?", "?a=b&a=%2F/..", "?/api/mlflow/x"))
        yield f"sample-{number}", Sample(chance.choice(METHODS), chance.choice(HOSTS), path + query)


def changed(chance: random.Random, path: str) -> str:
    """A path with up to two characters taken out, put in or replaced, the first slash apart."""
    for _ in range(chance.randint(0, 2)):
        at = chance.randint(1, len(path))
        path = path[:at] + chance.choice(("", chance.choice(CHARACTERS))) + path[at + chance.randint(0, 1) :]
    return path


def body_of(sample: Sample) -> bytes | None:
    return sample.target.encode() * 3 if sample.method in ("POST", "PUT", "PATCH", "DELETE") else None


def send(alb: Alb, sample: Sample, *headers: tuple[str, str]) -> RawResponse:
    return request(
        alb.port, sample.method, sample.target, [("Host", sample.host), *headers], body_of(sample), timeout=30
    )


@contextmanager
def stubbed(change: Callable[[str], str] = str, **given: object) -> Iterator[tuple[Alb, Stubs]]:
    """A load balancer before nothing but stubs."""
    with ExitStack() as stack:
        stubs = {name: stack.enter_context(RecordingUpstream()) for name in ("proxy", "api", "auth")}
        ports = {name: [stub.port] for name, stub in stubs.items()}
        yield stack.enter_context(Alb(ports, given=given, change=change)), stubs


def received(stub: RecordingUpstream) -> list[Recorded]:
    """What a stub got, but for the balancer's own health checks, which come when they like."""
    return [one for one in list(stub.requests) if one.values("User-Agent") != [b"ELB-HealthChecker/2.0"]]


def arrived(stubs: Stubs) -> dict[str, str]:
    """Which stub got the request with which id."""
    return {
        request_id.decode(): name
        for name, stub in stubs.items()
        for one in received(stub)
        for request_id in one.values("X-Request-ID")
    }


def disagreements(alb: Alb, stubs: Stubs, count: int) -> list[str]:
    """Samples that went elsewhere than the model says."""
    wanted = {}
    for request_id, sample in samples(count):
        send(alb, sample, ("X-Request-ID", request_id))
        wanted[request_id] = (sample.service, sample)
    found = arrived(stubs)
    return [
        f"{one} -> {found.get(id_, NOBODY)}, not {to}"
        for id_, (to, one) in wanted.items()
        if found.get(id_, NOBODY) != to
    ]


@pytest.fixture(scope="module")
def before_stubs() -> Iterator[tuple[Alb, Stubs]]:
    with stubbed() as both:
        yield both


@pytest.fixture(scope="module")
def before_the_proxy(real_proxy: Proxy) -> Iterator[tuple[Alb, Stubs]]:
    """The real proxy before a real MLflow; stubs for the API and the auth service."""
    with RecordingUpstream() as api, RecordingUpstream() as auth:
        with Alb({"proxy": [real_proxy.port], "api": [api.port], "auth": [auth.port]}) as alb:
            yield alb, {"api": api, "auth": auth}


def test_every_request_arrives_where_the_model_says_byte_for_byte(before_stubs: tuple[Alb, Stubs]) -> None:
    alb, stubs = before_stubs
    went: Counter[str] = Counter()
    for request_id, sample in samples(STUBBED):
        answer = send(alb, sample, ("X-Request-ID", request_id))
        to = sample.service
        assert arrived(stubs).get(request_id, NOBODY) == to, str(sample)
        went[to] += 1
        if to == NOBODY:
            assert (answer.status, answer.header("Content-Type")) == (404, "application/json")
            assert sample.method == "HEAD" or answer.json()["error_code"] == "ENDPOINT_NOT_FOUND"
            continue
        recorded = received(stubs[to])[-1]
        assert recorded.line == f"{sample.method} {sample.target} HTTP/1.1".encode()
        assert recorded.body == (body_of(sample) or b"")
        assert recorded.values("Host") == [sample.host.partition(":")[0].encode()]
    assert set(went) == OUTCOMES and min(went.values()) >= EACH_AT_LEAST, went


def test_rules_in_the_wrong_order_are_seen() -> None:
    """The rehearsal can fail: asked from the last rule to the first, it disagrees with the model."""

    def backwards(configuration: str) -> str:
        lines = configuration.splitlines(keepends=True)
        choices = [line for line in lines if line.strip().startswith("use_backend")]
        return "".join(choices.pop() if line.strip().startswith("use_backend") else line for line in lines)

    with stubbed(backwards) as (alb, stubs):
        assert len(disagreements(alb, stubs, 100)) > 10


def test_the_real_proxy_gets_what_the_model_says_byte_for_byte(
    before_the_proxy: tuple[Alb, Stubs], real_proxy: Proxy
) -> None:
    """Without a key: what is asked at random must not reach MLflow. The access line says what came in."""
    alb, stubs = before_the_proxy
    went: Counter[str] = Counter()
    for number, sample in samples(REAL):
        request_id = f"real-{number}"
        answer = send(alb, sample, ("X-Request-ID", request_id))
        to = sample.service
        went[to] += 1
        if to == "proxy":
            line = real_proxy.access_line(request_id)
            assert (line["method"], line["path"]) == (sample.method, sample.path)
            assert answer.status == line["status"] < 500, str(sample)
        else:
            assert arrived(stubs).get(request_id, NOBODY) == to, str(sample)
    assert set(went) == OUTCOMES and min(went.values()) >= EACH_AT_LEAST, went


HEALTHY = {"healthy", "enabled", "disabled"}
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=5"
FILES = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.mark.usefixtures("auth_service")
@pytest.mark.parametrize("mount", ["/api/mlflow", "/mlflow"])
@pytest.mark.parametrize("host", [REGISTRY, API])
def test_health_pages_are_reached_on_every_mount(before_the_proxy: tuple[Alb, Stubs], host: str, mount: str) -> None:
    alb, _ = before_the_proxy
    for page in ("/health", "/health/mlflow", "/health/mlflow/detailed"):
        answer = send(alb, Sample("GET", host, mount + page))
        assert (answer.status, answer.header("Content-Type")) == (200, "application/json"), (page, answer.body)
    checks = send(alb, Sample("GET", host, f"{mount}/health/mlflow")).json()["checks"]
    assert {check["status"] for check in checks.values()} <= HEALTHY


@pytest.mark.usefixtures("auth_service")
@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        (REGISTRY, f"/api/mlflow{SEARCH}", 200),
        (API, f"/api/mlflow{SEARCH}", 200),
        (REGISTRY, f"/mlflow{SEARCH}", 200),
        (REGISTRY, f"/mlflow{SEARCH.replace('/api/', '/ajax-api/')}", 200),
        (REGISTRY, SEARCH, 200),
        (REGISTRY, SEARCH.replace("/api/", "/ajax-api/"), 200),
        (REGISTRY, f"/api/mlflow{FILES}", 200),
        (REGISTRY, f"/api/mlflow{FILES}/no/such/file.bin", 404),
        (REGISTRY, f"/mlflow{FILES}/no/such/file.bin", 404),
        (REGISTRY, f"{FILES}/no/such/file.bin", 404),
        (REGISTRY, "/api/mlflow/version", 200),
        (REGISTRY, "/mlflow/version", 200),
        (REGISTRY, "/version", 200),
        (REGISTRY, "/mlflow/", 200),
    ],
)
def test_paths_that_are_in_use_lead_to_mlflow_with_a_key_and_to_a_refusal_without(
    before_the_proxy: tuple[Alb, Stubs], host: str, path: str, status: int
) -> None:
    """Those of before this proxy, the ones that went straight to MLflow among them."""
    alb, _ = before_the_proxy
    answer = send(alb, Sample("GET", host, path), KEY)
    assert answer.status == status, answer.body[:300]
    if status == 404:
        assert "error_code" in answer.json()
    refused = send(alb, Sample("GET", host, path))
    assert (refused.status, refused.json()["error_code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("host", "path", "to"),
    [
        *(
            (REGISTRY, path, "api")
            for path in ("/health", "/health/alb", "/health/live", "/ready", "/live", "/metrics", "/")
        ),
        *((API, path, "api") for path in ("/api/health/mlflow", "/api/health/mlflow/detailed", "/api/v1/dspy/health")),
        (REGISTRY, "/api/health/mlflow/connectivity", "api"),
        (AUTH, "/api/v1/keys/validate", "auth"),
        (AUTH, "/api/mlflow/health", "auth"),
        (AUTH, "/mlflow/health", "auth"),
    ],
)
def test_what_belongs_to_other_services_stays_theirs(
    before_the_proxy: tuple[Alb, Stubs], host: str, path: str, to: str
) -> None:
    alb, stubs = before_the_proxy
    assert send(alb, Sample("GET", host, path), ("X-Request-ID", f"theirs-{host}-{path.count('/')}")).status == 200
    assert received(stubs[to])[-1].target == path.encode()


@pytest.mark.usefixtures("auth_service")
def test_a_browser_is_sent_to_the_mount_with_a_slash_on_the_same_host(before_the_proxy: tuple[Alb, Stubs]) -> None:
    alb, _ = before_the_proxy
    answer = send(alb, Sample("GET", REGISTRY, "/mlflow"), KEY, ("Accept", "text/html"))
    assert 300 < answer.status < 400
    assert not re.match(r"https?:|//", answer.header("Location") or "https:")


@pytest.mark.parametrize("forged", [None, "203.0.113.9", "203.0.113.9, 198.51.100.7", "127.0.0.9,", "rubbish"])
def test_the_client_is_the_one_the_balancer_saw(
    before_the_proxy: tuple[Alb, Stubs], real_proxy: Proxy, forged: str | None
) -> None:
    alb, _ = before_the_proxy
    request_id = f"client-{len(forged or '')}"
    headers = {"Host": REGISTRY, "X-Request-ID": request_id, **({"X-Forwarded-For": forged} if forged else {})}
    connection = http.client.HTTPConnection("127.0.0.1", alb.port, source_address=("127.0.0.2", 0))
    connection.request("GET", "/api/mlflow/health", headers=headers)
    assert connection.getresponse().status == 200
    connection.close()
    assert real_proxy.access_line(request_id)["client_ip"] == "127.0.0.2"


OWN = r"1-[0-9a-f]{8}-[0-9a-f]{24}"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("nothing of the kind", ""),
        ("Root=1-67891233-abcdef012345678912345678", "Root=1-67891233-abcdef012345678912345678"),
        ("Self=1-67891233-0a;Root=1-67891233-abcdef;a=b", "Root=1-67891233-abcdef;a=b"),
    ],
)
def test_what_the_balancer_says_of_a_request(before_stubs: tuple[Alb, Stubs], given: str, kept: str) -> None:
    alb, stubs = before_stubs
    headers = [("X_Hokusai_User_Id", "someone"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-For", "203.0.113.9")]
    traced = [("X-Amzn-Trace-Id", given)] if given else []
    send(alb, Sample("GET", REGISTRY, "/mlflow/"), *headers, *traced)
    recorded = received(stubs["proxy"])[-1]
    assert recorded.values("X-Forwarded-Proto") == [b"https"]
    assert recorded.values("X-Forwarded-Port") == [b"443"]
    assert recorded.values("X-Forwarded-For") == [b"203.0.113.9, 127.0.0.1"]
    assert recorded.values("X_Hokusai_User_Id") == []
    (trace,) = recorded.values("X-Amzn-Trace-Id")
    assert re.fullmatch(f"Self={OWN};{re.escape(kept)}" if kept else f"Root={OWN}", trace.decode())


def test_ids_arrive_in_the_access_line_and_at_mlflow_s_door(
    before_the_proxy: tuple[Alb, Stubs], real_proxy: Proxy
) -> None:
    alb, _ = before_the_proxy
    root = "1-67891233-abcdef012345678912345678"
    headers = [("X-Request-ID", "mine-1"), ("X-Amzn-Trace-Id", f"Root={root}")]
    answer = send(alb, Sample("GET", REGISTRY, "/mlflow/health"), *headers)
    assert answer.header("X-Request-ID") == "mine-1"
    assert real_proxy.access_line("mine-1")["trace_id"] == root
    made = send(alb, Sample("GET", REGISTRY, "/mlflow/health")).header("X-Request-ID")
    assert re.fullmatch(OWN, real_proxy.access_line(made or "")["trace_id"])


@pytest.mark.usefixtures("auth_service")
def test_a_request_line_of_16_k_is_passed_on(before_the_proxy: tuple[Alb, Stubs]) -> None:
    """What an ALB passes; GET searches of the MLflow client grow long."""
    alb, _ = before_the_proxy
    target = f"/mlflow{SEARCH}&filter=" + "x" * 100
    target += "&padding=" + "y" * (16_000 - len(target))
    answer = send(alb, Sample("GET", REGISTRY, target), KEY)
    assert answer.status == 400 and answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"  # MLflow: no such filter


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/api/mlflow/health", "/mlflow/x?a=%2F&a=b"])
def test_plain_http_is_only_redirected(before_stubs: tuple[Alb, Stubs], method: str, path: str) -> None:
    alb, stubs = before_stubs
    before = {name: len(received(stub)) for name, stub in stubs.items()}
    answer = request(alb.http_port, method, path, [("Host", f"{REGISTRY}:80")], b"{}" if method == "POST" else None)
    assert (answer.status, answer.header("Location")) == (301, f"https://{REGISTRY}:443{path}")
    assert {name: len(received(stub)) for name, stub in stubs.items()} == before


def test_trace_is_refused(before_stubs: tuple[Alb, Stubs]) -> None:
    alb, _ = before_stubs
    assert send(alb, Sample("TRACE", REGISTRY, "/mlflow/")).status == 405


def bounds(count: int, share: float) -> tuple[int, int]:
    """Between which numbers a right balancer's count lies, but for RISK: the binomial distribution's two tails."""
    chances = [math.comb(count, some) * share**some * (1 - share) ** (count - some) for some in range(count + 1)]
    low, below = 0, 0.0
    while below + chances[low] < RISK / 2:
        below, low = below + chances[low], low + 1
    high, above = count, 0.0
    while above + chances[high] < RISK / 2:
        above, high = above + chances[high], high - 1
    return low, high


def test_the_bounds_tell_the_weights_of_a_rollout_apart() -> None:
    found = [bounds(THROWS, weight / 100) for weight in (0, 5, 25, 100)]
    assert found[0] == (0, 0) and found[-1] == (THROWS, THROWS)
    assert all(low[1] < high[0] for low, high in pairwise(found))


@pytest.mark.parametrize(("weight", "count"), [(0, 200), (5, THROWS), (25, THROWS), (100, 200)])
def test_a_weight_is_the_proxy_s_share_and_the_old_target_gets_the_rest(weight: int, count: int) -> None:
    """Of HAProxy's own dice, which cannot be seeded. 5 of 100 is told from 25, and both from none and all."""
    low, high = bounds(count, weight / 100)
    targets = ("/api/mlflow/x", "/mlflow", "/v1/traces", "/api/2.0/mlflow/runs/get")
    with stubbed(proxy_weight=weight) as (alb, stubs):
        connection = http.client.HTTPConnection("127.0.0.1", alb.port)
        for number in range(count):
            connection.request("GET", targets[number % len(targets)], headers={"Host": REGISTRY})
            assert connection.getresponse().read()
        connection.close()
        got = {name: len(received(stub)) for name, stub in stubs.items()}
    assert low <= got["proxy"] <= high
    assert (got["api"], got["auth"]) == (count - got["proxy"], 0)
