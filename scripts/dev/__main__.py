"""The command line: `python3 -m scripts.dev {env,run,register,key}`, from the root of a checkout.

Exit code 0; 1 after one clear line on stderr; 130 when interrupted; `register` passes on that of the script it runs.
This file, and only this one, must be readable for every Python 3.7 and later: it is what tells an old one off.
"""

from __future__ import annotations

import sys

OLDEST = (3, 11)


def too_old(version: tuple[int, ...], executable: str) -> str:
    """The sentence for a Python that is too old; empty for one that is not."""
    if version[:2] >= OLDEST:
        return ""
    found, wanted = (".".join(map(str, numbers)) for numbers in (version[:2], OLDEST))
    return f"Python {wanted} or newer is needed; {executable} is {found}. Name another: make PYTHON=python{wanted} ..."


def main() -> int:
    """Check the Python, then do what the arguments say. Gives the exit code."""
    reason = too_old(sys.version_info[:3], sys.executable)
    if reason:
        sys.stderr.write(reason + "\n")
        return 1
    from scripts.dev.commands import dispatch  # only now: it is written for OLDEST

    return dispatch(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
