"""moto's server, with the answers that infrastructure/terraform needs and moto 5.2.5 lacks or gives otherwise than AWS.

    .venv-infra/bin/python -P tests/support/moto_answers.py -H 127.0.0.1 -p PORT

It takes what `moto_server` takes. Each answer is as short as Terraform's AWS provider lets it be, in the shape of AWS's
API reference. A call that moto does not know is answered 500, in HTML, which the provider tries again. When a newer
moto has an answer of its own, the start fails and says which: delete it here then.
"""

import functools
import json
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.cloudwatch.exceptions import ValidationError
from moto.cloudwatch.models import CloudWatchBackend
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.elasticache.models import CacheCluster, ElastiCacheBackend, ReplicationGroup
from moto.elasticache.responses import ElastiCacheResponse
from moto.logs.responses import LogsResponse
from moto.server import main

Answer = Callable[..., Any]

target_tags: dict[str, dict[str, str]] = {}
saved_queries: dict[str, dict[str, Any]] = {}
index_policies: dict[str, dict[str, Any]] = {}


def lacking(owner: type) -> Callable[[Answer], Answer]:
    """Make a function the method of its name. Raises `RuntimeError` where there is one already."""

    def register(answer: Answer) -> Answer:
        if hasattr(owner, answer.__name__):
            raise RuntimeError(f"moto has {owner.__name__}.{answer.__name__} now: delete it from {__file__}")
        setattr(owner, answer.__name__, answer)
        return answer

    return register


def otherwise(owner: type) -> Callable[[Answer], Answer]:
    """Put a function in the place of the method of its name, which it gets as its first argument."""

    def register(answer: Answer) -> Answer:
        plain = getattr(owner, answer.__name__)
        setattr(owner, answer.__name__, functools.partialmethod(lambda self, *a, **k: answer(plain, self, *a, **k)))
        return answer

    return register


# Application Auto Scaling: a target's tags, which the provider reads after each change.


@otherwise(ApplicationAutoScalingResponse)
def register_scalable_target(plain: Answer, self: Any) -> str:
    """Make a target. moto drops its tags."""
    answer: str = plain(self)
    target_tags[json.loads(answer)["ScalableTargetARN"]] = self._get_param("Tags", {})
    return answer


@lacking(ApplicationAutoScalingResponse)
def list_tags_for_resource(self: Any) -> str:
    """The tags of a target."""
    return json.dumps({"Tags": target_tags.get(self._get_param("ResourceARN"), {})})


# CloudWatch Logs: saved queries and field indexes.


@lacking(LogsResponse)
def put_query_definition(self: Any) -> str:
    """Save a query, or change one."""
    key = self._get_param("queryDefinitionId") or str(uuid.uuid4())
    saved_queries[key] = {
        "queryDefinitionId": key,
        "name": self._get_param("name"),
        "queryString": self._get_param("queryString"),
        "logGroupNames": self._get_param("logGroupNames", []),
        "lastModified": int(time.time() * 1000),
    }
    return json.dumps({"queryDefinitionId": key})


@lacking(LogsResponse)
def describe_query_definitions(self: Any) -> str:
    """The saved queries whose names begin so."""
    prefix = self._get_param("queryDefinitionNamePrefix", "")
    return json.dumps({"queryDefinitions": [one for one in saved_queries.values() if one["name"].startswith(prefix)]})


@lacking(LogsResponse)
def delete_query_definition(self: Any) -> str:
    """Forget a query."""
    return json.dumps({"success": saved_queries.pop(self._get_param("queryDefinitionId"), None) is not None})


@lacking(LogsResponse)
def put_index_policy(self: Any) -> str:
    """Set which fields of a log group are indexed."""
    group = self._get_param("logGroupIdentifier")
    index_policies[group] = {
        "logGroupIdentifier": group,
        "policyDocument": self._get_param("policyDocument"),
        "source": "LOG_GROUP",
        "lastUpdateTime": int(time.time() * 1000),
    }
    return json.dumps({"indexPolicy": index_policies[group]})


