"""Compares the rules that the load balancer has with those of infrastructure/terraform. It reads, and changes nothing.

    .venv-infra/bin/python scripts/check_live_rules.py [--environment E] [--json [FILE]]

In:  --project, --environment, --region   which load balancer
     --folder F           the Terraform files (default: infrastructure/terraform)
     --var NAME=VALUE, --var-file F       values of Terraform's variables. As in Terraform they go before *.auto.tfvars
                          and terraform.tfvars in the folder, and those before TF_VAR_NAME in the environment.
                          api_target_group_arn and auth_target_group_arn are needed: live rules know targets by ARN.
     --proxy-weight N     the weight that must be live. Without it any weight will do that all rules agree upon: it is
                          turned during a rollout.
     Credentials of AWS, as every AWS tool finds them.
Out: a table of what differs, or one line if nothing does. --json gives the same as JSON: on stdout in place of the
     table, or in FILE beside it.
     Exit code 0: the same. 1: they differ. 2: it cannot tell, and says why.

What differs: a rule of the repository is missing, or has other conditions, targets or another priority; a rule that is
not the repository's takes requests from ours (searched exactly over all requests: scripts/alb/automaton.py), leads past
the proxy, or holds a priority that ours want; a listener is missing, too many, or ends otherwise. Rules of other
repositories that do none of that are told, and count as no difference.
"""

import argparse
import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import hcl2
import lark

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it can be started by its path
from scripts.alb.live import CannotTell, Difference, compare, conflicts, ends, read_live, shown_whole, weight_of
from scripts.alb.rules import PLAIN, TERRAFORM, Unreadable, blocks_of, defaults, read_rules


def variables(folder: Path, files: Iterable[Path], pairs: Iterable[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """The values that Terraform's variables are given, found as Terraform finds them. Raises `CannotTell`."""
    found: dict[str, Any] = {k.removeprefix("TF_VAR_"): v for k, v in environ.items() if k.startswith("TF_VAR_")}
    own = [path for path in (folder / "terraform.tfvars", *sorted(folder.glob("*.auto.tfvars"))) if path.exists()]
    for path in (*own, *files):
        try:
            found |= hcl2.loads(path.read_text(encoding="utf-8"), serialization_options=PLAIN)
        except OSError as error:
            raise CannotTell(f"{path} cannot be read: {error.strerror}") from None
        except lark.exceptions.LarkError:
            raise CannotTell(f"{path} is no file of Terraform variables") from None
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise CannotTell(f"--var takes NAME=VALUE, not {pair!r}")
        found[name] = value
    return found


def text_of(folder: Path, kind: str, name: str, given: Mapping[str, Any]) -> str:
    """The `name` of a resource, with the variables in it. Raises `CannotTell`."""
    found = [block["name"] for one, block in blocks_of(folder, kind) if one == name]
    if not found:
        raise CannotTell(f"{folder} has no {kind}.{name}: is it the folder of the Terraform files?")
    text = str(found[0])
    try:
        return re.sub(r"\$\{var\.(\w+)\}", lambda found: str(given[found[1]]), text)
    except KeyError as error:
        raise CannotTell(f"the variable {error.args[0]} has no value (--environment gives it)") from None


def target_names(folder: Path, given: Mapping[str, Any]) -> dict[str, str]:
    """ARN or name of a target group -> what it is in the repository's rules: `proxy`, `api`, `auth`."""
    missing = [name for name in ("api_target_group_arn", "auth_target_group_arn") if not given.get(name)]
    if missing:
        raise CannotTell(
            f"no value for {' and '.join(missing)}: give it in terraform.tfvars in {folder}, by --var-file or --var, "
            "or as TF_VAR_... in the environment"
        )
    names = {given[f"{name}_target_group_arn"]: name for name in ("api", "auth")}
    return names | {text_of(folder, "aws_lb_target_group", "proxy", given): "proxy"}


def table(differences: Sequence[Difference]) -> Iterator[str]:
    """The differences in columns as wide as what stands in them; the last two under each other."""
    head = ("what", "prio", "rule", "part")
    rows = [(one.what, str(one.priority or ""), one.rule, one.part) for one in differences]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    yield "  ".join(text.ljust(width) for text, width in zip(head, widths, strict=True)).rstrip()
    for row, one in zip(rows, differences, strict=True):
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        yield f"    repository: {one.repository or 'nothing'}"
        yield f"    live:       {one.live or 'nothing'}"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="check_live_rules.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project")
    parser.add_argument("--environment")
    parser.add_argument("--region")
    parser.add_argument("--folder", type=Path, default=TERRAFORM)
    parser.add_argument("--var", action="append", default=[])
    parser.add_argument("--var-file", type=Path, action="append", default=[])
    parser.add_argument("--proxy-weight", type=int, choices=range(101), metavar="N")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE")
    return parser.parse_args(arguments)


def examine(chosen: argparse.Namespace) -> dict[str, Any]:
    """Compare, and give all that is to be told. Raises `CannotTell`, `Unreadable`, and botocore's errors."""
    stated = variables(chosen.folder, chosen.var_file, chosen.var, os.environ)
    asked = {name: getattr(chosen, name) for name in ("project", "environment", "region") if getattr(chosen, name)}
    for name, value in asked.items():
        if stated.get(name, value) != value:
            raise CannotTell(f"Terraform's variables are about the {name} {stated[name]}, and --{name} says {value}")
    given = {**defaults(chosen.folder), **stated, **asked}
    balancer = text_of(chosen.folder, "aws_lb", "main", given)
    client = boto3.client("elbv2", region_name=given["region"])
    live, endings = read_live(client, balancer, target_names(chosen.folder, given))
    wanted = read_rules(chosen.folder, {**given, "proxy_weight": 100})
    weight = weight_of(wanted, live)
    asked_for = chosen.proxy_weight if chosen.proxy_weight is not None else weight
    wanted = read_rules(chosen.folder, {**given, "proxy_weight": 100 if asked_for is None else asked_for})
    differences, others = compare(wanted, live)
    differences += conflicts(wanted, others) + ends(chosen.folder, endings)
    return {
        "load_balancer": balancer,
        "same": not differences,
        "rules": len(wanted),
        "live_rules": len(live),
        "proxy_weight": weight,
        "differences": [asdict(one) for one in differences],
        "others": [{"priority": one.rule.priority, "rule": shown_whole(one)} for one in others],
    }


def told(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for a person."""
    share = "the rules do not agree on how many" if report["proxy_weight"] is None else report["proxy_weight"]
    yield f"{report['load_balancer']}: {report['rules']} rules in the repository, {report['live_rules']} live."
    yield f"Of 100 requests for MLflow the proxy gets: {share}."
    for other in report["others"]:
        yield f"Not of this repository: priority {other['priority']}, {other['rule']}"
    if report["same"]:
        yield "The live rules are those of the repository."
    else:
        yield from ("", *table([Difference(**one) for one in report["differences"]]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, and give the exit code."""
    chosen = parsed(arguments)
    try:
        report = examine(chosen)
    except (CannotTell, Unreadable, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        print(f"check_live_rules: cannot tell: {error}", file=sys.stderr)
        return 2
    except Exception:  # Python's own code for it, 1, means here that the rules differ
        traceback.print_exc()
        return 2
    if chosen.json:
        text = json.dumps(report, indent=2) + "\n"
        if chosen.json == "-":
            sys.stdout.write(text)
        else:
            Path(chosen.json).write_text(text, encoding="utf-8")
    if chosen.json != "-":
        print("\n".join(told(report)))
    return 0 if report["same"] else 1


if __name__ == "__main__":
    sys.exit(main())
