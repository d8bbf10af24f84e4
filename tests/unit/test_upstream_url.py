"""app/upstream_url.py: an address in four parts, and whether it leads back to ourselves."""

from __future__ import annotations

import pytest

from app.upstream_url import Base, parse_base, self_loop


@pytest.mark.parametrize(
    ("url", "parts", "authority"),
    [
        ("http://mlflow:5000", ("http", "mlflow", 5000, ""), "mlflow:5000"),
        ("http://mlflow", ("http", "mlflow", 80, ""), "mlflow"),
        ("http://mlflow:80/", ("http", "mlflow", 80, ""), "mlflow"),
        ("https://mlflow", ("https", "mlflow", 443, ""), "mlflow"),
        ("https://mlflow:443", ("https", "mlflow", 443, ""), "mlflow"),
        ("https://mlflow:80", ("https", "mlflow", 80, ""), "mlflow:80"),
        ("http://mlflow:", ("http", "mlflow", 80, ""), "mlflow"),
        ("HTTP://MLflow.Internal:5000", ("http", "mlflow.internal", 5000, ""), "mlflow.internal:5000"),
        ("http://mlflow:5000/a/b/", ("http", "mlflow", 5000, "/a/b"), "mlflow:5000"),
        ("http://mlflow:5000/A//", ("http", "mlflow", 5000, "/A"), "mlflow:5000"),
        ("http://[2001:DB8::1]:5000", ("http", "2001:db8::1", 5000, ""), "[2001:db8::1]:5000"),
        ("https://[2001:db8::1]/x", ("https", "2001:db8::1", 443, "/x"), "[2001:db8::1]"),
        ("http://192.0.2.7:5000", ("http", "192.0.2.7", 5000, ""), "192.0.2.7:5000"),
    ],
)
def test_an_address_has_four_parts_and_an_authority(url: str, parts: tuple[str, str, int, str], authority: str) -> None:
    base = parse_base(url)
    assert (base, base.authority, base.origin) == (Base(*parts), authority, f"{parts[0]}://{authority}")


PORT = "has a port that is no number between 0 and 65535."
SCHEME = "must be a URL that begins with http:// or https:// and a host."
USER = "must not hold a user or password; use MLFLOW_UPSTREAM_AUTH=replace for a service credential."
LABEL = "has a host with an empty part, or one of more than 63 characters."
QUERY = "must not hold a query or a fragment."


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", SCHEME),
        ("mlflow", SCHEME),
        ("mlflow:5000", SCHEME),
        ("//mlflow:5000", SCHEME),
        ("ftp://mlflow", SCHEME),
        ("file:///etc/passwd", SCHEME),
        ("http:///path", SCHEME),
        ("http://:5000", SCHEME),
        ("http://mlflow:abc", PORT),
        ("http://mlflow:65536", PORT),
        ("http://mlflow:-1", PORT),
        ("http://user@mlflow", USER),
        ("http://user:secret@mlflow", USER),
        ("http://:secret@mlflow", USER),
        ("http://mlflow..internal:5000", LABEL),
        (f"http://{'a' * 64}.internal", LABEL),
        ("http://mlflow/?a=b", QUERY),
        ("http://mlflow/#top", QUERY),
    ],
)
def test_what_is_no_upstream_address_is_refused_in_a_sentence(url: str, fault: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_base(url)
    assert str(raised.value) == fault
    assert "secret" not in str(raised.value)


def test_brackets_that_do_not_close_are_refused() -> None:
    with pytest.raises(ValueError):
        parse_base("http://[2001:db8::1")


def test_port_0_is_not_silently_port_80() -> None:
    with pytest.raises(ValueError):
        parse_base("http://mlflow:0")


@pytest.mark.parametrize(
    "url",
    ["http://ml flow:5000", "http://mlflow:5000/a b", "http://mlflow:5000/\u00e9", "http://ml\\flow:5000"],
    ids=["a space in the host", "a space in the prefix", "a letter beyond ASCII in the prefix", "a backslash"],
)
def test_what_could_not_be_written_on_a_request_line_is_refused(url: str) -> None:
    """Better at start than in every request."""
    with pytest.raises(ValueError):
        parse_base(url)


PUBLIC = frozenset({"registry.example"})


def test_a_public_host_leads_back_whatever_its_port_and_prefix() -> None:
    for url in ("http://registry.example", "https://registry.example:8443/mlflow", "http://REGISTRY.example:8001"):
        assert self_loop(parse_base(url), 8001, PUBLIC).startswith("points to registry.example, a public host of ours")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "[::1]", "0.0.0.0", "[::]"])
def test_our_own_port_on_this_machine_leads_back(host: str) -> None:
    reason = self_loop(parse_base(f"http://{host}:8001"), 8001, PUBLIC)
    assert reason == "points to port 8001 of this machine, where this proxy itself listens (API_PORT)."


@pytest.mark.parametrize("host", ["[::ffff:127.0.0.1]", "localhost."])
def test_other_spellings_of_this_machine_lead_back_too(host: str) -> None:
    assert self_loop(parse_base(f"http://{host}:8001"), 8001, PUBLIC) != ""


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:5000",
        "http://localhost:8002",
        "http://192.0.2.7:8001",
        "http://mlflow.internal:8001",
        "http://notregistry.example",
        "http://registry.example.internal",
    ],
)
def test_another_port_or_another_machine_leads_elsewhere(url: str) -> None:
    assert self_loop(parse_base(url), 8001, PUBLIC) == ""
