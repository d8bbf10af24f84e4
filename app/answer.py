"""A Flask response with nothing in it that nobody asked for."""

from flask import Response


class Answer(Response):
    """Carries the headers that it is given: Werkzeug invents neither a Content-Type nor a Content-Length."""

    default_mimetype = None
    automatically_set_content_length = False
