"""app/sessions.py: a session that adds nothing, remembers nothing and reads no surroundings."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
import responses

from app.sessions import plain_session

URL = "http://mlflow.internal:5000/x"


def test_it_has_nothing_of_its_own() -> None:
    session = plain_session()
    assert (session.trust_env, dict(session.headers), session.auth, session.proxies, session.params) == (
        False,
        {},
        None,
        {},
        {},
    )
    assert (session.max_redirects, session.hooks) == (0, {"response": []})


@responses.activate
def test_it_sends_only_the_headers_it_is_given() -> None:
    responses.get(URL)
    plain_session().get(URL, headers={"A": "b"})
    assert dict(responses.calls[0].request.headers) == {"A": "b"}


@responses.activate
def test_one_users_cookie_is_not_sent_for_the_next() -> None:
    responses.get(URL, headers={"Set-Cookie": "session=alice; Path=/"})
    session = plain_session()
    session.get(URL)
    session.get(URL)
    assert [call.request.headers.get("Cookie") for call in responses.calls] == [None, None]
    assert list(session.cookies) == []


@responses.activate
def test_it_reads_neither_netrc_nor_proxy_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login somebody password hk_test_netrc\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for variable in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://192.0.2.99:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle")
    responses.get(URL)
    session = plain_session()
    session.get(URL)
    call = responses.calls[0].request
    assert "Authorization" not in call.headers
    assert session.merge_environment_settings(URL, {}, None, None, None) == {
        "proxies": {},
        "stream": False,
        "verify": True,
        "cert": None,
    }


@responses.activate
def test_it_follows_no_redirect_even_when_asked_to() -> None:
    responses.get(URL, status=302, headers={"Location": "http://evil.example/"})
    with pytest.raises(requests.TooManyRedirects):
        plain_session().get(URL)
    assert len(responses.calls) == 1


def test_two_sessions_share_nothing() -> None:
    first, second = plain_session(), plain_session()
    first.headers["A"] = "b"
    assert dict(second.headers) == {}
