"""Flask, without the work that nothing here makes use of."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface
from flask.typing import ResponseReturnValue
from werkzeug.routing import Map, MapAdapter, Rule

from app.memo import Memo

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Match = tuple[Rule, dict[str, Any]]


class Application(Flask):
    """A Flask application whose routes depend on path and method alone, without sessions and coroutines.

    Of what can be registered to run for each request, it runs `before_request` of the application itself, and no more.

    `front` is what a server calls: the application itself, or middleware around it.
    """

    front: "WSGIApplication"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.session_interface = NoSessions()
        self._found: Memo[Match] = Memo()
        self.front = self.wsgi_app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        return self.front(environ, start_response)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """What finds the view for a request.

        Flask's own works out host, scheme and script name first, which redirects and subdomains would need.
        """
        if request is None:
            return super().create_url_adapter(None)
        return Adapter(self.url_map, request.environ["PATH_INFO"], request.method, self._found)

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Run the stages in their order; what one of them answers is the answer."""
        for stage in self.before_request_funcs.get(None, ()):
            answer = stage()
            if answer is not None:
                return cast(ResponseReturnValue, answer)
        return None

    def process_response(self, response: Response) -> Response:
        """The response as it is. Flask would look for `after_request` functions, the blueprint's too, and a session."""
        return response

    def do_teardown_request(self, *_: Any) -> None:
        """Nothing. Flask would look for `teardown_request` functions, and tell whoever listens."""

    def do_teardown_appcontext(self, *_: Any) -> None:
        """Nothing, for the same reason."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: there are no coroutines, and Flask would look for them at each call."""
        return func


class Adapter(MapAdapter):
    """Finds the rule for one request, and remembers it for the next one to the same path."""

    def __init__(self, rules: Map, path: str, method: str, found: Memo[Match]) -> None:
        super().__init__(rules, "", "/", "", "http", path, method)
        self._found = found

    def match(self, *arguments: Any, **options: Any) -> Any:
        """The rule and its arguments. Raises what Werkzeug does; that is not remembered."""
        key = (self.default_method, self.path_info)
        rule, values = self._found.get(key) or self._found.keep(key, super().match(*arguments, **options))
        return rule, dict(values)


class NoSessions(SessionInterface):
    """No session, and none made for each request; none is ever saved."""

    nothing = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        """The same for all: nothing can be written to it."""
        return self.nothing
