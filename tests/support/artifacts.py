"""The artifact commands of artifact_client.py as a test calls them, and the checksums of what they moved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.auth_service import GOOD_KEY
from tests.support.mlflow_server import run_client

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
AUTHORIZED = [("Authorization", f"Bearer {GOOD_KEY}")]
DRIVER = Path(__file__).with_name("artifact_client.py")


def client_environment(uri: str) -> dict[str, str]:
    """What the real client knows: this tracking URI and GOOD_KEY. It tries once, so that a failure shows at once."""
    return {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_TRACKING_TOKEN": GOOD_KEY,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }


def artifact_client(
    command: str, uri: str, *, env: Mapping[str, str] | None = None, timeout: float = 120.0, **arguments: Any
) -> Any:
    """Run a command of artifact_client.py against a tracking URI; gives what it printed, decoded."""
    run = run_client(
        DRIVER, {**client_environment(uri), **(env or {})}, timeout, [command, json.dumps(arguments, default=str)]
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every file below a directory, by its path from there."""
    return {str(path.relative_to(root)): digest(path) for path in root.rglob("*") if path.is_file()}


def fill(root: Path, contents: Mapping[str, bytes]) -> Path:
    """Write these files below a directory, and give the directory."""
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root
