"""The address of an upstream as four plain parts, and the check that it does not lead back to ourselves. Pure."""

import ipaddress
import re
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

PRINTABLE = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # what can stand in a request line or a Host header, and no backslash


@dataclass(frozen=True)
class Base:
    """Where an upstream is. `prefix` is the static prefix that its paths carry, without a slash at the end."""

    scheme: str
    host: str
    port: int
    prefix: str

    @cached_property
    def authority(self) -> str:
        """`host` or `host:port` as in a Host header (RFC 9110 section 7.2): no default port, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default_port(self.scheme) else f"{host}:{self.port}"

    @cached_property  # each request asks for it
    def origin(self) -> str:
        """`scheme://authority`, for connecting and for internal logs; never for an answer."""
        return f"{self.scheme}://{self.authority}"


def parse_base(url: str) -> Base:
    """Split an http(s) URL. Raises `ValueError` with the rest of a sentence that begins with the variable's name."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("has brackets in its host that are no IPv6 address.") from None
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is no number between 0 and 65535.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL that begins with http:// or https:// and a host.")
    if parts.username or parts.password:
        raise ValueError("must not hold a user or password; use MLFLOW_UPSTREAM_AUTH=replace for a service credential.")
    if parts.query or parts.fragment:
        raise ValueError("must not hold a query or a fragment.")
    if port == 0 or not PRINTABLE.fullmatch(url):
        raise ValueError("must not hold port 0, spaces, backslashes or letters beyond ASCII.")
    host = parts.hostname.lower().removesuffix(".")  # the root's dot names the same host
    try:
        host.encode("idna")  # as the resolver will
    except UnicodeError:
        raise ValueError("has a host with an empty part, or one of more than 63 characters.") from None
    return Base(parts.scheme, host, port or _default_port(parts.scheme), parts.path.rstrip("/"))


def self_loop(base: Base, own_port: int, public_hosts: frozenset[str], own_host: str = "") -> str:
    """Why `base` leads back to this proxy, as the rest of a sentence; empty when it does not.

    `own_host` and `own_port` are what this proxy listens on.
    """
    if base.host in public_hosts:
        return (
            f"points to {base.host}, a public host of ours: every request would come back to this proxy through the "
            "load balancer, for ever. Name the internal MLflow instead, e.g. "
            "http://mlflow.hokusai-development.local:5000, or set MLFLOW_ALLOW_PUBLIC_UPSTREAM=true if this proxy runs "
            "elsewhere and means the public one."
        )
    if base.port == own_port and (base.host == own_host or _is_this_machine(base.host)):
        return f"points to port {own_port} of this machine, where this proxy itself listens (API_PORT)."
    return ""


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _is_this_machine(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)
