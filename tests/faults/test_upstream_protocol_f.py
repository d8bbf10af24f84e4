"""MLflow breaks the protocol: 502 or a cut, and never a mix-up of answers: F05-F09, F11, F12, F15."""

from __future__ import annotations

import pytest

from tests.functional.exchanges import OK, answer_raw, assert_unharmed
from tests.functional.keyed import ARTIFACT, SEARCH, ask, assert_refused, begun, head
from tests.support.client import read_response
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

pytestmark = pytest.mark.faults

NO_ANSWER = {
    "nothing": b"",
    "binary": b"\x00\x01\xff\xfe" * 100,
    "garbage": b"\x00\x01garbage\r\n\r\n",
    "half a status line": b"HTTP/1.1 2",
    "half a head": OK + b"Content-Le",
    "a status of five digits": b"HTTP/1.1 99999 OK\r\nContent-Length: 0\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
}
REST = b"Content-Length: 5\r\n\r\nother"
BAD_HEADERS = {
    "101 headers": OK + b"X-A: b\r\n" * 100 + REST,
    "a header of 70 KB": OK + b"X-A: " + b"b" * 70_000 + b"\r\n" + REST,
    "NUL in a value": OK + b"X-A: a\x00b\r\n" + REST,
    "CR in a value": OK + b"X-A: a\rSet-Cookie: injected=1\r\n" + REST,
    "LF in a value": OK + b"X-A: a\nSet-Cookie: injected=1\r\n" + REST,
    "a folded value": OK + b"X-A: a\r\n Set-Cookie: injected=1\r\n" + REST,
    "a control character": OK + b"X-A: a\x01b\r\n" + REST,
    "a space in a name": OK + b"X A: b\r\n" + REST,
    "a line without a colon": OK + b"X-A\r\n" + REST,
}
BAD_FRAMING = {
    "length and chunked": OK + b"Content-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nother\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\n" + REST,
    "the same length twice": OK + b"Content-Length: 5\r\n" + REST,
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nother",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nother",
    "a signed length": OK + b"Content-Length: +5\r\n\r\nother",
    "a length that is none": OK + b"Content-Length: many\r\n\r\nother",
    "an unknown coding": OK + b"Transfer-Encoding: gzip\r\n\r\nother",
}


def assert_502(proxy: Proxy, upstream: RecordingUpstream) -> None:
    response = ask(proxy, "GET", f"/mlflow{SEARCH}", timeout=3.0)
    assert_refused(response, 502, "INTERNAL_ERROR")
    assert response.values("Set-Cookie") == [] and len(upstream.requests) == 1
    assert_unharmed(proxy, upstream)


@pytest.mark.parametrize("end", ["FIN", "RST"])
@pytest.mark.parametrize("case", NO_ANSWER)
def test_f05_what_is_no_answer_is_502(hasty: Proxy, upstream: RecordingUpstream, case: str, end: str) -> None:
    answer_raw(upstream, NO_ANSWER[case], end=end)
    assert_502(hasty, upstream)


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_f06_a_header_that_may_not_be_is_502_and_injects_nothing(
    hasty: Proxy, upstream: RecordingUpstream, case: str
) -> None:
    answer_raw(upstream, BAD_HEADERS[case])
    assert_502(hasty, upstream)


