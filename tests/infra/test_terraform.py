"""What the Terraform files promise as they are written: read by python-hcl2, so that it holds where no Terraform is."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from tests.support import terraform

REPOSITORY = terraform.MODULE.parents[1]
TEXT = "\n".join(path.read_text() for path in sorted(terraform.MODULE.glob("*.tf")))
EXAMPLE = (terraform.MODULE / terraform.EXAMPLE).read_text()
ANYBODY = "0.0.0.0/0"
Files = dict[str, dict[str, Any]]
Resources = dict[str, dict[str, Any]]

# Who may open a connection to whom: (from, to, port). Whole: a way that is not here is a fault.
WAYS = {
    (ANYBODY, "alb", 80),
    (ANYBODY, "alb", 443),
    ("alb", "proxy", 8001),
    ("proxy", "mlflow", 5000),
    ("proxy", "redis", 6379),
}
# And to what stands elsewhere.
WAYS_OUT = {
    ("alb", "${var.api_security_group_id}", "${var.api_port}"),
    ("alb", "${var.auth_security_group_id}", "${var.auth_port}"),
    ("proxy", ANYBODY, 443),
    ("mlflow", ANYBODY, 443),
    ("mlflow", "${var.database_security_group_id}", "${var.database_port}"),
}


def named(files: Files, kind: str) -> dict[str, Any]:
    """All blocks of a kind that have one label, by it."""
    return {name: block for content in files.values() for each in content.get(kind, []) for name, block in each.items()}


def group(reference: str) -> str:
    """The name of one of our security groups, or what else it is."""
    found = re.fullmatch(r"\$\{aws_security_group\.(\w+)\.id\}", reference)
    return found[1] if found else reference


def rules(written: Resources, direction: str) -> list[tuple[str, str, Any]]:
    """The rules of one direction: (our group, the other side, port), each for one port of TCP."""
    found = []
    for address, rule in written.items():
        if address.startswith(f"aws_vpc_security_group_{direction}_rule."):
            assert rule["ip_protocol"] == "tcp" and rule["from_port"] == rule["to_port"], address
            other = rule.get("referenced_security_group_id") or rule["cidr_ipv4"]
            found.append((group(rule["security_group_id"]), group(other), rule["from_port"]))
    return found


def test_terraform_would_write_the_files_the_same() -> None:
    if terraform.missing():
        pytest.skip(terraform.missing())
    assert terraform.run("fmt", "-check", "-diff", "-recursive", check=False).stdout == ""


def test_nothing_is_asked_of_a_registry_or_of_an_account_at_plan_time(files: Files) -> None:
    assert named(files, "module") == {}
    data = {kind for content in files.values() for each in content.get("data", []) for kind in each}
    assert data == {"aws_iam_policy_document"}  # computed on the spot
    (block,) = files["versions.tf"]["terraform"]
    assert [set(each) for each in block["required_providers"]] == [{"aws"}]


def test_every_variable_and_output_says_what_it_is(files: Files) -> None:
    silent = [name for name, block in named(files, "variable").items() if not {"description", "type"} <= set(block)]
    silent += [name for name, block in named(files, "output").items() if "description" not in block]
    assert silent == []


def test_every_variable_is_used(files: Files) -> None:
    # In the text of the blocks, for a condition of the variable's own is no use.
    text = re.sub(r'^variable "\w+" \{.*?^\}', "", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert [name for name in named(files, "variable") if not re.search(rf"\bvar\.{name}\b", text)] == []


def test_the_example_gives_what_must_be_given_and_nothing_unknown(files: Files) -> None:
    given = set(re.findall(r"^(\w+) +=", EXAMPLE, re.MULTILINE))
    variables = named(files, "variable")
    assert {name for name, block in variables.items() if "default" not in block} <= given <= set(variables)


def test_who_says_nothing_of_weights_gives_the_proxy_all(files: Files) -> None:
    """What Terraform's own tests are given is the example, which says it."""
    assert named(files, "variable")["proxy_weight"]["default"] == 100


def test_the_ways_between_security_groups_are_these_and_no_others(written: Resources) -> None:
    incoming = rules(written, "ingress")
    outgoing = rules(written, "egress")
    assert sorted((other, ours, port) for ours, other, port in incoming) == sorted(WAYS)
    inside = {way for way in WAYS if way[0] != ANYBODY}
    assert sorted(outgoing, key=str) == sorted(inside | WAYS_OUT, key=str)


