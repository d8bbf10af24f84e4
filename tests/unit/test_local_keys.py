"""app/local_keys.py: keys in a file that holds no keys."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.errors import AuthUnavailable, Unauthenticated
from app.local_keys import LocalKeys, digest
from app.scope import Principal
from tests.support.clock import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deeper" / "keys.json"


@pytest.fixture
def keys(path: Path, clock: Clock) -> LocalKeys:
    return LocalKeys(str(path), clock)


@pytest.fixture
def looks(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every look at the key file, by the way it was asked for."""
    found: list[object] = []
    stat = os.stat

    def noted(asked: Any, *arguments: Any, **more: Any) -> os.stat_result:
        if asked == path:
            found.append(asked)
        return stat(asked, *arguments, **more)

    monkeypatch.setattr(os, "stat", noted)
    return found


def key_id(keys: LocalKeys, user: str) -> str:
    return next(str(entry["key_id"]) for entry in keys.entries() if entry["user_id"] == user)


def test_a_key_gives_the_principal_it_was_made_for(keys: LocalKeys) -> None:
    key = keys.add("alice", ["model:read", "model:write"], 50)
    assert keys.validate(key, "203.0.113.9") == Principal(
        "alice", key_id(keys, "alice"), frozenset({"model:read", "model:write"}), 50
    )


def test_a_key_is_recognisable_and_long_enough_that_nobody_guesses_it(keys: LocalKeys) -> None:
    made = {keys.add("alice", []) for _ in range(3)}
    assert len(made) == 3
    assert {key for key in made if not re.fullmatch(r"hk_dev_[A-Za-z0-9_-]{43}", key)} == set()


def test_the_file_holds_the_hash_and_what_belongs_to_it_but_never_the_key(keys: LocalKeys, path: Path) -> None:
    key = keys.add("alice", ["model:read"], 7)
    text = path.read_text()
    (entry,) = json.loads(text)["keys"]
    created = entry.pop("created_at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", created)
    assert re.fullmatch("[0-9a-f]{12}", entry.pop("key_id"))
    assert entry == {
        "user_id": "alice",
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "scopes": ["model:read"],
        "rate_limit_per_hour": 7,
    }
    assert (key in text, key.removeprefix("hk_dev_") in text) == (False, False)


def test_nobody_else_may_read_the_file_and_nothing_is_left_beside_it(keys: LocalKeys, path: Path) -> None:
    keys.add("alice", [])
    keys.add("bob", [])
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_an_unknown_key_is_refused_and_so_is_every_key_without_a_file(keys: LocalKeys) -> None:
    with pytest.raises(Unauthenticated):
        keys.validate("hk_dev_" + "x" * 43, "")
    keys.add("alice", [])
    with pytest.raises(Unauthenticated):
        keys.validate("hk_dev_" + "x" * 43, "")


def test_the_hash_is_no_key(keys: LocalKeys) -> None:
    keys.add("alice", [])
    with pytest.raises(Unauthenticated):
        keys.validate(keys.entries()[0]["sha256"], "")


def test_a_key_added_by_another_process_works_at_once(keys: LocalKeys, path: Path) -> None:
    alices = keys.add("alice", [])
    assert keys.validate(alices, "").user_id == "alice"  # the file has just been looked at
    with pytest.raises(Unauthenticated):
        keys.validate("x", "")
    key = LocalKeys(str(path)).add("bob", [])
    assert keys.validate(key, "").user_id == "bob"


def test_a_revoked_key_stops_working_within_a_second_and_the_others_go_on(
    keys: LocalKeys, path: Path, clock: Clock
) -> None:
    alices, bobs = keys.add("alice", []), keys.add("bob", [])
    assert keys.validate(alices, "").user_id == "alice"
    assert LocalKeys(str(path)).revoke(key_id(keys, "alice"))
    clock.now += 1.0
    with pytest.raises(Unauthenticated):
        keys.validate(alices, "")
    assert keys.validate(bobs, "").user_id == "bob"


def test_a_revoked_key_does_not_live_on_because_it_is_in_use(keys: LocalKeys, path: Path, clock: Clock) -> None:
    key = keys.add("alice", [])
    keys.validate(key, "")
    LocalKeys(str(path)).revoke(key_id(keys, "alice"))
    with pytest.raises(Unauthenticated):
        for _ in range(10):
            clock.now += 0.1
            keys.validate(key, "")


