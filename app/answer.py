"""A Flask response with nothing in it that nobody asked for."""

from typing import TYPE_CHECKING

from flask import Response
from werkzeug.datastructures import Headers

from app.headers import Pair

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Sound(Headers):
    """Headers whose names and values somebody has read strictly: Werkzeug would look at each of them again."""

    def __init__(self, pairs: list[Pair]) -> None:
        self._list = pairs


class Answer(Response):
    """Carries the headers that it is given: Werkzeug invents neither a Content-Type nor a Content-Length."""

    default_mimetype = None
    automatically_set_content_length = False

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """The headers themselves: Werkzeug would copy them, and rewrite Location and Content-Length."""
        return self.headers