def test_nothing_else_opens_a_way(written: Resources) -> None:
    """A rule inside a group, or of the older kind, would be one that the test above does not see."""
    assert not [address for address in written if address.startswith(("aws_security_group_rule.", "aws_network_acl"))]
    groups = {address: block for address, block in written.items() if address.startswith("aws_security_group.")}
    assert set(groups) == {f"aws_security_group.{name}" for name in ("alb", "proxy", "mlflow", "redis")}
    assert not [address for address, block in groups.items() if {"ingress", "egress"} & set(block)]


@pytest.mark.parametrize("name", ["proxy", "mlflow"])
def test_a_service_has_its_own_security_group_alone_and_no_public_address(written: Resources, name: str) -> None:
    (network,) = written[f"aws_ecs_service.{name}"]["network_configuration"]
    assert network["security_groups"] == [f"${{aws_security_group.{name}.id}}"]
    assert network["subnets"] == "${var.private_subnet_ids}"
    assert network["assign_public_ip"] is False


def test_redis_and_the_load_balancer_have_their_own_security_groups_alone(written: Resources) -> None:
    redis = written["aws_elasticache_replication_group.redis"]
    assert redis["security_group_ids"] == ["${aws_security_group.redis.id}"]
    assert written["aws_lb.main"]["security_groups"] == ["${aws_security_group.alb.id}"]


def test_mlflow_enters_its_addresses_into_dns(written: Resources) -> None:
    """The ancestor made the name and attached nothing to it, so it never had an address."""
    (registry,) = written["aws_ecs_service.mlflow"]["service_registries"]
    assert registry == {"registry_arn": "${aws_service_discovery_service.mlflow.arn}"}
    (dns,) = written["aws_service_discovery_service.mlflow"]["dns_config"]
    assert dns["namespace_id"] == "${aws_service_discovery_private_dns_namespace.main.id}"


def test_the_proxy_stands_behind_its_target_group_and_mlflow_behind_none(written: Resources) -> None:
    (balancer,) = written["aws_ecs_service.proxy"]["load_balancer"]
    assert balancer["target_group_arn"] == "${aws_lb_target_group.proxy.arn}"
    assert "load_balancer" not in written["aws_ecs_service.mlflow"]


def test_an_apply_leaves_to_others_what_others_change(written: Resources) -> None:
    ignored = {
        name: {word.strip("${}") for word in written[f"aws_ecs_service.{name}"]["lifecycle"][0]["ignore_changes"]}
        for name in ("proxy", "mlflow")
    }
    assert ignored == {"proxy": {"desired_count", "task_definition"}, "mlflow": {"desired_count"}}


def test_a_rollback_finds_the_revision_before(written: Resources) -> None:
    assert all(written[f"aws_ecs_task_definition.{name}"]["skip_destroy"] is True for name in ("proxy", "mlflow"))


def test_no_secret_can_get_into_the_state(written: Resources) -> None:
    """Terraform keeps what it is given: a password that it sets, or reads, is readable for all who may plan."""
    assert not [
        f"{address}.{attribute}"
        for address, block in written.items()
        for attribute in block
        if re.search(r"password|auth_token$|secret_string|private_key", attribute)
    ]
    assert not [address for address in written if address.startswith(("aws_secretsmanager_secret_version.", "tls_"))]


def test_what_terraform_leaves_behind_is_not_tracked() -> None:
    """A plan holds the whole state, and a state holds what nobody should read."""
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, check=True, text=True).stdout
    left = re.compile(r"(^|/)\.terraform/|\.tfstate|(^|\.|/)tfplan$|\.tfvars(\.json)?$|(^|/)\.venv-(checkov|infra)")
    assert [name for name in listed.splitlines() if left.search(name)] == []


@pytest.mark.parametrize(
    "name",
    [".terraform/x", "terraform.tfstate", "terraform.tfstate.backup", "x.tfplan", "tfplan", "terraform.tfvars"],
)
def test_git_ignores_what_terraform_leaves_behind(name: str) -> None:
    assert _ignored(f"infrastructure/terraform/{name}")


def test_git_does_not_ignore_the_example() -> None:
    assert not _ignored(f"infrastructure/terraform/{terraform.EXAMPLE}")


def _ignored(name: str) -> bool:
    return subprocess.run(["git", "check-ignore", "-q", name], cwd=REPOSITORY).returncode == 0
