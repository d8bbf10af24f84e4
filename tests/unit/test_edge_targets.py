"""app/edge.py, malformed_target: what could mean something else to MLflow than to us."""

from __future__ import annotations

import itertools
import re
import string
from urllib.parse import quote

import pytest

from app.edge import MOST_DECODINGS, malformed_target

START = "/api/2.0/mlflow-artifacts/artifacts/"

DOTS = ["..", ".", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "%2e", "%252e%252e", ".%252e", "%25252e%25252e", "%25%32%65."]
DOTS += [f"{dots};{more}" for dots in ("..", ".", "%2e%2e") for more in ("", "a", "a=b", "%2e")] + ["..%3b", "..%3Bx"]


@pytest.mark.parametrize("dots", DOTS)
def test_a_dot_segment_is_refused_wherever_it_stands_and_however_it_is_encoded(dots: str) -> None:
    paths = [f"/{dots}", f"/{dots}/", f"/{dots}/a", f"/a/{dots}", f"/a/{dots}/", f"/a/{dots}/b", f"{START}{dots}/x"]
    assert {path for path in paths if not malformed_target(path)} == set()
    assert {path for path in paths if not malformed_target(path + "?q")} == set()


@pytest.mark.parametrize("layers", range(MOST_DECODINGS + 4))
@pytest.mark.parametrize("inner", ["%2e%2e", "%2f", "%5c", "%00", "%0d%0a", "%2e%2e%2f"])
def test_what_is_forbidden_is_refused_through_any_number_of_encodings(inner: str, layers: int) -> None:
    segment = inner
    for _ in range(layers):
        segment = quote(segment, safe="")
    assert malformed_target(f"{START}{segment}/x")


@pytest.mark.parametrize("code", [*range(0x21), 0x23, *range(0x7F, 0x100)])
def test_a_control_a_space_a_hash_or_a_byte_beyond_ascii_is_refused_anywhere(code: int) -> None:
    targets = [f"/a{chr(code)}b", f"/a{chr(code)}", f"/{chr(code)}", f"/a?b={chr(code)}", f"/a?{chr(code)}"]
    assert {malformed_target(target) for target in targets} == {"forbidden character in target"}


@pytest.mark.parametrize("code", [*range(0x20), 0x7F])
@pytest.mark.parametrize("form", ["%{:02x}", "%{:02X}", "%25{:02x}"])
def test_an_encoded_control_character_in_the_path_is_refused(form: str, code: int) -> None:
    assert malformed_target(f"{START}a{form.format(code)}b") == "encoded control character in path"


@pytest.mark.parametrize("slash", ["%2f", "%2F", "%5c", "%5C", "%252f", "%255C", "\\"])
def test_a_slash_that_is_encoded_and_any_backslash_are_refused_in_the_path(slash: str) -> None:
    paths = [f"/{slash}", f"/a{slash}b", f"/a{slash}", f"{slash}/a", f"{START}a{slash}b", f"/mlflow{slash}version"]
    assert {path for path in paths if not malformed_target(path)} == set()


@pytest.mark.parametrize("escape", ["%", "%2", "%zz", "%2z", "%z2", "%%", "%u002e", "% 41", "%\u0661\u0661", "%-1"])
def test_a_bad_escape_is_refused_in_path_and_query(escape: str) -> None:
    targets = [f"/a{escape}", f"/{escape}/b", f"/a?x={escape}", f"/a?{escape}&y=%41"]
    assert {target for target in targets if not malformed_target(target)} == set()


@pytest.mark.parametrize(
    "target",
    [
        "", "*", "mlflow/version", "?x", ".", "..", "@evil.example/?://", ".evil.example/?://", ":80/?://",
        "http://other.example/mlflow/version", "HTTP://other.example/", "https://registry.hokus.ai/mlflow/version",
        "//evil.example/x", "//", "///x", "//mlflow/version", "registry.hokus.ai:443", "%2fmlflow/version",
        "\\\\evil.example\\x", "\\mlflow", " /mlflow", "\t/mlflow",
    ],
)  # fmt: skip
def test_only_origin_form_is_a_target(target: str) -> None:
    assert malformed_target(target) == "target is not a path"


LEGITIMATE = [
    "/",
    "/mlflow",
    "/mlflow/?",
    "/mlflow/#".removesuffix("#"),
    "/api//2.0",
    "/a/",
    "/a//b",
    f"{START}model%20v2/caf%C3%A9%2bx=@:().bin",
    f"{START}a+b=c@d:e(f)!$&'*,;~_-g.h",
    f"{START}...",
    f"{START}....",
    f"{START}.../x",
    f"{START}.hidden/..name/name../a..b",
    f"{START}.;".removesuffix(".;") + "x;v=1",
    f"{START}100%25",
    f"{START}100%2525",
    f"{START}%25",
    f"{START}%2525zz",
    f"{START}a%23b",
    f"{START}a%3Fb",
    f"{START}%7B%22%7C%7D",
    f"{START}%ff%fe%80",
    f'{START}{{name}}|<x>"^`',
    "/a?b=c&b=d&x=%2F&y=+&z",
    "/a?path=../x",
    "/a?path=%2e%2e%2fx%00%5c\\",
    "/a?",
    "/a??",
    "/a?//b/../c",
    "/a?http://other.example/",
]


@pytest.mark.parametrize("target", LEGITIMATE)
def test_what_mlflow_clients_send_is_let_through(target: str) -> None:
    assert malformed_target(target) == ""


def test_a_long_artifact_name_is_let_through() -> None:
    assert malformed_target(START + "a%20" * 4000) == ""


def test_what_is_let_through_never_has_other_segments_after_decoding() -> None:
    """Every path of up to four of the pieces that attacks are made of, against a plain reading of the rule."""
    pieces = ["/", ".", "%2e", "%2f", "%25", "2e", "2f", "a", ";", "\\"]
    wrong = []
    for length in range(1, 5):
        for chosen in itertools.product(pieces, repeat=length):
            path = "/" + "".join(chosen)
            if not malformed_target(path) and not harmless(path):
                wrong.append(path)
    assert wrong == []


def harmless(path: str) -> bool:
    """Whether each decoding of a path has the same number of segments and no dot segment."""
    count = path.count("/")
    for _ in range(12):
        names = [segment.partition(";")[0] for segment in path.split("/")]
        if "\\" in path or path.count("/") != count or "." in names or ".." in names:
            return False
        path = re.sub("%([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), path)
    return True


def test_a_path_of_nothing_but_escapes_of_escapes_is_refused_quickly() -> None:
    assert malformed_target("/" + "%25" * 5000) == ""
    nested = "%" + "25" * (MOST_DECODINGS + 1) + "41"
    assert malformed_target("/" + nested) == "path is encoded too often"


def test_every_printable_character_but_the_hash_may_stand_in_a_query() -> None:
    printable = set(string.printable) - set(string.whitespace) - {"#", "%"}
    assert {character for character in printable if malformed_target(f"/a?{character}")} == set()
