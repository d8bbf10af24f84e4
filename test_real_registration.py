"""Registers a model through a deployment with the standard MLflow client, and says of each step whether it worked.

    HOKUSAI_API_KEY=... python test_real_registration.py [--debug]

In:  HOKUSAI_API_KEY      the key; the client sends it as MLFLOW_TRACKING_TOKEN. Required.
     MLFLOW_TRACKING_URI  the deployment, by default https://registry.hokus.ai/api/mlflow
Out: one line for each step on stdout, its time in milliseconds, and a verdict. --debug adds tracebacks and what MLflow
     prints. Exit code 0 when all steps passed, 1 when one did not, 2 when it could not begin, 130 when interrupted.

It needs a Python that has mlflow. All names carry a random suffix, so runs beside each other do not meet, and all that
was made is deleted at the end, also after a failure. MLflow keeps deleted runs and experiments until `mlflow gc`.
pytest collects nothing from this file: it is a script, named as its users know it.
"""

import contextlib
import importlib.util
import io
import os
import re
import secrets
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEFAULT_URI = "https://registry.hokus.ai/api/mlflow"
AWKWARD_NAME = "naïve résumé 100% a+b.txt"  # space, percent, plus, non-ASCII: what a proxy decodes, or encodes twice
INPUT, EXPECTED = [1, 2, 3], [2, 4, 6]
HIDES_THE_KEY = ("USERNAME", "PASSWORD", "AUTH", "AWS_SIGV4")  # MLFLOW_TRACKING_...: each beats the token
LEADS_ELSEWHERE = ("MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
HOLD_CREDENTIALS = ("~/.mlflow/credentials", "~/.netrc", "~/_netrc")
QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's 7 mean four minutes on a server that is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class UsageError(Exception):
    """It cannot begin; the text says what to change."""


class MismatchError(Exception):
    """The deployment answered, but not with what was stored."""


@dataclass
class Exchange:
    """One HTTP request and what its answer says of itself. `status` is 0 while there is no answer."""

    request: str
    status: int = 0
    request_id: str = ""
    error: str = ""

    def answered(self, status: int, response: Any) -> None:
        """Note an answer of `requests` or of urllib3; a body is read only where it explains an error."""
        fields: Any = None
        if status >= 400:
            with contextlib.suppress(ValueError):
                fields = response.json()
        fields = fields if isinstance(fields, dict) else {}
        self.status = status
        self.request_id = str(fields.get("request_id") or response.headers.get("X-Request-ID") or "")
        parts = (fields.get("error_code"), fields.get("message") or fields.get("detail"))
        self.error = ": ".join(str(part) for part in parts if part)

    def __str__(self) -> str:
        status = f"HTTP {self.status}" if self.status else "nothing"
        return f"{status} for {self.request}" + (f", request id {self.request_id}" if self.request_id else "")


class Wire:
    """Every exchange since `exchanges` was last emptied. MLflow's exceptions name neither the status nor the id."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self._current = threading.local()  # MLflow moves artifacts in several threads

    def listen(self) -> None:
        """Watch `requests`, through which MLflow sends all, and urllib3's retries, which throw 429 and 5xx away."""
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        send, increment = HTTPAdapter.send, Retry.increment

        def watched_send(adapter: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = self._current.exchange = Exchange(f"{request.method} {urlsplit(request.url).path}")
            self.exchanges.append(exchange)
            response = send(adapter, request, *args, **kwargs)
            exchange.answered(response.status_code, response)
            return response

        def watched_increment(retry: Any, *args: Any, **kwargs: Any) -> Any:
            response = kwargs.get("response")
            if response is not None and retry.raise_on_status:  # else `requests` still wants the body
                self._current.exchange.answered(response.status, response)
            return increment(retry, *args, **kwargs)

        adapter: Any = HTTPAdapter  # typed as classes, neither could have a method replaced
        retrying: Any = Retry
        adapter.send, retrying.increment = watched_send, watched_increment

    def explain(self, error: BaseException) -> list[str]:
        """What failed, in lines: what the answer says of itself, its status, request and request id."""
        bad = [exchange for exchange in self.exchanges if not 200 <= exchange.status < 400]
        text = " ".join(str(error).split())[:300] or type(error).__name__
        if isinstance(error, MismatchError) or not bad:
            shown = self.exchanges
        else:
            shown = bad[-1:]
            text = bad[-1].error or text if bad[-1].status else f"no answer: {root_cause(error)}"
        return [text, *(str(exchange) for exchange in shown)]


def root_cause(error: BaseException) -> str:
    """The text of the exception at the bottom of the chain: 'Connection refused', not the six lines around it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


class Report:
    """Writes the lines: ticks where the terminal can show them, colour only on a terminal."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        fancy = (stream.encoding or "").lower().replace("-", "") == "utf8"
        marks = ("✓", "✗", "-") if fancy else ("ok", "XX", "--")
        self.marks = dict(zip(("ok", "failed", "skipped"), marks, strict=True))
        colour = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self.colours = {"ok": "\033[32m", "failed": "\033[31m", "skipped": "\033[2m"} if colour else {}

    def line(self, text: str) -> None:
        """Write one line now."""
        encoding = self.stream.encoding or "ascii"
        with contextlib.suppress(BrokenPipeError):  # `| head` must not keep the clean-up from happening
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self.stream.flush()

    def paint(self, outcome: str, text: str) -> str:
        """The text in the outcome's colour."""
        return f"{self.colours[outcome]}{text}\033[0m" if self.colours else text

    def step(self, outcome: str, label: str, seconds: float | None, lines: list[str]) -> None:
        """One step's line; what explains a failure stands under it."""
        took = "" if seconds is None else f"{seconds * 1000:.0f} ms"
        first, rest = ([], lines) if outcome == "failed" else (lines[:1], lines[1:])
        mark = self.paint(outcome, f"{self.marks[outcome]:<2}")
        self.line(f"  {mark} {label:<26}{took:>10}   {' '.join(first)}".rstrip())
        for line in rest:
            self.line(" " * 8 + line)


class SkipError(Exception):
    """What the step needs was never made."""


class Made(dict[str, Any]):
    """What was made so far, by kind. Asking for what is missing skips the step that asks."""

    def __missing__(self, kind: str) -> Any:
        raise SkipError(f"needs the {kind}")


class Registration:
    """Every public method is a step, in this order. A step gives a remark or raises; what it makes goes into `made`."""

    def __init__(self, uri: str, key: str, folder: Path) -> None:
        import mlflow

        self.mlflow, self.uri, self.key, self.folder = mlflow, uri, key, folder
        mlflow.set_tracking_uri(uri)
        self.client = mlflow.MlflowClient()
        self.name = f"hokusai-acceptance-{secrets.token_hex(4)}"
        self.bytes = secrets.token_bytes(200_000)
        self.made = Made()

    def reach_mlflow(self) -> str:
        import requests

        headers = {"Authorization": f"Bearer {self.key}"}
        answer = requests.get(f"{self.uri}/version", headers=headers, timeout=(10, 30), allow_redirects=False)
        self.made["connection"] = True
        answer.raise_for_status()
        expect(answer.status_code, 200, "status")  # a redirect loses the key
        expect(bool(re.fullmatch(r"\d+\.\d+[.\w]*", answer.text.strip())), True, "a version number")
        return f"MLflow {answer.text.strip()} there, {self.mlflow.__version__} here"

    def create_experiment(self) -> str:
        self.made["experiment"] = self.made["connection"] and self.client.create_experiment(self.name)
        return self.name

    def create_run(self) -> str:
        run = self.client.create_run(self.made["experiment"], run_name=self.name, tags={"made by": Path(__file__).name})
        self.made["run"] = run.info.run_id
        return str(run.info.run_id)

    def log_params(self) -> str:
        self.client.log_param(self.made["run"], "suffix", self.name)
        expect(self.client.get_run(self.made["run"]).data.params, {"suffix": self.name}, "params")
        return ""

    def log_metrics(self) -> str:
        for step, value in enumerate((0.5, 0.25, 0.125)):
            self.client.log_metric(self.made["run"], "loss", value, step=step)
        history = [metric.value for metric in self.client.get_metric_history(self.made["run"], "loss")]
        expect(history, [0.5, 0.25, 0.125], "history")
        return ""

    def upload_artifact(self) -> str:
        path = self.folder / AWKWARD_NAME
        path.write_bytes(self.bytes)
        self.client.log_artifact(self.made["run"], str(path))
        self.made["artifact"] = AWKWARD_NAME
        return f"{AWKWARD_NAME!r}, {len(self.bytes)} bytes"

    def list_artifacts(self) -> str:
        found = {item.path: item.file_size for item in self.client.list_artifacts(self.made["run"])}
        expect(found, {self.made["artifact"]: len(self.bytes)}, "names and sizes")
        return ""

    def download_artifact(self) -> str:
        path = self.client.download_artifacts(self.made["run"], self.made["artifact"], self._new_folder())
        received = Path(path).read_bytes()
        expect(received == self.bytes, True, f"{len(received)} bytes received are the {len(self.bytes)} sent")
        return ""

    def log_model(self) -> str:
        class Doubler(self.mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]  # MLflow is imported late, as Any
            def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
                return [2 * value for value in model_input]

        with self.mlflow.start_run(run_id=self.made["run"]):
            # Requirements are given, else MLflow starts a process to find them out.
            info = self.mlflow.pyfunc.log_model(
                "model", python_model=Doubler(), pip_requirements=[f"mlflow=={self.mlflow.__version__}"]
            )
        self.made["model"] = info.model_uri
        if getattr(info, "model_id", None):  # MLflow 3; before it, a model was nothing but the run's files
            self.made["logged model"] = info.model_id
        return str(info.model_uri)

    def create_registered_model(self) -> str:
        self.made["registered model"] = self.made["connection"] and self.client.create_registered_model(self.name).name
        return self.name

    def create_version(self) -> str:
        source = self.made["model"]
        version = self.mlflow.register_model(source, self.made["registered model"], await_registration_for=30)
        self.made["version"] = version.version
        return f"version {version.version}"

    def set_alias(self) -> str:
        self.client.set_registered_model_alias(self.name, "champion", self.made["version"])
        self.made["alias"] = f"models:/{self.name}@champion"
        found = self.client.get_model_version_by_alias(self.name, "champion").version
        expect(found, self.made["version"], "version behind the alias")
        return str(self.made["alias"])

    def search_experiments(self) -> str:
        wanted = [self.made["experiment"]]
        found = self.client.search_experiments(filter_string=f"name = '{self.name}'")
        return expect([item.experiment_id for item in found], wanted, "found")

    def search_runs(self) -> str:
        wanted = [self.made["run"]]
        found = self.client.search_runs([self.made["experiment"]], filter_string=f"params.suffix = '{self.name}'")
        return expect([item.info.run_id for item in found], wanted, "found")

    def search_registered_models(self) -> str:
        wanted = [self.made["registered model"]]
        found = self.client.search_registered_models(filter_string=f"name = '{self.name}'")
        return expect([item.name for item in found], wanted, "found")

    def search_model_versions(self) -> str:
        wanted = [self.made["version"]]
        found = self.client.search_model_versions(f"name = '{self.name}'")
        return expect([item.version for item in found], wanted, "found")

    def download_model(self) -> str:
        uri = f"models:/{self.name}/{self.made['version']}"
        folder = Path(self.mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=self._new_folder()))
        files = [path for path in folder.rglob("*") if path.is_file()]
        expect("MLmodel" in {path.name for path in files}, True, "MLmodel among the files")
        return f"{len(files)} files"

    def load_and_predict(self) -> str:
        model = self.mlflow.pyfunc.load_model(self.made["alias"], dst_path=self._new_folder())
        expect(list(model.predict(INPUT)), EXPECTED, "prediction")
        return f"{INPUT} -> {EXPECTED}"

    def _new_folder(self) -> str:
        return tempfile.mkdtemp(dir=self.folder)


def removals(registration: Registration) -> list[tuple[str, Callable[[], Any]]]:
    """What was made, youngest first, each with the call that removes it."""
    client, made, name = registration.client, registration.made, registration.name
    calls: dict[str, Callable[[], Any]] = {
        "version": lambda: client.delete_model_version(name, made["version"]),
        "registered model": lambda: client.delete_registered_model(name),
        "logged model": lambda: client.delete_logged_model(made["logged model"]),
        "run": lambda: client.delete_run(made["run"]),
        "experiment": lambda: client.delete_experiment(made["experiment"]),
    }
    return [(kind, call) for kind, call in calls.items() if kind in made]


def expect(found: Any, wanted: Any, what: str) -> str:
    """Raise MismatchError unless the two are equal."""
    if found != wanted:
        raise MismatchError(f"{what}: expected {wanted!r}, got {found!r}")
    return ""


class Session:
    """Carries steps out one after the other and keeps the score."""

    def __init__(self, report: Report, debug: bool) -> None:
        self.report, self.debug, self.wire = report, debug, Wire()
        self.score = {"ok": 0, "failed": 0, "skipped": 0}

    def attempt(self, label: str, call: Callable[[], Any]) -> None:
        """Carry one step out and write its line; an exception of any kind is that step's failure, not ours."""
        self.wire.exchanges.clear()
        started, outcome, lines = time.monotonic(), "ok", []
        try:
            with contextlib.ExitStack() as quiet:
                if not self.debug:  # MLflow tells what it does on both streams
                    quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
                    quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
                lines = [call() or ""]
        except SkipError as skipped:
            outcome, lines = "skipped", [str(skipped)]
        except Exception as error:
            outcome, lines = "failed", self.wire.explain(error)
            if self.debug:
                traceback.print_exc()
        self.score[outcome] += 1
        self.report.step(outcome, label, None if outcome == "skipped" else time.monotonic() - started, lines)

    def register(self, registration: Registration) -> None:
        """All steps, then the clean-up, whatever happened before it."""
        try:
            for name in (name for name in vars(Registration) if not name.startswith("_")):
                self.attempt(name.replace("_", " "), getattr(registration, name))
        finally:
            for kind, remove in removals(registration):
                self.attempt(f"remove {kind}", remove)


def deployment(environ: Mapping[str, str]) -> tuple[str, str]:
    """The tracking URI and the key. Raises UsageError."""
    uri = environ.get("MLFLOW_TRACKING_URI", "").strip().rstrip("/") or DEFAULT_URI
    key = environ.get("HOKUSAI_API_KEY", "").strip()
    parts = urlsplit(uri)
    if not key:
        raise UsageError("HOKUSAI_API_KEY is not set: export HOKUSAI_API_KEY=<your key>")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise UsageError("HOKUSAI_API_KEY holds a space or a character that no key has")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"MLFLOW_TRACKING_URI must be http(s)://host/path, not {uri!r}")
    if "@" in parts.netloc:
        raise UsageError("MLFLOW_TRACKING_URI must not hold a user or a password: the key goes into HOKUSAI_API_KEY")
    if importlib.util.find_spec("mlflow") is None:
        raise UsageError(f"{sys.executable} has no mlflow: pip install mlflow, or use a Python that has it")
    return uri, key


