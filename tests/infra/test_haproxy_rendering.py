"""The rules as a configuration of HAProxy: what is written, and that it is read from the Terraform files."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from scripts.alb.balancer import Balancer, Check, Fixed, Group, Listener, Redirect, read_balancer
from scripts.alb.haproxy import Places, glob_to_regex, render
from scripts.alb.matching import covers
from scripts.alb.rules import TERRAFORM, Rule, Unreadable, read_rules
from tests.support.alb import HAPROXY, NEEDS_HAPROXY

BINDS = {"http": ["127.0.0.1:8080"], "https": ["127.0.0.1:8443"]}
ALPHABET = "Aa/.*?-_$~\"'@:+&09"  # with the two wildcards: what an ALB lets into a pattern
SAMPLES = 3000
DEFAULT_BODY = '{"error_code":"ENDPOINT_NOT_FOUND","message":"Nothing is served at this address."}'


def balancer() -> Balancer:
    """One with nothing special about it."""
    check = Check("/health", "200-299", 15.0, 2.5, 2, 3)
    listeners = (
        Listener("http", 80, "HTTP", Redirect(301, "HTTPS", 443)),
        Listener("https", 443, "HTTPS", Fixed(404, "text/plain", 'it\'s "nowhere" \\ %[src]')),
    )
    return Balancer(77, True, listeners, {"proxy": Group("least_outstanding_requests", check)})


def rule(name: str, priority: int, *targets: tuple[str, int], **conditions: tuple[str, ...]) -> Rule:
    given = {"hosts": (), "paths": (), "methods": (), **conditions}
    return Rule(name, "https", priority, **given, targets=targets)


def written(*rules: Rule, places: Places | None = None) -> list[str]:
    """The configuration's lines, without what they are indented by."""
    return [line.strip() for line in render(rules, balancer(), places or Places("/run/a.sock", BINDS)).splitlines()]


def choices(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("use_backend", "default_backend"))]


def section(lines: list[str], head: str) -> list[str]:
    """The lines under a head, up to the empty line."""
    after = lines[lines.index(head) + 1 :]
    return after[: after.index("")] if "" in after else after


def altered(folder: Path, old: str, new: str) -> Path:
    """A copy of the Terraform files in which `old`, which must be there once, is `new`."""
    for path in TERRAFORM.glob("*.tf"):
        (folder / path.name).write_text(path.read_text("utf-8"), "utf-8")
    (found,) = [path for path in folder.glob("alb*.tf") if old in path.read_text("utf-8")]
    text = found.read_text("utf-8")
    assert text.count(old) == 1
    found.write_text(text.replace(old, new), "utf-8")
    return folder


def test_a_pattern_means_in_haproxy_what_it_means_in_the_model() -> None:
    """PCRE's `\\z` is Python's `\\Z`; all else that is written means the same in both."""
    chance = random.Random(5)
    agreed = {True: 0, False: 0}
    for _ in range(SAMPLES):
        pattern = "".join(chance.choices(ALPHABET, k=chance.randint(1, 8)))
        text = "".join(
            one if one not in "*?" else "".join(chance.choices("a/", k=chance.randint(0, 2))) for one in pattern
        )
        if chance.random() < 0.3:
            text = text.swapcase()
        said = re.fullmatch(glob_to_regex(pattern).replace("\\z", "\\Z"), text) is not None
        assert said == covers(pattern, text), (pattern, text)
        agreed[said] += 1
    assert min(agreed.values()) > SAMPLES // 10


def test_rules_are_asked_by_priority_whatever_order_they_come_in() -> None:
    late = rule("late", 50, ("api", 1), paths=("/api*",))
    early = rule("early", 9, ("proxy", 1), paths=("/api/x",), hosts=("Registry.Hokus.AI",), methods=("GET", "PUT"))
    lines = written(late, early)
    assert choices(lines) == [
        "default_backend default_http",
        "use_backend tg_proxy if early_host early_path early_method",
        "use_backend tg_api if late_path",
        "default_backend default_https",
    ]
    assert "acl early_host var(txn.lower_host) -m reg '^registry\\x2Ehokus\\x2Eai\\z'" in lines
    assert "acl early_path path -m reg '^/api/x\\z'" in lines
    assert "acl early_method method -m str 'GET' 'PUT'" in lines


def test_a_rule_without_conditions_takes_everything() -> None:
    assert "use_backend tg_api" in written(rule("all", 1, ("api", 1)))


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (0, ["use_backend tg_api if r_path"]),
        (5, ["use_backend tg_proxy if r_path { var(txn.die_r) -m int lt 5 }", "use_backend tg_api if r_path"]),
        (25, ["use_backend tg_proxy if r_path { var(txn.die_r) -m int lt 25 }", "use_backend tg_api if r_path"]),
        (100, ["use_backend tg_proxy if r_path"]),
    ],
)
def test_weights_are_parts_of_a_die(weight: int, expected: list[str]) -> None:
    lines = written(rule("r", 1, ("proxy", weight), ("api", 100 - weight), paths=("/mlflow",)))
    assert choices(lines)[1:-1] == expected
    assert ("http-request set-var(txn.die_r) rand(100)" in lines) is (0 < weight < 100)


