"""The scaling model: its arithmetic, its ties to the code, settings and Terraform, its check, its page, its command."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.settings import read as read_settings
from benchmarks import capacity, capacity_page, pages
from benchmarks.capacity_check import checks, rate_per_s, room_above_mlflow
from benchmarks.capacity_model import (
    CONNECTION_MB,
    KEY_MB,
    LEAST_TASKS,
    MASTER_MB,
    ROOM,
    SOCKETS_MB,
    WAITING,
    WORKER_MB,
    Costs,
    Demand,
    Task,
    costs_of,
    load_of,
    size,
    tasks_by_limit,
    up,
)
from benchmarks.capacity_neighbours import (
    FREE_RULES,
    REDIS_BYTES_PER_KEY,
    REDIS_COMMANDS_PER_CALL,
    auth_calls_per_s,
    lcus,
)
from tests.unit.vouching import Scene

REPOSITORY = Path(__file__).resolve().parents[2]
LATEST = json.loads((REPOSITORY / "benchmarks" / "results" / "latest.json").read_text())
COSTS = Costs(
    request_cpu_ms=0.5,
    upload_cpu_s_per_gb=0.6,
    download_cpu_s_per_gb=0.8,
    transfer_mb=0.5,
    mlflow_requests_per_s=150.0,
    mlflow_upload_mb_s=200.0,
    mlflow_download_mb_s=300.0,
)
FOREVER = 1e12  # of a limit that is not to bind


def run(small: list[float], upload: list[float], download: list[float]) -> dict[str, Any]:
    """Results with what the check reads: cost and rate through the proxy, cost and rate without it."""
    found: dict[str, Any] = {"machine": {"cores": 2}}
    for name, cost, rate, figures in (
        ("small", "cpu_ms_per_request", "rps", small),
        ("upload", "cpu_s_per_gb", "mb_s", upload),
        ("download", "cpu_s_per_gb", "mb_s", download),
    ):
        found[name] = {"proxy": {cost: figures[0], rate: figures[1]}, "direct": {cost: figures[2], rate: figures[3]}}
    return found


# benchmarks/results/latest.json as it was committed; the page tells how far the model was off.
RUNS = {
    "1cc9a30": run([0.4872, 2033, 0.03351, 35660], [0.6612, 1281, 0.2328, 1884], [0.8382, 1073, 0.5495, 1784]),
    "d79558e": run([0.3411, 2637, 0.01048, 66150], [0.7078, 1046, 0.4005, 1615], [0.6706, 1138, 0.2421, 1679]),
    "87e5a6c": run([1.326, 626.8, 0.0146, 50810], [0.6612, 1276, 0.2887, 1452], [0.6333, 1141, 0.3353, 1877]),
}


# --- the arithmetic ---


def test_processor_time_is_that_of_requests_and_bytes_in_the_busiest_minute() -> None:
    sizing = size(Demand(900, 400, 360, 720, peak=3), Task(), COSTS)
    assert (sizing.load.requests_per_s, sizing.load.upload_mb_s, sizing.load.download_mb_s) == (300, 300, 600)
    assert sizing.cpu_cores == pytest.approx(300 * 0.0005 * WAITING + 0.3 * 0.6 + 0.6 * 0.8)
    assert sizing.tasks_by["cpu"] == 2  # 0.84 cores, of which a task gives 0.6


def test_transfers_at_once_are_bytes_over_how_fast_one_goes() -> None:
    assert size(Demand(1, 0, 36, 36, peak=2, client_mb_s=10), Task(), COSTS).load.transfers == pytest.approx(4)


@pytest.mark.parametrize(
    ("limit", "demand", "task"),
    [
        ("cpu", Demand(10_000, 3600, peak=1), Task()),
        ("network", Demand(10, 1, 5000, 5000, client_mb_s=FOREVER), Task(network_mb_s=50)),
        ("memory", Demand(10, 1, 3600, 3600, client_mb_s=1), Task(network_mb_s=FOREVER, memory_mib=512)),
        (
            "transfers cap",
            Demand(10, 1, 3600, 3600, client_mb_s=1),
            Task(network_mb_s=FOREVER, memory_mib=30_720, transfers_per_worker=10),
        ),
        ("connections", Demand(10_000, 1, connections_per_user=100), Task(memory_mib=30_720, core_factor=10)),
        ("two zones", Demand(1), Task()),
    ],
)
def test_each_limit_can_be_the_one_that_decides(limit: str, demand: Demand, task: Task) -> None:
    sizing = size(demand, task, COSTS)
    assert sizing.binding == limit
    assert sizing.tasks == sizing.tasks_by[limit] == max(sizing.tasks_by.values())
    assert sizing.tasks > LEAST_TASKS or limit == "two zones"


@pytest.mark.parametrize(
    ("vcpu", "workers", "factor", "cores"),
    [(1, 2, 1, 1), (4, 2, 1, 2), (2, 4, 1, 2), (2, 4, 0.5, 1), (0.25, 2, 1, 0.25)],
)
def test_a_task_uses_no_more_cores_than_it_has_workers(vcpu: float, workers: int, factor: float, cores: float) -> None:
    assert Task(vcpu=vcpu, workers=workers, core_factor=factor).usable_cores == cores


@pytest.mark.parametrize(("users", "keys"), [(1000, 1000), (50_000, 10_000)])
def test_memory_holds_the_workers_and_their_keys_first(users: int, keys: int) -> None:
    left_mb = 1024 * 1.048576 * ROOM - 33 - 2 * (56 + keys * 0.00071)
    demand = Demand(users, 1, 0, 36_000, peak=1, client_mb_s=1)
    tasks = tasks_by_limit(load_of(demand), users, Task(memory_mib=1024), COSTS)["memory"]
    assert tasks == pytest.approx((10_000 * 1.7 + users * 4 * 0.015) / left_mb)


def test_a_task_that_does_not_hold_its_workers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"20 workers hold \d+ MB .* 512 MiB are \d+ MB"):
        size(Demand(1), Task(workers=20, memory_mib=512), COSTS)


@pytest.mark.parametrize(("value", "whole"), [(0, 1), (0.2, 1), (1, 1), (3.0000000000004, 3), (3.01, 4)])
def test_tasks_are_whole_and_at_least_one(value: float, whole: int) -> None:
    assert up(value) == whole


@pytest.mark.parametrize(
    "more",
    [
        lambda demand: replace(demand, users=2 * demand.users),
        lambda demand: replace(demand, upload_gb_hour=2 * demand.upload_gb_hour),
        lambda demand: replace(demand, download_gb_hour=2 * demand.download_gb_hour),
        lambda demand: replace(demand, peak=2 * demand.peak),
        lambda demand: replace(demand, client_mb_s=demand.client_mb_s / 2),
    ],
)
def test_more_of_anything_never_needs_less(more: Callable[[Demand], Demand]) -> None:
    for users in (1, 30, 1000, 30_000):
        demand = Demand(users, 400, users * 0.4, users * 1.6)
        before, after = (size(one, Task(), COSTS) for one in (demand, more(demand)))
        assert all(after.tasks_by[limit] >= tasks for limit, tasks in before.tasks_by.items())
        assert after.mlflow_processes >= before.mlflow_processes and after.auth_calls_per_s >= before.auth_calls_per_s


def test_mlflow_processes_are_busy_with_requests_and_with_bytes() -> None:
    demand = Demand(900, 400, 240, 360, peak=3, mlflow_weight=2)  # 300 requests, 200 MB up, 300 MB down in a second
    assert size(demand, Task(target_cpu=0.5), COSTS).mlflow_processes == (4 + 1 + 1) * 2


def test_requests_of_a_full_task_are_what_its_tightest_limit_leaves() -> None:
    requests_alone = size(Demand(100, 3600, peak=1), Task(), COSTS)
    assert requests_alone.requests_per_task_minute == pytest.approx(60 * 0.6 / (0.0005 * WAITING))
    with_bytes = size(Demand(100, 3600, 0, 3600, peak=1), Task(), COSTS)  # 1000 MB, of which a task carries 100
    assert with_bytes.requests_per_task_minute == pytest.approx(100 * 60 / 10)


def test_nobody_who_asks_nothing_costs_nothing() -> None:
    sizing = size(Demand(5, 0), Task(), COSTS)
    assert (sizing.tasks, sizing.auth_calls_per_s, sizing.auth_calls_per_request, sizing.lcus["bytes"]) == (2, 0, 0, 0)
    assert sizing.requests_per_task_minute == 0


def test_lcus_are_those_of_the_price_list() -> None:
    assert set(lcus(1000, 25, 3000, 1, FREE_RULES + 1).values()) == {1.0}
    assert lcus(1000, 0, 0, 0, FREE_RULES)["rule evaluations"] == 0
    averaged = [size(Demand(900, 400, 100, 200, peak=peak), Task(), COSTS).lcus for peak in (1, 5)]
    assert averaged[0] == pytest.approx(averaged[1])  # billed by the hour, whatever its peak
    assert averaged[0]["bytes"] == 300 and averaged[0]["new connections"] == pytest.approx(100 / 10 / 25)


# --- its ties to what it is a model of ---


@pytest.mark.parametrize("requests_per_s", [0.05, 0.5, 5])
def test_the_auth_service_is_asked_as_often_as_the_real_cache_asks_it(requests_per_s: float) -> None:
    """Requests at random, to workers at random; the cache's jitter is off, so a yes is fresh for 54 s."""
    chance, keys, scenes = random.Random(7), ["a", "b", "c"], [Scene() for _ in range(4)]
    now, requests = 1000.0, 4000
    for _ in range(requests):
        now += chance.expovariate(requests_per_s)
        scene = chance.choice(scenes)
        scene.now = now
        scene.ask(chance.choice(keys))
        while scene.waiting:
            scene.waiting.pop()()
    asked_per_s = sum(len(scene.asked) for scene in scenes) / (now - 1000.0)
    assert asked_per_s == pytest.approx(auth_calls_per_s(len(keys), requests_per_s, len(scenes), 54), rel=0.1)


