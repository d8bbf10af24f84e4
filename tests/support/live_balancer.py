"""The repository's load balancer at an AWS that moto plays, worked by boto3. Run by .venv-infra, which has it.

One process for many questions, as importing boto3 takes half a second. Each line of stdin is a JSON list, each line of
stdout the answer to one:

    ["make", ENVIRONMENT, WEIGHT]     forgets everything, makes the load balancer: all ids and ARNs
    ["elb", METHOD, {ARGUMENTS}]      what boto3 gives
    ["check", [OPTIONS]]              scripts/check_live_rules.py: exit code, and what it wrote

Terraform is not asked: to apply everything takes it a minute.
"""

import contextlib
import io
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import boto3

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from scripts import check_live_rules
from scripts.alb.rules import Rule, read_rules

FIELDS = {
    "hosts": ("host-header", "HostHeaderConfig"),
    "paths": ("path-pattern", "PathPatternConfig"),
    "methods": ("http-request-method", "HttpRequestMethodConfig"),
}
REDIRECT = {"Type": "redirect", "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}}
NOT_FOUND = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}


def conditions(rule: Rule) -> list[dict[str, Any]]:
    """A rule's conditions as the API takes them."""
    return [
        {"Field": field, config: {"Values": list(getattr(rule, part))}}
        for part, (field, config) in FIELDS.items()
        if getattr(rule, part)
    ]


def actions(rule: Rule, groups: dict[str, str]) -> list[dict[str, Any]]:
    """A rule's action as the API takes it."""
    shares = [{"TargetGroupArn": groups[name], "Weight": weight} for name, weight in rule.targets]
    if len(shares) == 1:
        return [{"Type": "forward", "TargetGroupArn": shares[0]["TargetGroupArn"]}]
    return [{"Type": "forward", "ForwardConfig": {"TargetGroups": shares}}]


def make(environment: str, weight: int) -> dict[str, str]:
    """Make everything, and give the ARNs."""
    reset = urllib.request.Request(f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")
    with urllib.request.urlopen(reset):
        pass
    ec2, elb = boto3.client("ec2"), boto3.client("elbv2")
    vpc = ec2.create_vpc(CidrBlock="192.0.2.0/24")["Vpc"]["VpcId"]
    blocks = {"a": "192.0.2.0/26", "b": "192.0.2.64/26"}
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=f"us-east-1{zone}")["Subnet"]["SubnetId"]
        for zone, block in blocks.items()
    ]
    balancer = elb.create_load_balancer(Name=f"hokusai-registry-{environment}", Subnets=subnets)["LoadBalancers"][0]
    arn = balancer["LoadBalancerArn"]
    own = {
        "proxy": f"hokusai-mlproxy-{environment}",
        "api": "old-api",
        "auth": "old-auth",
        "mlflow": "hokusai-mlflow",
    }
    groups = {}
    for name, text in own.items():
        group = elb.create_target_group(Name=text, Protocol="HTTP", Port=8001, VpcId=vpc)["TargetGroups"][0]
        groups[name] = group["TargetGroupArn"]
    made = {}
    for name, protocol, port, default in (("http", "HTTP", 80, REDIRECT), ("https", "HTTPS", 443, NOT_FOUND)):
        listener = elb.create_listener(LoadBalancerArn=arn, Protocol=protocol, Port=port, DefaultActions=[default])
        made[name] = listener["Listeners"][0]["ListenerArn"]
    for rule in read_rules(given={"proxy_weight": weight}):
        elb.create_rule(
            ListenerArn=made[rule.listener],
            Priority=rule.priority,
            Conditions=conditions(rule),
            Actions=actions(rule, groups),
        )
    certificate = boto3.client("acm").request_certificate(DomainName="registry.hokus.ai")["CertificateArn"]
    return {"certificate": certificate, "vpc": vpc, "subnets": " ".join(subnets), "balancer": arn, **made, **groups}


def check(options: list[str]) -> tuple[int, str]:
    """Run the script within this process."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        code = check_live_rules.main(options)
    return code, written.getvalue()


def main() -> None:
    """Answer until stdin ends."""
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        answer: Any
        if what == "make":
            answer = make(*arguments)
        elif what == "check":
            answer = check(*arguments)
        else:
            method, given = arguments
            answer = getattr(boto3.client("elbv2"), method)(**given)
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
