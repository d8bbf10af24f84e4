"""The published rules of CloudWatch's embedded metric format, as a judge of one document.

From the specification (docs.aws.amazon.com, CloudWatch_Embedded_Metric_Format_Specification) and, for names and values,
the APIs that the figures end in (PutMetricData: MetricDatum, Dimension; PutLogEvents: InputLogEvent).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

MOST_BYTES = 256 * 1024
PAST_SECONDS, FUTURE_SECONDS = 14 * 86_400, 2 * 3600  # what CloudWatch takes
MOST_METRICS = MOST_VALUES = 100
MOST_KEYS = 30
SIZES = "Bytes Kilobytes Megabytes Gigabytes Terabytes Bits Kilobits Megabits Gigabits Terabits".split()
UNITS = {"Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "None", "Count/Second"}
UNITS |= {*SIZES, *(f"{size}/Second" for size in SIZES)}


class Twice(ValueError):
    """An object has a member twice: which one counts is anybody's guess."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise Twice("a member stands there twice")
    return dict(pairs)


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def parsed(text: str) -> Any:
    """JSON by RFC 8259: nothing around it, no NaN, no member twice. Raises ValueError."""
    if text != text.strip():
        raise ValueError("something stands around it")
    return json.loads(text, object_pairs_hook=_members, parse_constant=_no_number)


def violations(text: str, now: float) -> list[str]:
    """What is wrong with a document, in words; empty when CloudWatch takes every figure of it. `now` in seconds."""
    try:
        root = parsed(text)
    except ValueError as error:
        return [f"no JSON: {error}"]
    if not isinstance(root, dict):
        return ["no object"]
    found = ["too large"] * (len(text.encode()) > MOST_BYTES) + ["not on one line"] * ("\n" in text or "\r" in text)
    meta = root.get("_aws")
    if not isinstance(meta, dict):
        return [*found, "no _aws object"]
    found += _only(meta, {"Timestamp", "CloudWatchMetrics"}, set(), "_aws")
    found += _of_time(meta.get("Timestamp"), now)
    directives = meta.get("CloudWatchMetrics")
    if not isinstance(directives, list) or not directives:
        return [*found, "CloudWatchMetrics is no list of directives"]
    return found + [fault for one in directives for fault in _of_directive(one, root)]


def _only(told: dict[str, Any], needed: set[str], allowed: set[str], where: str) -> Iterator[str]:
    yield from (f"{where} lacks {name}" for name in sorted(needed - set(told)))
    yield from (f"{where} has {name}" for name in sorted(set(told) - needed - allowed))


def _of_time(stamp: Any, now: float) -> Iterator[str]:
    if type(stamp) is not int:
        yield "Timestamp is no whole number"
    elif not now - PAST_SECONDS <= stamp / 1000 <= now + FUTURE_SECONDS:
        yield "Timestamp is no time of now in milliseconds"


def _of_directive(told: Any, root: dict[str, Any]) -> Iterator[str]:
    if not isinstance(told, dict):
        yield "a directive is no object"
        return
    yield from _only(told, {"Namespace", "Dimensions", "Metrics"}, set(), "a directive")
    if not _is_name(told.get("Namespace")) or told["Namespace"].startswith(("AWS/", ":")):
        yield "Namespace is none"
    yield from _each(told.get("Dimensions"), "Dimensions", lambda one: _of_dimensions(one, root))
    yield from _each(told.get("Metrics"), "Metrics", lambda one: _of_metric(one, root))
    metrics = [one.get("Name") for one in told.get("Metrics") or [] if isinstance(one, dict)]
    if len(metrics) > MOST_METRICS:
        yield "more than 100 metrics"
    if len(set(metrics)) != len(metrics):
        yield "a metric is told twice"


def _each(told: Any, what: str, judge: Callable[[Any], Iterator[str]]) -> Iterator[str]:
    if not isinstance(told, list) or not told:
        yield f"{what} is no list, or empty"
        return
    for one in told:
        yield from judge(one)


def _of_dimensions(keys: Any, root: dict[str, Any]) -> Iterator[str]:
    if not isinstance(keys, list) or not all(_is_name(key) and not key.startswith(":") for key in keys):
        yield "a set of dimensions is no list of names"
        return
    if len(keys) > MOST_KEYS or len(set(keys)) != len(keys):
        yield "too many dimensions, or one twice"
    for key in keys:
        value = root.get(key)
        if not isinstance(value, str) or not 1 <= len(value) <= 1024 or not value.isascii() or not value.strip():
            yield f"the dimension {key} has no text at the root"


def _of_metric(told: Any, root: dict[str, Any]) -> Iterator[str]:
    if not isinstance(told, dict) or not _is_name(told.get("Name")):
        yield "a metric has no name"
        return
    name = told["Name"]
    yield from _only(told, {"Name"}, {"Unit", "StorageResolution"}, f"the metric {name}")
    if told.get("Unit", "None") not in UNITS:
        yield f"{name} has a unit that is none"
    if told.get("StorageResolution", 60) not in (1, 60):
        yield f"{name} has a resolution that is none"
    target = root.get(name)
    values = target if isinstance(target, list) else [target]
    if not 1 <= len(values) <= MOST_VALUES or not all(_is_number(value) for value in values):
        yield f"{name} has no number at the root"


def _is_name(told: Any) -> bool:
    return isinstance(told, str) and 1 <= len(told) <= 255 and told.isascii() and told.isprintable()


def _is_number(told: Any) -> bool:
    return type(told) in (int, float) and math.isfinite(told) and abs(told) <= 2.0**360