def test_the_auth_service_is_asked_by_every_request_at_most() -> None:
    assert auth_calls_per_s(100, 50, 8, 0) == pytest.approx(50)
    assert auth_calls_per_s(1_000_000, 50, 8, 60) == pytest.approx(50, rel=0.001)
    assert auth_calls_per_s(2, 100_000, 8, 60) == pytest.approx(2 * 8 / 60, rel=0.001)


def test_redis_is_asked_as_many_commands_as_the_script_has() -> None:
    script = (REPOSITORY / "app" / "sliding_windows.lua").read_text()
    assert REDIS_COMMANDS_PER_CALL == 1 + len(re.findall(r"redis\.call\(", script))


def test_a_task_is_what_the_proxy_is_configured_to_be() -> None:
    defaults, task = read_settings({})[1].defaults, Task()
    assert task.transfers_per_worker == int(defaults["TRANSFERS_IN_ALL"])
    assert task.auth_cache_seconds == float(defaults["AUTH_CACHE_SECONDS"])
    connections = re.search(r"^worker_connections = (\d+)", (REPOSITORY / "gunicorn.conf.py").read_text(), re.MULTILINE)
    assert connections is not None and task.connections_per_worker == int(connections[1])


def test_a_task_is_what_terraform_makes() -> None:
    folder, task = REPOSITORY / "infrastructure" / "terraform", Task()
    variables = (folder / "variables.tf").read_text()
    found = dict(
        re.findall(r'^variable "(proxy_\w+)" {\n(?:  (?!default).*\n)*  default += (\d+)$', variables, re.MULTILINE)
    )
    assert {name: int(found[name]) for name in ("proxy_cpu", "proxy_memory", "proxy_workers")} == {
        "proxy_cpu": task.vcpu * 1024,
        "proxy_memory": task.memory_mib,
        "proxy_workers": task.workers,
    }
    rules = (folder / "alb-listener-rules.tf").read_text().count('resource "aws_lb_listener_rule"')
    assert rules + 1 <= task.listener_rules <= FREE_RULES  # and the listener's own


