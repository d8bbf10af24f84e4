"""`flask --app wsgi keys …`: add, list, change and revoke keys of the local key file."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from flask.cli import AppGroup

from app.local_keys import EXPIRES, LocalKeys, expired

DEFAULT_SCOPES = ("model:read", "model:write", "mlflow:access")
COLUMNS = ("ID", "USER", "SCOPES", "LIMIT", "CREATED", "EXPIRES")
SPAN = re.compile(r"([1-9][0-9]{0,4})([hdw])")
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
SCOPE = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,128}")  # RFC 6749 section 3.3, and no comma


@contextmanager
def readable() -> Iterator[None]:
    """Tell a key file that cannot be read, written or understood in a sentence instead of a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


def moment(_: click.Context, __: click.Parameter, given: str | None) -> datetime | None:
    """Read `--expires`: a span from now (`12h`, `30d`, `8w`), or a date or moment of ISO 8601, UTC unless it says."""
    if given is None:
        return None
    now = datetime.now(UTC)
    span = SPAN.fullmatch(given)
    try:
        until = now + int(span[1]) * UNITS[span[2]] if span else datetime.fromisoformat(given)
    except ValueError:
        raise click.BadParameter("say 12h, 30d, 8w, or a date such as 2027-01-31.") from None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    if until <= now:
        raise click.BadParameter(f"{until.isoformat(timespec='seconds')} is over.")
    return until


def split(_: click.Context, __: click.Parameter, given: str | None) -> list[str] | None:
    """Read a list of scopes, separated by commas. An empty text means no scopes; None that nothing was said."""
    if given is None:
        return None
    words = [word.strip() for word in given.split(",") if word.strip()]
    if strange := [word for word in words if not SCOPE.fullmatch(word)]:
        raise click.BadParameter(f"{strange[0]!r} is no scope.")
    return words


def table(entries: Iterable[dict[str, Any]]) -> list[str]:
    """The lines that show keys, with a head; empty when there are none."""
    rows = [
        (
            entry["key_id"],
            entry["user_id"],
            ",".join(entry["scopes"]) or "-",
            f"{entry['rate_limit_per_hour']}/h",
            entry["created_at"],
            entry.get(EXPIRES, "never") + (" (over)" if expired(entry) else ""),
        )
        for entry in entries
    ]
    if not rows:
        return []
    widths = [max(len(row[column]) for row in (COLUMNS, *rows)) for column in range(len(COLUMNS))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (COLUMNS, *rows)]


def keys_group(keys: LocalKeys | None) -> AppGroup:
    """The command group. `keys` is None when the auth service vouches for keys: every command says so and fails."""
    group = AppGroup("keys", help="Add, list, change and revoke keys of the local key file.")

    def source() -> LocalKeys:
        if keys is None:
            raise click.ClickException("keys come from the auth service here; LOCAL_KEYS_PATH is not set.")
        return keys

    @group.command("list")
    def show() -> None:
        """Print id, user, scopes, limit, day of making and of expiry of every key."""
        with readable():
            lines = table(source().entries())
        for line in lines:
            click.echo(line)

    @group.command("revoke")
    @click.argument("key_id")
    def revoke(key_id: str) -> None:
        """Remove a key; it stops working at once."""
        with readable():
            revoked = source().revoke(key_id)
        if not revoked:
            raise click.ClickException(f"there is no key {key_id}.")
        click.echo(f"revoked {key_id}", err=True)

    @group.command("scopes")
    @click.argument("key_id")
    @click.option("--set", "scopes", required=True, callback=split, help="Separated by commas; empty for none.")
    def change(key_id: str, scopes: list[str]) -> None:
        """Give a key other scopes; they hold at once."""
        with readable():
            changed = source().set_scopes(key_id, scopes)
        if not changed:
            raise click.ClickException(f"there is no key {key_id}.")
        click.echo(f"{key_id} has {','.join(scopes) or 'no scopes'} now", err=True)

    group.add_command(_add(source))
    return group


def _add(source: Callable[[], LocalKeys]) -> click.Command:
    @click.command("add")
    @click.option("--user", required=True, help="Whose key it is.")
    @click.option(
        "--scopes", "listed", callback=split, help=f"Separated by commas.  [default: {','.join(DEFAULT_SCOPES)}]"
    )
    @click.option("--scope", "single", multiple=True, help="One scope; may be repeated.")
    @click.option("--rate-limit", default=1000, show_default=True, type=click.IntRange(min=1), help="Requests an hour.")
    @click.option("--expires", callback=moment, help="12h, 30d, 8w, or a date (the moment it begins, in UTC).")
    def add(
        user: str, listed: list[str] | None, single: tuple[str, ...], rate_limit: int, expires: datetime | None
    ) -> None:
        """Make a key and print it: the only time it is shown."""
        scopes = list(DEFAULT_SCOPES) if listed is None and not single else [*(listed or ()), *single]
        with readable():
            key = source().add(user, scopes, rate_limit, expires)
        until = f" It works until {expires.isoformat(timespec='seconds')}." if expires else ""
        click.echo(f"Keep this key now: only its hash was written.{until}", err=True)
        click.echo(key)

    return add
