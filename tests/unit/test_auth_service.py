"""app/auth_service.py: anything but a well-formed yes is no yes, anything but a well-formed no is no no."""

from __future__ import annotations

import gzip
import io
import json
from http.client import RemoteDisconnected
from typing import Any

import pytest
import requests
import responses
from responses import matchers
from urllib3.exceptions import ProtocolError

from app.auth_service import MOST_BYTES, AuthService
from app.errors import AuthUnavailable, ProxyError, RateLimited
from app.scope import Principal
from app.settings import AuthSettings
from tests.unit.samples import KEY, PRINCIPAL, YES

URL = "http://auth.internal:8000/api/v1/keys/validate"


def service() -> AuthService:
    return AuthService(AuthSettings("http://auth.internal:8000", "platform", 5.0, ""))


def validate() -> Principal:
    return service().validate(KEY, "203.0.113.9")


@responses.activate
def test_the_key_is_asked_about_as_bearer_and_never_in_the_body() -> None:
    responses.post(
        URL, json=YES, match=[matchers.json_params_matcher({"service_id": "platform", "client_ip": "203.0.113.9"})]
    )
    assert validate() == PRINCIPAL
    (call,) = responses.calls
    assert call.request.headers["Authorization"] == f"Bearer {KEY}"
    assert (KEY in str(call.request.url), KEY in str(call.request.body)) == (False, False)


@responses.activate
def test_the_timeout_is_the_configured_one() -> None:
    responses.post(URL, json=YES, match=[matchers.request_kwargs_matcher({"timeout": (1.0, 5.0), "stream": True})])
    assert validate() == PRINCIPAL


@responses.activate
def test_connecting_takes_no_longer_than_the_whole_may() -> None:
    responses.post(URL, json=YES, match=[matchers.request_kwargs_matcher({"timeout": (0.5, 0.5), "stream": True})])
    assert AuthService(AuthSettings("http://auth.internal:8000", "platform", 0.5, "")).validate(KEY, "") == PRINCIPAL


@responses.activate
@pytest.mark.parametrize("location", ["http://evil.example/", "/api/v1/keys/validate/", URL])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_is_no_answer(status: int, location: str) -> None:
    responses.post(URL, status=status, headers={"Location": location}, json=YES)
    with pytest.raises(AuthUnavailable):
        validate()
    assert len(responses.calls) == 1


@responses.activate
@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("x"),
        requests.ConnectTimeout("x"),
        requests.ReadTimeout("x"),
        requests.exceptions.SSLError("x"),
        requests.exceptions.ChunkedEncodingError("x"),
        OSError("x"),
        TimeoutError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_outage_is_a_503_that_asks_to_come_again_and_never_a_401(error: Exception) -> None:
    responses.post(URL, body=error)
    with pytest.raises(AuthUnavailable) as raised:
        validate()
    assert (raised.value.status, raised.value.kind, raised.value.headers) == (
        503,
        f"auth_{type(error).__name__}",
        [("Retry-After", "2")],
    )


def hang_up(error: Exception) -> requests.ConnectionError:
    """As requests tells of a connection that ended in place of an answer."""
    return requests.ConnectionError(ProtocolError("Connection aborted.", error))


HANG_UPS = [RemoteDisconnected("x"), ConnectionResetError("x"), BrokenPipeError("x")]


@responses.activate
@pytest.mark.parametrize("error", HANG_UPS, ids=lambda error: type(error).__name__)
def test_a_connection_that_ends_instead_of_an_answer_is_replaced_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle ones are closed by the service whenever it likes; a second old one must not be tried."""
    asked, closed = service(), []
    monkeypatch.setattr(asked._session, "close", lambda: closed.append(len(responses.calls)))
    responses.post(URL, body=hang_up(error))
    responses.post(URL, json=YES)
    assert asked.validate(KEY, "203.0.113.9") == PRINCIPAL
    assert (len(responses.calls), closed) == (2, [1])


@responses.activate
def test_a_connection_is_not_replaced_twice() -> None:
    responses.post(URL, body=hang_up(ConnectionResetError("x")))
    with pytest.raises(AuthUnavailable):
        validate()
    assert len(responses.calls) == 2


@responses.activate
@pytest.mark.parametrize(
    "error",
    [
        requests.ReadTimeout("x"),
        requests.ConnectTimeout("x"),
        requests.ConnectionError("refused"),
        requests.ConnectionError(),
        hang_up(TimeoutError("x")),
        hang_up(ValueError("x")),
    ],
    ids=repr,
)
def test_nothing_else_is_tried_again(error: Exception) -> None:
    responses.post(URL, body=error)
    with pytest.raises(AuthUnavailable):
        validate()
    assert len(responses.calls) == 1


class Ending(io.RawIOBase):
    """A body that ends with an error of the socket after its first bytes."""

    def __init__(self, error: Exception) -> None:
        self._parts: list[bytes | Exception] = [b'{"user_id": "user-1",', error]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._parts.pop(0)
        if isinstance(part, Exception):
            raise part
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("error", [TimeoutError("slow"), ConnectionResetError("gone")], ids=["slow", "reset"])
@responses.activate
def test_an_answer_that_breaks_off_is_an_outage(error: Exception) -> None:
    """urllib3 wraps what its socket raises into errors of its own, which are neither OSErrors nor RequestExceptions."""
    responses.post(URL, body=io.BufferedReader(Ending(error)))
    with pytest.raises(AuthUnavailable):
        validate()


@responses.activate
def test_an_answer_shorter_than_announced_is_an_outage_even_if_it_reads_well() -> None:
    responses.post(URL, json=YES, headers={"Content-Length": "9999"})
    with pytest.raises(AuthUnavailable):
        validate()


@responses.activate
def test_an_answer_in_a_coding_that_does_not_decode_is_an_outage() -> None:
    responses.post(URL, body=b"no gzip", headers={"Content-Encoding": "gzip"})
    with pytest.raises(AuthUnavailable):
        validate()


@responses.activate
def test_a_compressed_answer_is_read() -> None:
    responses.post(URL, body=gzip.compress(json.dumps(YES).encode()), headers={"Content-Encoding": "gzip"})
    assert validate() == PRINCIPAL


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}], ids=["plain", "compressed"])
@responses.activate
def test_no_more_than_64_kibibytes_of_an_answer_are_read(headers: dict[str, str]) -> None:
    body = b" " * MOST_BYTES + json.dumps(YES).encode()
    responses.post(URL, body=gzip.compress(body) if headers else body, headers=headers)
    with pytest.raises(AuthUnavailable):
        validate()


@responses.activate
def test_the_retry_after_of_an_answer_is_looked_at() -> None:
    responses.post(URL, status=429, headers={"Retry-After": "13"})
    with pytest.raises(RateLimited) as raised:
        validate()
    assert raised.value.headers == [("Retry-After", "13")]


@responses.activate
@pytest.mark.parametrize("status", [200, 401, 429, 500, 302])
def test_no_error_tells_the_key_or_where_the_auth_service_is(status: int) -> None:
    responses.post(URL, status=status, body=f"{KEY} auth.internal")
    with pytest.raises(ProxyError) as raised:
        validate()
    told = repr((raised.value.message, raised.value.kind, raised.value.headers, raised.value.extra))
    assert (KEY in told, "auth.internal" in told) == (False, False)
