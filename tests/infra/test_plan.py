"""What Terraform would make of the example's variables, held against the proxy itself: its settings, its gunicorn
configuration, its image. Nothing here repeats a figure that one of them holds.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app import create_app
from app.settings import Settings, read
from tests.support import terraform
from tests.support.process import clean_environment, kill_group

REPOSITORY = terraform.MODULE.parents[1]
DOCKERFILE = re.sub(r"\\\n", " ", (REPOSITORY / "Dockerfile").read_text())
MLFLOW_CLIENT_SECONDS = 120  # MLFLOW_HTTP_REQUEST_TIMEOUT, when the MLflow client gives up
FARGATE_STOP_SECONDS = 120  # the longest stopTimeout there
ANYBODY = "0.0.0.0/0"
PATIENCE = 20.0  # seconds for what takes none
Container = dict[str, Any]
Resources = dict[str, dict[str, Any]]
Environment = dict[str, str]


@pytest.fixture(scope="module")
def started(proxy: Container, environment: Environment) -> Environment:
    """All that the container finds in its environment, with something in the place of each secret."""
    return {**{secret["name"]: "given-by-ecs" for secret in proxy["secrets"]}, **environment}


@pytest.fixture(scope="module")
def settings(started: Environment) -> Settings:
    """What the proxy makes of that. Raises ConfigError with every fault."""
    return Settings.from_env(started)


@pytest.fixture(scope="module")
def gunicorn(started: Environment) -> dict[str, str]:
    """What gunicorn makes of gunicorn.conf.py in that environment, after it has loaded the proxy; by its own report."""
    command = [sys.executable, "-m", "gunicorn", "--print-config", "--config", "gunicorn.conf.py", "wsgi:app"]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(started), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.partition("=") for line in done.stdout.splitlines()]
    return {name.strip(): value.strip() for name, _, value in lines}


def port_of(container: Container) -> int:
    (mapping,) = container["portMappings"]
    assert mapping["containerPort"] == mapping["hostPort"]
    return int(mapping["containerPort"])


def described(resources: Resources, role: str) -> list[dict[str, Any]]:
    """The statements of a policy document that waits for an ARN, and of those it is built on."""
    document = resources[f"data.aws_iam_policy_document.{role}"]
    built_on = [json.loads(policy)["Statement"] for policy in document["source_policy_documents"]]
    return [*document["statement"], *(statement for statements in built_on for statement in statements)]


def listed(value: str | list[str]) -> list[str]:
    """A policy says one thing without a list."""
    return [value] if isinstance(value, str) else value


# --- the proxy finds MLflow ---


def test_the_proxy_asks_for_the_name_that_cloud_map_gives(
    resources: Resources, environment: Environment, mlflow: Container
) -> None:
    namespace = resources["aws_service_discovery_private_dns_namespace.main"]["name"]
    service = resources["aws_service_discovery_service.mlflow"]["name"]
    assert namespace == "hokusai-production.local"
    assert environment["MLFLOW_SERVER_URL"] == f"http://{service}.{namespace}:{port_of(mlflow)}"
    assert "MLFLOW_TRACKING_URI" not in environment


def test_the_name_has_an_address_for_each_task_and_changes_soon(resources: Resources) -> None:
    service = resources["aws_service_discovery_service.mlflow"]
    (dns,) = service["dns_config"]
    assert dns["routing_policy"] == "MULTIVALUE"
    assert dns["dns_records"] == [{"type": "A", "ttl": 10}]
    assert service["health_check_custom_config"]  # ECS says which are healthy
    assert not service["health_check_config"]


def test_the_tasks_of_mlflow_are_entered_under_that_name(references: Resources) -> None:
    (registry,) = references["aws_ecs_service.mlflow"]["service_registries"]
    assert "aws_service_discovery_service.mlflow" in registry["registry_arn"]["references"]


def test_nothing_but_the_auth_service_is_asked_for_by_a_public_name(
    environment: Environment, settings: Settings
) -> None:
    hosts = {name: urlsplit(value).hostname for name, value in environment.items() if "://" in value}
    assert set(hosts) == {"MLFLOW_SERVER_URL", "HOKUSAI_AUTH_SERVICE_URL"}
    assert (hosts["MLFLOW_SERVER_URL"] or "").endswith(".local")
    assert settings.upstream.style == "api"


def test_every_public_host_is_refused_as_mlflow(started: Environment, planned: dict[str, Any]) -> None:
    """The loop that was the original outage."""
    given = {name: planned["variables"][name]["value"] for name in ("registry_host", "auth_host")}
    for host in given.values():
        _, reader = read({**started, "MLFLOW_SERVER_URL": f"https://{host}/mlflow"})
        assert len(reader.faults) == 1
    assert started["PUBLIC_HOSTS"].startswith(given["registry_host"])  # what whoami tells users


# --- the proxy starts ---


def test_the_proxy_accepts_its_environment(settings: Settings) -> None:
    assert settings.limits.redis_url.startswith("rediss://:given-by-ecs@")
    assert settings.metrics.emf
    assert settings.trusted_hops == 1


def test_the_proxy_knows_every_variable_that_it_is_given(started: Environment) -> None:
    _, reader = read(started)
    assert set(started) <= set(reader.defaults)


def test_gunicorn_loads_the_proxy_with_it(gunicorn: dict[str, str], proxy: Container) -> None:
    assert gunicorn["bind"] == str([f"0.0.0.0:{port_of(proxy)}"])


def test_the_target_group_asks_where_the_proxy_listens(
    resources: Resources, settings: Settings, proxy: Container
) -> None:
    (balancer,) = resources["aws_ecs_service.proxy"]["load_balancer"]
    target_group = resources["aws_lb_target_group.proxy"]
    assert balancer["container_name"] == proxy["name"]
    assert {balancer["container_port"], target_group["port"], settings.port} == {port_of(proxy)}
    assert settings.host == "0.0.0.0"


def test_the_health_check_asks_for_a_page_that_the_proxy_serves_without_mlflow(
    resources: Resources, settings: Settings
) -> None:
    (check,) = resources["aws_lb_target_group.proxy"]["health_check"]
    answer = create_app(settings).test_client().get(check["path"], headers={"Host": "192.0.2.1:8001"})
    assert str(answer.status_code) == check["matcher"]  # and the name of MLflow leads nowhere here
    assert check["timeout"] < check["interval"]


def test_the_containers_health_check_is_the_images(proxy: Container) -> None:
    found = re.search(r"HEALTHCHECK (.*?)\s+CMD (\[.*\])", DOCKERFILE)
    assert found
    times = dict(re.findall(r"--([a-z-]+)=(\d+)", found[1]))
    assert proxy["healthCheck"] == {
        "command": ["CMD", *json.loads(found[2])],
        "interval": int(times["interval"]),
        "timeout": int(times["timeout"]),
        "startPeriod": int(times["start-period"]),
        "retries": int(times["retries"]),
    }


# --- the chain of timeouts ---


def test_whoever_is_nearer_to_mlflow_gives_up_first(
    resources: Resources, settings: Settings, gunicorn: dict[str, str]
) -> None:
    """So that the proxy can say what happened; and gunicorn closes no connection that the load balancer may use."""
    idle = resources["aws_lb.main"]["idle_timeout"]
    timeouts = settings.upstream.timeouts
    assert timeouts.read < timeouts.artifact_read < idle < int(gunicorn["keepalive"])
    assert timeouts.read < MLFLOW_CLIENT_SECONDS
    assert settings.alb_idle_timeout == idle


def test_a_stop_is_over_before_ecs_kills(proxy: Container, gunicorn: dict[str, str]) -> None:
    assert int(gunicorn["graceful_timeout"]) + 5 <= proxy["stopTimeout"] <= FARGATE_STOP_SECONDS


def test_a_task_that_leaves_may_finish_what_may_be_silent_for_so_long(resources: Resources, settings: Settings) -> None:
    delay = int(resources["aws_lb_target_group.proxy"]["deregistration_delay"])
    assert settings.upstream.timeouts.artifact_read <= delay <= 3600


# --- who may speak to whom, as Terraform understands it ---


def test_the_plan_has_the_ways_of_the_files(resources: Resources, references: Resources) -> None:
    """tests/infra/test_terraform.py judges the files; here it shows that Terraform reads them the same."""
    ways = set()
    for address, expressions in references.items():
        if found := re.match(r"aws_vpc_security_group_(ingress|egress)_rule\.", address):
            ours = expressions["security_group_id"]["references"][1]
            other = expressions.get("referenced_security_group_id", {}).get("references", [ANYBODY])[0]
            ways.add((found[1], ours.rpartition(".")[2], other, resources[address]["from_port"]))
    assert {way for way in ways if way[:2] == ("ingress", "mlflow")} == {
        ("ingress", "mlflow", "aws_security_group.proxy.id", 5000)
    }
    assert ("egress", "proxy", "aws_security_group.mlflow.id", 5000) in ways
    assert ("ingress", "proxy", "aws_security_group.alb.id", 8001) in ways
    assert ("egress", "alb", "aws_security_group.proxy.id", 8001) in ways
    assert len(ways) == len([address for address in references if "_security_group_" in address])


def test_no_listener_forwards_to_anything_but_these_three(references: Resources) -> None:
    """There is no target group of MLflow's, so nothing can lead to it past the proxy."""
    assert [address for address in references if address.startswith("aws_lb_target_group.")] == [
        "aws_lb_target_group.proxy"
    ]


