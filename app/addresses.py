"""Addresses of clients, read strictly: one spelling for each, and nothing that a client can put there itself. Pure."""

import ipaddress
import re
from functools import lru_cache

LONGEST = 64  # characters; the longest there is, an IPv6 address in brackets with a port, has 53
WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):[0-9]{1,5}")


def forwarded_address(forwarded_for: str, trusted_hops: int) -> str:
    """The client's address by X-Forwarded-For: as many entries from the right as there are proxies of ours.

    Only proxies of ours append on the right, so what a client writes there itself never counts. Empty when the entry is
    no address; the peer's counts then: a crafted header hides a client behind our load balancer, not behind another.
    """
    if not trusted_hops or not forwarded_for:
        return ""
    entries = forwarded_for.rsplit(",", trusted_hops)[-trusted_hops:]
    entry = entries[0].strip(" \t")
    return plain_address(entry) if len(entries) == trusted_hops and len(entry) <= LONGEST else ""


@lru_cache(maxsize=4096)
def plain_address(text: str) -> str:
    """The one spelling of an IP address, empty for anything else. Its port, which an ALB may append, is left out.

    An IPv4 address in IPv6 form is the IPv4 address: one client must not have two.
    """
    found = WITH_PORT.fullmatch(text)
    if found is not None:
        text = found[1] or found[2]
        if bool(found[1]) != (":" in text):
            return ""
    try:
        address = ipaddress.ip_address(text.replace("%", " "))  # a zone (RFC 4007) would be free text
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)
