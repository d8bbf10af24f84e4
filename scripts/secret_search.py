"""Searches every file of the repository for what must not be in it: keys, account numbers, addresses of real hosts.

Run from the repository's root: `python scripts/secret_search.py`. Prints a line per finding and exits with 1, else 0.
"""

import ipaddress
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PATTERNS = {
    "Hokusai key": re.compile(r"hk_(live|test|dev)_[A-Za-z0-9_-]{16,}"),
    "AWS access key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "account number in an ARN": re.compile(r"arn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:[0-9]{12}:"),
    "registry host with an account number": re.compile(r"\b[0-9]{12}\.dkr\.ecr\."),
    "token": re.compile(r"\b(ghp|gho|github_pat|xox[bap]|sk-ant|sk-proj)[_-][A-Za-z0-9_-]{16,}"),
}
# What stands behind == is the version of a package that is pinned.
ADDRESS = re.compile(r"(?<![\w.-])(?<!==)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.-])")
# RFC 5737: written for documentation, they lead nowhere.
EXAMPLES = [ipaddress.ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]


def is_real(address: str) -> bool:
    """Whether a dotted quad could be a host somewhere: not loopback, unspecified, made for examples, or invalid."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_unspecified or any(parsed in network for network in EXAMPLES))


def findings(text: str) -> Iterator[tuple[int, str]]:
    """Give line number and kind of everything in a text that looks like a secret."""
    for number, line in enumerate(text.splitlines(), 1):
        for kind, pattern in PATTERNS.items():
            if pattern.search(line):
                yield number, kind
        if any(is_real(address) for address in ADDRESS.findall(line)):
            yield number, "address of a host"


def repository_files() -> list[Path]:
    """Files that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := Path(name)).is_file()]


def main() -> int:
    """Search, print, and give the exit code."""
    found = 0
    files = repository_files()
    for path in files:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a picture
        for number, kind in findings(text):
            found += 1
            print(f"{path}:{number}: {kind}")
    print(f"{len(files)} files searched, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
