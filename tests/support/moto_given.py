"""Makes what infrastructure/terraform expects to be there already, at an AWS that moto plays.

    .venv-infra/bin/python -P tests/support/moto_given.py BUCKET

Writes the module's variables about it as JSON.
"""

import json
import sys
from typing import Any

import boto3


def network() -> dict[str, Any]:
    """The VPC, its subnets in two zones, and the security groups of services that are not ours."""
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="192.0.2.0/24")["Vpc"]["VpcId"]
    blocks = {"192.0.2.0/26": "a", "192.0.2.64/26": "b", "192.0.2.128/26": "a", "192.0.2.192/26": "b"}
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=f"us-east-1{zone}")["Subnet"]["SubnetId"]
        for block, zone in blocks.items()
    ]
    groups = {
        f"{name}_security_group_id": ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        for name in ("api", "auth", "database")
    }
    return {"vpc_id": vpc, "public_subnet_ids": subnets[:2], "private_subnet_ids": subnets[2:], **groups}


def target_groups(vpc: str) -> dict[str, str]:
    """The target groups of the API and the auth service."""
    elb = boto3.client("elbv2")
    made = {}
    for name, port in {"api": 8001, "auth": 8000}.items():
        group = elb.create_target_group(
            Name=f"hokusai-{name}-production", Protocol="HTTP", Port=port, VpcId=vpc, TargetType="ip"
        )
        made[f"{name}_target_group_arn"] = group["TargetGroups"][0]["TargetGroupArn"]
    return made


def secrets() -> dict[str, str]:
    """The two secrets that are made by hand."""
    manager = boto3.client("secretsmanager")
    names = {"database": "mlflow-database", "redis_auth": "redis-auth"}
    return {
        f"{variable}_secret_arn": manager.create_secret(Name=f"hokusai/production/{name}", SecretString="x")["ARN"]
        for variable, name in names.items()
    }


def main() -> None:
    """Make everything, and print the variables."""
    made = network()
    certificate = boto3.client("acm").request_certificate(
        DomainName="registry.hokus.ai", SubjectAlternativeNames=["auth.hokus.ai"]
    )
    boto3.client("s3").create_bucket(Bucket=sys.argv[1])
    groups = target_groups(made["vpc_id"])
    json.dump({**made, **groups, **secrets(), "certificate_arn": certificate["CertificateArn"]}, sys.stdout)


if __name__ == "__main__":
    main()
