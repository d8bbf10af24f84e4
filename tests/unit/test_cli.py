"""app/cli.py: the key alone on stdout, so that it can be taken from there; everything else on stderr."""

from __future__ import annotations

import re
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
    ("arguments", "told"),
    [
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


@pytest.mark.parametrize("arguments", [["list"], ["revoke", "x"], ["add", "--user", "a"]], ids=lambda a: a[0])
def test_a_file_that_cannot_be_understood_is_said_without_a_traceback(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "keys.json").write_text("[]")
    result = run(LocalKeys(str(tmp_path / "keys.json")), *arguments)
    assert (result.exit_code, result.stderr.startswith("Error: ")) == (1, True)


def test_list_prints_a_line_for_each_key_and_no_hash(keys: LocalKeys) -> None:
    made = [keys.add("alice", ["a", "b"]), keys.add("bob", [])]
    result = run(keys, "list")
    expected = [
        f"{entry['key_id']}  {entry['user_id']}  {','.join(entry['scopes'])}  {entry['created_at']}"
        for entry in keys.entries()
    ]
    assert (result.exit_code, result.stdout.splitlines(), len(expected)) == (0, expected, 2)
    secrets = [*made, *(entry["sha256"] for entry in keys.entries())]
    assert [secret for secret in secrets if secret in result.stdout] == []


def test_list_of_no_keys_is_empty(keys: LocalKeys) -> None:
    assert (run(keys, "list").exit_code, run(keys, "list").stdout) == (0, "")


def test_revoke_removes_the_key_and_says_so_on_stderr(keys: LocalKeys) -> None:
    keys.add("alice", [])
    alices = keys.entries()[0]["key_id"]
    result = run(keys, "revoke", alices)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"revoked {alices}\n")
    assert keys.entries() == []


@pytest.mark.parametrize("arguments", [["add", "--user", "a"], ["list"], ["revoke", "x"]], ids=lambda a: a[0])
def test_where_the_auth_service_vouches_for_keys_every_command_says_so(arguments: list[str]) -> None:
    result = run(None, *arguments)
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: keys come from the auth service here; LOCAL_KEYS_PATH is not set.\n",
    )
