"""CloudWatch's own rules, as far as our alarms, dashboard and queries stand on them, with the pages they are from.

No engine of CloudWatch runs here. What is played (metric math, filter patterns) is played as the pages say; queries of
Logs Insights are only read for the names in them.
"""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.emf import METRICS, NAMESPACE

# --- dimensions ---

# (namespace, metric) -> the sets of dimensions it is published with. A combination that is not published is another
# metric, without any values ("You can't retrieve statistics using combinations of dimensions that were not specially
# published", [ALB]): an alarm on one never goes off. Sets with AvailabilityZone, which we do not use, are left out.
#
# [ALB] docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html, and for each
#       metric aws-cdk-lib, aws-elasticloadbalancingv2/lib/elasticloadbalancingv2-canned-metrics.generated.d.ts
# [ECS] docs.aws.amazon.com/AmazonECS/latest/developerguide/available-metrics.html
# [CI]  docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Container-Insights-metrics-ECS.html
# [LOG] docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CloudWatch-Logs-Monitoring-CloudWatch-Metrics.html
# [ACM] docs.aws.amazon.com/acm/latest/userguide/cloudwatch-metrics.html
# [EC]  docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.Redis.html, CacheMetrics.html (CacheClusterId)
WHOLE = frozenset({"LoadBalancer"})
GROUP = frozenset({"LoadBalancer", "TargetGroup"})
SERVICE = frozenset({"ClusterName", "ServiceName"})
TASKS = frozenset({"ClusterName", "TaskDefinitionFamily"})
NODE = frozenset({"CacheClusterId"})
OF_LOG_GROUP = frozenset({"LogGroupName"})
OF_EMF = (frozenset({"service"}), frozenset({"service", "family"}))

DIMENSIONS: Mapping[tuple[str, str], Sequence[frozenset[str]]] = {
    # made by the load balancer before a target is chosen, or for want of one [ALB]
    ("AWS/ApplicationELB", "HTTPCode_ELB_502_Count"): [WHOLE],
    ("AWS/ApplicationELB", "HTTPCode_ELB_503_Count"): [WHOLE],
    ("AWS/ApplicationELB", "HTTPCode_ELB_504_Count"): [WHOLE],
    ("AWS/ApplicationELB", "ActiveConnectionCount"): [WHOLE],
    ("AWS/ApplicationELB", "RejectedConnectionCount"): [WHOLE],
    ("AWS/ApplicationELB", "DesyncMitigationMode_NonCompliant_Request_Count"): [WHOLE],
    # of targets [ALB]; without TargetGroup those with two sets would be of all services
    ("AWS/ApplicationELB", "HTTPCode_Target_2XX_Count"): [WHOLE, GROUP],
    ("AWS/ApplicationELB", "HTTPCode_Target_3XX_Count"): [WHOLE, GROUP],
    ("AWS/ApplicationELB", "HTTPCode_Target_4XX_Count"): [WHOLE, GROUP],
    ("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count"): [WHOLE, GROUP],
    ("AWS/ApplicationELB", "RequestCount"): [WHOLE, GROUP],
    ("AWS/ApplicationELB", "TargetConnectionErrorCount"): [WHOLE, GROUP],
    ("AWS/ApplicationELB", "RequestCountPerTarget"): [frozenset({"TargetGroup"}), GROUP],
    ("AWS/ApplicationELB", "HealthyHostCount"): [GROUP],
    ("AWS/ApplicationELB", "UnHealthyHostCount"): [GROUP],
    # [ECS]
    ("AWS/ECS", "CPUUtilization"): [frozenset({"ClusterName"}), SERVICE],
    ("AWS/ECS", "MemoryUtilization"): [frozenset({"ClusterName"}), SERVICE],
    # [CI]
    ("ECS/ContainerInsights", "DesiredTaskCount"): [SERVICE],
    ("ECS/ContainerInsights", "RunningTaskCount"): [SERVICE],
    ("ECS/ContainerInsights", "NetworkRxBytes"): [frozenset({"ClusterName"}), TASKS, SERVICE],
    ("ECS/ContainerInsights", "NetworkTxBytes"): [frozenset({"ClusterName"}), TASKS, SERVICE],
    # [LOG]
    ("AWS/Logs", "IncomingLogEvents"): [frozenset(), OF_LOG_GROUP],
    ("AWS/Logs", "EMFParsingErrors"): [OF_LOG_GROUP],
    ("AWS/Logs", "EMFValidationErrors"): [OF_LOG_GROUP],
    # [ACM]
    ("AWS/CertificateManager", "DaysToExpiry"): [frozenset({"CertificateArn"})],
    # [EC]
    ("AWS/ElastiCache", "EngineCPUUtilization"): [NODE],
    ("AWS/ElastiCache", "DatabaseMemoryUsagePercentage"): [NODE],
    ("AWS/ElastiCache", "CurrConnections"): [NODE],
    # ours: in the lines themselves, and counted by filters, whose metrics have no dimensions
    **{(NAMESPACE, name): OF_EMF for name in METRICS},
    **{
        ("LINES", name): [frozenset()]
        for name in ("Lines", "FailedLines", "RateLimitStorageDown", "UnhandledExceptions")
    },
}

