"""Mount and style -> the exact target for MLflow. Pure; imports neither flask nor requests.

Nothing is decoded, encoded, merged or ordered here: the target goes upstream byte for byte, with the mount cut off in
front and, where the upstream needs it, `/api/` written as `/ajax-api/`.
"""

MOUNTS = ("/api/mlflow", "/mlflow")  # and the root, whose mount is empty

# What the bare host serves: clients whose tracking URI is the host itself, and the calls in which the MLflow client
# drops the prefix of its tracking URI (mlflow/store/artifact/mlflow_artifacts_repo.py, for `mlflow-artifacts:/`).
ROOT_PREFIXES = ("/api/", "/ajax-api/")
ROOT_PATHS = ("/v1/traces", "/version")

# Upstreams of the external style serve their REST API under /ajax-api/ only.
STYLED = ("/api/2.0/mlflow/", "/api/3.0/mlflow/", "/api/2.0/mlflow-artifacts/")


def split_mount(path: str) -> tuple[str, str]:
    """Split a path into mount and rest. The rest is empty when the path is a bare mount, e.g. `/mlflow`."""
    for mount in MOUNTS:
        if path == mount or path.startswith(mount + "/"):
            return mount, path[len(mount) :]
    return "", path


def served_at(mount: str, rest: str) -> bool:
    """Whether a mount serves this path at all; the root serves only what a client without a prefix needs."""
    return bool(mount) or rest.startswith(ROOT_PREFIXES) or rest in ROOT_PATHS


def upstream_path(rest: str, prefix: str, style: str) -> str:
    """The path for MLflow: `prefix` in front (no slash at its end), the style applied, all else as it came.

    >>> upstream_path("/api/2.0/mlflow/runs/get", "/base", "ajax-api")
    '/base/ajax-api/2.0/mlflow/runs/get'
    """
    if style == "ajax-api" and rest.startswith(STYLED):
        rest = "/ajax-api/" + rest.removeprefix("/api/")
    return prefix + rest
