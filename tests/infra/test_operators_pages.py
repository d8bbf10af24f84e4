"""The pages for operators say only what there is: scripts and their options, AWS's own commands, Terraform's names,
variables, fields of the log, links. Each check gives a list of faults; at the end each is shown to find one.

What a page says in prose is not read. The commands of AWS are compared with what its command line knows (.venv-infra).
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import json
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from app.policy import read_routes
from app.settings import read
from scripts.alb.rules import defaults
from tests.infra.cloudwatch import COMMANDS, DIMENSIONS, compared_texts, numeric_fields, query_fields
from tests.infra.observed import events, logged, outcomes
from tests.infra.pages import DOCS, ROOT, anchors, blocks, commands, inline, prose, rows, simple_commands, text_of
from tests.support import terraform
from tests.support.deploy_scene import Scene, arn
from tests.support.saved_queries import section

OPERATORS = ("deployment.md", "runbook.md", "troubleshooting.md", "migration.md")
STEP_BY_STEP = ("deployment.md", "runbook.md")  # each block says in its first line what it does
LINKED = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", terraform.MODULE / "README.md"])
INFRA_PYTHON = ROOT / ".venv-infra" / "bin" / "python"
KNOWN_TO_AWS = Path(__file__).with_name("known_to_aws.py")

each_page = pytest.mark.parametrize("page", OPERATORS)
each_step = pytest.mark.parametrize("page", STEP_BY_STEP)
Check = Callable[[str], list[str]]


# --- shell ---

BUILTINS = {"echo", "printf", "read", "export", "unset", "umask", "sleep", "[", "local", "cd"}
COREUTILS = {"cat", "cp", "rm", "tr", "sed", "tail", "grep", "date"}
TOOLS = {"aws", "terraform", "docker", "jq", "git", "make", "curl"}
GIVEN = {"HOME", "EDITOR", "1", "0"}  # what every shell has
USERS_OWN = {"URL", "MLFLOW_TRACKING_TOKEN", "ENVIRONMENT"}  # troubleshooting.md says what they are


def script_of(command: Sequence[str]) -> tuple[str, list[str]] | None:
    """The script of the repository that a command starts, and its arguments; python -m counts."""
    words = list(command)
    if re.fullmatch(r"(\.venv[\w-]*/bin/)?python3?", words[0]) and len(words) > 1:
        if words[1] == "-m":
            return words[2].replace(".", "/") + ".py", words[3:]
        words = words[1:]
    return (words[0], words[1:]) if re.match(r"scripts/|test_real", words[0]) else None


@functools.cache
def options_of(script: str) -> frozenset[str]:
    """The options that a script has: of a shell script those in its --help, of Python those that argparse is told."""
    path = ROOT / script
    if path.suffix == ".sh":
        told = subprocess.run(["bash", str(path), "--help"], capture_output=True, text=True, check=True).stdout
        own = {"--help", *re.findall(r"--[a-z][a-z-]+", told)}
        # rollback_proxy.sh hands on what it does not know itself.
        return frozenset(own | (options_of("scripts/deploy_proxy_routing_fix.sh") if "rollback" in script else set()))
    return frozenset({*re.findall(r"add_argument\(\s*\"(--[a-z-]+)\"", path.read_text()), "--help", "--debug"})


def unknown_programs(text: str) -> list[str]:
    """Programs that are neither the repository's, nor a shell's, nor among the tools that deployment.md asks for."""
    functions = set(re.findall(r"^(\w+)\(\) \{", "\n".join(blocks(text, "sh")), re.MULTILINE))
    known = BUILTINS | COREUTILS | TOOLS | functions | {"${EDITOR:-vi}"}
    found = {command[0] for command in commands(text) if command[0] not in known and not script_of(command)}
    return sorted(found)


def wrong_scripts(text: str) -> list[str]:
    """Scripts that are not there, and options that they do not have; in the prose too."""
    told = [tuple(shlex.split(code)) for code in inline(text) if re.match(r"scripts/\S+\.(sh|py)\b[^…]*$", code)]
    faults = []
    for command in [*map(tuple, commands(text)), *told]:
        found = script_of(command)
        if found is None:
            continue
        script, arguments = found
        if not (ROOT / script).is_file():
            faults.append(f"no {script}")
            continue
        given = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
        faults += [f"{script} has no {option}" for option in sorted(given - options_of(script))]
    return faults


def wrong_targets_of_make(text: str) -> list[str]:
    """Targets that the Makefile does not have; in the prose too."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [command[1:] for command in commands(text) if command[0] == "make"]
    asked += [code.split()[1:] for code in inline(text) if code.startswith("make ")]
    return sorted({word for words in asked for word in words if "=" not in word} - targets)