# --- the container ---


def test_the_container_can_change_nothing(proxy: Container, mlflow: Container) -> None:
    for container in (proxy, mlflow):
        assert container["readonlyRootFilesystem"] is True
        assert container["linuxParameters"]["capabilities"] == {"drop": ["ALL"], "add": []}
        assert container.get("privileged", False) is False
    assert "mountPoints" not in proxy
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert proxy["user"] == user != "0"


def test_the_container_starts_gunicorn_as_the_image_does(proxy: Container) -> None:
    """No shell in between that would keep SIGTERM for itself."""
    assert not {"command", "entryPoint"} & set(proxy)
    assert proxy["linuxParameters"]["initProcessEnabled"] is True


def test_a_worker_may_open_as_many_sockets_as_it_takes_connections(proxy: Container, gunicorn: dict[str, str]) -> None:
    """One to the client, one to MLflow."""
    (limit,) = proxy["ulimits"]
    assert limit["name"] == "nofile"
    assert 2 * int(gunicorn["worker_connections"]) < limit["softLimit"] <= limit["hardLimit"]


@pytest.mark.parametrize("name", ["proxy", "mlflow"])
def test_a_slow_cloudwatch_stops_nobody(request: pytest.FixtureRequest, resources: Resources, name: str) -> None:
    logging = request.getfixturevalue(name)["logConfiguration"]
    assert logging["logDriver"] == "awslogs"
    assert logging["options"]["mode"] == "non-blocking"
    assert re.fullmatch(r"\d+m", logging["options"]["max-buffer-size"])
    assert logging["options"]["awslogs-group"] == resources[f"aws_cloudwatch_log_group.{name}"]["name"]


