"""The tracking API, the registry and the UI: everything that is no artifact transfer."""

from collections.abc import Callable

from flask import Blueprint, Response, request

from app import scope as scopes
from app.answer import Answer
from app.edge import METHODS
from app.forward import Profile
from app.settings import Settings


def make_blueprint(forward: Callable[[Profile], Response], settings: Settings) -> Blueprint:
    """The blueprint, registered once per mount. JSON bodies are bounded: MLflow holds them in memory."""
    blueprint = Blueprint("mlflow", __name__)
    profile = Profile(settings.upstream.timeouts.read, settings.max_json_body)

    # Not strict: the mount without a slash comes here too, and not to a redirect of Flask's, which names a host.
    @blueprint.route("/", defaults={"rest": ""}, methods=METHODS, provide_automatic_options=False, strict_slashes=False)
    @blueprint.route("/<path:rest>", methods=METHODS, provide_automatic_options=False)
    def anything(rest: str) -> Response:
        scope = scopes.of(request.environ)
        if not scope.rest:  # a browser at the bare mount; the UI's relative links need the slash
            return Answer(status=308, headers={"Location": f"{scope.mount}/{scope.suffix}"})
        return forward(profile)

    return blueprint
