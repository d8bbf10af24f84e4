"""app/plain_head.py beside gunicorn's own parser: a head it takes over means the same, and no other is its business."""

from __future__ import annotations

import random
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from app.plain_head import PlainFirst

PLAIN = b"GET /a?x=1 HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nX-A:\t1 \r\n\r\nbehind it"
PIECES = [
    *(b"GET ", b"POST ", b"get ", b"TRACE ", b"/a", b"//a", b"/", b"?x=1", b"?", b"#f", b"%2F", b"*", b"http://h/"),
    *(
        b" HTTP/1.1",
        b" HTTP/1.0",
        b" HTTP/2.0",
        b"\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\x7f",
        b":",
        b"A",
    ),
]
LINES = [
    *(b"Host: a", b"host:b", b"X_Y: 1", b"X-Y:\t z \t", b"X-Y: \xff\x80", b"X-\xdf: a", b" fold", b"\tfold", b"X-Z:"),
    *(b"Content-Length: 3", b"Content-Length: +3", b"Content-Length: 3, 3", b"Transfer-Encoding: chunked", b"X Y: 1"),
    *(
        b"Expect: 100-continue",
        b"Expect: more",
        b"Connection: close",
        b"Connection: keep-alive",
        b"X-Forwarded-Proto: x",
    ),
]


class Counted(PlainFirst):
    """Counts the heads that it took over."""

    taken = 0

    def _read_plain(self, head: str) -> bool:
        taken = super()._read_plain(head)
        Counted.taken += taken
        return taken


def configuration(**options: Any) -> Config:
    config = Config()
    ours = {"http_parser": "python", "secure_scheme_headers": {}, "forwarder_headers": "", "header_map": "drop"}
    for name, value in {**ours, "limit_request_line": 8190, "limit_request_field_size": 16384, **options}.items():
        config.set(name, value)
    return config


CONFIG = configuration()


def read(kind: type[Request], data: bytes, config: Config = CONFIG) -> tuple[Any, ...]:
    """Everything that a request's head means to gunicorn, or the name of its error."""
    unreader = IterUnreader(iter([data]))
    try:
        found = kind(config, unreader, ("127.0.0.1", 5))
    except Exception as error:
        return (type(error).__name__, str(error))
    target = (found.method, found.uri, found.path, found.query, found.fragment, found.version)
    manner = (found.scheme, found.must_close, found.should_close(), found._expected_100_continue)
    body = (type(found.body.reader).__name__, getattr(found.body.reader, "length", None))
    return (*target, found.headers, *manner, *body, unreader.read())


def some_head(dice: random.Random) -> bytes:
    """Bytes of three kinds: any pieces, a plain head with a few bytes changed, and lines of all sorts."""
    match dice.randrange(3):
        case 0:
            return b"".join(dice.choice(PIECES + LINES) for _ in range(dice.randint(1, 14)))
        case 1:
            changed = bytearray(PLAIN)
            for _ in range(dice.randint(1, 3)):
                changed[dice.randrange(len(changed))] = dice.randrange(256)
            return bytes(changed)
    first = dice.choice((b"GET ", b"PUT ", b"HEAD ")) + dice.choice(PIECES[4:11]) + dice.choice(PIECES[4:11])
    lines = b"".join(dice.choice(LINES) + b"\r\n" for _ in range(dice.randint(0, 4)))
    return first + b" HTTP/1.1\r\n" + lines + b"\r\n" + dice.choice(PIECES)


def test_any_head_means_what_it_means_to_gunicorn() -> None:
    dice, Counted.taken = random.Random(5), 0
    for _ in range(40_000):
        head = some_head(dice)
        assert read(Counted, head) == read(Request, head), head
    assert Counted.taken > 1000, "the comparison must have been about something"


@pytest.mark.parametrize(
    "head",
    [
        PLAIN,
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        b"DELETE /%2e//b;c?d?e#"[:-1] + b" HTTP/1.1\r\nHost: h\r\nX-Obs: \xe4\r\n\r\n",
        b"OPTIONS /a HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
    ids=["get", "body", "odd target", "empty value", "long"],
)
def test_what_standard_clients_send_is_plain(head: bytes) -> None:
    Counted.taken = 0
    assert read(Counted, head) == read(Request, head)
    assert Counted.taken == 1


@pytest.mark.parametrize(
    "head",
    [
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"GET", b"TRACE"),
        PLAIN.replace(b"/a", b"//a"),
        PLAIN.replace(b"/a", b"/a#b"),
        PLAIN.replace(b"X-A", b"X_A"),
        PLAIN.replace(b"X-A", b"Accept"),
        PLAIN.replace(b"Accept: */*", b"Expect: 100-continue"),
        PLAIN.replace(b"Accept: */*", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"Accept: */*\r", b"Accept: */*"),
        b"\r\n" + PLAIN,
        PLAIN.replace(b"/a", b"/" + b"a" * 8190),
        PLAIN.replace(b"*/*", b"a" * 16384),
        PLAIN.replace(b"X-A", b"".join(b"X-%d: 1\r\n" % number for number in range(100)) + b"X-A"),
    ],
    ids=[
        *("version", "method", "two slashes", "fragment", "underscore", "twice", "expect", "chunked", "bare LF"),
        *("empty line first", "long line", "large field", "many fields"),
    ],
)
def test_every_other_head_is_left_to_gunicorn(head: bytes) -> None:
    Counted.taken = 0
    assert read(Counted, head) == read(Request, head)
    assert Counted.taken == 0


@pytest.mark.parametrize("size", range(16380, 16390))
def test_at_the_limit_of_a_header_gunicorn_decides(size: int) -> None:
    head = b"GET / HTTP/1.1\r\nX-A: %b\r\n\r\n" % (b"a" * (size - len("X-A: ")))
    assert read(Counted, head) == read(Request, head)


@pytest.mark.parametrize("size", range(8187, 8194))
def test_at_the_limit_of_the_first_line_gunicorn_decides(size: int) -> None:
    head = b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"a" * (size - len("GET / HTTP/1.1")))
    assert read(Counted, head) == read(Request, head)


@pytest.mark.parametrize("count", [99, 100, 101, 102])
def test_at_the_limit_of_their_number_gunicorn_decides(count: int) -> None:
    lines = b"".join(b"X-%d: 1\r\n" % number for number in range(count))
    head = b"GET / HTTP/1.1\r\n" + lines + b"\r\n"
    assert read(Counted, head) == read(Request, head)


def test_who_trusts_a_scheme_header_has_it_read_by_gunicorn() -> None:
    config = configuration(secure_scheme_headers={"X-A": "1"}, forwarded_allow_ips="127.0.0.1")
    Counted.taken = 0
    assert read(Counted, PLAIN, config) == read(Request, PLAIN, config)
    assert Counted.taken == 0


@pytest.mark.parametrize("at", range(1, len(PLAIN) - len(b"behind it")))
def test_a_head_may_come_in_two_pieces(at: int) -> None:
    found = [
        kind(CONFIG, IterUnreader(iter([PLAIN[:at], PLAIN[at:]])), ("127.0.0.1", 5)) for kind in (PlainFirst, Request)
    ]
    assert [vars(one)["headers"] for one in found] == [found[1].headers] * 2
    assert found[0].uri == found[1].uri
