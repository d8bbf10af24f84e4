"""`python3 -m scripts.dev` as a developer meets it: in a checkout of its own, with the environments that are there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.dev.__main__ import too_old
from scripts.dev.checkout import Checkout
from scripts.dev.children import Child, stop
from scripts.dev.environments import Environment, ensure_mlflow
from scripts.dev.keys import read_settings
from scripts.dev.run import own_port
from scripts.dev.terminal import Trouble
from tests.support.process import clean_environment, free_port, kill_group

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = {".venv": ("requirements.txt", "requirements-dev.txt"), ".venv-mlflow": ("requirements-mlflow.txt",)}
READY_SECONDS = 60.0


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A checkout with the environments of this one, stamped as made; no process may be left in it afterwards."""
    root = tmp_path / "a checkout"  # a space, as people have them in their paths
    root.mkdir()
    shutil.copytree(REPOSITORY / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("app", "wsgi.py", "gunicorn.conf.py", "test_real_registration.py", *sum(REQUIREMENTS.values(), ())):
        (root / name).symlink_to(REPOSITORY / name)
    copied = Checkout(root)
    lend(Path(sys.prefix), copied, ".venv")
    lend(REPOSITORY / ".venv-mlflow", copied, ".venv-mlflow")
    yield copied
    assert running_in(copied) == []


def lend(source: Path, checkout: Checkout, name: str) -> None:
    """Make an environment out of links to another: it can be used and changed, and the other stays as it is."""
    path = checkout.root / name
    (path / "bin").mkdir(parents=True)
    for entry in (*(source / "bin").iterdir(), source / "lib", source / "pyvenv.cfg"):
        (path / entry.relative_to(source)).symlink_to(entry)
    Environment(checkout, path, "", REQUIREMENTS[name]).mark()


def running_in(checkout: Checkout) -> list[str]:
    """The command lines of the processes whose working directory is the checkout."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == checkout.root:
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile
            continue
    return found


class Runner:
    """`scripts.dev` with some arguments, its output in files. Killed with all it started when left."""

    def __init__(self, checkout: Checkout, *arguments: str, port: int | str = "", **environ: str) -> None:
        self.checkout = checkout
        self._out = checkout.root.parent / f"output-{time.monotonic_ns()}"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scripts.dev", *arguments],
                cwd=checkout.root,
                env=clean_environment({"HOME": str(checkout.root.parent), "API_PORT": str(port), **environ}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        kill_group(self.process.pid)

    @property
    def output(self) -> str:
        return self._out.read_text()

    def child(self, program: str) -> int:
        """The process id of the one child that runs this program."""
        own = self.process.pid
        pids = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return next(int(pid) for pid in pids if program in Path(f"/proc/{pid}/cmdline").read_text())

    def wait(self, timeout: float = 40.0) -> int:
        return self.process.wait(timeout)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while text not in self.output:
            assert self.process.poll() is None, f"it ended before:\n{self.output}"
            assert time.monotonic() < deadline, f"it did not say {text!r}:\n{self.output}"
            time.sleep(0.05)


def fake_mlflow(checkout: Checkout, script: str) -> None:
    program = checkout.mlflow_environment / "bin" / "mlflow"
    program.unlink()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_a_start_registers_a_model_stops_on_ctrl_c_and_keeps_its_key_for_the_next(checkout: Checkout) -> None:
    port = free_port()
    with Runner(checkout, "run", port=port) as first:
        first.wait_for("Ctrl-C stops both")
        settings = read_settings(checkout)
        assert settings["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{port}/api/mlflow"
        assert settings["HOKUSAI_API_KEY"] not in first.output
        assert stat.S_IMODE(checkout.settings.stat().st_mode) == 0o600
        with Runner(checkout, "register") as registration:
            assert registration.wait() == 0, registration.output
            assert "PASSED" in registration.output
        with Runner(checkout, "register", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}/mlflow") as registration:
            assert registration.wait() == 0, registration.output
        first.process.send_signal(signal.SIGINT)
        assert first.wait() == 0
        assert running_in(checkout) == []
    with Runner(checkout, "run", port=port) as second:
        second.wait_for("Ctrl-C stops both")
        assert read_settings(checkout) == settings
        os.kill(second.child("gunicorn"), signal.SIGKILL)
        assert second.wait() == 1
        assert "The proxy has stopped by itself (SIGKILL)." in second.output


def test_an_mlflow_that_cannot_read_its_database_is_named_with_the_end_of_its_log(checkout: Checkout) -> None:
    (checkout.local / "mlflow.db").write_bytes(b"this is no database" * 1000)
    with Runner(checkout, "run", port=free_port()) as runner:
        assert runner.wait() == 1
        assert re.search(
            r"^MLflow has stopped by itself \(exit code \d+\)\. The end of .*mlflow\.log:", runner.output, re.M
        )
        assert "file is not a database" in runner.output


def test_an_mlflow_that_ends_at_once_is_named_and_the_proxy_is_stopped(checkout: Checkout) -> None:
    fake_mlflow(checkout, "echo 'no such option: --workers' >&2; exit 3")
    with Runner(checkout, "run", port=free_port()) as runner:
        assert runner.wait() == 1
        assert "MLflow has stopped by itself (exit code 3)." in runner.output
        assert "    no such option: --workers" in runner.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_start_leaves_nothing_running(checkout: Checkout, number: signal.Signals) -> None:
    fake_mlflow(checkout, "touch started; sleep 600 & wait")
    with Runner(checkout, "run", port=free_port()) as runner:
        while not (checkout.root / "started").exists():
            time.sleep(0.02)
        runner.process.send_signal(number)
        assert runner.wait() == 0
        assert running_in(checkout) == []
        assert not checkout.settings.exists()


def test_what_ignores_sigterm_is_killed_with_its_whole_group(tmp_path: Path) -> None:
    script = 'trap "" TERM; sleep 600 & touch started; sleep 600'
    child = Child("Stubborn", ["sh", "-c", script], tmp_path, {"PATH": "/usr/bin:/bin"}, tmp_path / "log")
    while not (tmp_path / "started").exists():
        time.sleep(0.02)
    try:
        stop([child], patience=0.3)
        assert running_in(Checkout(tmp_path)) == []
    finally:
        child.signal(signal.SIGKILL)


def test_a_port_in_use_is_named_in_one_line_with_the_way_out(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Runner(checkout, "run", port=port) as runner:
            assert runner.wait() == 1
            way_out = f"make run API_PORT={port + 1 if port < 65535 else 8001}"
            assert runner.output == f"Port {port} is in use by another program; take another: {way_out}\n"


def test_a_second_run_in_the_same_checkout_is_refused_in_one_line(checkout: Checkout) -> None:
    with checkout.lock("run", wait=False), Runner(checkout, "run", port=free_port()) as runner:
        assert runner.wait() == 1
        assert runner.output == "`make run` is running in this checkout already; stop that one first.\n"


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "80 80"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(Trouble, match="API_PORT must be a port number"):
        own_port({"API_PORT": text})


def test_register_without_a_run_says_what_to_do_first(checkout: Checkout) -> None:
    with Runner(checkout, "register") as runner:
        assert runner.wait() == 1
        assert runner.output == "There is nothing to register at yet: start `make run` in another terminal first.\n"


@pytest.mark.parametrize(
    ("version", "refused"), [((3, 10, 9), True), ((2, 7), True), ((3, 11, 0), False), ((4, 0), False)]
)
def test_a_python_before_3_11_is_told_off(version: tuple[int, ...], refused: bool) -> None:
    assert bool(too_old(version, "/usr/bin/python3")) is refused


def test_a_broken_environment_is_made_anew_once_and_a_failing_pip_is_explained(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    requirements, python = checkout.root / "requirements-mlflow.txt", checkout.mlflow_environment / "bin" / "python"
    requirements.unlink()
    requirements.write_text("")
    Environment(checkout, checkout.mlflow_environment, "", (requirements.name,)).mark()
    python.unlink()
    python.symlink_to("/nonexistent/python")
    ensure_mlflow(checkout)
    assert re.fullmatch(r"making \.venv-mlflow \(MLflow\) \.\.\. \d+\.\d s\n", capsys.readouterr().out)
    assert subprocess.run([python, "-c", ""], check=False).returncode == 0

    ensure_mlflow(checkout)
    assert capsys.readouterr().out == ""

    requirements.write_text("./missing-1.0-py3-none-any.whl\n")
    with pytest.raises(Trouble, match=r"(?s)pip could not fill \.venv-mlflow: ERROR: .*missing.*pip\.venv-mlflow\.log"):
        ensure_mlflow(checkout)
    with pytest.raises(Trouble):  # it does not count as made
        ensure_mlflow(checkout)


def test_a_python_without_ensurepip_is_told_which_package_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements-mlflow.txt").write_text("")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(Trouble, match="apt install python3-venv"):
        ensure_mlflow(Checkout(tmp_path))