def test_more_than_two_targets_share_one_die() -> None:
    lines = written(rule("r", 1, ("a", 1), ("off", 0), ("b", 2), ("c", 4)))
    assert choices(lines)[1:-1] == [
        "use_backend tg_a if { var(txn.die_r) -m int lt 1 }",
        "use_backend tg_b if { var(txn.die_r) -m int lt 3 }",
        "use_backend tg_c",
    ]
    assert "http-request set-var(txn.die_r) rand(7)" in lines


def test_a_rule_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="all weights are zero"):
        written(rule("r", 1, ("proxy", 0)))


def test_targets_timeouts_and_health_checks_are_those_of_the_group() -> None:
    places = Places("/run/a.sock", BINDS, {"proxy": ["127.0.0.1:1", "127.0.0.1:2"], "api": ["127.0.0.1:3"]})
    lines = written(places=places)
    assert section(lines, "backend tg_proxy") == [
        "balance leastconn",
        "option httpchk",
        "http-check send meth GET uri '/health' ver HTTP/1.1 hdr Host 127.0.0.1 "
        "hdr User-Agent ELB-HealthChecker/2.0 hdr Connection close",
        "http-check expect status 200-299",
        "timeout check 2500ms",
        "server s0 127.0.0.1:1 pool-purge-delay 77s check inter 15000ms rise 2 fall 3",
        "server s1 127.0.0.1:2 pool-purge-delay 77s check inter 15000ms rise 2 fall 3",
    ]
    assert section(lines, "backend tg_api") == ["balance roundrobin", "server s0 127.0.0.1:3 pool-purge-delay 77s"]
    assert {"timeout client 77s", "timeout server 77s", "timeout http-keep-alive 77s", "retries 0"} <= set(lines)


@NEEDS_HAPROXY
def test_haproxy_takes_whatever_a_pattern_and_a_body_may_hold(tmp_path: Path) -> None:
    awkward = rule(
        "r", 1, ("proxy", 3), ("api", 4), paths=("/a'b\"$~@:+&*?.-_",), hosts=("*.x-y.z?",), methods=("GET",)
    )
    path = tmp_path / "haproxy.cfg"
    path.write_text("\n".join(written(awkward)) + "\n", "utf-8")
    run = subprocess.run([str(HAPROXY), "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "[WARNING]" not in run.stderr + run.stdout


def test_the_balancer_is_read_from_the_terraform_files() -> None:
    read = read_balancer(given={"alb_idle_timeout": 321})
    assert read.idle_timeout == 321
    assert read.drops_invalid_names
    assert {one.name: one.default for one in read.listeners} == {
        "http": Redirect(301, "HTTPS", 443),
        "https": Fixed(404, "application/json", DEFAULT_BODY),
    }
    assert read.groups["proxy"].algorithm == "least_outstanding_requests"
    assert (read.groups["proxy"].check.path, read.groups["proxy"].check.statuses) == ("/health", "200")


def test_on_the_http_listener_there_is_nothing_but_the_redirect() -> None:
    lines = render(read_rules(), read_balancer(), Places("/run/a.sock", BINDS)).splitlines()
    stripped = [line.strip() for line in lines]
    assert not [line for line in section(stripped, "frontend http") if line.startswith(("use_backend", "acl"))]
    location = "http-request redirect location https://%[var(txn.host)]:443%[pathq] code 301"
    assert section(stripped, "backend default_http") == [location]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('xff_header_processing_mode = "append"', 'xff_header_processing_mode = "preserve"'),
        ("drop_invalid_header_fields = true", "drop_invalid_header_fields = true\n  preserve_host_header = true"),
        ("idle_timeout       = var.alb_idle_timeout", "idle_timeout       = 2 * var.alb_idle_timeout"),
        ('message = "Nothing is served at this address."', "message = var.project"),
        ('port        = "443"', 'port        = "443"\n      path        = "/x"'),
        ('type = "fixed-response"', 'type = "authenticate-oidc"'),
    ],
)
def test_what_cannot_be_played_is_refused(old: str, new: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        read_balancer(altered(tmp_path, old, new))


def test_a_second_load_balancer_is_refused(tmp_path: Path) -> None:
    folder = altered(
        tmp_path, 'resource "aws_lb" "main" {', 'resource "aws_lb" "other" {\n}\nresource "aws_lb" "main" {'
    )
    with pytest.raises(Unreadable, match="2 load balancers"):
        read_balancer(folder)
