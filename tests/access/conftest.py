"""The scripted auth service of the tests of validation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.access.vouching import ScriptedAuth, scripted_auth


@pytest.fixture
def auth() -> Iterator[ScriptedAuth]:
    """An auth service of the test's own, that knows no key yet."""
    with scripted_auth() as service:
        yield service