@lacking(LogsResponse)
def describe_index_policies(self: Any) -> str:
    """The policies of the log groups that are asked for."""
    groups = self._get_param("logGroupIdentifiers")
    return json.dumps({"indexPolicies": [index_policies[group] for group in groups if group in index_policies]})


@lacking(LogsResponse)
def delete_index_policy(self: Any) -> str:
    """Forget a policy."""
    index_policies.pop(self._get_param("logGroupIdentifier"), None)
    return "{}"


# CloudWatch: composite alarms. AWS holds them and their alarms together at both ends, so the order in which Terraform
# makes and deletes them counts. https://github.com/awsdocs/aws-cloudformation-user-guide/issues/911,
# https://github.com/hashicorp/terraform-provider-aws/issues/34807


@lacking(CloudWatchResponse)
def put_composite_alarm(self: Any) -> ActionResult:
    """Make an alarm over others, which must be there. moto's answer for a plain alarm keeps the rule too."""
    absent = named(self._get_param("AlarmRule")) - set(self.cloudwatch_backend.alarms)
    if absent:
        raise ValidationError(
            f"Could not save the composite alarm as alarms {sorted(absent)} in the alarm rule do not exist"
        )
    answer: ActionResult = self.put_metric_alarm()
    return answer


@otherwise(CloudWatchBackend)
def delete_alarms(plain: Answer, self: Any, alarm_names: list[str]) -> None:
    """Delete alarms that no composite alarm is over."""
    rules = [one.rule for name, one in self.alarms.items() if one.rule and name not in alarm_names]
    for name in alarm_names:
        if any(name in named(rule) for rule in rules):
            raise ValidationError(f"Cannot delete {name} as there are composite alarm(s) depending on it.")
    plain(self, alarm_names)


def named(rule: str) -> set[str]:
    """The alarms in the rule of a composite alarm."""
    return set(re.findall(r'\("?([^()"]+)"?\)', rule))


# ElastiCache. moto names the members of a replication group and does not have them, and the provider reads them for
# what is true of the group; it makes one, however many are wanted; and a group that is deleted stays, until the
# provider gives up after 45 minutes.


@otherwise(ElastiCacheBackend)
def create_replication_group(plain: Answer, self: Any, **given: Any) -> ReplicationGroup:
    """Make a replication group, with its members."""
    wanted = given["num_cache_clusters"]
    group: ReplicationGroup = plain(self, **{**given, "replicas_per_node_group": wanted - 1 if wanted else None})
    for name in group.member_clusters:
        self.cache_clusters[name] = member(self, name, given)
    return group


def member(self: Any, name: str, given: dict[str, Any]) -> CacheCluster:
    """A member of a replication group; `given` is what the group is made with."""
    takes = CacheCluster.__init__.__annotations__.keys() - {"return"}
    place = {"account_id": self.account_id, "region_name": self.region_name, "cache_cluster_id": name}
    made = CacheCluster(**{**dict.fromkeys(takes), **{k: v for k, v in given.items() if k in takes}, **place})
    made.at_rest_encryption_enabled = given["at_rest_encryption_enabled"]
    made.transit_encryption_mode = given["transit_encryption_mode"]
    made.security_groups = [{"SecurityGroupId": one, "Status": "active"} for one in given["security_group_ids"] or []]
    return made


@otherwise(ElastiCacheBackend)
def delete_replication_group(plain: Answer, self: Any, replication_group_id: str, **given: Any) -> ReplicationGroup:
    """Delete a replication group with its members, at once."""
    members = list(self.describe_replication_groups(replication_group_id)[0].member_clusters)
    group: ReplicationGroup = plain(self, replication_group_id, **given)
    for name in (*members, replication_group_id):
        self.cache_clusters.pop(name, None)
        self.replication_groups.pop(name, None)
    return group


@lacking(ElastiCacheResponse)
def delete_cache_subnet_group(self: Any) -> ActionResult:
    """Delete a subnet group."""
    name = self._get_param("CacheSubnetGroupName")
    self.elasticache_backend.describe_cache_subnet_groups(name)
    del self.elasticache_backend.cache_subnet_groups[name]
    return EmptyResult()


if __name__ == "__main__":
    main()