# --- metric math: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html ---

# "We recommend that you do not use this function in CloudWatch alarms": they ask for more periods than they judge.
NOT_IN_ALARMS = {"AVG", "MAX", "MIN", "SUM", "STDDEV", "DATAPOINT_COUNT", "REMOVE_EMPTY", "RUNNING_SUM", "SEARCH"}

Value = float | None  # of one period; None where a metric has none
OPERATORS: Mapping[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Gt: lambda a, b: float(a > b),
    ast.GtE: lambda a, b: float(a >= b),
    ast.Lt: lambda a, b: float(a < b),
    ast.LtE: lambda a, b: float(a <= b),
}


def math(expression: str, values: Mapping[str, Value]) -> Value:
    """What metric math makes of one period: arithmetic, comparisons, AND, OR, IF and FILL with a number.

    As the page says: a missing value counts as 0 beside one that is there; a division by zero drops the point; IF
    without a condition drops it, and a missing value in a branch that is taken is 0, except in the last.
    """
    text = re.sub(r"\bAND\b", "and", re.sub(r"\bOR\b", "or", re.sub(r"\bIF\(", "IF_(", expression)))
    return _math(ast.parse(text, mode="eval").body, values)


def _math(node: ast.expr, values: Mapping[str, Value]) -> Value:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return values[name]
        case ast.Call(func=ast.Name(id="FILL"), args=[series, ast.Constant(value=int() as filler)]):
            value = _math(series, values)
            return float(filler) if value is None else value
        case ast.Call(func=ast.Name(id="IF_"), args=[condition, then, otherwise]):
            held = _math(condition, values)
            if held is None:
                return None
            return (_math(then, values) or 0.0) if held else _math(otherwise, values)
        case ast.BoolOp(op=op, values=parts):
            told = [_math(part, values) for part in parts]
            if all(one is None for one in told):
                return None
            return float((all if isinstance(op, ast.And) else any)(told))
        case ast.BinOp(left=left, op=op, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]):
            return _operated(op, _math(left, values), _math(right, values))
    raise AssertionError(f"not played here: {ast.unparse(node)}")


def _operated(op: ast.AST, left: Value, right: Value) -> Value:
    if left is None and right is None:
        return None
    left, right = left or 0.0, right or 0.0
    if isinstance(op, ast.Div):
        return left / right if right else None
    return OPERATORS[type(op)](left, right)


# --- metric filters: docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html ---

TERM = re.compile(r"""\$\.([\w-]+)\s*(!=|>=|<=|=|>|<)\s*("[^"]*"|[\d.]+)""")


