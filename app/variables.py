"""Takes variables from a mapping, with a default each, and collects what is wrong instead of raising."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})
MOST_SECONDS = 1_000_000  # eleven days: the kernel counts milliseconds in 32 bits (tcp(7), TCP_USER_TIMEOUT)
HEADER_VALUE = re.compile(r"[\x20-\x7e]*")  # a secret ends up in a header (RFC 9110 section 5.5)


class Reader:
    """Takes variables from a mapping, with a default each, and collects what is wrong instead of raising."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[str] = []
        self.defaults: dict[str, str] = {}  # every variable asked for; docs/configuration.md is tested against it

    def fault(self, sentence: str) -> None:
        """Note a fault; a sentence that names the variable and says what to do."""
        self.faults.append(sentence)

    def text(self, name: str, default: str) -> str:
        """The variable's text without surrounding space; an empty variable counts as one that is not set."""
        self.defaults[name] = default
        return self.environ.get(name, "").strip() or default

    def flag(self, name: str, default: bool) -> bool:
        """`true` or `false`, in any case; also 1/0, yes/no, on/off."""
        given = self.text(name, str(default).lower()).lower()
        if given not in TRUE | FALSE:
            self.fault(f"{name} must be true or false, not {given!r}.")
        return given in TRUE

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of `allowed`."""
        given = self.text(name, default)
        if given not in allowed:
            self.fault(f"{name} must be one of {', '.join(allowed)}, not {given!r}.")
            return default
        return given

    def number(self, name: str, default: int, least: int, most: int | None = None) -> int:
        """A whole number from `least` to `most`."""
        given = self.text(name, str(default))
        if not given.isdecimal() or int(given) < least:
            self.fault(f"{name} must be a whole number of at least {least}, not {given!r}.")
            return default
        if most is not None and int(given) > most:
            self.fault(f"{name} must be at most {most}, not {given}.")
            return default
        return int(given)

    def seconds(self, name: str, default: int, zero: bool = False) -> float:
        """A time in seconds above zero, or with `zero` from zero on; fractions are allowed."""
        given = self.text(name, str(default))
        try:
            value = float(given)
        except ValueError:
            value = -1.0
        if not 0 <= value < math.inf or (value == 0 and not zero):
            self.fault(
                f"{name} must be a time in seconds{', zero or above' if zero else ' above zero'}, not {given!r}."
            )
            return float(default)
        if value > MOST_SECONDS:
            self.fault(f"{name} must be at most {MOST_SECONDS} seconds, not {given!r}.")
            return float(default)
        return value

    def file(self, name: str) -> str:
        """The path of a file that must be readable when it is given."""
        path = self.text(name, "")
        if path and (os.path.isdir(path) or not os.access(path, os.R_OK)):
            self.fault(f"{name} names a file that cannot be read.")
        return path

    def pem(self, name: str, kind: str) -> str:
        """The path of a file that holds a PEM block of this kind, when it is given (RFC 7468)."""
        found = len(self.faults)
        path = self.file(name)
        if path and len(self.faults) == found and f"{kind}-----" not in self._content(name, path):
            self.fault(f"{name} names a file that holds no {kind} in PEM form.")
        return path

    def secret(self, name: str) -> str:
        """The variable's text, or the content of the file that `NAME_FILE` names. Never part of a fault's text."""
        given, path = self.text(name, ""), self.file(f"{name}_FILE")
        if given and path:
            self.fault(f"{name} and {name}_FILE are both set: choose one.")
        if path and not given:
            given = self._content(f"{name}_FILE", path)
        if not HEADER_VALUE.fullmatch(given):
            self.fault(f"{name} holds characters that cannot stand in a header.")
        return given

    def _content(self, name: str, path: str) -> str:
        try:
            return Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError):
            if not any(fault.startswith(f"{name} ") for fault in self.faults):
                self.fault(f"{name} names a file that cannot be read as text.")
            return ""
