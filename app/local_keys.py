"""Keys without an auth service: a JSON file that holds hashes, never keys.

A key is 256 random bits, so a plain SHA-256 of it cannot be guessed back: there is no dictionary to try, hence no salt
and no pepper to lose. The file is read again when it has changed: a new key works at once, and a revoked key stops
working within a second.
"""

import fcntl
import hashlib
import json
import math
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any, NamedTuple

from app.errors import AuthUnavailable, Unauthenticated
from app.scope import Principal, is_name

PREFIX = "hk_dev_"
FIELDS = {"key_id", "user_id", "sha256", "scopes", "rate_limit_per_hour", "created_at"}
EXPIRES = "expires_at"  # not in every entry: keys that were made without it work until they are revoked
LOOK_SECONDS = 1.0  # for so long a known key is believed without a look at the file


class LocalKeys:
    """Looks keys up in the file, and changes it. A file that does not exist holds no keys."""

    def __init__(self, path: str, clock: Callable[[], float] = monotonic) -> None:
        self._path = Path(path)
        self._clock = clock
        self._look_at = 0.0
        self._stamp: tuple[int, int] | None = None
        self._by_hash: dict[str, Known] = {}

    def validate(self, key: str, client_ip: str) -> Principal:
        """Give the key's principal. Raises Unauthenticated, or AuthUnavailable when the file cannot be read.

        A look at the file costs more than all the rest, so a known key causes one a second at most. A key that is not
        known always does, since it may just have been made.
        """
        hashed = digest(key)
        entry = self._by_hash.get(hashed) if self._clock() < self._look_at else None
        if entry is None:
            try:
                self._refresh()
            except (OSError, ValueError, TypeError) as error:
                raise AuthUnavailable(
                    "503: keys cannot be checked just now.", kind="key_file_unreadable", headers=[("Retry-After", "2")]
                ) from error
            entry = self._by_hash.get(hashed)
        if entry is None or entry.until <= time():
            raise Unauthenticated("")
        return entry.principal

    def _refresh(self) -> None:
        # The second begins before the look, so that it bounds how old the look's finding can be.
        look_at = self._clock() + LOOK_SECONDS
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            self._stamp, self._by_hash = None, {}
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._by_hash = {entry["sha256"]: known(entry) for entry in self.entries()}
            self._stamp = stamp
        self._look_at = look_at

    def entries(self) -> list[dict[str, Any]]:
        """All keys in the file, as written: id, user, scopes and hash, but never the key.

        Raises ValueError when the file holds something else, OSError when it cannot be read.
        """
        if not self._path.exists():
            return []
        content = json.loads(self._path.read_text())
        entries = content.get("keys") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) and e.keys() >= FIELDS for e in entries):
            raise ValueError(f"{self._path} is no key file")
        for entry in entries:
            ends_at(entry)  # raises ValueError for what is no moment
            if not (is_name(entry["user_id"]) and is_name(entry["key_id"]) and is_limit(entry["rate_limit_per_hour"])):
                raise ValueError(f"{self._path} holds a key whose user_id, key_id or rate_limit_per_hour is none")
        return entries

    def add(
        self, user: str, scopes: list[str], rate_limit_per_hour: int = 1000, expires: datetime | None = None
    ) -> str:
        """Make a key for a user, write its hash, and return the key: it is not to be had again."""
        if not is_name(user):
            raise ValueError("a user name has 1 to 128 letters, digits or . _ : @ -")
        key = PREFIX + secrets.token_urlsafe(32)
        entry = {
            "key_id": secrets.token_hex(6),
            "user_id": user,
            "sha256": digest(key),
            "scopes": scopes,
            "rate_limit_per_hour": rate_limit_per_hour,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if expires is not None:
            entry[EXPIRES] = expires.astimezone(UTC).isoformat(timespec="seconds")
        with self._locked():
            self._write([*self.entries(), entry])
        return key

    def revoke(self, key_id: str) -> bool:
        """Remove a key by its id; False when there is none."""
        with self._locked():
            entries = self.entries()
            kept = [entry for entry in entries if entry["key_id"] != key_id]
            self._write(kept)
        return len(kept) < len(entries)

    def set_scopes(self, key_id: str, scopes: list[str]) -> bool:
        """Give a key these scopes instead of those it had; False when there is no such key."""
        with self._locked():
            entries = self.entries()
            found = [entry for entry in entries if entry["key_id"] == key_id]
            for entry in found:
                entry["scopes"] = scopes
            self._write(entries)
        return bool(found)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(self._path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, entries: list[dict[str, Any]]) -> None:
        # Written beside and moved over: a reader sees the old file or the new one, whole. mkstemp makes it mode 600.
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"keys": entries}, file, indent=2)
        os.replace(name, self._path)


class Known(NamedTuple):
    """Whom a key speaks for, and until when (seconds of the wall clock)."""

    principal: Principal
    until: float


def known(entry: dict[str, Any]) -> Known:
    """What an entry of the file says.

    Raises TypeError when its scopes are no list of words, ValueError when its end is no moment.
    """
    principal = Principal(
        user_id=entry["user_id"],
        key_id=entry["key_id"],
        scopes=frozenset(entry["scopes"]),
        rate_limit_per_hour=entry["rate_limit_per_hour"],
        expires_at=entry.get(EXPIRES, ""),
        source="local",
    )
    return Known(principal, ends_at(entry))


def ends_at(entry: dict[str, Any]) -> float:
    """When an entry's time is over, in seconds of the wall clock; infinite without an end. Raises ValueError."""
    until = entry.get(EXPIRES)
    if until is None:
        return math.inf
    moment = datetime.fromisoformat(until) if isinstance(until, str) else None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{EXPIRES} is no moment of ISO 8601 with an offset")
    return moment.timestamp()


def expired(entry: dict[str, Any]) -> bool:
    """Whether an entry's time is over. Raises ValueError when its end is no moment."""
    return ends_at(entry) <= time()


def is_limit(value: object) -> bool:
    """Whether this is a number of requests: a whole one above zero."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def digest(key: str) -> str:
    """The form in which a key is kept and looked up."""
    return hashlib.sha256(key.encode()).hexdigest()