def test_a_key_that_is_known_has_the_file_looked_at_once_a_second(
    keys: LocalKeys, clock: Clock, looks: list[object]
) -> None:
    key = keys.add("alice", [])
    looks.clear()
    counts = []
    for moment in (0.0, 0.0, 0.5, 0.999, 1.0, 1.0, 1.999, 2.0):
        clock.now = 1000.0 + moment
        keys.validate(key, "")
        counts.append(len(looks))
    first = counts[0]  # it reads the file too, which looks whether there is one
    assert [count - first for count in counts] == [0, 0, 0, 0, 1, 1, 1, 2]


def test_a_key_that_is_not_known_has_it_looked_at_each_time(keys: LocalKeys, looks: list[object]) -> None:
    keys.validate(keys.add("alice", []), "")
    looks.clear()
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            keys.validate("x", "")
    assert len(looks) == 3


def test_the_second_begins_before_the_look(
    keys: LocalKeys, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long reading takes, what it found is believed for a second from when it was asked for."""
    key = keys.add("alice", [])
    entries = LocalKeys.entries

    def slow(self: LocalKeys) -> list[dict[str, Any]]:
        found = entries(self)
        clock.now += 1.0
        return found

    monkeypatch.setattr(LocalKeys, "entries", slow)
    keys.validate(key, "")
    path.unlink()
    with pytest.raises(Unauthenticated):
        keys.validate(key, "")


def test_revoking_says_whether_there_was_such_a_key(keys: LocalKeys) -> None:
    keys.add("alice", [])
    alices = key_id(keys, "alice")
    assert [keys.revoke("000000000000"), keys.revoke(alices), keys.revoke(alices)] == [False, True, False]
    assert keys.entries() == []


def test_a_key_works_until_its_time_is_over_and_tells_it(keys: LocalKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    key = keys.add("alice", [], 1000, until)
    assert keys.validate(key, "").expires_at == until.isoformat()
    monkeypatch.setattr("app.local_keys.time", lambda: until.timestamp() - 0.001)
    assert keys.validate(key, "").user_id == "alice"
    monkeypatch.setattr("app.local_keys.time", until.timestamp)
    with pytest.raises(Unauthenticated):
        keys.validate(key, "")


def test_an_entry_from_before_there_was_an_expiry_works_for_ever(keys: LocalKeys, path: Path) -> None:
    key = keys.add("alice", [])
    assert "expires_at" not in path.read_text()
    assert keys.validate(key, "").expires_at == ""


@pytest.mark.parametrize("until", ["soon", "2999-01-31", "2999-01-31T00:00:00", 32472144000, "", []], ids=repr)
def test_an_expiry_that_is_no_moment_is_an_outage_and_not_for_ever(keys: LocalKeys, path: Path, until: Any) -> None:
    key = keys.add("alice", [])
    (entry,) = keys.entries()
    path.write_text(json.dumps({"keys": [{**entry, "expires_at": until}]}))
    with pytest.raises(AuthUnavailable):
        keys.validate(key, "")


def test_other_scopes_hold_a_second_later_and_for_that_key_alone(keys: LocalKeys, path: Path, clock: Clock) -> None:
    alices, bobs = keys.add("alice", ["a"]), keys.add("bob", ["b"])
    assert keys.validate(alices, "").scopes == {"a"}
    assert LocalKeys(str(path)).set_scopes(key_id(keys, "alice"), ["c", "d"])
    clock.now += 1.0
    assert [keys.validate(key, "").scopes for key in (alices, bobs)] == [{"c", "d"}, {"b"}]
    assert not keys.set_scopes("000000000000", ["e"])


def test_no_key_works_a_second_after_the_file_was_removed(keys: LocalKeys, path: Path, clock: Clock) -> None:
    key = keys.add("alice", [])
    assert keys.validate(key, "").user_id == "alice"
    path.unlink()
    clock.now += 1.0
    with pytest.raises(Unauthenticated):
        keys.validate(key, "")


def test_the_file_is_read_once_as_long_as_it_does_not_change(
    keys: LocalKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.add("alice", [])
    keys.validate(key, "")
    clock.now += 1.0
    monkeypatch.setattr(LocalKeys, "entries", lambda _: pytest.fail("was read again"))
    assert keys.validate(key, "").user_id == "alice"


ENTRY = {"key_id": "k", "user_id": "u", "sha256": digest("x"), "scopes": [], "rate_limit_per_hour": 1}
UNREADABLE: dict[str, Any] = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "null": "null",
    "no keys": "{}",
    "keys that are no list": '{"keys": 7}',
    "a key that is no object": '{"keys": ["x"]}',
    "a key without a hash": '{"keys": [{"user_id": "u"}]}',
    "no UTF-8": b'{"keys": "\xff"}',
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_cannot_be_understood_is_an_outage_and_no_refusal(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "keys.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AuthUnavailable) as raised:
        LocalKeys(str(tmp_path / "keys.json")).validate("x", "")
    assert (raised.value.status, raised.value.kind) == (503, "key_file_unreadable")
    assert ("Retry-After", "2") in raised.value.headers


@pytest.mark.parametrize("missing", ["key_id", "user_id", "scopes", "rate_limit_per_hour"])
def test_an_entry_that_lacks_a_field_is_an_outage_too(tmp_path: Path, missing: str) -> None:
    entry = {name: value for name, value in ENTRY.items() if name != missing}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [entry]}))
    with pytest.raises(AuthUnavailable):
        LocalKeys(str(tmp_path / "keys.json")).validate("x", "")


@pytest.mark.parametrize("field", [{"scopes": 7}, {"scopes": [[]]}, {"sha256": []}], ids=str)
def test_an_entry_with_a_field_of_another_type_is_an_outage_too(tmp_path: Path, field: dict[str, Any]) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [{**ENTRY, "created_at": "", **field}]}))
    with pytest.raises(AuthUnavailable) as raised:
        LocalKeys(str(tmp_path / "keys.json")).validate("x", "")
    assert raised.value.kind == "key_file_unreadable"


def test_a_file_that_broke_after_it_was_read_is_an_outage_until_it_is_mended(
    keys: LocalKeys, path: Path, clock: Clock
) -> None:
    key = keys.add("alice", [])
    keys.validate(key, "")
    whole = path.read_text()
    path.write_text("{")
    clock.now += 1.0
    for _ in range(2):
        with pytest.raises(AuthUnavailable):
            keys.validate(key, "")
    path.write_text(whole)
    assert keys.validate(key, "").user_id == "alice"


def test_a_directory_in_its_place_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(AuthUnavailable):
        LocalKeys(str(tmp_path)).validate("x", "")


def test_the_message_does_not_tell_where_the_file_is(tmp_path: Path) -> None:
    with pytest.raises(AuthUnavailable) as raised:
        LocalKeys(str(tmp_path)).validate("x", "")
    assert str(tmp_path) not in raised.value.message


@pytest.mark.parametrize("user", ["a", "a@b.c", "A-Z_0:9", "u" * 128])
def test_a_user_name_is_what_may_be_a_header(keys: LocalKeys, user: str) -> None:
    assert keys.validate(keys.add(user, []), "").user_id == user


@pytest.mark.parametrize("user", ["", " ", "a b", "a\n", "a\r\nX: y", "\xe9", "u" * 129, "a,b", "a/b", "\u0661"])
def test_any_other_user_name_is_refused_and_nothing_is_written(keys: LocalKeys, path: Path, user: str) -> None:
    with pytest.raises(ValueError, match="a user name has"):
        keys.add(user, [])
    assert not path.exists()


def test_keys_that_are_added_at_the_same_time_are_all_kept(path: Path) -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(LocalKeys(str(path)).add("alice", []))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry["sha256"] for entry in LocalKeys(str(path)).entries()} == {digest(key) for key in made}
    assert len(made) == 8


def test_a_key_file_may_have_any_name_without_being_its_own_lock(tmp_path: Path) -> None:
    keys = LocalKeys(str(tmp_path / "keys.lock"))
    first, second = keys.add("alice", []), keys.add("bob", [])
    assert [keys.validate(key, "").user_id for key in (first, second)] == ["alice", "bob"]


def test_a_write_that_fails_leaves_the_file_as_it_was(
    keys: LocalKeys, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.add("alice", [])

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(json, "dump", full)
        with pytest.raises(OSError, match="no space"):
            keys.add("bob", [])
    assert keys.validate(key, "").user_id == "alice"
    assert [entry["user_id"] for entry in keys.entries()] == ["alice"]
    assert os.listdir(path.parent).count("keys.json") == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"rate_limit_per_hour": "1000"},
        {"rate_limit_per_hour": -1},
        {"rate_limit_per_hour": 0},
        {"rate_limit_per_hour": True},
        {"user_id": "a\nb"},
        {"user_id": "\u0141"},
        {"user_id": 7},
        {"key_id": ""},
    ],
    ids=str,
)
def test_a_key_that_nobody_could_count_or_name_is_told_of_where_it_stands(
    keys: LocalKeys, path: Path, changed: dict[str, Any]
) -> None:
    """Not in each request with it, which would be a 500."""
    key = keys.add("alice", [])
    entries = [{**keys.entries()[0], **changed}]
    path.write_text(json.dumps({"keys": entries}))
    with pytest.raises(ValueError, match="user_id, key_id or rate_limit_per_hour"):
        keys.entries()
    with pytest.raises(AuthUnavailable) as raised:
        LocalKeys(str(path)).validate(key, "")
    assert raised.value.kind == "key_file_unreadable"
