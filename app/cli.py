"""`flask --app wsgi keys …`: add, list and revoke keys of the local key file."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask.cli import AppGroup

from app.local_keys import LocalKeys

DEFAULT_SCOPES = ("model:read", "model:write", "mlflow:access")


@contextmanager
def readable() -> Iterator[None]:
    """Tell a key file that cannot be read, written or understood in a sentence instead of a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


def keys_group(keys: LocalKeys | None) -> AppGroup:
    """The command group. `keys` is None when the auth service vouches for keys: every command says so and fails."""
    group = AppGroup("keys", help="Add, list and revoke keys of the local key file.")

    def source() -> LocalKeys:
        if keys is None:
            raise click.ClickException("keys come from the auth service here; LOCAL_KEYS_PATH is not set.")
        return keys

    @group.command("add")
    @click.option("--user", required=True, help="Whose key it is.")
    @click.option(
        "--scope", "scopes", multiple=True, default=DEFAULT_SCOPES, show_default=True, help="May be repeated."
    )
    @click.option("--rate-limit", default=1000, show_default=True, type=click.IntRange(min=1), help="Requests an hour.")
    def add(user: str, scopes: tuple[str, ...], rate_limit: int) -> None:
        """Make a key and print it: the only time it is shown."""
        with readable():
            key = source().add(user, list(scopes), rate_limit)
        click.echo("Keep this key now: only its hash was written.", err=True)
        click.echo(key)

    @group.command("list")
    def show() -> None:
        """Print id, user, scopes and day of every key."""
        with readable():
            entries = source().entries()
        for entry in entries:
            click.echo(f"{entry['key_id']}  {entry['user_id']}  {','.join(entry['scopes'])}  {entry['created_at']}")

    @group.command("revoke")
    @click.argument("key_id")
    def revoke(key_id: str) -> None:
        """Remove a key; it stops working at once."""
        with readable():
            revoked = source().revoke(key_id)
        if not revoked:
            raise click.ClickException(f"there is no key {key_id}.")
        click.echo(f"revoked {key_id}", err=True)

    return group
