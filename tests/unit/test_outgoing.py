"""app/outgoing.py beside gunicorn's own response: the same bytes for whatever an application says, in fewer pieces."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.wsgi import Response

from app.outgoing import MOST_JOINED, Outgoing, is_plain

Headers = list[tuple[str, str]]
CONFIG = Config()
PAIRS = [
    *(("Content-Length", "3"), ("content-length", " 5 "), ("Content-Length", "0"), ("Content-Length", "x")),
    *(("Content-Type", "a/b"), ("X-A", " padded\t"), ("X-A", "\xe4"), ("X-A", ""), ("Set-Cookie", "a"), ("x-a", "b")),
    *(("Connection", "close"), ("Connection", "upgrade"), ("Upgrade", "websocket"), ("Upgrade", "h2c")),
    *(("Transfer-Encoding", "chunked"), ("Keep-Alive", "1"), ("Server", "x"), ("DATE", "x"), ("TE", "x"), ("Te", "y")),
    *(("X A", "b"), ("", "b"), ("X\n", "b"), ("X-A", "b\r\nX-B: c"), ("X-A", "b\0"), ("X-A", "\u20ac"), ("\xe4", "b")),
]
STATUSES = (
    "200 OK",
    "200",
    "204 No Content",
    "304 Not Modified",
    "404 Not Found",
    "103 Early",
    "2x",
    "200 A\nB",
    "99 A",
)
BLOCKS = (b"", b"a", b"abc", b"abcde" * 2, b"abcde" * 5, b"z" * MOST_JOINED, b"z" * (MOST_JOINED + 1))


class Socket:
    """Notes what is sent; takes `room` bytes of what is tried at once, and all of what is insisted upon."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.pieces: list[bytes] = []
        self._room = room

    def send(self, data: bytes) -> int:
        taken = bytes(data[: self._room])
        self.pieces.append(taken)
        return len(taken)

    def sendall(self, data: bytes) -> None:
        self.pieces += [bytes(data)] if data else []


@pytest.fixture(autouse=True)
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gunicorn.util.http_date", lambda: "Tue, 14 Nov 2023 22:13:20 GMT")


def asked(method: str = "GET", version: tuple[int, int] = (1, 1), close: bool = False) -> Any:
    return SimpleNamespace(method=method, version=version, should_close=lambda: close)


def answer(
    kind: Callable[..., Any], request: Any, status: str, headers: Headers, blocks: Sequence[bytes], sock: Socket
) -> tuple[Any, ...]:
    """What gunicorn's worker does with an application's answer: everything that can be seen of it afterwards."""
    response = kind(request, sock, CONFIG)
    error = ""
    try:
        response.start_response(status, headers)
        for block in blocks:
            response.write(block)
        response.close()
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    seen = (response.status, response.headers, response.sent, response.headers_sent, response.chunked)
    return (b"".join(sock.pieces), error, *seen, not error and response.should_close())


def both(
    request: Any, status: str, headers: Headers, blocks: Sequence[bytes], room: int = 1 << 30
) -> tuple[tuple[Any, ...], list[bytes]]:
    """What can be seen of an answer, which must be the same for both, and the pieces in which ours was sent."""
    ours = Socket(room)
    seen = answer(Outgoing, request, status, headers, blocks, ours)
    assert seen == answer(Response, request, status, headers, blocks, Socket()), (request, status, headers, blocks)
    return seen, ours.pieces


def test_any_answer_is_the_one_that_gunicorn_would_send() -> None:
    dice, sound = random.Random(7), 0
    for _ in range(20_000):
        request = asked(dice.choice(("GET", "HEAD", "PUT")), dice.choice(((1, 0), (1, 1))), dice.random() < 0.2)
        few = PAIRS[: dice.choice((3, 10, 20, len(PAIRS)))]  # what must not be sent would spoil nearly all of them
        headers = [dice.choice(few) for _ in range(dice.randint(0, 5))]
        blocks = [dice.choice(BLOCKS) for _ in range(dice.randint(0, 3))]
        seen, _ = both(
            request, dice.choice(STATUSES[: dice.choice((1, 9))]), headers, blocks, room=dice.choice((7, 1 << 30))
        )
        sound += not seen[1]
    assert 4_000 < sound < 16_000, "the comparison must have been about answers and about refusals"


@pytest.mark.parametrize(
    ("headers", "blocks", "pieces"),
    [
        ([("Content-Length", "3")], [b"abc"], [b"HEAD|abc"]),
        ([("Content-Length", "3")], [b"", b"abc"], [b"HEAD", b"abc"]),
        ([("Content-Length", "3")], [b"a", b"bc"], [b"HEAD|a", b"bc"]),
        ([("Content-Length", "0")], [], [b"HEAD"]),
        ([("Content-Length", "0")], [b"abc"], [b"HEAD"]),
        ([], [b"abc"], [b"HEAD|3\r\nabc\r\n", b"0\r\n\r\n"]),
        ([], [b"", b"abc"], [b"HEAD", b"3\r\nabc\r\n", b"0\r\n\r\n"]),
    ],
    ids=["whole", "head first", "begun", "no body", "more than announced", "chunked", "chunked, head first"],
)
def test_a_small_block_that_is_there_goes_out_with_the_head(
    headers: Headers, blocks: list[bytes], pieces: list[bytes]
) -> None:
    _, sent = both(asked(), "200 OK", headers, blocks)
    head, _, rest = sent[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n")
    assert [b"HEAD" + (b"|" + rest if rest else b""), *sent[1:]] == pieces


@pytest.mark.parametrize(("size", "count"), [(MOST_JOINED, 1), (MOST_JOINED + 1, 2)])
def test_a_large_block_is_not_copied(size: int, count: int) -> None:
    _, sent = both(asked(), "200 OK", [("Content-Length", str(size))], [b"z" * size])
    assert len(sent) == count


def test_of_a_large_block_nothing_is_tried_alone() -> None:
    """What finds no room would be copied, once for each try: gunicorn's way hands the socket the block as it is."""
    block = b"z" * (MOST_JOINED + 1)
    _, sent = both(asked(), "200 OK", [("Content-Length", str(len(block)))], [block], room=7)
    assert sent[-1] == block


@pytest.mark.parametrize("room", [0, 1, 100])
def test_what_finds_no_room_at_once_is_sent_to_its_end(room: int) -> None:
    _, sent = both(asked(), "200 OK", [("Content-Length", "90")], [b"abc" * 30], room=room)
    assert [len(piece) <= room for piece in sent] == [True, False]


def test_a_head_that_does_not_go_out_is_not_sent_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sock = Socket()
    monkeypatch.setattr(sock, "send", lambda data: (_ for _ in ()).throw(ConnectionResetError()))
    response = Outgoing(asked(), sock, CONFIG)
    response.start_response("200 OK", [("Content-Length", "3")])
    with pytest.raises(ConnectionResetError):
        response.write(b"abc")
    assert response.headers_sent, "gunicorn would answer 500 on the same connection"
    response.close()
    assert sock.pieces == []


@pytest.mark.parametrize("name", ["Content-Type", "x-a", "X-Content-Length", "!#$%&'*+-.^_`|~9z"])
def test_what_means_nothing_to_the_server_is_plain(name: str) -> None:
    assert is_plain(name)


@pytest.mark.parametrize(
    "name",
    ["content-Length", "Connection", "keep-alive", "TE", "Trailers", "Upgrade", "Server", "date", "", "X A", "X:"],
)
def test_what_the_server_reads_or_may_not_send_is_not_plain(name: str) -> None:
    assert not is_plain(name)
