"""docs/runbook.md has a section for each alarm, and nothing that is none; each says what on-call must know, rightly.

The alarms are read from infrastructure/terraform/alarms.tf itself, so this holds where no Terraform is. That its names,
commands, queries and links exist is shown by test_operators_pages.py.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import hcl2
import pytest

from scripts.alb.rules import PLAIN, defaults
from tests.infra.cloudwatch import DIMENSIONS
from tests.infra.pages import ROOT, anchors, blocks, rows, text_of
from tests.support import terraform

ALARMS = terraform.MODULE / "alarms.tf"
# What each section says, in this order; "Causes and mend" is a table.
PARTS = ["Users", "Urgent", "First look", "Causes and mend", "Over"]
URGENT = ["now", "within the hour", "today", "this week"]
PAGE = "page"  # the one alarm over those that cannot wait
BY_HAND = [
    "Gradual rollout",
    "Roll back",
    "Drain a task",
    "MLflow deploy",
    "When Redis is away",
    "When the auth service is away",
]


@functools.cache
def alarms() -> dict[str, dict[str, Any]]:
    """Name -> each alarm's row in alarms.tf, with the defaults of variables in place of those."""
    parsed = hcl2.loads(ALARMS.read_text(), serialization_options=PLAIN)
    found: dict[str, dict[str, Any]] = {}
    for local in parsed["locals"]:
        found |= {**local.get("alarms", {}), **local.get("math_alarms", {})}
    return found


def threshold(row: Mapping[str, Any]) -> str:
    """What an alarm compares with, a variable's default in its place."""
    told = str(row["threshold"])
    name = re.fullmatch(r"\$\{var\.(\w+)\}", told)
    return str(defaults(terraform.MODULE)[name[1]]) if name else told


def metrics(row: Mapping[str, Any]) -> set[str]:
    """The names of the metrics that an alarm looks at."""
    names = {name for _, name in DIMENSIONS}
    return set(re.findall(r"[A-Z]\w+", str(row.get("metrics", "")) + str(row.get("metric", "")))) & names


def sections(text: str) -> dict[str, str]:
    """Name -> what stands below it, of each section of alarms."""
    part = re.split(r"^## ", text.partition("\n## Alarms\n")[2], flags=re.MULTILINE)[0]
    _, *found = re.split(r"^### ", part, flags=re.MULTILINE)
    return {one.partition("\n")[0]: one.partition("\n")[2] for one in found}


RUNBOOK = text_of("runbook.md")
SECTIONS = sections(RUNBOOK)
every_section = pytest.mark.parametrize("name", SECTIONS)
every_alarm = pytest.mark.parametrize("name", alarms())


def without_a_section(text: str) -> set[str]:
    """Alarms without a section, and sections without an alarm."""
    return set(sections(text)) ^ {*alarms(), PAGE}


def test_each_alarm_has_a_section_and_each_section_an_alarm() -> None:
    assert without_a_section(RUNBOOK) == set()
    assert len(alarms()) > 20


def test_a_section_that_is_missing_or_too_many_is_seen() -> None:
    assert without_a_section(RUNBOOK.replace("\n### desync\n", "\n#### desync\n")) == {"desync"}
    assert without_a_section(RUNBOOK.replace("\n### cpu\n", "\n### cpus\n")) == {"cpu", "cpus"}


def test_the_anchors_are_those_that_the_alarms_name() -> None:
    named = set(re.findall(r"docs/runbook\.md#([\w-]+|\$\{each\.key\})", ALARMS.read_text()))
    assert named == {PAGE, "${each.key}"}
    assert {*alarms(), PAGE} - anchors(RUNBOOK) == set()
    headings = re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE)
    # A heading that is there twice would take the alarm's anchor away.
    assert [name for name in (*alarms(), PAGE) if headings.count(name) != 1] == []


@every_section
def test_a_section_says_all_that_on_call_must_know(name: str) -> None:
    told = re.findall(r"^\*\*([\w ,]+):\*\* ?(.*)$", SECTIONS[name], re.MULTILINE)
    titles = [title for title, _ in told]
    if name == "certificate":  # its procedure is a page of its own
        titles = ["First look" if title == "First look and mend" else title for title in titles]
    assert titles == PARTS
    table = SECTIONS[name].partition("**Causes and mend:**")[2]
    assert table.count("\n|") >= 3 or name == PAGE
    assert all(said or title in ("First look", "Causes and mend") for title, said in told)
    first_look = SECTIONS[name].partition("**First look")[2].partition("**Causes and mend:**")[0]
    assert "```" in first_look or "](#" in first_look or "dashboard" in first_look or ".md#" in first_look


