"""What the real MLflow client does in the artifact tests: run by MLflow's own Python, never imported by a test.

    artifact_client.py COMMAND JSON-ARGUMENTS

Each command prints one JSON value on its last line of stdout. Checksums are taken by the tests, of the files.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlflow
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository


def round_trip(source: str, target: str) -> dict[str, Any]:
    """Upload a directory into a new run, list it, and download it all; gives the run and each file's listed size."""
    client = MlflowClient()
    run = client.create_run(client.create_experiment(f"round trip {os.urandom(6).hex()}")).info
    client.log_artifacts(run.run_id, source)
    listed = dict(_listed(client, run.run_id))
    client.download_artifacts(run.run_id, "", target)
    return {"run_id": run.run_id, "listed": listed, "artifact_uri": run.artifact_uri}


def _listed(client: MlflowClient, run_id: str, path: str | None = None) -> Iterator[tuple[str, int | None]]:
    for file in client.list_artifacts(run_id, path):
        if file.is_dir:
            yield from _listed(client, run_id, file.path)
        else:
            yield file.path, file.file_size


def each(source: str, folder: str, target: str) -> dict[str, dict[str, Any]]:
    """Upload the files of a directory, each into a folder of its own (0, 1, ... in order of names), and ask for each
    again by the name it had; gives for each name the names listed, and the text of what went wrong.
    """
    outcomes: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(sorted(os.listdir(source))):
        repository = get_artifact_repository(f"mlflow-artifacts:/{folder}/{number}")
        got = Path(target, str(number))
        got.mkdir(parents=True)
        outcomes[name] = {
            "upload": _error(repository.log_artifact, str(Path(source, name))),
            "listed": [file.path for file in repository.list_artifacts()],
            "download": _error(repository.download_artifacts, name, str(got)),
        }
    return outcomes


def _error(act: Callable[..., Any], *arguments: str) -> str:
    """The text of what this raised; empty when it worked."""
    try:
        act(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def large(source: str, folder: str, target: str) -> list[int]:
    """Upload one file and remove it here, then download it; gives the sizes listed, before and after it was deleted
    from the server.
    """
    repository = get_artifact_repository(f"mlflow-artifacts:/{folder}")
    repository.log_artifact(source)
    name = os.path.basename(source)
    os.unlink(source)
    sizes = [file.file_size for file in repository.list_artifacts()]
    repository.download_artifacts(name, target)
    repository.delete_artifacts(name)
    return [*sizes, len(repository.list_artifacts())]


def delete(folder: str, path: str) -> list[list[str]]:
    """Delete below a folder; gives what was listed in it before and after."""
    repository = get_artifact_repository(f"mlflow-artifacts:/{folder}")
    before = [file.path for file in repository.list_artifacts()]
    repository.delete_artifacts(path)
    return [before, [file.path for file in repository.list_artifacts()]]


def model(target: str) -> dict[str, Any]:
    """Log a model that holds an artifact of its own, load it back, and predict with it."""

    class Doubler(mlflow.pyfunc.PythonModel):
        def load_context(self, context: Any) -> None:
            self.weights = Path(context.artifacts["weights"]).read_bytes()

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return [2 * value for value in model_input] + [len(self.weights), sum(self.weights)]

    weights = Path("weights of mine.bin")
    weights.write_bytes(bytes(range(256)) * 4000)
    with mlflow.start_run(experiment_id=mlflow.create_experiment(f"model {os.urandom(6).hex()}")):
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=Doubler(),
            artifacts={"weights": str(weights)},
            pip_requirements=[f"mlflow=={mlflow.__version__}"],  # given, else MLflow starts a process to find them out
        )
    weights.unlink()
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    loaded = mlflow.pyfunc.load_model(info.model_uri, dst_path=target)
    return {"prediction": loaded.predict([1, 2, 3])}


def multipart(source: str, folder: str, target: str) -> dict[str, Any]:
    """Upload and download one file with multipart wherever the server offers it; gives which calls the client made."""
    import requests

    calls: list[str] = []
    send = requests.Session.request

    def counted(session: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(f"{method.upper()} {url.partition('?')[0]}")
        return send(session, method, url, *args, **kwargs)

    with patch.object(requests.Session, "request", counted):
        repository = get_artifact_repository(f"mlflow-artifacts:/{folder}")
        repository.log_artifact(source)
        repository.download_artifacts(os.path.basename(source), target)
        return {"calls": calls, "listed": [[file.path, file.file_size] for file in repository.list_artifacts()]}


COMMANDS: dict[str, Callable[..., Any]] = {
    command.__name__: command for command in (round_trip, each, large, delete, model, multipart)
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(COMMANDS[sys.argv[1]](**json.loads(sys.argv[2]))) + "\n")