def filter_fields(pattern: str) -> set[str]:
    """The fields that a pattern on JSON looks at."""
    return {name for name, _, _ in TERM.findall(pattern)}


def matches(pattern: str, line: Mapping[str, Any]) -> bool:
    """Whether a pattern on JSON, `{ ($.a = "b*") && ($.c >= 1) }`, takes a line. A `*` stands at either end alone."""
    assert pattern.startswith("{ ") and pattern.endswith(" }"), pattern
    bare = TERM.sub(lambda term: str(_holds(line, *term.groups())), pattern[2:-2])
    logical = bare.replace("&&", "and").replace("||", "or")
    assert re.fullmatch(r"(True|False|and|or|[() ])+", logical), f"not understood: {logical}"
    return bool(eval(logical))


def _holds(line: Mapping[str, Any], name: str, operator: str, wanted: str) -> bool:
    value = line.get(name)
    if wanted.startswith('"'):
        assert operator in ("=", "!="), f"{operator} is not for texts"
        found = isinstance(value, str) and fnmatch.fnmatchcase(value, wanted.strip('"'))
        return found if operator == "=" else not found
    number = float(wanted)
    if isinstance(value, str) or value is None:
        return False
    compare: Mapping[str, bool] = {
        "=": value == number, "!=": value != number, ">": value > number, ">=": value >= number, "<": value < number,
        "<=": value <= number,
    }  # fmt: skip
    return compare[operator]


# --- Logs Insights: docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html ---

COMMANDS = {"fields", "filter", "stats", "sort", "limit", "dedup", "display", "parse"}
WORDS = {"by", "as", "and", "or", "not", "like", "in", "asc", "desc"}
FUNCTIONS = {"count", "count_distinct", "sum", "avg", "min", "max", "pct", "earliest", "latest", "bin", "floor"}
OF_NUMBERS = {"sum", "avg", "min", "max", "pct", "floor"}
SYSTEM = {"@timestamp", "@message"}


def query_fields(query: str) -> set[str]:
    """The fields that a query looks at, beside CloudWatch's own and what the query itself makes with `as`.

    Raises AssertionError for a command or a function that there is not, and for a name that is made twice.
    """
    bare = re.sub(r'"[^"]*"|/(?:\\.|[^/\\\s])(?:\\.|[^/\\])*/', " ", query)
    for command in bare.split("|"):
        assert command.split()[0] in COMMANDS, f"no command: {command.split()[0]}"
    called = set(re.findall(r"(\w+)\(", bare)) - WORDS
    assert called <= FUNCTIONS, f"no functions: {called - FUNCTIONS}"
    made = re.findall(r"\bas (\w+)", bare)
    assert len(made) == len(set(made)), f"made twice: {made}"
    names = set(re.findall(r"(?<![\w.])@?[A-Za-z_]\w*(?!\w*\()", bare))
    return names - COMMANDS - WORDS - SYSTEM - set(made)


def numeric_fields(query: str) -> set[str]:
    """The fields that a query calculates with or compares with a number."""
    bare = re.sub(r'"[^"]*"|/(?:\\.|[^/\\\s])(?:\\.|[^/\\])*/', " ", query)
    found = set(re.findall(r"(\w+)\s*(?:>=|<=|!=|=|>|<)\s*\d", bare))
    for inside in re.findall(rf"\b(?:{'|'.join(OF_NUMBERS)})\(([^()]*(?:\([^()]*\))?[^()]*)\)", bare):
        found |= set(re.findall(r"(?<![\w@])[A-Za-z_]\w*(?!\w*\()", inside))
    return found


def compared_texts(query: str) -> set[tuple[str, str]]:
    """(field, text) of each comparison of a field with a text, `in` lists too."""
    found = set(re.findall(r'(\w+)\s*!?=\s*"([^"]*)"', query))
    for name, listed in re.findall(r"(\w+) in \[([^]]*)\]", query):
        found |= {(name, text) for text in re.findall(r'"([^"]*)"', listed)}
    return found
