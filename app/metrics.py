"""What is counted of requests, in memory that all processes of a proxy share: each worker writes, the exporter reads.

The memory has no name: it needs no directory, and is gone with the last process. What a worker has counted stays when
it is killed, and the worker that takes its place goes on from there. Why not as prometheus_client does it:
docs/adr/0014-metrics.md.
"""

import mmap
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from time import process_time
from typing import Any

from app.emf import own_ms

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"  # for what is none of a closed list: a method is a client's text
CLASSES = {0: "none", **{n: f"{n}xx" for n in range(1, 6)}}  # by a status's first digit; "none": no answer was begun

# Upper bounds in milliseconds: a cached answer takes some, a transfer minutes, up to the load balancer's idle timeout.
BUCKETS = (
    *(1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0),
    *(1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0, 120_000.0, 300_000.0, 900_000.0),
)

# All figures are doubles ("cells"): one is written by a single store, so nobody reads half of it.
CELL = 8
HISTOGRAM = len(BUCKETS) + 2  # how many fell in each bucket, how many above them all, and the sum
SUM = HISTOGRAM - 1
BYTES_IN, BYTES_OUT, WHOLE = 0, 1, 2  # in the row of a family; histograms follow one another
PARTS: Mapping[str, int] = {name: WHOLE + n * HISTOGRAM for n, name in enumerate(("auth", "upstream", "own"), start=1)}
AUTH, UPSTREAM, OWN = PARTS.values()
FAMILY_CELLS = WHOLE + 4 * HISTOGRAM
ALIVE, TRANSFERS, CPU = range(3)  # at the beginning of a sheet
HEADER = 4

KEY_CELLS = 12  # a row's labels, as text
REQUEST_ROWS, FAMILY_ROWS = 2048, 64  # memory that no row is in costs nothing
SPARE_SHEETS = 32  # for workers that overlap while the server reloads, and for those that are added by a signal

Key = tuple[str, ...]


class Rows:
    """Rows of figures, each with its labels. One process makes rows and counts in them; any process reads."""

    def __init__(self, memory: memoryview, labels: int, cells: int) -> None:
        self._memory = memory
        self._width = (KEY_CELLS + cells) * CELL
        self._most = len(memory) // self._width
        self._rest = (OTHER,) * labels
        self._at: dict[Key, int] = {}  # the first of a row's cells, counted from the beginning of this memory
        for number, (key, _) in enumerate(self.read()):
            self._at[key] = self._first(number)

    def at(self, key: Key) -> int:
        """Where a row's cells begin; makes the row that is not there yet. The last row is for all that have no room."""
        found = self._at.get(key)
        return self._add(key) if found is None else found

    def read(self) -> Iterator[tuple[Key, list[float]]]:
        """Each row's labels and figures, as they are now."""
        for number in range(self._most):
            row = self._memory[number * self._width : (number + 1) * self._width]
            name = bytes(row[: KEY_CELLS * CELL])
            if b"\n" not in name:  # the first that is not written, or is being written
                return
            labels = name.partition(b"\n")[0].decode("ascii").split("\t")
            yield tuple(labels), list(row[KEY_CELLS * CELL :].cast("d"))

    def _add(self, key: Key) -> int:
        number = len(self._at)
        name = "\t".join(key).encode("ascii", "replace") + b"\n"
        if number >= self._most - 1 or len(name) > KEY_CELLS * CELL:
            key, name = self._rest, "\t".join(self._rest).encode() + b"\n"
            if key in self._at:
                return self._at[key]
        begin = number * self._width
        self._memory[begin : begin + len(name)] = name
        self._at[key] = self._first(number)
        return self._at[key]

    def _first(self, number: int) -> int:
        return number * self._width // CELL + KEY_CELLS


REQUESTS_SIZE = REQUEST_ROWS * (KEY_CELLS + 1) * CELL
FAMILIES_SIZE = FAMILY_ROWS * (KEY_CELLS + FAMILY_CELLS) * CELL
SHEET = HEADER * CELL + REQUESTS_SIZE + FAMILIES_SIZE


class Sheet:
    """What one worker has counted, and those before it that had the same sheet."""

    def __init__(self, memory: memoryview) -> None:
        families = HEADER * CELL + REQUESTS_SIZE
        self._header = memory[: HEADER * CELL].cast("d")
        self._requests = memory[HEADER * CELL : families].cast("d")
        self._families = memory[families:].cast("d")
        self.requests = Rows(memory[HEADER * CELL : families], 4, 1)
        self.families = Rows(memory[families:], 1, FAMILY_CELLS)
        self._used = 0.0  # seconds of processor time that are counted

    def count(self, line: Mapping[str, Any]) -> None:
        """Count a request by its access line. Nothing here waits, so no other request comes in between."""
        family, method = line["family"], line["method"]
        method = method if method in METHODS else OTHER
        at = self.requests.at((family, method, CLASSES.get(line["status"] // 100, OTHER), line["outcome"]))
        self._requests[at] += 1.0
        cells, at = self._families, self.families.at((family,))
        cells[at + BYTES_IN] += line["bytes_in"]
        cells[at + BYTES_OUT] += line["bytes_out"]
        self._observe(at + WHOLE, line["duration_ms"])
        if line["auth_ms"]:
            self._observe(at + AUTH, line["auth_ms"])
        if line["upstream_ms"]:
            self._observe(at + UPSTREAM, line["upstream_ms"])
        self._observe(at + OWN, own_ms(line))

    def _observe(self, at: int, milliseconds: float) -> None:
        self._families[at + bisect_left(BUCKETS, milliseconds)] += 1.0
        self._families[at + SUM] += milliseconds

    def beat(self, transfers: int) -> None:
        """Say that the worker lives, how many transfers it has under way, and what processor time it has used."""
        used = process_time()
        self._header[ALIVE], self._header[TRANSFERS] = 1.0, transfers
        self._header[CPU] += used - self._used
        self._used = used

    def leave(self) -> None:
        """Say that the worker is gone: what it had under way is, too. What it has counted stays."""
        self._header[ALIVE] = self._header[TRANSFERS] = 0.0

    def state(self) -> list[float]:
        """ALIVE (0 or 1), TRANSFERS under way, and seconds of processor time (CPU)."""
        return list(self._header)


class Board:
    """The sheets of all workers. Made before the first worker is forked; the server says who has which sheet."""

    def __init__(self, workers: int) -> None:
        self._sheets = 2 * workers + SPARE_SHEETS
        self._memory = memoryview(mmap.mmap(-1, self._sheets * SHEET))
        self._free = set(range(self._sheets))

    def take(self) -> int | None:
        """The number of a sheet for a new worker, used ones first; None when there is none left."""
        number = min(self._free, default=None)
        self._free.discard(-1 if number is None else number)
        return number

    def give_back(self, number: int) -> None:
        """Free the sheet of a worker that has ended."""
        self.sheet(number).leave()
        self._free.add(number)

    def sheet(self, number: int) -> Sheet:
        """A sheet, as its memory is now."""
        return Sheet(self._memory[number * SHEET : (number + 1) * SHEET])

    def sheets(self) -> Iterator[Sheet]:
        """All of them; most are empty."""
        return (self.sheet(number) for number in range(self._sheets))
