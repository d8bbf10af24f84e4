"""The real MLflow, server and client, from its own environment: the proxy's tests import nothing of it."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.support.process import REPOSITORY, clean_environment, end_group, free_port, kill_group, wait_for_health

ENVIRONMENT = REPOSITORY / ".venv-mlflow"
START_SECONDS = 90.0
STOP_SECONDS = 20.0
# No telemetry: nothing but 127.0.0.1 is talked to. No job runner: it starts eight more processes no test asks for.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


class MlflowServer:
    """Context manager: `mlflow server` with SQLite and proxied artifacts under `directory`, on a free port.

    `artifacts` is where the server stores what is uploaded; `log` is its output so far. `env` and `extra_args` add to
    what it is started with (`["--static-prefix", "/mlflow"]` moves `health_path` to "/mlflow/health").
    """

    def __init__(
        self,
        directory: Path,
        extra_args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        health_path: str = "/health",
    ) -> None:
        self.artifacts = directory / "artifacts"
        self._directory = directory
        self._extra_args = list(extra_args)
        self._env = {**_QUIET, "HOME": str(directory), **(env or {})}
        self._health_path = health_path
        self._log_path = directory / "mlflow-server.log"

    @property
    def log(self) -> str:
        return self._log_path.read_text("utf-8", "replace")

    @property
    def pid(self) -> int:
        """Process id of `mlflow server`, which is also the id of the process group of all that it starts."""
        return self._process.pid

    def __enter__(self) -> MlflowServer:
        self._directory.mkdir(parents=True, exist_ok=True)
        self.artifacts.mkdir(exist_ok=True)
        database = self._directory / "mlflow.db"
        shutil.copyfile(_migrated_database(), database)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                self._command(database),
                cwd=self._directory,
                env=clean_environment(self._env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for_health(self.port, self._process, START_SECONDS, self._health_path)
        except BaseException as error:
            error.add_note(self.log[-8000:])
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """SIGTERM, then SIGKILL for the whole group; MLflow's own manners in stopping are not under test."""
        died_alone = end_group(self._process, STOP_SECONDS)
        if died_alone and error is None:
            raise RuntimeError(f"mlflow ended by itself (exit code {self._process.returncode}):\n{self.log[-8000:]}")

    def _command(self, database: Path) -> list[str]:
        options = {
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--backend-store-uri": f"sqlite:///{database}",
            "--artifacts-destination": str(self.artifacts),
            "--default-artifact-root": "mlflow-artifacts:/",
            "--workers": "1",
        }
        pairs = [part for option in options.items() for part in option]
        return [str(ENVIRONMENT / "bin" / "mlflow"), "server", "--serve-artifacts", *pairs, *self._extra_args]


def run_client(
    code_or_path: str | Path, env: Mapping[str, str], timeout: float = 120.0, args: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run Python code (str) or a file (Path) with the real MLflow client; gives exit code, stdout and stderr.

    `env` is all it knows (MLFLOW_TRACKING_URI, MLFLOW_TRACKING_TOKEN, ...); HOME and the working directory are fresh
    and removed afterwards. TimeoutExpired, with everything killed, after `timeout` seconds.
    """
    program = [str(code_or_path.resolve())] if isinstance(code_or_path, Path) else ["-c", code_or_path]
    command = [str(ENVIRONMENT / "bin" / "python"), *program, *args]
    with tempfile.TemporaryDirectory(prefix="mlflow-client-") as home:
        with subprocess.Popen(
            command,
            cwd=home,
            env=clean_environment({**_QUIET, "HOME": home, **env}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            finally:
                kill_group(process.pid)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@functools.cache
def _migrated_database() -> Path:
    """An empty MLflow database, migrated once per test run (about 4 s) and copied for each server."""
    directory = tempfile.TemporaryDirectory(prefix="mlflow-template-")
    atexit.register(directory.cleanup)
    path = Path(directory.name) / "template.db"
    result = subprocess.run(
        [str(ENVIRONMENT / "bin" / "mlflow"), "db", "upgrade", f"sqlite:///{path}"],
        env=clean_environment({**_QUIET, "HOME": directory.name}),
        cwd=directory.name,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return path
