"""app/addresses.py: which entry of X-Forwarded-For is the client, and how an address is spelled."""

from __future__ import annotations

import pytest

from app.addresses import forwarded_address, plain_address


@pytest.mark.parametrize(
    ("forwarded_for", "hops", "address"),
    [
        ("203.0.113.9", 1, "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", 1, "203.0.113.9"),
        ("198.51.100.1,203.0.113.9", 1, "203.0.113.9"),
        ("127.0.0.1, 192.0.2.1,\t203.0.113.9", 1, "203.0.113.9"),
        ('", 203.0.113.9', 1, "203.0.113.9"),
        ("garbage, 203.0.113.9 ", 1, "203.0.113.9"),
        ("a,b,c,203.0.113.9", 1, "203.0.113.9"),
        (", ,203.0.113.9", 1, "203.0.113.9"),
        ("x" * 15_000 + ",203.0.113.9", 1, "203.0.113.9"),
        ("2001:DB8::1", 1, "2001:db8::1"),
        ("2001:db8:0:0::1", 1, "2001:db8::1"),
        ("198.51.100.1, 203.0.113.9", 2, "198.51.100.1"),
        ("a, 198.51.100.1, 203.0.113.9", 2, "198.51.100.1"),
        ("a,b,198.51.100.1,203.0.113.9,203.0.113.8", 3, "198.51.100.1"),
        ("198.51.100.1," * 200 + "203.0.113.9", 1, "203.0.113.9"),
        ("198.51.100.1," * 200 + "203.0.113.9:80", 1, "203.0.113.9"),
    ],
)
def test_it_is_the_entry_that_the_outermost_proxy_of_ours_appended(forwarded_for: str, hops: int, address: str) -> None:
    assert forwarded_address(forwarded_for, hops) == address


@pytest.mark.parametrize(
    ("forwarded_for", "hops"),
    [
        ("", 1),
        ("203.0.113.9", 2),
        ("198.51.100.1,203.0.113.9", 3),
        ("203.0.113.9", 0),
        ("", 0),
        ("198.51.100.1,", 1),
        ("198.51.100.1, ", 1),
        ("a,b,c", 1),
        ('"', 1),
        ('"203.0.113.9"', 1),
        ("203.0.113.9 203.0.113.8", 1),
        ("203.0.113.9;203.0.113.8", 1),
        ("203.0.113.9" + " " * 15_000 + "x", 1),
        ("0" * 15_000 + "203.0.113.9", 1),
        ("garbage,203.0.113.9", 2),
    ],
)
def test_anything_else_names_nobody(forwarded_for: str, hops: int) -> None:
    assert forwarded_address(forwarded_for, hops) == ""


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:1234", "192.0.2.1"),
        ("[2001:db8::1]:1234", "2001:db8::1"),
        ("[2001:DB8:0::1]:1", "2001:db8::1"),
        ("2001:db8::1:1234", "2001:db8::1:1234"),  # without brackets the end is no port
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:1234", "192.0.2.1"),
    ],
)
def test_an_address_has_one_spelling(text: str, address: str) -> None:
    assert plain_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "unknown", "_hidden", "203.0.113", "203.0.113.999", "0x7f000001", "2130706433", "127.0.0.01",
        "203.0.113.9:", "203.0.113.9:123456", "203.0.113.9:x", "203.0.113.9:80:80", "[203.0.113.9]:80", "[203.0.113.9]",
        "[2001:db8::1]", "[2001:db8::1", "2001:db8::1]:80", "[]:80", ":80", "[2001:db8::1]:", "[[::1]]:80",
        "203.0.113.9\n", "\n203.0.113.9", "203.0.113.9\x00", "203.0.113.\u0661",
    ],
)  # fmt: skip
def test_nothing_else_is_an_address(text: str) -> None:
    assert plain_address(text) == ""


def test_a_zone_is_no_part_of_a_clients_address() -> None:
    """What stands behind the % is free text to ipaddress, and would reach MLflow, the auth service and the log."""
    assert plain_address("fe80::1%<any text>") == plain_address("[fe80::1%eth0]:80") == ""


def test_what_is_remembered_is_short() -> None:
    """Clients choose what stands there when no proxy of ours does: 4096 headers of 16 KB would be 64 MB."""
    before = plain_address.cache_info().currsize
    forwarded_address("203.0.113.9" + "0" * 100, 1)
    assert plain_address.cache_info().currsize == before
    assert plain_address.cache_info().maxsize == 4096
