"""A stand-in for python:3.11-slim-bookworm where no registry can be reached: Debian 12 at its smallest, and under
/usr/local the Python that runs this, with a pip and setuptools of its own, as the real one has them.

What it is not: the same patch of Python, the same programs, the same size. Nothing of it leaves this machine.
"""

import subprocess
import sys
import tarfile
from pathlib import Path

from scripts.container.engine import Engine, EngineError

NAME = "docker.io/library/python:3.11-slim-bookworm"
# What the real one has beside the smallest Debian, and the libraries that its Python is linked with.
PACKAGES = (
    "ca-certificates,netbase,tzdata,"
    "libbz2-1.0,libcrypt1,libexpat1,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,libuuid1,zlib1g"
)
# Those of Tcl are not in the real one either; tests and packages of this machine have no place in an image.
LEFT_OUT = {"site-packages", "test", "__pycache__", "tkinter", "idlelib", "turtledemo"}
DEBIAN_SECONDS = 180.0
CHANGES = [
    "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV LANG=C.UTF-8",
    'CMD ["python3"]',
]
# The imports fail where the Python of this machine does not fit Debian 12.
CONTAINERFILE = f"""\
FROM {NAME}
RUN ldconfig && ln -s python3.11 /usr/local/bin/python && ln -s python3.11 /usr/local/bin/python3 \\
    && python -c 'import bz2, ctypes, hashlib, lzma, readline, sqlite3, ssl, uuid, zlib' \\
    && python -m ensurepip --default-pip
"""


def make_base(engine: Engine) -> None:
    """Make the base and give it the name that the Dockerfile asks for. Raises EngineError with the reason."""
    prefix = Path(sys.base_prefix)
    interpreter, library = prefix / "bin/python3.11", prefix / "lib/python3.11"
    if prefix == Path("/usr") or not (interpreter.is_file() and library.is_dir()):
        raise EngineError(f"the base needs a Python 3.11 in a folder of its own, as pyenv makes it; this is {prefix}")
    archive = engine.folder / "base.tar"
    _debian(archive, engine.folder / "tmp")
    with tarfile.open(archive, "a") as tar:
        tar.add(interpreter, "usr/local/bin/python3.11", filter=_as_root)
        tar.add(library, "usr/local/lib/python3.11", filter=_as_root)
        (folder := tarfile.TarInfo("usr/local/lib/python3.11/site-packages")).type = tarfile.DIRTYPE
        folder.mode = 0o755
        tar.addfile(folder)
        for shared in prefix.glob("lib/libpython3.11.so*"):
            tar.add(shared, f"usr/local/lib/{shared.name}", filter=_as_root)
    changes = [part for change in CHANGES for part in ("--change", change)]
    engine.podman("import", *changes, str(archive), NAME, timeout=DEBIAN_SECONDS)
    archive.unlink()
    context = engine.folder / "base"
    context.mkdir()
    (context / "Containerfile").write_text(CONTAINERFILE)
    engine.build(context, NAME)


def _debian(archive: Path, temporary: Path) -> None:
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(archive)]
    done = subprocess.run(
        ["env", f"TMPDIR={temporary}", *command], capture_output=True, text=True, timeout=DEBIAN_SECONDS
    )
    if done.returncode != 0:
        raise EngineError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if LEFT_OUT & set(Path(entry.name).parts):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
