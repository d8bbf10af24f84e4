"""Health: public, exact paths, answered whatever the transfers are doing. Only the two `…/health/mlflow` ask MLflow."""

from typing import Any

from flask import Blueprint, Response, current_app, jsonify

from app import VERSION
from app.probes import Probes
from app.translate import MOUNTS

LIVE_PATHS = ("/health", "/live", *(f"{mount}/health" for mount in MOUNTS))
METHODS = ["GET"]  # and with it HEAD


def make_blueprint(probes: Probes, draining: str) -> Blueprint:
    """The blueprint, registered once, at the root. `draining` is the config key that turns /ready to 503."""
    blueprint = Blueprint("health", __name__)

    def live() -> Response:
        return jsonify(status="ok", version=VERSION)

    def ready() -> tuple[Response, int]:
        if current_app.config.get(draining):
            return jsonify(status="draining", version=VERSION), 503
        return jsonify(status="ok", version=VERSION), 200

    def mlflow() -> tuple[Response, int]:
        return _report(probes.summary())

    def detailed() -> tuple[Response, int]:
        return _report(probes.detailed())

    for path in LIVE_PATHS:
        blueprint.add_url_rule(path, "live", live, methods=METHODS)
    blueprint.add_url_rule("/ready", "ready", ready, methods=METHODS)
    for mount in MOUNTS:
        blueprint.add_url_rule(f"{mount}/health/mlflow", "mlflow", mlflow, methods=METHODS)
        blueprint.add_url_rule(f"{mount}/health/mlflow/detailed", "detailed", detailed, methods=METHODS)
    return blueprint


def _report(report: dict[str, Any]) -> tuple[Response, int]:
    return jsonify(report), 200 if report["status"] == "healthy" else 503
