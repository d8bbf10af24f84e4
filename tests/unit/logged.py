"""The fields of an access line, of a request that took 2.3456 seconds until NOW."""

from __future__ import annotations

from typing import Any

from app.access_log import record
from tests.unit import samples

NOW = 1_700_000_000.1239
ENDED = 1002.3456  # of the monotonic clock


def fields(status: int = 200, **changed: Any) -> dict[str, str | int | float]:
    """What is logged of a good request but for what is changed of its scope."""
    scope = samples.scope(**{"begun": 1000.0, "finished": True, "principal": samples.principal(), **changed})
    return record(scope, status, 67, ENDED)