# --- the model against the benchmark ---


@pytest.mark.parametrize(
    "results", [pytest.param(LATEST, id="latest"), *(pytest.param(RUNS[name], id=name) for name in RUNS)]
)
def test_what_was_measured_lies_where_the_costs_say(results: dict[str, Any]) -> None:
    """Of any honest run: benchmarks/capacity_check.py says from what causes the bounds come."""
    outside = [one for one in checks(results) if not one.holds]
    assert outside == []


@pytest.mark.parametrize(
    "figure", [("small", "cpu_ms_per_request"), ("upload", "cpu_s_per_gb"), ("download", "cpu_s_per_gb")]
)
@pytest.mark.parametrize("factor", [0.1, 3])
def test_costs_that_are_wrong_are_noticed(figure: tuple[str, str], factor: float) -> None:
    section, cost = figure
    changed = json.loads(json.dumps(RUNS["1cc9a30"]))
    changed[section]["proxy"][cost] *= factor
    assert [one.rate.partition(" ")[0] for one in checks(changed) if not one.holds] == [section]


@pytest.mark.parametrize(
    ("workers", "cores", "rate"), [(1, 2, 1000), (1, 1, 800), (2, 2, 1600), (2, 8, 2000), (8, 2, 1600)]
)
def test_a_rate_is_what_workers_or_cores_allow(workers: int, cores: int, rate: float) -> None:
    assert rate_per_s(0.001, 0.00025, workers, cores) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("cost_ms", "others_ms", "measured"), [(0.472, 0.0719, 3662), (0.476, 0.0701, 3635), (0.493, 0.0803, 3431)]
)
def test_two_workers_on_two_shared_cores_did_what_the_model_says(
    cost_ms: float, others_ms: float, measured: float
) -> None:
    """Measured beside `make bench`, which measures one worker; all three costs were taken in the same seconds."""
    assert rate_per_s(cost_ms / 1000, others_ms / 1000, workers=2, cores=2) == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize(("over", "holds"), [(1.0, True), (1.04, True), (1.06, False)])
