"""What a person sees: progress on stdout, one line on stderr when it cannot go on."""

import contextlib
import sys
import time
from collections.abc import Iterator


class Trouble(Exception):
    """It cannot go on; the text is what the person at the terminal is told."""


def say(text: str, end: str = "\n") -> None:
    """Write to stdout now. A terminal that was closed meanwhile is no reason to fail: there are children to stop."""
    with contextlib.suppress(OSError):
        sys.stdout.write(text + end)
        sys.stdout.flush()


def complain(text: str) -> None:
    """Write to stderr, on the same terms."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@contextlib.contextmanager
def progress(text: str) -> Iterator[None]:
    """Say what is being done, and behind it how many seconds it took."""
    started = time.monotonic()
    say(f"{text} ... ", end="")
    try:
        yield
    except BaseException:
        say("")
        raise
    say(f"{time.monotonic() - started:.1f} s")
