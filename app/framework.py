"""Flask, without the work that nothing here makes use of."""

from flask import Flask, Request
from werkzeug.routing import MapAdapter


class Application(Flask):
    """A Flask application whose routes depend on path and method alone."""

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """What finds the view for a request.

        Flask's own works out host, scheme and script name first, which redirects and subdomains would need.
        """
        if request is None:
            return super().create_url_adapter(None)
        return self.url_map.bind("", path_info=request.environ["PATH_INFO"], default_method=request.method)
