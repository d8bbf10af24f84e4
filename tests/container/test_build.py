"""What the build makes: the same each time, of the repository's files and the pinned packages, and nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from scripts.container.engine import Engine
from tests.container.building import MARK, REPOSITORY, REVISION, VERSION, Image

pytestmark = pytest.mark.container

OURS = ("opt/proxy", "srv/proxy")
PACKAGES = "opt/proxy/lib/python3.11/site-packages"
MOST_MEGABYTES = 45.0  # on top of the base; 33 when this was written
PLACES_OF_TOOLS = ("usr/local/bin", "usr/local/sbin", "usr/bin", "usr/sbin", "opt/proxy/bin")
TOOLS = "cc gcc g++ c++ clang ld as make cmake git cargo pip pip3 pip3.11 wheel easy_install".split()
ACCOUNTS = {f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")}
ACCOUNTS |= {f"{name}-" for name in ACCOUNTS} | {"/etc/.pwd.lock"}
INSTALLERS = re.compile(r"/usr(/local(/bin(/.*)?|/lib(/python3\.11(/.*)?)?)?)?")  # where pip and its like were


def ours(root: Path) -> dict[str, Path]:
    """Every file of ours, by its path in the image."""
    found = [path for tree in OURS for path in (root / tree).rglob("*") if not path.is_dir()]
    return {str(path.relative_to(root)): path for path in found}


def privileged(root: Path) -> list[str]:
    """Programs that run as their owner or group, whoever starts them."""
    places = [root / place for place in ("usr/bin", "usr/sbin", "usr/lib", "usr/local", "opt", "srv")]
    found = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    return [f"/{path.relative_to(root)}" for path in found if path.stat().st_mode & 0o6000]


def test_two_builds_are_the_same_byte_for_byte(image: Image, image_again: Image) -> None:
    """A layer's digest covers every file's content, owner, mode, time; the other checkout differs in the last two."""
    assert image.about["RootFS"]["Layers"] == image_again.about["RootFS"]["Layers"]
    assert image.about["Config"] == image_again.about["Config"]


def test_what_else_lies_in_a_checkout_stays_out(image_again: Image) -> None:
    marked = [name for name, path in ours(image_again.root).items() if path.is_file() and MARK in path.read_bytes()]
    assert marked == []


def test_our_part_is_what_the_repository_has_and_its_byte_code(image: Image) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "app", "wsgi.py", "gunicorn.conf.py"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, text=True).stdout.splitlines()
    there = {name.removeprefix("srv/proxy/") for name in ours(image.root) if name.startswith("srv/proxy/")}
    assert {name for name in there if not name.endswith(".pyc")} == set(listed)
    compiled = {re.sub(r"__pycache__/(.+)\.cpython-311\.pyc$", r"\1.py", name) for name in there if ".pyc" in name}
    assert compiled == {name for name in listed if name.endswith(".py")}
    assert all((REPOSITORY / name).read_bytes() == (image.root / "srv/proxy" / name).read_bytes() for name in listed)


def test_the_packages_are_the_pinned_ones(image: Image) -> None:
    pinned = re.findall(r"^([a-z0-9-]+)==(\S+)$", (REPOSITORY / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned
    folders = [folder.name.removesuffix(".dist-info") for folder in (image.root / PACKAGES).glob("*.dist-info")]
    installed = [folder.replace("_", "-").lower().rsplit("-", 1) for folder in folders]
    assert sorted(installed) == sorted([name, version] for name, version in pinned)


def test_nothing_that_builds_or_installs_is_there(image: Image) -> None:
    tools = [f"{place}/{tool}" for place in PLACES_OF_TOOLS for tool in TOOLS]
    assert [tool for tool in tools if (image.root / tool).exists()] == []
    installers = [
        path
        for library in ("usr/local/lib/python3.11", "opt/proxy/lib/python3.11")
        for name in ("pip", "setuptools", "wheel", "ensurepip")
        for path in (image.root / library).rglob(name)
    ]
    assert installers == []


def test_no_tests_no_caches_no_checkout_are_there(image: Image) -> None:
    unwanted = {"tests", "test", ".git", ".cache", "conftest.py", "Dockerfile", "requirements.txt", "docs"}
    assert [name for name in ours(image.root) if unwanted & set(Path(name).parts)] == []
    assert [place for place in ("root/.cache", "root/.config", "etc/pip.conf") if (image.root / place).exists()] == []
    assert [list((image.root / place).iterdir()) for place in ("tmp", "var/tmp")] == [[], []]


def test_no_program_runs_as_somebody_else(image: Image, base: Image) -> None:
    assert privileged(base.root), "the base has no such program, so this would show nothing"
    assert privileged(image.root) == []


def test_the_build_touches_nothing_else_of_the_base(engine: Engine, image: Image, base: Image) -> None:
    lines = engine.podman("image", "diff", image.tag, base.tag).splitlines()
    assert lines
    known = {*privileged(base.root), *ACCOUNTS, "/opt/proxy", "/srv/proxy"}
    known |= {str(folder) for path in known for folder in Path(path).parents}  # one is changed with anything in it
    rest = {line for line in lines if line[2:] not in known and not INSTALLERS.fullmatch(line[2:])}
    assert {line for line in rest if not line[2:].startswith(("/opt/proxy/", "/srv/proxy/"))} == set()


def test_the_size_is_what_the_packages_need(image: Image, base: Image) -> None:
    assert image.megabytes - base.megabytes < MOST_MEGABYTES


def test_the_image_says_what_it_is_and_how_it_runs(image: Image) -> None:
    told = image.about["Config"]
    assert (told["User"], told["WorkingDir"], told["StopSignal"]) == ("10001", "/srv/proxy", "SIGTERM")
    assert told["Cmd"] == ["gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"]
    assert not told.get("Entrypoint")
    assert list(told["ExposedPorts"]) == ["8001/tcp"]
    assert image.about["Healthcheck"]["Test"][:3] == ["CMD", "python", "-c"]
    assert {name: value for name, value in told["Labels"].items() if name.startswith("org.opencontainers.")} == {
        "org.opencontainers.image.title": "hokusai-mlflow-proxy",
        "org.opencontainers.image.version": VERSION,
        "org.opencontainers.image.revision": REVISION,
    }
