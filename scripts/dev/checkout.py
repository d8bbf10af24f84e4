"""Where things are in a checkout."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checkout:
    """The root of a checkout. What `make` makes is in .venv, .venv-mlflow and .local, all ignored by git."""

    root: Path

    @property
    def proxy_environment(self) -> Path:
        return self.root / ".venv"

    @property
    def mlflow_environment(self) -> Path:
        return self.root / ".venv-mlflow"

    @property
    def local(self) -> Path:
        """The local data; only for its owner, as it holds a key. Made when it is first asked for."""
        path = self.root / ".local"
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    @property
    def settings(self) -> Path:
        """Address and key of the local proxy, as NAME=value lines that both a shell and make read."""
        return self.local / "env"

    @property
    def keys(self) -> Path:
        """The hashes of the keys the local proxy accepts."""
        return self.local / "keys.json"

    def log(self, name: str) -> Path:
        """Where a child's output goes."""
        return self.local / f"{name}.log"

    @contextmanager
    def lock(self, name: str, wait: bool) -> Iterator[None]:
        """Hold a lock that ends with this process, however it ends. BlockingIOError when taken and not to wait."""
        descriptor = os.open(self.local / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)