def prepare(environ: MutableMapping[str, str], uri: str, key: str, home: str) -> list[str]:
    """Set this process up before mlflow is imported. Gives remarks on what of the user's was put aside."""
    hiding = [f"MLFLOW_TRACKING_{name}" for name in HIDES_THE_KEY]
    aside = [name for name in (*hiding, *LEADS_ELSEWHERE) if environ.pop(name, None) is not None]
    files = [name for name in HOLD_CREDENTIALS if Path(name).expanduser().exists()]
    if files:  # both mlflow and requests look in the home directory for credentials, which beat the token
        environ.update(HOME=home, USERPROFILE=home)
    environ.pop("NETRC", None)
    for name, value in QUIET.items():
        environ.setdefault(name, value)
    environ.update(MLFLOW_TRACKING_URI=uri, MLFLOW_TRACKING_TOKEN=key)
    warnings.simplefilter("ignore")
    return [f"put aside, as it would hide the key or lead elsewhere: {name}" for name in aside + files]


def main() -> int:
    """Register a model, and give the exit code."""
    if set(sys.argv[1:]) - {"--debug"}:
        sys.stderr.write((__doc__ or "") + "\n")
        return 2
    report, started = Report(sys.stdout), time.monotonic()
    try:
        uri, key = deployment(os.environ)
    except UsageError as error:
        sys.stderr.write(f"test_real_registration: {error}\n")
        return 2
    session = Session(report, "--debug" in sys.argv)
    report.line(f"Registering a model at {uri}")
    with tempfile.TemporaryDirectory() as folder:
        for remark in prepare(os.environ, uri, key, folder):
            report.line(f"  ({remark})")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled CI job cleans up as Ctrl-C does
        try:
            session.wire.listen()
            session.register(Registration(uri, key, Path(folder)))
        except KeyboardInterrupt:
            report.line(report.paint("failed", "INTERRUPTED"))
            return 130
    return verdict(report, session.score, time.monotonic() - started)


def verdict(report: Report, score: dict[str, int], seconds: float) -> int:
    """Write the last line and give the exit code."""
    if score["ok"] == sum(score.values()):
        report.line(report.paint("ok", f"PASSED: {score['ok']} steps in {seconds:.1f} s"))
        return 0
    text = f"FAILED: {score['failed']} failed, {score['skipped']} skipped, {score['ok']} passed, in {seconds:.1f} s"
    report.line(report.paint("failed", text))
    return 1


if __name__ == "__main__":
    sys.exit(main())