def test_a_rate_may_be_above_its_own_cost_by_what_counting_can_be_wrong(over: float, holds: bool) -> None:
    measured = run([0.5, 2000 * over, 0.03, 35_000], [0.5, 2000 * over, 0.2, 1900], [0.5, 2000 * over, 0.2, 1900])
    assert {one.holds for one in checks(measured)} == {holds}


def test_the_proxy_is_not_the_bottleneck() -> None:
    """What docs/scaling.md says, and plans MLflow's processes by."""
    assert min(room_above_mlflow(LATEST).values()) > 1.5


def test_a_transfers_memory_is_its_share_of_what_fifty_took() -> None:
    assert costs_of(LATEST).transfer_mb == pytest.approx(LATEST["memory"]["rss_growth_mb_50x1gb"] / 50)


def test_figures_that_are_missing_are_named_all_at_once() -> None:
    broken = json.loads(json.dumps(LATEST))
    del broken["small"]["proxy"]["cpu_ms_per_request"]
    broken["mlflow"]["direct"]["rps"] = 0
    broken["memory"]["rss_growth_mb_50x1gb"] = "much"
    with pytest.raises(ValueError, match=r"small\.proxy\.cpu_ms_per_request, memory\.\w+, mlflow\.direct\.rps$"):
        costs_of(broken)


# --- the page ---


def test_the_page_shows_what_the_model_makes_of_the_latest_results() -> None:
    """Red after a change of the model or of the results: `python -m benchmarks.capacity --write-docs`."""
    assert pages.written(capacity_page.PAGE, capacity_page.COMMAND) == capacity_page.for_page(LATEST).strip()


@pytest.mark.parametrize("name", RUNS)
def test_the_page_tells_how_far_the_model_was_off(name: str) -> None:
    off = [f"{100 * (one.measured / one.predicted - 1):.0f} %" for one in checks(RUNS[name])]
    row = next(line for line in capacity_page.PAGE.read_text().splitlines() if line.startswith(f"| `{name}`"))
    assert row.split(" | ")[1:] == [*off[:-1], f"{off[-1]} |"]


