"""How a `requests.Session` must be made to be shared: it adds nothing, remembers nothing and reads no surroundings."""

from http.cookiejar import DefaultCookiePolicy

import requests


def plain_session() -> requests.Session:
    """A Session without environment proxies, netrc, cookies, default headers, redirects or hooks.

    Left as it comes, a Session replaces Authorization from ~/.netrc, follows HTTP_PROXY, adds its own Accept-Encoding
    and hands one user's Set-Cookie to the next (requests/sessions.py).
    """
    session = requests.Session()
    session.trust_env = False
    session.headers.clear()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.max_redirects = 0
    return session
