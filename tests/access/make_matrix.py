"""Writes matrix.tsv, the table of who gets what: one line per route, one column per kind of key.

    python -m tests.access.make_matrix > tests/access/matrix.tsv

It was run once and its output reviewed; from then on the table is changed by hand, or by this script and reviewed
again. Method, path, family, action and access are the route table's (app/routes.tsv). The answers follow the contract,
section 3, written down here once more: no function of the proxy is asked, since it is the proxy that is tested.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

ROUTES = Path(__file__).resolve().parents[2] / "app" / "routes.tsv"
KINDS = ("none", "read", "write", "admin", "gateway")  # without a key, and keys with one scope each
COLUMNS = ("method", "path", "family", "action", "access", *KINDS, "mounts")

# What a key of each kind gets, by access class. `forward` means that MLflow answers.
ANSWERS = {
    "read": ("401", "forward", "forward", "forward", "forward"),
    "write": ("401", "403", "forward", "forward", "403"),
    "admin": ("401", "403", "403", "forward", "403"),
    "use": ("401", "403", "403", "forward", "forward"),
    "never": ("404", "404", "404", "404", "404"),
}
HEALTH = "/health"  # public, and answered by the proxy: contract, section 6
AT_THE_ROOT = re.compile(r"/(api|ajax-api)/.*|/v1/traces|/version|/health")  # contract, sections 1 and 6


def line(route: dict[str, str]) -> list[str]:
    """The matrix's line of a route."""
    cells = ("200",) * len(KINDS) if route["path"] == HEALTH else ANSWERS[route["access"]]
    mounts = "all" if AT_THE_ROOT.fullmatch(route["path"]) else "prefixed"
    return [*(route[name] for name in COLUMNS[:5]), *cells, mounts]


def main() -> None:
    with ROUTES.open(newline="") as file:
        routes = list(csv.DictReader(file, delimiter="\t"))
    writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(line(route) for route in routes)


if __name__ == "__main__":
    main()
