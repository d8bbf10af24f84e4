"""app/limit_settings.py: rates in words, and the address of Redis in all the forms in use."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from app.limit_settings import LimitSettings, read_limits
from app.variables import Reader
from app.windows import Rate

TLS = "rediss://h:1/2?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=false"


def read(**variables: str) -> LimitSettings:
    """The settings; AssertionError for a fault."""
    reader = Reader(variables)
    found = read_limits(reader)
    assert reader.faults == []
    return found


def faults(**variables: str) -> list[str]:
    reader = Reader(variables)
    read_limits(reader)
    return reader.faults


def test_without_any_variable_each_process_counts_for_itself() -> None:
    assert read() == LimitSettings(burst=Rate(1000, 10), per_address=Rate(600, 60), redis_url="")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100 per second", Rate(100, 1)),
        ("1 per 1 second", Rate(1, 1)),
        ("1000 per 10 seconds", Rate(1000, 10)),
        ("600 per minute", Rate(600, 60)),
        ("5 per 2 hours", Rate(5, 7200)),
    ],
)
def test_a_rate_is_written_in_words(text: str, rate: Rate) -> None:
    assert read(RATE_LIMIT_BURST=text).burst == rate == read(RATE_LIMIT_PER_ADDRESS=text).per_address


@pytest.mark.parametrize(
    "text",
    ["100", "0 per second", "-1 per second", "1.5 per second", "100/second", "9 per 0 seconds", "5 per day", "off"],
)
def test_what_is_no_rate_is_a_fault_that_shows_one(text: str) -> None:
    (fault,) = faults(RATE_LIMIT_BURST=text)
    assert fault.startswith("RATE_LIMIT_BURST must be a rate like `1000 per 10 seconds`") and repr(text) in fault


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"REDIS_URL": "redis://127.0.0.1"}, "redis://127.0.0.1"),
        ({"REDIS_URL": "rediss://user:pw@redis.internal:6380/2"}, "rediss://user:pw@redis.internal:6380/2"),
        ({"REDIS_URL": TLS}, TLS),
        ({"REDIS_HOST": "redis.internal"}, "redis://redis.internal:6379"),
        ({"REDIS_HOST": "::1", "REDIS_PORT": "7000"}, "redis://[::1]:7000"),
        ({"REDIS_HOST": "h", "REDIS_TLS_ENABLED": "true"}, "rediss://h:6379"),
        ({"REDIS_HOST": "h", "REDIS_AUTH_TOKEN": "a/b:c@d#e f"}, "redis://:a%2Fb%3Ac%40d%23e%20f@h:6379"),
        ({"REDIS_URL": "redis://first", "REDIS_HOST": "second", "REDIS_AUTH_TOKEN": "x"}, "redis://first"),
        ({"REDIS_PORT": "7000", "REDIS_AUTH_TOKEN": "x"}, ""),  # a password alone is no place
    ],
)
def test_redis_is_named_whole_or_by_its_parts(variables: dict[str, str], url: str) -> None:
    assert read(**variables).redis_url == url


def test_the_secrets_may_come_from_files(tmp_path: Path) -> None:
    token, url = tmp_path / "token", tmp_path / "url"
    token.write_text("x\n")
    url.write_text("redis://h\n")
    assert read(REDIS_HOST="h", REDIS_AUTH_TOKEN_FILE=str(token)).redis_url == "redis://:x@h:6379"
    assert read(REDIS_URL_FILE=str(url)).redis_url == "redis://h"


@pytest.mark.parametrize(
    "url",
    [
        "h:6379", "http://h", "redis://", "redis://:6379", "redis://h:port", "redis://h:0", "redis://h:70000",
        "redis://h?db=x", "redis://h?ssl_cert_reqs=none", "rediss://h?ssl_cert_reqs=maybe", "rediss://h?retry=1",
        "redis://h/name", "redis://:a#b@h", "redis://[::1", "redis://a..b", "unix:///tmp/redis",
    ],
)  # fmt: skip
def test_a_malformed_address_is_told_at_start_and_no_part_of_it_shown(url: str) -> None:
    """A malformed REDIS_URL has taken production down before."""
    (fault,) = faults(REDIS_URL=url)
    assert fault.startswith("REDIS_URL") and url not in fault and "a#b" not in fault


def test_nothing_shows_the_password() -> None:
    assert "secret" not in repr(read(REDIS_URL="redis://:secret@h"))


@pytest.mark.parametrize("url", ["redis://:p%40w@h", "rediss://u:p@[::1]:7/3", TLS, "redis://h/"])
def test_what_is_accepted_is_understood_by_the_client_too(url: str) -> None:
    """It would end every worker otherwise, one after the other."""
    connection = redis.ConnectionPool.from_url(read(REDIS_URL=url).redis_url).make_connection()
    assert isinstance(connection, redis.Connection) and connection.host in ("h", "::1")