def unset_variables(text: str) -> list[str]:
    """Shell variables that no block of the page sets before they are used."""
    known, faults = GIVEN | USERS_OWN, []
    for block in blocks(text, "sh"):
        bare = re.sub(r"<<'END'\n.*?^END$", "", block, flags=re.MULTILINE | re.DOTALL)  # bash looks into no quotes
        bare = re.sub(r"'[^']*'", "", re.sub(r"^# .*$", "", bare, flags=re.MULTILINE))
        known |= set(re.findall(r"\b([A-Za-z_]\w*)=", block))
        for pattern in (r"\bread -\w+ '[^']*' (\w+)", r"\bfor (\w+) in", r"\blocal (\w+)"):
            known |= set(re.findall(pattern, block))
        faults += sorted(set(re.findall(r"\$\{?([A-Za-z_]\w*|\d)", bare)) - known)
    return faults


@each_page
def test_every_shell_block_is_bash(page: str) -> None:
    assert blocks(text_of(page), "sh") or page == "migration.md"
    for block in blocks(text_of(page), "sh"):
        checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, ""), block


@each_page
def test_every_program_is_there(page: str) -> None:
    assert unknown_programs(text_of(page)) == []


@each_page
def test_every_script_is_there_and_has_the_options(page: str) -> None:
    assert wrong_scripts(text_of(page)) == []


@each_page
def test_every_target_of_make_is_there(page: str) -> None:
    assert wrong_targets_of_make(text_of(page)) == []


@each_page
def test_every_variable_of_the_shell_is_set_before(page: str) -> None:
    assert unset_variables(text_of(page)) == []


# What changes something, by the words of AWS's command line and of others.
CHANGING = {
    "create", "put", "update", "modify", "delete", "set", "register", "deregister", "stop", "run", "authorize",
    "request",
}  # fmt: skip
ONLY_READS = {"--dry-run", "--help"}


def changes(command: Sequence[str]) -> bool:
    """Whether a command changes something outside of this machine."""
    words = list(command)
    if words[0] == "aws":
        return words[2].partition("-")[0] in CHANGING
    if words[0] == "terraform":
        return words[2] in ("apply", "import", "destroy")
    if words[0] == "docker":
        return words[1] in ("push", "run")
    if words[0] == "redis_password":
        return True
    found = script_of(words)
    touching = ("deploy_proxy", "rollback_proxy", "set_proxy_weight")
    return bool(found and any(part in found[0] for part in touching) and not set(found[1]) & ONLY_READS)


def asks_aws(command: Sequence[str]) -> bool:
    """Whether a command asks or changes anything but this machine."""
    if command[0] == "terraform":
        return command[2] not in ("init", "providers", "output")
    if command[0] in ("aws", "curl"):
        return command[1:3] != ["sts", "get-caller-identity"]
    return changes(command) or any("check_live_rules" in word for word in command)


def wrongly_announced(text: str) -> list[str]:
    """Blocks whose first line does not say rightly whether they change something."""
    faults = []
    for block in blocks(text, "sh"):
        head = block.splitlines()[0]
        found = re.match(r"# (here|reads|changes): \w", head)
        body = [command for command in simple_commands(block) if not re.match(r"(out|ask)$", command[0])]
        does = any(changes(command) for command in body)
        sets_names = "names for this terminal" in head
        if not found:
            faults.append(f"says nothing: {head}")
        elif (found[1] == "changes") != does:
            faults.append(f"wrong: {head}")
        elif found[1] == "here" and not sets_names and any(asks_aws(command) for command in body):
            faults.append(f"not here alone: {head}")
    return faults


@each_step
def test_every_block_says_whether_it_changes_something(page: str) -> None:
    assert wrongly_announced(text_of(page)) == []


# --- the scripts, as the pages call them ---


def own_commands(page: str) -> list[tuple[str, ...]]:
    """The calls of the deployment scripts on a page, with a value for each variable."""
    found = {tuple(command) for command in commands(text_of(page)) if command[0].startswith("scripts/")}
    values = {"$ENVIRONMENT": "development", "$N": "5"}
    return sorted(tuple(values.get(word, word) for word in command) for command in found)