def test_the_proxy_has_processors_for_its_workers(resources: Resources, settings: Settings) -> None:
    """Two workers for each (docs/configuration.md)."""
    assert settings.workers == 2 * int(resources["aws_ecs_task_definition.proxy"]["cpu"]) // 1024


# --- deployments ---


@pytest.mark.parametrize("name", ["proxy", "mlflow"])
def test_a_deployment_takes_nobody_away_and_goes_back_when_it_fails(resources: Resources, name: str) -> None:
    service = resources[f"aws_ecs_service.{name}"]
    assert service["deployment_circuit_breaker"] == [{"enable": True, "rollback": True}]
    assert service["deployment_minimum_healthy_percent"] == 100
    assert service["deployment_maximum_percent"] == 200
    assert service["availability_zone_rebalancing"] == "ENABLED"
    assert service["desired_count"] >= 2


def test_the_alarms_that_roll_a_deployment_back_are_there(planned: dict[str, Any], resources: Resources) -> None:
    """ECS refuses the name of an alarm that does not exist."""
    (alarms,) = resources["aws_ecs_service.proxy"]["alarms"]
    there = {found["alarm_name"] for address, found in resources.items() if "_metric_alarm." in address}
    assert (alarms["enable"], alarms["rollback"]) == (True, True)
    assert len(alarms["alarm_names"]) == 2 and set(alarms["alarm_names"]) <= there
    assert planned["planned_values"]["outputs"]["rollback_alarm_names"]["value"] == alarms["alarm_names"]


