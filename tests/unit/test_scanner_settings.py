"""SCANNER_FILTER_*: on by default, more patterns, and what is no pattern."""

from __future__ import annotations

import pytest

from app.settings import ConfigError
from tests.unit import samples


@pytest.mark.parametrize(
    ("variables", "patterns"),
    [
        ({}, ()),
        ({"SCANNER_FILTER_ENABLED": "true"}, ()),
        ({"SCANNER_FILTER_ENABLED": "false"}, None),
        ({"SCANNER_FILTER_ENABLED": "false", "SCANNER_FILTER_EXTRA_PATTERNS": "/a"}, None),
        ({"SCANNER_FILTER_EXTRA_PATTERNS": " /a.php , /B/ ,,"}, ("/a.php", "/B/")),
    ],
)
def test_the_filter_is_on_and_can_be_given_more(variables: dict[str, str], patterns: tuple[str, ...] | None) -> None:
    assert samples.settings(**variables).scanner_patterns == patterns


@pytest.mark.parametrize("given", ["a.php", "/a,b/", "*.php", "https://a/b"])
def test_a_pattern_that_is_no_path_is_a_fault(given: str) -> None:
    with pytest.raises(ConfigError) as raised:
        samples.settings(SCANNER_FILTER_EXTRA_PATTERNS=given)
    (fault,) = raised.value.faults
    assert fault.startswith("SCANNER_FILTER_EXTRA_PATTERNS ") and "slash" in fault
