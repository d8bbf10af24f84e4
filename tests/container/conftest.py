"""The image, built once for all tests from the real Dockerfile, by podman, in a folder that goes at the end.

It stands on a base made here (scripts/container/base.py), or, where a registry is reached, on the real one:
`CONTAINER_BASE=docker.io/library/python:3.11-slim-bookworm@sha256:... make container-test`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.container.base import NAME, make_base
from scripts.container.engine import Engine
from tests.container.building import DECOYS, REPOSITORY, Image, build, look_at
from tests.support.artifacts import fill

NOT_COPIED = shutil.ignore_patterns(".venv*", ".git", ".local", ".*_cache", "__pycache__", ".terraform")
PULL_SECONDS = 300.0
figures = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def noted(request: pytest.FixtureRequest) -> list[str]:
    """Figures that the run says at its end."""
    return request.config.stash.setdefault(figures, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for figure in config.stash.get(figures, []):
        terminalreporter.write_line(figure)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine(Path(tempfile.mkdtemp(prefix="container-test-"))) as engine:
        yield engine


@pytest.fixture(scope="session")
def base(engine: Engine, noted: list[str]) -> Image:
    start = time.monotonic()
    given = os.environ.get("CONTAINER_BASE")
    if given:
        engine.podman("pull", given, timeout=PULL_SECONDS)
    else:
        make_base(engine)
    image = look_at(engine, given or NAME)
    noted.append(f"base: {image.megabytes:.0f} MB, made in {time.monotonic() - start:.0f} s")
    return image


@pytest.fixture(scope="session")
def image(engine: Engine, base: Image, noted: list[str]) -> Image:
    """The image as the repository gives it."""
    start = time.monotonic()
    image = build(engine, base, REPOSITORY, "proxy")
    seconds = time.monotonic() - start
    noted.append(f"image: {image.megabytes - base.megabytes:.1f} MB on top of it, built in {seconds:.0f} s")
    return image


@pytest.fixture(scope="session")
def image_again(engine: Engine, base: Image, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image a second time: from another folder, with modes, times and files in it that must not matter."""
    context = tmp_path_factory.mktemp("context") / "checkout"
    shutil.copytree(REPOSITORY, context, ignore=NOT_COPIED, copy_function=shutil.copyfile)
    fill(context, DECOYS)
    for place in (context, *context.rglob("*")):
        place.chmod(0o700 if place.is_dir() else 0o600)
    return build(engine, base, context, "proxy-again")