def test_the_task_publishes_under_the_name_that_the_alarms_watch(settings: Settings, resources: Resources) -> None:
    task = resources["aws_ecs_task_definition.proxy"]
    assert (settings.metrics.emf, settings.metrics.service) == (
        True,
        task["family"],
    )  # tests/infra/test_alarms.py: PREFIX


def test_a_new_task_has_a_minute_before_the_load_balancer_may_call_it_ill(resources: Resources) -> None:
    assert resources["aws_ecs_service.proxy"]["health_check_grace_period_seconds"] == 60


# --- secrets and permissions ---


def test_no_secret_is_in_plain_sight(started: Environment, proxy: Container, mlflow: Container) -> None:
    _, reader = read(started)
    secret = {name.removesuffix("_FILE") for name in reader.defaults if name.endswith("_FILE")}
    assert len(secret) >= 3  # the proxy still says which are secret
    for container in (proxy, mlflow):
        plain = {variable["name"]: variable["value"] for variable in container["environment"]}
        assert not secret & set(plain)
        assert not [name for name in plain if re.search("PASSWORD|TOKEN|SECRET|STORE_URI", name)]
        texts = [*plain.values(), *container.get("command", [])]
        assert not [text for text in texts if re.search("://[^/]*@", text)]


@pytest.mark.parametrize("name", ["proxy", "mlflow"])
def test_ecs_may_read_the_secrets_of_the_task_and_no_others(
    request: pytest.FixtureRequest, resources: Resources, references: Resources, name: str
) -> None:
    secrets = {secret["name"]: secret["valueFrom"] for secret in request.getfixturevalue(name)["secrets"]}
    (readable,) = [
        statement["resources"]
        for statement in described(resources, f"{name}_execution")
        if statement.get("actions") == ["secretsmanager:GetSecretValue"]
    ]
    parameters = [value for value in secrets.values() if not value.startswith("arn:")]
    assert set(readable) | set(parameters) == set(secrets.values())
    assert parameters == ([resources["aws_ssm_parameter.redis_host"]["name"]] if name == "proxy" else [])
    role = references[f"aws_ecs_task_definition.{name}"]["execution_role_arn"]["references"]
    assert f"aws_iam_role.{name}_execution" in role


@pytest.mark.parametrize("name", ["proxy", "mlflow"])
def test_ecs_may_do_nothing_else_when_it_starts_a_task(resources: Resources, name: str) -> None:
    allowed: dict[str, Any] = {}
    for statement in described(resources, f"{name}_execution"):
        actions = statement.get("actions") or statement["Action"]
        where = statement.get("resources") or statement["Resource"]
        allowed.update({action: where for action in listed(actions)})
    expected = {
        "ecr:GetAuthorizationToken",  # the only one that AWS takes for all of them alone
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "secretsmanager:GetSecretValue",
    }
    assert set(allowed) == expected | ({"ssm:GetParameters"} if name == "proxy" else set())
    assert [action for action, where in allowed.items() if "*" in where] == ["ecr:GetAuthorizationToken"]


def test_the_proxy_may_do_nothing_in_aws(references: Resources, resources: Resources) -> None:
    assert "task_role_arn" not in references["aws_ecs_task_definition.proxy"]
    assert not resources["aws_ecs_service.proxy"]["enable_execute_command"]


def test_mlflow_may_use_its_part_of_the_bucket_and_nothing_else(resources: Resources, mlflow: Container) -> None:
    (destination,) = [value for value in mlflow["command"] if value.startswith("--artifacts-destination=")]
    bucket, _, prefix = destination.partition("s3://")[2].partition("/")
    policy = json.loads(resources["aws_iam_role_policy.mlflow_task"]["policy"])
    assert {statement["Resource"] for statement in policy["Statement"]} == {
        f"arn:aws:s3:::{bucket}",
        f"arn:aws:s3:::{bucket}/{prefix}/*",
    }
    actions = [action for statement in policy["Statement"] for action in listed(statement["Action"])]
    assert all(re.fullmatch(r"s3:(Abort|Delete|Get|List|Put)[A-Za-z]+", action) for action in actions)