@every_alarm
def test_a_section_names_the_metrics_the_threshold_and_how_often(name: str) -> None:
    row, begin = alarms()[name], SECTIONS[name].partition("**Users:**")[0]
    assert {one for one in metrics(row) if f"`{one}`" not in begin} == set() != metrics(row)
    points, of = row["points"]
    if of > 1 or points > 1:
        assert f"{points} of {of}" in begin
    else:
        assert "1 of 1" in begin or "once a day" in begin or "in five minutes" in begin
    if row.get("expression") is None or name in ("5xx", "alb-5xx"):
        assert re.search(rf"\b{int(threshold(row)):,}\b", begin)
    for variable in set(re.findall(r"var\.(alarm_\w+|autoscaling_\w+)", str(row))):
        assert f"`{variable}`" in begin
    assert ("silence counts as bad" in begin) == (row["silence"] == "breaching")


def test_what_is_urgent_is_said_twice_and_the_same() -> None:
    told = {
        name: degree for degree, cell in rows(RUNBOOK, "## Alarms") for name in re.findall(r"\[([\w-]+)\]\(#\1\)", cell)
    }
    assert set(told) == set(SECTIONS) and set(told.values()) == set(URGENT)
    for name, text in SECTIONS.items():
        said = re.findall(r"^\*\*Urgent:\*\* ([\w ]+?)[.;,]", text, re.MULTILINE)
        assert said == [told[name]], name
    assert {name for name, degree in told.items() if degree == "now"} == {PAGE} | {
        name for name, row in alarms().items() if row["page"]
    }


def test_what_one_does_by_hand_has_a_section() -> None:
    headings = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
    assert headings == ["First looks", "Alarms", *BY_HAND]


# --- the rollout ---


def rollout() -> str:
    """The section about the gradual rollout."""
    return RUNBOOK.partition("\n## Gradual rollout\n")[2].partition("\n## ")[0]


def test_the_steps_of_the_rollout_are_those_that_the_script_allows() -> None:
    script = (ROOT / "scripts" / "set_proxy_weight.sh").read_text()
    found = re.search(r"ROLLOUT=\(([\d ]+)\)", script)
    assert found
    steps = re.findall(r"^\| (\d+) \|", rollout(), re.MULTILINE)
    assert steps == ["0", *found[1].split()]
    assert " → ".join(steps) in rollout()


def test_the_rollout_has_figures_to_stop_at_and_a_way_back() -> None:
    stop, back = rollout().partition("**Stop where you are**")[2].split("**Go back to 0**")
    for criteria, least in ((stop, 4), (back, 5)):
        points = re.split(r"^- ", criteria.partition("\n\n```")[0], flags=re.MULTILINE)[1:]
        assert len(points) >= least
    for metric in ("AuthUnavailable", "CPUUtilization", "RequestCountPerTarget"):
        assert f"`{metric}`" in stop
    assert re.search(r"above 1 % of at least 200 requests", back) and "2,000 ms" in back
    assert any("set_proxy_weight.sh 0 " in block for block in blocks(rollout(), "sh"))


def test_each_step_of_the_rollout_is_set_compared_tested_and_watched() -> None:
    shell, queries = "\n".join(blocks(rollout(), "sh")), blocks(rollout(), "text")
    orders = ["set_proxy_weight.sh", "check_live_rules.py", "smoke_test.sh"]
    assert [shell.index(one) for one in orders] == sorted(shell.index(one) for one in orders)
    assert len(queries) == 1 and "status / 500" in queries[0] and "duration_ms" in queries[0]
    assert "`proxy_weight = 5`" in rollout() and "terraform.tfvars" in rollout()


def test_how_often_the_smoke_test_asks_is_what_it_does() -> None:
    script = (ROOT / "scripts" / "smoke_test.sh").read_text()
    assert "(0.001 | log) / ((100 - $weight) / 100 | log) | ceil" in script
    assert "up to 135 times" in rollout()  # ln 0.001 / ln 0.95
