"""Uploads and downloads: any size, and the long silences in which MLflow copies to or from its store."""

import re
from collections.abc import Callable, Iterable

from flask import Blueprint, Response

from app.edge import METHODS
from app.forward import Profile
from app.scope import Route
from app.settings import Settings
from app.transfers import Slots

PARAMETER = re.compile(r"\{(\w+)(:path)?\}")


def moves_artifacts(route: Route) -> bool:
    """Whether a route of the table transfers artifacts, or belongs to the store that does."""
    return "/mlflow-artifacts/" in route.path or route.moves_artifact


def flask_rule(path: str) -> str:
    """The table's `{name}` and `{name:path}` as Flask writes them."""
    return PARAMETER.sub(lambda found: f"<path:{found[1]}>" if found[2] else f"<{found[1]}>", path)


def make_blueprint(
    forward: Callable[[Profile], Response], settings: Settings, routes: Iterable[Route], slots: Slots
) -> Blueprint:
    """The blueprint, registered once per mount, for those of `routes` that transfer artifacts; `slots` bounds them."""
    blueprint = Blueprint("artifacts", __name__)
    disabled = None if settings.serve_artifacts else settings.artifacts_disabled_status
    profile = Profile(settings.upstream.timeouts.artifact_read, None, disabled, slots)

    def transfer(**_: str) -> Response:
        return forward(profile)

    for rule in sorted({flask_rule(route.path) for route in routes if moves_artifacts(route)}):
        blueprint.add_url_rule(rule, "transfer", transfer, methods=METHODS, provide_automatic_options=False)
    return blueprint