@pytest.mark.parametrize("command", sorted({one for page in OPERATORS for one in own_commands(page)}), ids=" ".join)
def test_a_script_takes_what_the_pages_give_it(tmp_path: Path, command: Sequence[str]) -> None:
    """In a dry run, against an AWS that is written down."""
    scene = Scene(tmp_path)
    ran = {"serviceDeployments": [{"targetServiceRevisionArn": name} for name in ("six", "five")]}
    revisions = [
        {"serviceRevisionArn": "six", "taskDefinition": arn(6)},
        {"serviceRevisionArn": "five", "taskDefinition": arn(5)},
    ]
    scene.stubs.on("aws ecs list-service-deployments", ran)
    scene.stubs.on("aws ecs describe-service-revisions", {"serviceRevisions": revisions})
    script, *options = command
    dry = [] if "--dry-run" in options else ["--dry-run"]
    run = subprocess.run(
        ["bash", str(scene.root / script), *options, *dry],
        cwd=scene.root,
        env={**scene.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if "set_proxy_weight" in script:  # the checkout of the scene has no Terraform files
        assert "is no option" not in run.stderr and "must be" not in run.stderr
    else:
        assert run.returncode == 0, run.stdout + run.stderr


# --- AWS ---

# Only version 2 of the command line has this; docs.aws.amazon.com/cli/latest/reference/logs/tail.html
OF_VERSION_2 = {("logs", "tail"): {"--since", "--follow", "--format", "--filter-pattern", "--log-stream-names"}}
needs_aws_cli = pytest.mark.skipif(
    not (INFRA_PYTHON.parent / "aws").exists(), reason="no .venv-infra: make infra-env makes it"
)


def calls_of_aws(text: str) -> list[list[str]]:
    """The calls of AWS's command line: service, operation, options. In the prose too, unless shortened by dots."""
    told = [shlex.split(code) for code in inline(text) if code.startswith("aws ") and "…" not in code]
    return [words[1:] for words in [*commands(text), *told] if words[0] == "aws"]


@functools.cache
def wrong_calls_of_aws(text: str) -> list[str]:
    """Operations, options and fields of answers that AWS's command line does not know."""
    calls, faults = [], []
    for words in calls_of_aws(text):
        given = {word for word in words if word.startswith("--")}
        if tuple(words[:2]) in OF_VERSION_2:
            faults += sorted(given - OF_VERSION_2[words[0], words[1]])
        else:
            calls.append(words)
    done = subprocess.run(
        [str(INFRA_PYTHON), str(KNOWN_TO_AWS)], input=json.dumps(calls), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return faults + [fault for told in json.loads(done.stdout) for fault in told]


@needs_aws_cli
@each_page
def test_every_call_of_aws_is_one_that_its_command_line_takes(page: str) -> None:
    assert wrong_calls_of_aws(text_of(page)) == []


# --- Terraform ---


def wrong_calls_of_terraform(text: str) -> list[str]:
    """Outputs, addresses and variables in Terraform's commands that the files do not have."""
    outputs = _outputs()
    faults = []
    for words in commands(text):
        if words[0] == "out" and len(words) > 1:
            faults += [f"no output {words[1]}"] if words[1] not in outputs else []
        if words[0] != "terraform":
            continue
        if words[1] not in ("-chdir=$TF", "-chdir=infrastructure/terraform"):
            faults.append(f"not in the folder: {' '.join(words)}")
        if words[2] == "output":
            faults += [f"no output {name}" for name in words[4:] if name not in outputs | {"$1"}]
        asked = [word.partition("=")[2] for word in words if re.match(r"-(target|replace)=", word)]
        asked += words[3:4] if words[2] == "import" else []
        faults += [f"no {address}" for address in asked if address not in _addresses()]
        given = {word for word in words[3:] if word.startswith("-")}
        faults += [
            f"terraform {words[2]} has no {one}" for one in sorted(given) if one.split("=")[0] not in _options(words[2])
        ]
    return faults


def _outputs() -> set[str]:
    return set(re.findall(r'^output "(\w+)"', (terraform.MODULE / "outputs.tf").read_text(), re.MULTILINE))


@functools.cache
def _module() -> str:
    return "\n".join(path.read_text() for path in sorted(terraform.MODULE.glob("*.tf")))


def _addresses() -> set[str]:
    return {f"{kind}.{name}" for kind, name in re.findall(r'^resource "(\w+)" "(\w+)"', _module(), re.MULTILINE)}


@functools.cache
def _options(command: str) -> frozenset[str]:
    """developer.hashicorp.com/terraform/cli/commands"""
    known = {
        "apply": {"-target", "-replace", "-var", "-var-file"},
        "plan": {"-out", "-target", "-var", "-var-file"},
        "output": {"-raw", "-json"},
        "show": {"-json"},
        "providers": {"-platform"},
    }
    return frozenset(known.get(command, set()))


@each_page
def test_every_name_of_terraform_in_commands_is_there(page: str) -> None:
    assert wrong_calls_of_terraform(text_of(page)) == []


# --- words ---


@functools.cache
def words_of_the_code() -> frozenset[str]:
    """All words that stand as texts in app/, and those that are put together of two (`scope_` and `write`)."""
    nodes = [node for path in (ROOT / "app").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    texts |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}  # members of an answer
    whole = {text for text in texts if re.fullmatch(r"\w+", text)}
    starts = {
        str(node.values[0].value)
        for node in nodes
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant)
    }
    return frozenset(whole | {start + end for start in starts if re.fullmatch(r"[a-z]+_", start) for end in whole})


@functools.cache
def fields_of_lines() -> frozenset[str]:
    """The fields of a request's line and of the rare events."""
    rows = re.findall(r"^\| `\w+` \| [A-Za-z]+ \| .* \| (.*) \|$", section("## Rare events"), re.MULTILINE)
    return frozenset({*logged(), *" ".join(rows).replace("`", "").split()})


# Names of others that look like ours.
OTHERS = {
    # arguments of Terraform, of ECS, of an ALB's log
    "service_registries", "use_lockfile", "classification_reason",
    # MLflow's own
    "max_results", "experiment_id", "artifact_location", "static_prefix",
    # scopes of keys, as auth service and app/policy.py have them
    "model_read", "api_key",
    # the proxy's process
    "graceful_timeout", "container_definitions",
    # a function of the pages themselves
    "redis_password",
}  # fmt: skip
OTHERS_VARIABLES = {
    # MLflow's client, server and image
    "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_URI", "MLFLOW_SERVER_ALLOWED_HOSTS",
    "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ADMIN_AUTH_ENABLED",
    # the scripts'
    "HOKUSAI_API_KEY", "AWS_REGION",
    # words of AWS
    "PENDING_VALIDATION", "IN_PROGRESS",
}  # fmt: skip
OF_THE_OLD_PROXY = {"PROXY_TIMEOUT", "MLFLOW_MTLS_ENABLED"}  # migration.md says what became of them


def unknown_words(text: str) -> list[str]:
    """Words with underscores in the prose that are no field, word or event of the log, and no name of Terraform."""
    asked = {code for code in inline(text) if re.fullmatch(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+", code)}
    asked |= {name for code in inline(text) for name in re.findall(r"^([a-z]\w*_\w+) = ", code)}
    variables = set(re.findall(r'^variable "(\w+)"', _module(), re.MULTILINE))
    of_terraform = {*variables, *_outputs(), *(part for address in _addresses() for part in address.split("."))}
    of_the_log = {*fields_of_lines(), *outcomes(), *events()}
    return sorted(asked - of_terraform - of_the_log - words_of_the_code() - OTHERS)


def unknown_variables(text: str) -> list[str]:
    """Environment variables in the prose that nobody reads. A `*` stands for several."""
    settings = {*read({})[1].defaults, *OTHERS_VARIABLES, *words_of_the_code()}
    told = [re.split(r"=|\s", code)[0] for code in inline(text)]
    asked = {name for name in told if re.fullmatch(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_(?:[A-Z0-9]+|\*)", name)}
    before = set(re.findall(r"`([A-Z][A-Z0-9_*]+)`", "\n".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))
    old = OF_THE_OLD_PROXY | {"MLFLOW_CB_*", "CIRCUIT_BREAKER_*"} if "| old | now |" in text else set()
    return sorted(name for name in asked if not fnmatch.filter(settings, name) and name not in (before & old))


# Words of AWS's that are written like metrics.
OTHERS_WORDS = {
    "CannotPullContainerError", "ResourceInitializationError", "OutOfMemoryError", "RenewalEligibility", "INELIGIBLE",
    "NoCredentialsError", "AccessDenied",
    "ApiKey",  # a scheme of the Authorization header
}  # fmt: skip


def unknown_metrics(text: str) -> list[str]:
    """What is written like the name of a metric and is none."""
    named = {name for _, name in DIMENSIONS}
    asked = {code for code in inline(text) if re.fullmatch(r"(?:[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9_]*[A-Z_]\w*)", code)}
    rights = set(
        re.findall(r"`([A-Z]\w+)`", "\n".join(line for line in text.splitlines() if re.match(r"\| `[\w-]+:", line)))
    )
    return sorted(asked - named - OTHERS_WORDS - rights)


@each_page
def test_every_word_of_the_log_and_of_terraform_is_one(page: str) -> None:
    assert unknown_words(text_of(page)) == []


@each_page
def test_every_environment_variable_is_one_that_is_read(page: str) -> None:
    assert unknown_variables(text_of(page)) == []


@each_page
def test_every_metric_is_one_that_is_published(page: str) -> None:
    assert unknown_metrics(text_of(page)) == []


def wrong_figures(text: str) -> list[str]:
    """`name` (value) and value (`name`) where the name is a variable whose default is another value."""
    known = {**read({})[1].defaults, **defaults(terraform.MODULE)}
    told = [(name, value, "") for name, value in re.findall(r"`(\w+)` \((\d[\d,]*)(?: s)?\)", text)]
    told += [
        (name, value, unit) for value, unit, name in re.findall(r"\b(\d[\d,]*)((?: [a-z%]+){0,4}) \(`(\w+)`\)", text)
    ]
    faults = []
    for name, value, unit in told:
        number = int(value.replace(",", "")) * (60 if "minutes" in unit and name.endswith("SECONDS") else 1)
        faults += [f"{name} is {known[name]}"] if str(known.get(name, number)) != str(number) else []
    return faults


@each_page
def test_every_default_is_the_one_that_holds(page: str) -> None:
    assert wrong_figures(text_of(page)) == []


# --- queries ---


def query_blocks(text: str) -> list[str]:
    """The queries for Logs Insights: blocks of text that begin with one of its commands."""
    return [block for block in blocks(text, "text") if block.split()[0] in COMMANDS]


def wrong_queries(text: str) -> list[str]:
    """Fields that no line has, numbers taken of texts, and words that a field never holds."""
    numbers = {name for name, value in logged().items() if isinstance(value, int | float)} | {"age_seconds", "seconds"}
    holds: Mapping[str, set[str]] = {
        "event": set(events()),
        "outcome": set(outcomes()),
        "family": {"health", "other", *(route.family for route in read_routes())},
        "action": {route.action for route in read_routes()},
        "error_kind": set(words_of_the_code()),
    }
    faults = []
    for query in query_blocks(text):
        try:
            asked = query_fields(query)
        except AssertionError as error:
            faults.append(str(error))
            continue
        faults += sorted(asked - fields_of_lines())
        faults += [f"{name} is no number" for name in sorted((numeric_fields(query) & fields_of_lines()) - numbers)]
        for name, value in compared_texts(query):
            faults += [f"{name} is no text"] if name in numbers else []
            faults += [f"{name} is never {value}"] if value not in holds.get(name, {value}) else []
    return faults


@each_page
def test_every_query_asks_for_what_lines_have(page: str) -> None:
    assert query_blocks(text_of(page)) or page in ("migration.md", "deployment.md")
    assert wrong_queries(text_of(page)) == []


# --- links and tables ---


def broken_links(text: str, place: Path) -> list[str]:
    """Links to files that are not there, and to headings that a page does not have."""
    faults = []
    for target in re.findall(r"(?<!!)\[(?:[^]\\]|\\.)*\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (place.parent / name).resolve() if name else place
        if not path.exists():
            faults.append(f"no file {target}")
        elif anchor and path.suffix == ".md":
            there = anchors(text if path == place else path.read_text())
            faults += [f"no heading {target}"] if anchor not in there else []
    return faults


def broken_tables(text: str) -> list[str]:
    """Rows with more or fewer cells than the table's head."""
    faults, cells = [], 0
    for line in re.sub(r"^( *)```.*?^\1```$", "\n", text, flags=re.MULTILINE | re.DOTALL).splitlines():
        if not line.lstrip().startswith("|"):
            cells = 0
            continue
        count = len(re.findall(r"(?<!\\)\|", line))
        cells = cells or count
        if count != cells or not line.rstrip().endswith("|"):
            faults.append(line)
    rules = re.findall(r"^\|[^\n]*\n(?!\| ?:?-+)(?=\|)", text, re.MULTILINE)  # heads are followed by a rule
    heads = re.findall(r"(?:^|\n\n)(\|[^\n]*\n)(?!\| ?:?-)", text)
    return faults + [f"no rule below: {head}" for head in heads if rules]


@pytest.mark.parametrize("path", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path.read_text(), path) == []


@each_page
def test_every_table_is_whole(page: str) -> None:
    assert broken_tables(text_of(page)) == []


@each_page
def test_the_page_is_linked_from_others(page: str) -> None:
    linking = [
        path.name for path in LINKED if path.name != page and re.search(rf"\((?:docs/)?{page}[)#]", path.read_text())
    ]
    assert linking != []


# --- deployment.md beside what it describes ---


def test_the_exit_codes_are_the_scripts() -> None:
    told = subprocess.run(
        ["bash", str(ROOT / "scripts" / "deploy_proxy_routing_fix.sh"), "--help"], capture_output=True, text=True
    ).stdout
    lines = re.findall(r"^  (\d+(?:, \d+)*) +\S", told.partition("Exit code")[2], re.MULTILINE)
    found = {code for line in lines for code in re.findall(r"\d+", line)}
    table = rows(text_of("deployment.md").partition("[8/8]")[2], "```")
    assert {code for row in table for code in re.findall(r"\d+", row[0])} == found != set()


def test_the_steps_are_the_scripts() -> None:
    script = (ROOT / "scripts" / "deploy_proxy_routing_fix.sh").read_text() + "".join(
        path.read_text() for path in (ROOT / "scripts" / "lib").glob("*.sh")
    )
    steps = re.findall(r"^\[\d/8\] (.*)$", text_of("deployment.md"), re.MULTILINE)
    assert (
        len(steps)
        == 8
        == int(re.findall(r"STEPS=(\d)\n    check_inputs\n    read_what_runs\n    begin\n    compare", script)[0])
    )
    assert [step for step in steps if f'step "{step}"' not in script] == []


def test_every_value_that_must_be_given_is_asked_for() -> None:
    needed = set(re.findall(r'^variable "(\w+)" \{(?:(?!^\}).)*?^\}', _module(), re.MULTILINE | re.DOTALL))
    needed -= set(defaults(terraform.MODULE))
    example = set(re.findall(r"^(\w+) *=", (terraform.MODULE / terraform.EXAMPLE).read_text(), re.MULTILINE))
    told = {
        name for row in rows(text_of("deployment.md"), "### 5. The values") for name in re.findall(r"`(\w+)`", row[0])
    }
    assert needed <= example == told


def rights_in(text: str) -> set[str]:
    """All rights that a text names: `service:Name`; in a table a name without a service has that of the one before."""
    found, service = set(), ""
    for code in inline(text):
        told = re.fullmatch(r"(?:([a-z0-9-]+):)?([A-Z][A-Za-z]+\*?|\*)", code)
        if told and (told[1] or (service and told[2] != "*")):
            service = told[1] or service
            found.add(f"{service}:{told[2]}")
    return found


def rights_of(role: str, upto: str) -> set[str]:
    """The rights that deployment.md gives to a role."""
    return rights_in(text_of("deployment.md").partition(f"**{role}")[2].partition(upto)[0])


def camel(operation: str) -> str:
    """describe-db-instances -> DescribeDBInstances, as rights are written."""
    words = {"db": "DB", "api": "API"}
    return "".join(words.get(word, word.capitalize()) for word in operation.split("-"))


SERVICES = {"elbv2": "elasticloadbalancing", "s3api": "s3"}
# What a command line's word is called among rights; waiters ask what they wait for.
OTHER_NAMES = {
    "logs:Tail": "logs:FilterLogEvents",
    "ecr:GetLoginPassword": "ecr:GetAuthorizationToken",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "ecs:ServicesStable": "ecs:DescribeServices",
    "ecs:TasksStopped": "ecs:DescribeTasks",
    "elasticache:ReplicationGroupAvailable": "elasticache:DescribeReplicationGroups",
    "elasticloadbalancing:TargetDeregistered": "elasticloadbalancing:DescribeTargetHealth",
}
NEEDS_NONE = {"sts:GetCallerIdentity"}


def right_for(words: Sequence[str]) -> str:
    """The right that a call of AWS's command line needs."""
    service, operation, *rest = words
    name = f"{SERVICES.get(service, service)}:{camel(rest[0] if operation == 'wait' else operation)}"
    return OTHER_NAMES.get(name, name)


def lacking(needed: set[str], given: set[str]) -> set[str]:
    """Rights that are needed and not given; a `*` stands for anything."""
    return {one for one in needed if not any(fnmatch.fnmatchcase(one, pattern) for pattern in given)}


def test_who_deploys_has_exactly_the_rights_that_the_scripts_use() -> None:
    paths = [ROOT / "scripts" / "deploy_proxy_routing_fix.sh", *(ROOT / "scripts" / "lib").glob("*.sh")]
    told = " ".join(path.read_text() for path in paths)
    calls = re.findall(r'"\$\{AWS\[@\]\}"(?: --\w+)? (\w+) ([a-z-]+)|aws --region "\$REGION" (logs) (tail)', told)
    used = {right_for([one for one in call if one]) for call in calls} - NEEDS_NONE
    live = (ROOT / "scripts" / "alb" / "live.py").read_text()
    used |= {f"elasticloadbalancing:{camel(name.replace('_', '-'))}" for name in re.findall(r"describe_[a-z_]+", live)}
    given = rights_of("Who deploys", "**Who is on call")
    # What docker pushes with, and what ECS asks for when a revision has tags and a role.
    pushing = {
        "BatchCheckLayerAvailability",
        "BatchGetImage",
        "InitiateLayerUpload",
        "UploadLayerPart",
        "CompleteLayerUpload",
        "PutImage",
    }
    unseen = {"iam:PassRole", "ecs:TagResource", *(f"ecr:{name}" for name in pushing)}
    assert given == used | unseen


@each_step
def test_every_command_has_a_right(page: str) -> None:
    given = rights_in(text_of("deployment.md").partition("### Rights in AWS")[2].partition("### What must stand")[0])
    needed = {right_for(words) for words in calls_of_aws(text_of(page))} - NEEDS_NONE
    if page == "deployment.md":
        # An owner's own, or found out once while things are prepared.
        needed -= {"ec2:AuthorizeSecurityGroupIngress"}
    assert lacking(needed, given) == set()


def test_who_is_on_call_can_do_what_the_runbook_says() -> None:
    given = rights_of("Who deploys", "### What must stand already")
    needed = {right_for(words) for words in calls_of_aws(text_of("runbook.md"))} - NEEDS_NONE
    assert lacking(needed, given) == set()


def test_every_kind_of_resource_has_rights() -> None:
    told = {
        kind
        for row in rows(text_of("deployment.md"), "### Rights in AWS")
        for kind in re.findall(r"`(aws_\w+)`", row[1])
    }
    assert told == {address.partition(".")[0] for address in _addresses()}


# What Terraform called in an apply, a change of a weight and a destroy of the module, as moto was asked on 2026-11-21.
CALLED = """
application-autoscaling: DeleteScalingPolicy DescribeScalableTargets DescribeScalingPolicies ListTagsForResource
  PutScalingPolicy RegisterScalableTarget
cloudwatch: DeleteAlarms DescribeAlarms ListTagsForResource PutCompositeAlarm PutMetricAlarm
ec2: AuthorizeSecurityGroupEgress AuthorizeSecurityGroupIngress CreateSecurityGroup DeleteSecurityGroup
  DescribeNetworkInterfaces DescribeSecurityGroupRules DescribeSecurityGroups RevokeSecurityGroupEgress
  RevokeSecurityGroupIngress
ecs: CreateCluster CreateService DeleteCluster DeleteService DescribeClusters DescribeServices DescribeTaskDefinition
  RegisterTaskDefinition UpdateService
elasticache: CreateCacheSubnetGroup CreateReplicationGroup DeleteReplicationGroup DescribeCacheClusters
  DescribeCacheSubnetGroups DescribeReplicationGroups ListTagsForResource
elasticloadbalancing: CreateListener CreateLoadBalancer CreateRule CreateTargetGroup DeleteLoadBalancer DeleteRule
  DescribeCapacityReservation DescribeListenerAttributes DescribeListeners DescribeLoadBalancerAttributes
  DescribeLoadBalancers DescribeRules DescribeTags DescribeTargetGroupAttributes DescribeTargetGroups
  ModifyLoadBalancerAttributes ModifyRule ModifyTargetGroupAttributes
iam: CreateRole DeleteRole DeleteRolePolicy GetRole GetRolePolicy ListAttachedRolePolicies ListInstanceProfilesForRole
  ListRolePolicies PutRolePolicy
logs: CreateLogGroup DeleteIndexPolicy DeleteLogGroup DeleteMetricFilter DeleteQueryDefinition DescribeIndexPolicies
  DescribeLogGroups DescribeMetricFilters DescribeQueryDefinitions ListTagsForResource PutIndexPolicy PutMetricFilter
  PutQueryDefinition PutRetentionPolicy
servicediscovery: CreatePrivateDnsNamespace CreateService DeleteNamespace DeleteService GetNamespace GetOperation
  GetService ListTagsForResource
sns: CreateTopic DeleteTopic GetSubscriptionAttributes GetTopicAttributes ListTagsForResource SetTopicAttributes
  Subscribe Unsubscribe
ssm: DeleteParameter DescribeParameters GetParameter ListTagsForResource PutParameter
"""


def test_who_applies_has_the_rights_that_terraform_used() -> None:
    called = {
        f"{service}:{name}"
        for service, names in re.findall(r"^([a-z0-9-]+):((?:\s+[A-Z]\w+)+)", CALLED, re.MULTILINE)
        for name in names.split()
    }
    assert len(called) > 80
    assert lacking(called, rights_of("Who applies Terraform", "And for the steps by hand")) == set()


def test_the_backend_of_ones_own_is_terraform(tmp_path: Path) -> None:
    """The file that step 2 writes, as bash writes it."""
    (block,) = [block for block in blocks(text_of("deployment.md"), "sh") if "> $TF/backend.tf" in block]
    given = {"PATH": "/usr/bin:/bin", "TF": ".", "STATE": "bucket", "ENVIRONMENT": "e", "AWS_REGION": "r"}
    subprocess.run(["bash", "-euc", block], cwd=tmp_path, env=given, check=True)
    written = (tmp_path / "backend.tf").read_text()
    assert 'key          = "mlflow-proxy/e.tfstate"' in written and "$" not in written
    if program := shutil.which("terraform"):
        done = subprocess.run([program, "fmt", "-check", "backend.tf"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


# --- a check that finds nothing is none ---

BREAKS: Sequence[tuple[str, Check, str, str]] = [
    ("deployment.md", wrong_calls_of_terraform, "out proxy_log_group", "out proxy_log_groups"),
    ("deployment.md", wrong_calls_of_terraform, "-target=aws_security_group.alb", "-target=aws_security_group.lb"),
    ("troubleshooting.md", wrong_calls_of_terraform, "raw mlflow_security_group_id", "raw mlflow_security_group"),
    ("runbook.md", wrong_calls_of_terraform, "-replace=", "-replacing="),
    ("deployment.md", wrong_scripts, "--from newest", "--based-on newest"),
    ("deployment.md", wrong_scripts, "scripts/rollback_proxy.sh", "scripts/roll_back.sh"),
    ("runbook.md", wrong_scripts, "--proxy-weight", "--weight-of-proxy"),
    ("migration.md", wrong_scripts, "scripts/check_live_rules.py", "scripts/check_rules.py"),
    ("deployment.md", wrong_targets_of_make, "make infra\n", "make infrastructure\n"),
    ("deployment.md", unknown_programs, "curl -sS", "wget -q"),
    ("deployment.md", unset_variables, "STATE=", "BUCKET="),
    ("runbook.md", wrongly_announced, "# changes: a new Redis", "# reads: a new Redis"),
    ("runbook.md", wrongly_announced, "# reads: does Redis stand", "# changes: whether Redis stands"),
    ("deployment.md", wrongly_announced, "# reads: what would be made", "# here: what would be made"),
    ("deployment.md", unknown_words, "`api_port`", "`api_service_port`"),
    ("runbook.md", unknown_words, "`upstream_unreachable`", "`upstream_unreached`"),
    ("troubleshooting.md", unknown_words, "`transfers_in_all`", "`transfers_in_total`"),
    ("runbook.md", unknown_variables, "`TRANSFERS_PER_KEY`", "`TRANSFERS_BY_KEY`"),
    ("migration.md", unknown_variables, "`READ_TIMEOUT_SECONDS`", "`READ_TIMEOUT`"),
    ("runbook.md", unknown_metrics, "`UnHealthyHostCount`", "`UnhealthyHostCount`"),
    ("runbook.md", wrong_figures, "`autoscaling_max_tasks` (6)", "`autoscaling_max_tasks` (8)"),
    ("runbook.md", wrong_figures, "2,000 ms (`alarm_slow_ms`)", "3,000 ms (`alarm_slow_ms`)"),
    ("runbook.md", wrong_queries, "by outcome, error_kind, family", "by outcome, kind, family"),
    ("runbook.md", wrong_queries, 'outcome = "upstream_unreachable"', 'outcome = "unreachable"'),
    ("runbook.md", wrong_queries, '"tracking.metrics", ', '"tracking.metric", '),
    ("runbook.md", wrong_queries, "avg(duration_ms)", "avg(user_agent)"),
    ("troubleshooting.md", wrong_queries, "target_url, fix", "target, fix"),
]  # fmt: skip


@pytest.mark.parametrize(("page", "check", "was", "now"), BREAKS, ids=lambda part: getattr(part, "__name__", None))
def test_a_check_sees_what_is_broken(page: str, check: Check, was: str, now: str) -> None:
    text = text_of(page)
    assert was in text, "the page says this no more: take something else to break"
    assert set(check(text.replace(was, now))) - set(check(text)) != set()


@needs_aws_cli
@pytest.mark.parametrize(
    ("page", "was", "now"),
    [
        ("runbook.md", "aws elbv2 wait target-deregistered", "aws elbv2 wait target-gone"),
        ("runbook.md", "services[0].{tasks:[runningCount", "services[0].{tasks:[runCount"),
        ("runbook.md", "--force-new-deployment", "--new-deployment"),
        ("deployment.md", "list-certificates", "list-certs"),
        ("deployment.md", "Subnets[].[SubnetId", "Subnets[].[Id"),
        ("deployment.md", " --secret-string file://database-uri", " --value file://database-uri"),
        ("troubleshooting.md", "Instances[].Attributes", "Targets[].Attributes"),
    ],
)
def test_the_check_of_aws_sees_what_is_broken(page: str, was: str, now: str) -> None:
    text = text_of(page)
    assert was in text
    assert set(wrong_calls_of_aws(text.replace(was, now))) - set(wrong_calls_of_aws(text)) != set()


def test_broken_links_and_tables_are_seen() -> None:
    place = DOCS / "runbook.md"
    text = place.read_text()
    assert broken_links(text.replace("### bug", "### bugs"), place)
    assert broken_links(text.replace("(scaling.md", "(scalings.md"), place)
    assert broken_links(text.replace("troubleshooting.md#502", "troubleshooting.md#bad-gateway"), place)
    assert broken_tables(text.replace("| now | [page]", "| now [page]"))
    assert broken_tables(text.replace("| urgent | alarms |\n|---|---|\n", "| urgent | alarms |\n"))


def test_commands_are_read_as_bash_reads_them() -> None:
    script = textwrap.dedent(
        """\
        # a comment with 'one quote
        X=1 out a | tail -5; if [ -z "$X" ]; then b "$(c 'd; e' f)" > g; fi
        h --i "j $(k l)" \\
            m && n <<'END'
        o p
        END
        q $(($(date +%s) - 1)) '# r' s=t
        f() { u; }
        """
    )
    found = simple_commands(script)
    assert ["out", "a"] in found and ["tail", "-5"] in found and ["c", "d; e", "f"] in found and ["b", "$()"] in found
    assert ["h", "--i", "j $()", "m"] in found and ["n"] in found and ["k", "l"] in found and ["u"] in found
    assert ["q", "$()", "# r", "s=t"] in found and ["date", "+%s"] in found
    assert not [command for command in found if command[0] in ("o", "p", "X=1", "d", "f")]
