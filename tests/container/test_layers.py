"""What one finds who takes the image apart: a layer keeps what a later one deletes, the history keeps arguments."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.container.engine import Engine
from scripts.secret_search import PATTERNS
from tests.container.building import MARK, Image, pip_settings

pytestmark = pytest.mark.container


@pytest.fixture(scope="module")
def archive(engine: Engine, image_again: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tarfile.TarFile]:
    """The image that was built where secrets lay about, as it would be sent to a registry."""
    path = tmp_path_factory.mktemp("archive") / "image.tar"
    engine.podman("save", "--format=oci-archive", f"--output={path}", image_again.tag, timeout=120)
    with tarfile.open(path) as archive:
        yield archive
    path.unlink()


def read(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    file = archive.extractfile(name)
    assert file is not None
    parsed: dict[str, Any] = json.load(file)
    return parsed


def blob(described: dict[str, Any]) -> str:
    return f"blobs/{described['digest'].replace(':', '/')}"


def contents(archive: tarfile.TarFile, below: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in every layer but the `below` lowest, which are the base's."""
    manifest = read(archive, blob(read(archive, "index.json")["manifests"][0]))
    for described in manifest["layers"][below:]:
        with tarfile.open(fileobj=archive.extractfile(blob(described))) as layer:
            for entry in layer:
                if entry.isreg() and (content := layer.extractfile(entry)):
                    yield entry.name, content.read()


def test_no_layer_holds_a_secret_or_what_should_have_stayed_out(archive: tarfile.TarFile, base: Image) -> None:
    found, searched = [], 0
    for name, data in contents(archive, len(base.about["RootFS"]["Layers"])):
        searched += 1
        text = data.decode("latin-1")
        found += [f"{name}: {kind}" for kind, pattern in PATTERNS.items() if pattern.search(text)]
        found += [f"{name}: a decoy"] if MARK in data else []
        found += [f"{name}: of the build"] if Path(name).name in ("pip.conf", "ca.pem") else []
    assert searched > 1000
    assert found == []


def test_the_configuration_and_the_history_hold_no_secret(archive: tarfile.TarFile) -> None:
    manifest = read(archive, blob(read(archive, "index.json")["manifests"][0]))
    told = json.dumps(read(archive, blob(manifest["config"])))
    assert "hokusai-mlflow-proxy" in told
    assert [kind for kind, pattern in PATTERNS.items() if pattern.search(told)] == []
    ways = {name: value for name, value in pip_settings().items() if name in ("index-url", "proxy", "trusted-host")}
    assert [name for name, value in ways.items() if value in told] == []
