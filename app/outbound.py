"""A request's head as it goes to MLflow, and what requests has no other place for, on its way through requests."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from app.headers import Pair


class Manner(NamedTuple):
    """How a request is sent: its exact target, the longest wait for the upstream to take a byte (seconds), whether it
    needs a fresh connection, and the client's socket, to be watched while the upstream is silent.
    """

    target: str
    write_timeout: float
    fresh: bool = False
    client: Any = None


class Outbound(Mapping[str, str]):
    """The headers of one request to MLflow, and with them what requests has no other place for: see `Manner`.

    A mapping whatever the case of its names, as requests wants it; what is sent are the pairs as they were given.
    """

    def __init__(self, pairs: list[Pair], manner: Manner) -> None:
        self.manner = manner
        self._pairs = pairs

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self._pairs}

    @property
    def is_chunked(self) -> bool:
        """Whether the body goes in chunks; asked of each request, hence without a mapping."""
        return "transfer-encoding" in [name.lower() for name, _ in self._pairs]

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(name for name, _ in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def head(self, method: str) -> bytes:
        """Request line and headers as they go out. Raises ValueError for what would be more lines than there are."""
        lines = [f"{method} {self.manner.target} HTTP/1.1", *[f"{name}: {value}" for name, value in self._pairs]]
        text = "\r\n".join(lines) + "\r\n\r\n"
        if not text.count("\n") == text.count("\r") == len(lines) + 1:
            raise ValueError("a line end inside a header")
        return text.encode("latin-1")
