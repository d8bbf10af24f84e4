"""The chain of timeouts, read from the Terraform files and from gunicorn.conf.py: who gives up, in which order."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.alb.rules import TERRAFORM, Unreadable, blocks_of, defaults, value_of, whole

GUNICORN = Path(__file__).parents[2] / "gunicorn.conf.py"
CLIENT = 120  # MLFLOW_HTTP_REQUEST_TIMEOUT of the MLflow client, unless its user says otherwise
TASK = {"ALB_IDLE_TIMEOUT_SECONDS", "ARTIFACT_READ_TIMEOUT_SECONDS", "READ_TIMEOUT_SECONDS"}


@dataclass(frozen=True)
class Chain:
    """Seconds, as deployed with the defaults of the Terraform variables."""

    read: int  # MLflow silent in a JSON call
    artifact_read: int  # MLflow silent in an artifact transfer
    alb_idle: int  # no byte on a connection, either side
    keep_alive: int  # an idle connection of the load balancer, as gunicorn sees it
    deregistration: int  # a target that leaves may go on so long
    graceful: int  # requests that run when SIGTERM comes
    stop: int  # from SIGTERM to SIGKILL


def read_chain(folder: Path = TERRAFORM, gunicorn: Path = GUNICORN, given: Mapping[str, Any] | None = None) -> Chain:
    """The chain. `given` are values of variables, as in `read_rules`. Raises `Unreadable`."""
    variables = {**defaults(folder), **(given or {})}
    (task,) = [block for name, block in blocks_of(folder, "aws_ecs_task_definition") if name == "proxy"]
    (balancer,) = [block for _, block in blocks_of(folder, "aws_lb")]
    (group,) = [block for name, block in blocks_of(folder, "aws_lb_target_group") if name == "proxy"]
    own = (folder / "ecs-proxy.tf").read_text(encoding="utf-8")
    settings = gunicorn.read_text(encoding="utf-8")
    told = {name: _number(rf"\b{name}\s*=\s*tostring\(var\.(\w+)\)", own) for name in TASK}
    idle = whole(value_of(balancer["idle_timeout"], variables))
    return Chain(
        read=whole(variables[told["READ_TIMEOUT_SECONDS"]]),
        artifact_read=whole(variables[told["ARTIFACT_READ_TIMEOUT_SECONDS"]]),
        alb_idle=idle,
        keep_alive=whole(variables[told["ALB_IDLE_TIMEOUT_SECONDS"]])
        + int(_number(r"^keepalive = int\(settings\.alb_idle_timeout\) \+ (\d+)$", settings)),
        deregistration=whole(value_of(group["deregistration_delay"], variables)),
        graceful=int(_number(r"^graceful_timeout = (\d+)$", settings))
        - int(_number(r"^ENDING_SECONDS = (\d+)$", settings)),
        stop=int(_number(r"\bstopTimeout\s*=\s*(\d+)", str(task["container_definitions"]))),
    )


def faults(chain: Chain) -> Iterator[str]:
    """What breaks the order; nothing when it holds."""
    for low, high, why in (
        (chain.read, CLIENT, "the client gives up before the proxy says that MLflow is too slow"),
        (chain.read, chain.artifact_read, "a transfer has less time than a JSON call"),
        (chain.artifact_read, chain.alb_idle, "the load balancer answers 504 in HTML before the proxy does in JSON"),
        (chain.alb_idle, chain.keep_alive, "the load balancer's next request meets a closed connection: 502"),
        (chain.graceful, chain.stop, "requests are killed that gunicorn would have ended"),
    ):
        if not low < high:
            yield f"{low} s is not below {high} s: {why}"


def _number(pattern: str, text: str) -> str:
    found = re.findall(pattern, text, re.MULTILINE)
    if len(found) != 1:
        raise Unreadable(f"{pattern} stands there {len(found)} times, not once")
    return str(found[0])