def test_redis_speaks_tls_alone_and_its_password_is_not_set_here(resources: Resources) -> None:
    redis = resources["aws_elasticache_replication_group.redis"]
    assert redis["transit_encryption_enabled"] and redis["transit_encryption_mode"] == "required"
    assert redis["at_rest_encryption_enabled"] in (True, "true")
    assert redis["automatic_failover_enabled"] and redis["multi_az_enabled"]
    assert redis["auth_token"] is None


# --- MLflow ---


def test_mlflow_answers_to_the_host_header_that_the_proxy_sends(mlflow: Container, settings: Settings) -> None:
    (allowed,) = [value.partition("=")[2] for value in mlflow["command"] if value.startswith("--allowed-hosts=")]
    base = settings.upstream.base
    assert allowed.split(",") == [base.host, f"{base.host}:{base.port}"]


def test_clients_get_artifacts_from_mlflow_and_not_from_s3(mlflow: Container) -> None:
    assert "--default-artifact-root=mlflow-artifacts:/" in mlflow["command"]
    assert "--serve-artifacts" in mlflow["command"]


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A folder with a `mlflow` and a `sleep` that tell what is done to them, and wait to be told."""
    for pipe in ("started", "asleep", "wake"):
        os.mkfifo(tmp_path / pipe)
    mlflow = f"""#!{sys.executable}
import pathlib, signal, sys
here = pathlib.Path({str(tmp_path)!r})
if "--fail" in sys.argv:
    sys.exit(7)
def stop(*_):
    (here / "told").touch()
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
(here / "arguments").write_text("\\n".join(sys.argv[1:]))
(here / "started").write_text("yes")
signal.pause()
"""
    sleep = f"""#!/bin/sh
echo "$1" > '{tmp_path}/asleep'
read _ < '{tmp_path}/wake'
"""
    for name, script in (("mlflow", mlflow), ("sleep", sleep)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    return tmp_path


@pytest.fixture
def running(stage: Path, mlflow: Container) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's container as ECS starts it, with the stage's programs."""
    env = {**clean_environment({}), "PATH": f"{stage}:{os.environ['PATH']}"}
    with subprocess.Popen([*mlflow["entryPoint"], *mlflow["command"]], env=env, start_new_session=True) as process:
        yield process
        kill_group(process.pid)


def word_from(pipe: Path) -> str:
    """The line that somebody writes into a named pipe. Fails when nobody does."""
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert select.select([reader], [], [], PATIENCE)[0], f"nobody wrote into {pipe.name}"
        return os.read(reader, 100).decode().strip()
    finally:
        os.close(reader)


def test_mlflow_serves_on_while_the_proxy_may_still_come_to_its_address(
    running: subprocess.Popen[bytes], stage: Path, mlflow: Container, resources: Resources
) -> None:
    assert word_from(stage / "started") == "yes"
    assert (stage / "arguments").read_text().splitlines() == ["server", *mlflow["command"]]

    running.send_signal(signal.SIGTERM)
    delay = int(word_from(stage / "asleep"))
    assert not (stage / "told").exists() and running.poll() is None
    with os.fdopen(os.open(stage / "wake", os.O_RDWR), "w") as wake:  # a pipe opened so waits for nobody
        wake.write("\n")
        wake.flush()
        assert running.wait(PATIENCE) == 3  # MLflow's own exit code
    assert (stage / "told").exists()

    (ttl,) = [each["ttl"] for each in resources["aws_service_discovery_service.mlflow"]["dns_config"][0]["dns_records"]]
    assert ttl < delay < mlflow["stopTimeout"] <= FARGATE_STOP_SECONDS


def test_a_container_whose_mlflow_ends_ends_as_well(stage: Path, mlflow: Container) -> None:
    env = {**clean_environment({}), "PATH": f"{stage}:{os.environ['PATH']}"}
    assert subprocess.run([*mlflow["entryPoint"], "--fail"], env=env, timeout=PATIENCE).returncode == 7
