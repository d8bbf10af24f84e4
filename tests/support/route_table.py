"""What tests of the route table (app/routes.tsv) know of it."""

from __future__ import annotations

import re

# The POST requests that only read, so that a key without a write scope can work (paths without `/api/N.0/`, either
# spelling). MLflow's own authorisation (mlflow/server/auth, BEFORE_REQUEST_VALIDATORS) checks read permission on them.
# The fifteenth that it does so for, jobs/search, is of an admin family here.
READS_BY_POST = {
    "/graphql",  # its only mutations search runs and datasets (mlflow/server/graphql)
    "mlflow/artifacts/presigned-download-url",
    "mlflow/datasets/search",
    "mlflow/experiments/search",
    "mlflow/experiments/search-datasets",
    "mlflow/issues/search",
    "mlflow/logged-models/search",
    "mlflow/prompt-optimization/jobs/search",
    "mlflow/registered-models/get-latest-versions",
    "mlflow/runs/search",
    "mlflow/traces/batchGetInfos",
    "mlflow/traces/calculate-filter-correlation",
    "mlflow/traces/metrics",
    "mlflow/traces/search",
}


def filled(path: str) -> str:
    """The path of a route with something in place of each parameter."""
    return re.sub(r"\{[^}]*\}", "x", re.sub(r"\{[^}]*:path\}", "x/y", path))
