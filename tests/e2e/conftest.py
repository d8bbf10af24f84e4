"""Fixtures that more than one file of this folder asks for."""

from __future__ import annotations

import pytest

from tests.support.audited import Audited, audited_run
from tests.support.mlflow_server import MlflowServer


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """A log to ask questions of; its MLflow is its own, so that ids and names are its own too."""
    with MlflowServer(tmp_path_factory.mktemp("audited")) as mlflow:
        return audited_run(mlflow)