BREAKS_OFF = {
    "length": OK + b"Content-Length: 1000\r\n\r\nsome",
    "length, nothing": OK + b"Content-Length: 1000\r\n\r\n",
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
    "inside a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n400\r\nsome",
    "no chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nzz\r\n",
    "inside the last chunk's size": OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n0",
    "chunked, nothing": OK + b"Transfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("end", ["FIN", "RST"])
@pytest.mark.parametrize("case", BREAKS_OFF)
def test_f07_a_body_that_breaks_off_never_looks_complete(
    hasty: Proxy, upstream: RecordingUpstream, case: str, end: str
) -> None:
    answer_raw(upstream, BREAKS_OFF[case], end=end)
    name = f"f07-{list(BREAKS_OFF).index(case)}-{end}"
    response = ask(hasty, "GET", f"/mlflow{ARTIFACT}", [("X-Request-ID", name)])
    assert response.reset and not response.complete and response.fault is None
    line = hasty.access_line(name)
    assert (line["outcome"], line["upstream_status"]) == ("upstream_aborted", 200)
    assert_unharmed(hasty, upstream)


def test_f07_a_body_that_stops_coming_is_cut_at_the_read_timeout(hasty: Proxy, upstream: RecordingUpstream) -> None:
    answer_raw(upstream, BREAKS_OFF["length"])
    response = ask(hasty, "GET", f"/mlflow{SEARCH}")
    assert response.reset and not response.complete
    upstream.wait_for(1)[0].wait_closed(1.0)
    assert_unharmed(hasty, upstream)


OTHER = OK + b"Content-Length: 5\r\n\r\nother"
SURPLUS = {
    "more bytes": [OK + b"Content-Length: 2\r\n\r\nok-and-more"],
    "two answers in one packet": [OK + b"Content-Length: 2\r\n\r\nok" + OTHER],
    "more bytes, and another answer later": [OK + b"Content-Length: 2\r\n\r\nok-and-more", OTHER],
    "bytes behind the last chunk": [OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + OTHER],
}


@pytest.mark.parametrize("case", SURPLUS)
def test_f08_what_follows_an_answer_is_nobodys(hasty: Proxy, upstream: RecordingUpstream, case: str) -> None:
    answer_raw(upstream, *SURPLUS[case])
    response = ask(hasty, "GET", f"/mlflow{ARTIFACT}")
    assert response.complete and response.body == b"ok"
    assert_unharmed(hasty, upstream)


@pytest.mark.parametrize("case", SURPLUS)
def test_f08_a_connection_with_surplus_bytes_is_not_used_again(
    hasty: Proxy, upstream: RecordingUpstream, case: str
) -> None:
    answer_raw(upstream, *SURPLUS[case])
    assert ask(hasty, "GET", f"/mlflow{ARTIFACT}").body == b"ok"
    (seen,) = upstream.requests
    upstream.reset()
    assert ask(hasty, "GET", f"/mlflow{SEARCH}").status == 200
    assert upstream.requests[0].connection != seen.connection


@pytest.mark.parametrize("case", BAD_FRAMING)
def test_f09_contradictory_framing_is_502(hasty: Proxy, upstream: RecordingUpstream, case: str) -> None:
    answer_raw(upstream, BAD_FRAMING[case])
    assert_502(hasty, upstream)


INTERIM = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
}


@pytest.mark.parametrize("pause", [0.0, 0.05])
@pytest.mark.parametrize("status", INTERIM)
def test_f11_an_interim_answer_never_leaves_the_final_one_to_another_request(
    hasty: Proxy, upstream: RecordingUpstream, status: str, pause: float
) -> None:
    answer_raw(upstream, INTERIM[status], OK + b"Content-Length: 3\r\n\r\nown", pause=pause)
    response = ask(hasty, "GET", f"/mlflow{SEARCH}")
    if status == "100":
        assert (response.status, response.body) == (200, b"own")
    else:
        assert_refused(response, 502, "INTERNAL_ERROR")
        upstream.requests[0].wait_closed(1.0)
    assert_unharmed(hasty, upstream)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_f11_a_100_amid_an_upload_does_not_end_it(hasty: Proxy, upstream: RecordingUpstream, framing: str) -> None:
    """Unasked, and allowed all the same (RFC 9110 section 15.2)."""
    upstream.script_head(lambda conn, _: conn.sendall(INTERIM["100"]))
    upstream.script(lambda conn, seen: conn.sendall(OK + b"Content-Length: 8\r\n\r\n%08d" % seen.body_size))
    blocks = [b"b" * 300_000] * 10
    body = b"".join(blocks) if framing == "length" else blocks
    response = ask(hasty, "PUT", f"/mlflow{ARTIFACT}", (), body)
    assert (response.status, response.body) == (200, b"03000000")


def test_f12_trailers_are_dropped_and_their_connection_is_used_again(hasty: Proxy, upstream: RecordingUpstream) -> None:
    answer_raw(upstream, OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: 1\r\nX-More: 2\r\n\r\n")
    for count in (1, 2, 3):
        response = ask(hasty, "GET", f"/mlflow{ARTIFACT}")
        assert response.complete and (response.status, response.body, response.trailers) == (200, b"ok", [])
        upstream.wait_for(count)
    assert len({seen.connection for seen in upstream.requests}) == 1
    assert_unharmed(hasty, upstream)


BODILESS = {
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\nother"),
    "204 with a length": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nother"),
    "304": ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n' + OTHER),
    "304 with a length": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nother"),
    "HEAD": ("HEAD", OK + b"Content-Length: 5\r\n\r\nother"),
    "HEAD, chunked": ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nother\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("case", BODILESS)
def test_f15_an_answer_without_a_body_brings_none(hasty: Proxy, upstream: RecordingUpstream, case: str) -> None:
    method, data = BODILESS[case]
    answer_raw(upstream, data)
    response = ask(hasty, method, f"/mlflow{ARTIFACT}")
    assert response.complete and response.status == int(data[9:12]) and response.body == b""
    assert_nothing_follows(hasty, upstream, method, data)
    assert_unharmed(hasty, upstream)


def assert_nothing_follows(proxy: Proxy, upstream: RecordingUpstream, method: str, data: bytes) -> None:
    """On the client's own connection the bytes behind such an answer would be the head of the next one."""
    with begun(proxy, head(method, f"/mlflow{ARTIFACT}")) as sock:
        assert read_response(sock, method).status == int(data[9:12])
        sock.sendall(head("GET", "/health"))
        assert read_response(sock).json()["status"] == "ok"
