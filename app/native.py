"""Where MLflow serves artifact transfers: from 3.15 on natively, and at its root whatever its static prefix.

The prefixed paths answer as well, but through a bridge that holds whole bodies in memory
(mlflow/server/fastapi_app.py).
"""

from collections.abc import Callable

SINCE = (3, 15)


class NativeRoutes:
    """Knows whether the native routes are there: as configured, or by MLflow's version, asked once and remembered."""

    def __init__(self, setting: str, version: Callable[[], str]) -> None:
        self._known: bool | None = None if setting == "auto" else setting == "true"
        self._version = version

    def served(self) -> bool:
        """Whether artifacts go to MLflow's root. An MLflow that cannot be asked is asked again next time."""
        if self._known is not None:
            return self._known
        version = self._version()
        if version:
            self._known = is_native(version)
        return bool(self._known)


def is_native(version: str) -> bool:
    """Whether an MLflow of this version has the native routes.

    >>> is_native("3.9.0"), is_native("3.15.0rc0")
    (False, True)
    """
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return False
    return (int(parts[0]), int(parts[1])) >= SINCE
