"""Asks tests/support/live_balancer.py, which has boto3 and therefore runs in .venv-infra."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from subprocess import PIPE
from typing import Any

from tests.support.moto_server import INFRA, ROOT
from tests.support.process import clean_environment


class Driver:
    """The process, and a pipe to either side of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin and process.stdout
        self.questions, self._answers = process.stdin, process.stdout

    def ask(self, *question: Any) -> Any:
        """What it answers; the questions stand at its head."""
        self.questions.write(json.dumps(question) + "\n")
        self.questions.flush()
        answer = self._answers.readline()
        assert answer, f"no answer to {question}: its stderr says why"
        return json.loads(answer)


@contextmanager
def driving(environ: Mapping[str, str]) -> Iterator[Driver]:
    """One for the AWS at `environ`, as tests.support.moto_server gives it."""
    command, env = [str(INFRA / "python"), "tests/support/live_balancer.py"], clean_environment(environ)
    with subprocess.Popen(command, cwd=ROOT, env=env, stdin=PIPE, stdout=PIPE, text=True) as process:
        driver = Driver(process)
        try:
            yield driver
        finally:
            driver.questions.close()  # which ends it
