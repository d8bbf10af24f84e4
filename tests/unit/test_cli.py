"""app/cli.py: the key alone on stdout, so that it can be taken from there; everything else on stderr."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from app.cli import keys_group
from app.local_keys import LocalKeys


@pytest.fixture
def keys(tmp_path: Path) -> LocalKeys:
    return LocalKeys(str(tmp_path / "keys.json"))


def run(keys: LocalKeys | None, *arguments: str) -> Result:
    return Flask("test").test_cli_runner().invoke(keys_group(keys), list(arguments))


def test_add_prints_the_key_alone_on_stdout_and_a_remark_on_stderr(keys: LocalKeys) -> None:
    result = run(keys, "add", "--user", "alice")
    assert (result.exit_code, result.stderr) == (0, "Keep this key now: only its hash was written.\n")
    assert re.fullmatch(r"hk_dev_[A-Za-z0-9_-]{43}\n", result.stdout)
    principal = keys.validate(result.stdout.strip(), "")
    assert (principal.user_id, sorted(principal.scopes), principal.rate_limit_per_hour) == (
        "alice",
        ["mlflow:access", "model:read", "model:write"],
        1000,
    )


def test_add_takes_scopes_and_a_limit(keys: LocalKeys) -> None:
    result = run(keys, "add", "--user", "a", "--scope", "model:read", "--scope", "admin", "--rate-limit", "7")
    principal = keys.validate(result.stdout.strip(), "")
    assert (sorted(principal.scopes), principal.rate_limit_per_hour) == (["admin", "model:read"], 7)


@pytest.mark.parametrize(
    ("arguments", "scopes"),
    [
        (["--scopes", "model:read,admin"], ["admin", "model:read"]),
        (["--scopes", " model:read , "], ["model:read"]),
        (["--scopes", "model:read", "--scope", "admin"], ["admin", "model:read"]),
        (["--scopes", ""], []),
        ([], ["mlflow:access", "model:read", "model:write"]),
    ],
    ids=str,
)
def test_add_takes_a_list_of_scopes_and_an_empty_one_means_none(
    keys: LocalKeys, arguments: list[str], scopes: list[str]
) -> None:
    key = run(keys, "add", "--user", "a", *arguments).stdout.strip()
    assert sorted(keys.validate(key, "").scopes) == scopes


@pytest.mark.parametrize(
    ("given", "span"),
    [("12h", timedelta(hours=12)), ("30d", timedelta(days=30)), ("2w", timedelta(weeks=2))],
)
def test_add_takes_a_span_after_which_the_key_is_over(keys: LocalKeys, given: str, span: timedelta) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    result = run(keys, "add", "--user", "a", "--expires", given)
    until = keys.validate(result.stdout.strip(), "").expires_at
    assert before + span <= datetime.fromisoformat(until) <= datetime.now(UTC) + span
    assert f"It works until {until}." in result.stderr


@pytest.mark.parametrize(
    ("given", "until"),
    [
        ("2999-01-31", "2999-01-31T00:00:00+00:00"),
        ("2999-01-31T12:30", "2999-01-31T12:30:00+00:00"),
        ("2999-01-31T12:30:00+02:00", "2999-01-31T10:30:00+00:00"),
    ],
)
def test_add_takes_a_date_or_a_moment(keys: LocalKeys, given: str, until: str) -> None:
    run(keys, "add", "--user", "a", "--expires", given)
    assert keys.entries()[0]["expires_at"] == until


def test_scopes_gives_a_key_others_and_says_so(keys: LocalKeys) -> None:
    key, other = keys.add("alice", ["admin"]), keys.add("bob", ["admin"])
    alices = keys.entries()[0]["key_id"]
    result = run(keys, "scopes", alices, "--set", "model:read,model:write")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{alices} has model:read,model:write now\n"
    assert sorted(keys.validate(key, "").scopes) == ["model:read", "model:write"]
    assert sorted(keys.validate(other, "").scopes) == ["admin"]
    assert run(keys, "scopes", alices, "--set", "").stderr == f"{alices} has no scopes now\n"
    others = LocalKeys(str(keys._path))  # as another process, which has not looked at the file this second
    assert others.validate(key, "").scopes == frozenset()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["add", "--user", "a", "--expires", "soon"], "say 12h, 30d, 8w, or a date"),
        (["add", "--user", "a", "--expires", "0d"], "say 12h, 30d, 8w, or a date"),
        (["add", "--user", "a", "--expires", "2001-01-01"], "2001-01-01T00:00:00+00:00 is over"),
        (["add", "--user", "a", "--scopes", "model read"], "'model read' is no scope"),
        (["scopes", "nobody", "--set", "a"], "Error: there is no key nobody."),
        (["scopes", "nobody"], "Missing option '--set'"),
        (["add"], "Missing option '--user'"),
        (["add", "--user", "a b"], "Error: a user name has 1 to 128 letters"),
        (["add", "--user", "a", "--rate-limit", "0"], "Invalid value for '--rate-limit'"),
        (["revoke", "nobody"], "Error: there is no key nobody."),
        (["revoke"], "Missing argument 'KEY_ID'"),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr_and_by_the_exit_code(
    keys: LocalKeys, arguments: list[str], told: str
) -> None:
    result = run(keys, *arguments)
    assert (result.exit_code != 0, result.stdout, told in result.stderr) == (True, "", True)


def test_a_file_that_cannot_be_written_is_said_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(LocalKeys(str(tmp_path / "file" / "keys.json")), "add", "--user", "alice")
    assert (result.exit_code, result.stderr.startswith("Error: ")) == (1, True)


@pytest.mark.parametrize(
    "arguments", [["list"], ["revoke", "x"], ["add", "--user", "a"], ["scopes", "x", "--set", "a"]], ids=lambda a: a[0]
)
def test_a_file_that_cannot_be_understood_is_said_without_a_traceback(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "keys.json").write_text("[]")
    result = run(LocalKeys(str(tmp_path / "keys.json")), *arguments)
    assert (result.exit_code, result.stderr.startswith("Error: ")) == (1, True)


def test_list_is_a_table_with_a_line_for_each_key_and_no_hash(keys: LocalKeys) -> None:
    made = [keys.add("alice", ["a", "b"], 7), keys.add("bob", [], 1000, datetime(2999, 1, 31, 12, tzinfo=UTC))]
    result = run(keys, "list")
    head, *lines = result.stdout.splitlines()
    assert (result.exit_code, head.split()) == (0, ["ID", "USER", "SCOPES", "LIMIT", "CREATED", "EXPIRES"])
    alice, bob = keys.entries()
    assert [line.split() for line in lines] == [
        [alice["key_id"], "alice", "a,b", "7/h", alice["created_at"], "never"],
        [bob["key_id"], "bob", "-", "1000/h", bob["created_at"], "2999-01-31T12:00:00+00:00"],
    ]
    starts = [[match.start() for match in re.finditer(r"\S+", line)] for line in (head, *lines)]
    assert starts[0] == starts[1] == starts[2]  # columns stand below each other
    secrets = [*made, alice["sha256"], bob["sha256"]]
    assert [secret for secret in secrets if secret in result.stdout] == []


def test_list_says_of_an_expired_key_that_it_is_over(keys: LocalKeys) -> None:
    keys.add("alice", [], 1000, datetime(2001, 1, 1, tzinfo=UTC))
    assert run(keys, "list").stdout.rstrip().endswith("2001-01-01T00:00:00+00:00 (over)")


def test_list_of_no_keys_is_empty(keys: LocalKeys) -> None:
    assert (run(keys, "list").exit_code, run(keys, "list").stdout) == (0, "")


def test_revoke_removes_the_key_and_says_so_on_stderr(keys: LocalKeys) -> None:
    keys.add("alice", [])
    alices = keys.entries()[0]["key_id"]
    result = run(keys, "revoke", alices)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"revoked {alices}\n")
    assert keys.entries() == []


@pytest.mark.parametrize(
    "arguments", [["add", "--user", "a"], ["list"], ["revoke", "x"], ["scopes", "x", "--set", "a"]], ids=lambda a: a[0]
)
def test_where_the_auth_service_vouches_for_keys_every_command_says_so(arguments: list[str]) -> None:
    result = run(None, *arguments)
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: keys come from the auth service here; LOCAL_KEYS_PATH is not set.\n",
    )