@pytest.mark.parametrize(
    "sentence",
    [
        f"The factor {WAITING:g}: behind an upstream",
        f"({ROOM * 100:.0f} % of {Task().network_mb_s:g})",
        f"A worker holds {WORKER_MB:g} MB, the parent {MASTER_MB:g} MB",
        f"10,000 remembered keys {KEY_MB * 10_000:.0f} MB",
        f"half a megabyte of the workers' memory and {SOCKETS_MB:g} MB of the kernel's",
        f"{CONNECTION_MB * 1000:g} kB each when idle",
        f"one goes at {Demand(1).client_mb_s:g} MB/s",
        f"costs MLflow {Demand(1).mlflow_weight:g} of",
        f"{REDIS_BYTES_PER_KEY} bytes for each key seen",
    ],
)
def test_the_page_says_what_the_model_assumes(sentence: str) -> None:
    assert sentence in " ".join(capacity_page.PAGE.read_text().split())


def test_the_tables_are_put_on_the_page(tmp_path: Path) -> None:
    page, there = tmp_path / "page.md", capacity_page.PAGE.read_text()
    page.write_text(there.replace("### Examples", "### Old"))
    capacity_page.renew(LATEST, page)
    assert page.read_text() == there and "### Examples" in there


# --- the command ---


def test_the_command_prints_tasks_limits_neighbours_and_assumptions(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main("--users 500 --upload-gb-hour 200 --download-gb-hour 800 --target-cpu 0.5".split()) == 0
    text = capsys.readouterr().out
    sizing = size(Demand(500, 400, 200, 800), Task(target_cpu=0.5), costs_of(LATEST))
    assert f"=> {sizing.tasks} tasks of 1 vCPU, 2048 MiB and 2 workers. What decides: {sizing.binding}." in text
    for limit, tasks in sizing.tasks_by.items():
        assert re.search(rf"^{limit} +{tasks} ", text, re.MULTILINE)
    for word in ("MLflow", "Redis", "auth service", "load balancer", "Assumed", "--core-factor"):
        assert word in text


def test_the_command_gives_everything_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main("--users 40 --task-vcpu 2 --peak 2 --json".split()) == 0
    found = json.loads(capsys.readouterr().out)
    sizing = size(Demand(40, 400, 16, 64, peak=2), Task(vcpu=2, workers=4), costs_of(LATEST))
    assert found["sizing"]["tasks_by"] == sizing.tasks_by and found["sizing"]["binding"] == sizing.binding
    assert found["task"]["workers"] == 4 and found["demand"]["upload_gb_hour"] == 16
    assert found["demand"]["download_gb_hour"] == 64
    assert found["source"]["date"] == LATEST["date"]


def test_the_command_renews_the_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    renewed: list[Any] = []
    monkeypatch.setattr(capacity_page, "renew", renewed.append)
    assert capacity.main(["--write-docs"]) == 0
    assert renewed == [LATEST] and "scaling.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "how many --users"),
        ("--users 0", "'0' is no whole number of 1 or more"),
        ("--users -5", "--users"),
        ("--users many", "'many' is no whole number"),
        ("--users 5 --upload-gb-hour -1", "--upload-gb-hour"),
        ("--users 5 --upload-gb-hour nan", "nan is not 0 or more"),
        ("--users 5 --download-gb-hour inf", "inf is not 0 or more"),
        ("--users 5 --peak 0.5", "0.5 is not 1 or more"),
        ("--users 5 --target-cpu 60", "60 is not above 0 and at most 1"),
        ("--users 5 --core-factor 0", "0 is not above 0"),
        ("--users 5 --task-vcpu 3", "Fargate has 0.25, 0.5, 1"),
        ("--users 5 --workers 40 --task-memory-mib 512", "40 workers hold"),
        ("--users 5 --results /nowhere/latest.json", "/nowhere/latest.json cannot be read"),
        ("--users 5 --results pyproject.toml", "pyproject.toml cannot be read"),
        ("--nonsense", "--nonsense"),
    ],
)
def test_input_that_makes_no_sense_is_told_with_exit_code_2(
    words: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as left:
        capacity.main(words.split())
    told = capsys.readouterr()
    assert left.value.code == 2 and said in told.err.splitlines()[-1] and told.out == ""


@pytest.mark.parametrize("content", ["[]", "{}", '{"small": 3}'])
def test_results_that_are_none_are_told_with_exit_code_2(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "latest.json"
    file.write_text(content)
    with pytest.raises(SystemExit) as left:
        capacity.main(["--users", "5", "--results", str(file)])
    assert left.value.code == 2 and "results" in capsys.readouterr().err.splitlines()[-1]
