"""docs/routing.md says what the rules do: it is the generated page, and the page follows the rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.alb import page as pages
from scripts.alb import tables
from scripts.alb.matching import NOBODY, Request, service_of, target_of
from scripts.alb.rules import Unreadable, read_rules
from scripts.alb.timeouts import Chain, faults, read_chain

PAGE = pages.PAGE.read_text(encoding="utf-8")


def changed(folder: Path, name: str, old: str, new: str) -> Path:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    return folder


def section(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    lines = PAGE.partition(f"\n{heading}\n")[2].lstrip("\n").splitlines()
    rows = [line for line in lines[: next(i for i, line in enumerate([*lines, "#"]) if line.startswith("#"))]]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("|")][2:]


def test_the_committed_page_is_the_generated_one() -> None:
    assert pages.page() == PAGE, "renew it: .venv/bin/python -m scripts.alb.page --write"


def test_no_place_of_the_text_is_left_empty() -> None:
    assert re.findall(r"\{\w+\}", PAGE) == []
    assert [line for line in PAGE.splitlines() if re.search(r"\| +\|", line)] == []


def test_the_first_table_is_true() -> None:
    """Its patterns, filled in and asked one by one in its own order, on each of its hosts."""
    rules = read_rules(given={"proxy_weight": 100})
    rows = section("## Every path and its service")
    assert len(rows) == 11
    for path, *cells in rows:
        for host, cell in zip(("auth.hokus.ai", "registry.hokus.ai", "other.example"), cells, strict=True):
            asked = "/else" if path == "everything else" else path.strip("`").replace("*", "/x")
            found = service_of(target_of(rules, Request("GET", host, asked)))
            assert cell.strip("*") == {NOBODY: "404"}.get(found, found), (path, host)


def test_every_rule_overlap_case_and_exception_is_on_the_page() -> None:
    assert [row[1].strip("`") for row in section("## The rules")] == [rule.name for rule in read_rules()]
    assert [(row[0], row[1]) for row in section("## Overlaps that are meant")] == [
        (f"`{row.first}`", f"`{row.second}`") for row in tables.overlaps()
    ]
    assert len(section("## Cases")) == len(tables.cases())
    assert len(section("## Served, and not reached")) == len(tables.unreached())
    assert len(section("## Paths that are spelt oddly")) == len(tables.spellings())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("alb-listener-rules.tf", '"/api*"', '"/api/*"'),
        ("alb-listener-rules.tf", "priority     = 100", "priority     = 90"),
        ("alb-listener-rules.tf", '["/v1/traces", "/version"]', '["/v1/traces"]'),
        ("variables.tf", '"registry.hokus.ai"', '"models.hokus.ai"'),
        ("alb.tf", "Nothing is served at this address.", "Not here."),
        ("ecs-proxy.tf", "stopTimeout = 120", "stopTimeout = 115"),
        ("variables.tf", "= 960", "= 961"),
    ],
)
def test_the_page_follows_the_files(folder: Path, name: str, old: str, new: str) -> None:
    assert pages.page(folder) == PAGE
    assert pages.page(changed(folder, name, old, new)) != PAGE


def test_a_rule_without_a_purpose_has_no_page(folder: Path) -> None:
    with pytest.raises(KeyError, match="other"):
        pages.page(changed(folder, "alb-listener-rules.tf", '"native_traces"', '"other"'))


def test_a_rule_on_methods_has_no_page(folder: Path) -> None:
    methods = 'http_request_method {\n      values = ["GET"]\n    }\n  }\n\n  action {'
    mlflow = '      values = ["/mlflow", "/mlflow/*"]\n    }\n  }\n\n'
    with pytest.raises(Unreadable, match="methods"):
        text = f"{mlflow}  condition {{\n    {methods}"
        pages.page(changed(folder, "alb-listener-rules.tf", f"{mlflow}  action {{", text))


def test_the_command_writes_the_page_and_says_how_it_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "PAGE", tmp_path / "routing.md")
    assert pages.main([]) == 1
    assert "+# Routing\n" in capsys.readouterr().out
    assert pages.main(["--write"]) == 0
    assert pages.main([]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "routing.md").read_text() == PAGE


# --- the chain of timeouts ---

GOOD = Chain(read=110, artifact_read=900, alb_idle=960, keep_alive=965, deregistration=900, graceful=110, stop=120)


def test_the_chain_is_read_and_holds() -> None:
    assert read_chain() == GOOD
    assert list(faults(GOOD)) == []


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"read": 120}, "the client gives up before the proxy says that MLflow is too slow"),
        ({"artifact_read": 110}, "a transfer has less time than a JSON call"),
        ({"alb_idle": 900, "keep_alive": 905}, "the load balancer answers 504 in HTML before the proxy does in JSON"),
        ({"keep_alive": 960}, "the load balancer's next request meets a closed connection: 502"),
        ({"graceful": 120}, "requests are killed that gunicorn would have ended"),
    ],
)
def test_a_link_that_breaks_is_told(given: dict[str, int], fault: str) -> None:
    (found,) = faults(Chain(**{**vars(GOOD), **given}))
    assert found.endswith(fault)


def test_variables_and_files_decide_the_chain(folder: Path, tmp_path: Path) -> None:
    given = {"alb_idle_timeout": 1000, "read_timeout": 60, "artifact_read_timeout": 700, "deregistration_delay": 300}
    settings = tmp_path / "gunicorn.conf.py"
    settings.write_text("keepalive = int(settings.alb_idle_timeout) + 7\ngraceful_timeout = 90\nENDING_SECONDS = 4\n")
    read = read_chain(changed(folder, "ecs-proxy.tf", "stopTimeout = 120", "stopTimeout = 100"), settings, given)
    assert read == Chain(60, 700, 1000, 1007, 300, 86, 100)


def test_what_cannot_be_read_is_refused(folder: Path) -> None:
    with pytest.raises(Unreadable):
        read_chain(changed(folder, "ecs-proxy.tf", "tostring(var.alb_idle_timeout)", '"60"'))
