"""Uploads and downloads: any size, and the long silences in which MLflow copies to or from its store."""

from collections.abc import Callable

from flask import Blueprint, Response

from app.edge import METHODS
from app.forward import Profile
from app.settings import Settings

RULES = (
    "/api/2.0/mlflow-artifacts/<path:rest>",
    "/ajax-api/2.0/mlflow-artifacts/<path:rest>",
    "/ajax-api/2.0/mlflow/upload-artifact",
    "/ajax-api/2.0/mlflow/get-trace-artifact",
    "/ajax-api/2.0/mlflow/logged-models/<model>/artifacts/files",
    "/get-artifact",
    "/model-versions/get-artifact",
)


def make_blueprint(forward: Callable[[Profile], Response], settings: Settings) -> Blueprint:
    """The blueprint, registered once per mount."""
    blueprint = Blueprint("artifacts", __name__)
    disabled = None if settings.serve_artifacts else settings.artifacts_disabled_status
    profile = Profile(settings.upstream.timeouts.artifact_read, None, disabled)

    def transfer(**_: str) -> Response:
        return forward(profile)

    for rule in RULES:
        blueprint.add_url_rule(rule, "transfer", transfer, methods=METHODS, provide_automatic_options=False)
    return blueprint
