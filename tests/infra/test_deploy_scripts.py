"""Deploying, going back, and what either says: the scripts themselves, with an AWS that is written down.

What AWS does in each of these stories is from its documents (ECS API reference, "Deployment circuit breaker"), since
moto deploys nothing; tests/infra/test_deploy_with_moto.py has the real `aws`.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from scripts.alb.rules import blocks_of
from tests.support.deploy_scene import (
    ALARMS,
    AWAY,
    BACK,
    BEFORE,
    DIGEST,
    DONE,
    EXPIRED,
    FAMILY,
    GUARDS_ON,
    KEY,
    READ_ONLY,
    REFUSED,
    REGISTRY,
    REPOSITORY,
    ROOT,
    SERVICE,
    UNDER_WAY,
    Pages,
    Scene,
    alarms,
    arn,
    definition,
    deployment,
    registry,
    rules,
    service,
    updated,
)
from tests.support.stub_aws import answer

SCRIPT = ROOT / "scripts" / "deploy_proxy_routing_fix.sh"
CHANGING = {"docker build", "docker push", "docker login", "docker image", "aws ecr get-login-password"}
CHANGING |= {f"aws ecs {name}" for name in ("register-task-definition", "update-service", "deregister-task-definition")}
GUARDS_DOWN = GUARDS_ON | {
    "deploymentCircuitBreaker": {"enable": True, "rollback": False},
    "alarms": {"alarmNames": ALARMS, "enable": False, "rollback": False},
}
BALANCER, PROXY = "hokusai-registry-development", "hokusai-mlproxy-development"
BALANCED = {"aws_lb": "main", "aws_lb_target_group": "proxy"}
ECS_GIVES_UP = service(
    deployment("d3", 6, "IN_PROGRESS"),
    deployment("d2", 8, "FAILED", "ACTIVE", "ECS deployment circuit breaker: tasks failed to start."),
    events=[{"id": "e1", "message": "(service x) rolled back"}],
)
ECS_IS_BACK = service(deployment("d3", 6, "COMPLETED"))
ORDERED = updated(deployment("d2", 8, "IN_PROGRESS"))
ORDERED_BACK = updated(deployment("d3", 6, "IN_PROGRESS"))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, smoke=False)


@pytest.fixture
def sick(tmp_path: Path) -> Iterator[Scene]:
    """Where ECS is content and users are not."""
    with registry("/mlflow/health/mlflow") as (url, _):
        yield Scene(tmp_path, url)


def test_a_deployment_that_goes_well(tmp_path: Path) -> None:
    with registry() as (url, _):
        scene = Scene(tmp_path, url)
        code, written = scene.run("--yes")
    assert code == 0, written
    assert re.findall(r"^\[(\d)/8\]", written, re.MULTILINE) == list("12345678")
    assert scene.orders() == [("8", GUARDS_ON)]
    assert scene.named().count("mlflow-python test_real_registration.py") == 1
    assert f"{FAMILY}:8 serves, in place of {FAMILY}:6" in written
    assert "rollback_proxy.sh --environment development --region us-east-1 --to-revision 6" in written


def test_the_new_revision_differs_in_the_image_alone(scene: Scene) -> None:
    assert scene.run("--yes")[0] == 0
    (call,) = scene.stubs.calls("aws ecs register-task-definition")
    sent = json.loads(call["files"]["new.json"])
    wanted = {name: value for name, value in definition(6)["taskDefinition"].items() if name not in READ_ONLY}
    wanted["containerDefinitions"][0]["image"] = f"{REPOSITORY}@{DIGEST}"
    assert sent == wanted | {"tags": [{"key": "team", "value": "platform"}]}


def test_what_is_removed_from_a_revision_is_what_the_api_refuses() -> None:
    """All of it, and nothing that it takes: by the API's own model, as boto3 has it."""
    python = ROOT / ".venv-infra" / "bin" / "python"
    if not python.exists():
        pytest.skip("no .venv-infra: make infra-env makes it")
    program = (
        "import botocore.session; m = botocore.session.get_session().get_service_model('ecs');"
        "of = lambda name: set(m.shape_for(name).members);"
        "print(*sorted(of('TaskDefinition') - of('RegisterTaskDefinitionRequest')))"
    )
    refused = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    filter_file = (ROOT / "scripts" / "lib" / "new_revision.jq").read_text()
    removed = re.findall(r"\.(\w+)", " ".join(re.findall(r"del\((.*)\)", filter_file)))
    assert sorted(removed) == refused == sorted(READ_ONLY)


def test_the_image_is_built_from_the_commit_and_deployed_by_its_digest(scene: Scene) -> None:
    commit, seconds = subprocess.run(
        ["git", "log", "-1", "--format=%H %ct"], cwd=scene.root, capture_output=True, text=True, check=True
    ).stdout.split()
    assert scene.run("--yes")[0] == 0
    (build,), (push,) = (scene.stubs.calls(f"docker {word}") for word in ("build", "push"))
    image = f"{REPOSITORY}:{commit[:12]}"
    assert f"REVISION={commit}" in build["argv"] and image in build["argv"]
    assert f"SOURCE_DATE_EPOCH={seconds}" in build["argv"]
    assert push["argv"][-1] == image
    (login,) = scene.stubs.calls("docker login")
    assert login["stdin"] == "a-password" and login["argv"][-1] == REGISTRY


def test_the_key_reaches_the_smoke_test_and_nobody_else(tmp_path: Path) -> None:
    with registry() as (url, seen):
        scene = Scene(tmp_path, url)
        code, written = scene.run("--yes")
    assert code == 0
    assert {call["call"] for call in scene.stubs.calls() if call["key"]} == {"mlflow-python test_real_registration.py"}
    assert KEY not in written and KEY not in json.dumps(scene.stubs.calls())
    assert {credential for _, credential in seen} == {"", f"Bearer {KEY}"}


def test_ecs_goes_back_by_itself(scene: Scene) -> None:
    """`aws ecs wait services-stable` would call this a success: the service is stable, with the old revision."""
    scene.stubs.on("aws ecs describe-services", BEFORE, UNDER_WAY, ECS_GIVES_UP, ECS_GIVES_UP, ECS_IS_BACK)
    code, written = scene.run("--yes")
    assert code == 5, written
    assert "circuit breaker: tasks failed to start" in written and "ECS: (service x) rolled back" in written
    assert [revision for revision, _ in scene.orders()] == ["8"], "ECS was at it already"
    (discarded,) = scene.stubs.calls("aws ecs deregister-task-definition")
    assert discarded["argv"][-1] == arn(8)
    assert "smoke_test.sh" not in scene.named()


def test_ecs_gives_up_and_does_not_go_back(scene: Scene) -> None:
    failed = service(deployment("d2", 8, "FAILED", reason="alarm detected"))
    scene.stubs.on("aws ecs describe-services", BEFORE, failed, failed, BACK)
    scene.stubs.on("aws ecs update-service", ORDERED, ORDERED_BACK, ORDERED_BACK)
    code, written = scene.run("--yes")
    assert code == 5 and "alarm detected" in written
    # On the way back ECS must not go "back" itself: that may be to the revision that failed.
    assert scene.orders() == [("8", GUARDS_ON), ("6", GUARDS_DOWN), ("", GUARDS_ON)]


def test_a_deployment_that_gets_stuck(scene: Scene) -> None:
    scene.stubs.on("aws ecs describe-services", BEFORE, UNDER_WAY)
    scene.stubs.on("aws ecs update-service", ORDERED, updated(deployment("d3", 6, "COMPLETED")))

    def back() -> None:
        scene.stubs.on("aws ecs describe-services", BACK)

    code, written = run_and_meanwhile(scene, "Wait until it runs", back, "--yes", "--timeout", "1")
    assert code == 5, written
    assert "took longer than 1 s" in written
    assert [revision for revision, _ in scene.orders()] == ["8", "6", ""]


def test_the_smoke_test_fails(sick: Scene) -> None:
    sick.stubs.on("aws ecs describe-services", BEFORE, DONE, DONE, BACK)
    sick.stubs.on("aws ecs update-service", ORDERED, ORDERED_BACK, ORDERED_BACK)
    code, written = sick.run("--yes")
    assert code == 6, written
    assert "MLflow does not answer" in written and f"gone back to {FAMILY}:6" in written
    assert sick.orders() == [("8", GUARDS_ON), ("6", GUARDS_DOWN), ("", GUARDS_ON)]
    assert sick.stubs.calls("aws ecs deregister-task-definition")[0]["argv"][-1] == arn(8)


def test_the_registration_fails(scene: Scene) -> None:
    scene.stubs.on("smoke_test.sh", answer("FAILED: 1 failed\n", code=1))
    scene.stubs.on("aws ecs describe-services", BEFORE, DONE, DONE, BACK)
    scene.stubs.on("aws ecs update-service", ORDERED, ORDERED_BACK, ORDERED_BACK)
    code, written = scene.run("--yes")
    assert code == 6 and "FAILED: 1 failed" in written
    assert [revision for revision, _ in scene.orders()] == ["8", "6", ""]


@pytest.mark.parametrize("story", ["refused", "fails", "lost"])
def test_going_back_fails_too(sick: Scene, story: str) -> None:
    failed = service(deployment("d3", 6, "FAILED", reason="no capacity"), deployment("d2", 8, "COMPLETED", "ACTIVE"))
    sick.stubs.on("aws ecs describe-services", BEFORE, DONE, DONE, EXPIRED if story == "lost" else failed)
    sick.stubs.on("aws ecs update-service", ORDERED, REFUSED if story == "refused" else ORDERED_BACK)
    code, written = sick.run("--yes")
    assert code == (8 if story == "lost" else 7), written
    options = "--environment development --region us-east-1 --to-revision 6"
    assert f"To go on:    scripts/rollback_proxy.sh {options}" in written
    assert "aws ecs deregister-task-definition" not in sick.named()


def test_aws_does_not_answer_for_a_while(scene: Scene) -> None:
    scene.stubs.on("aws ecs describe-services", BEFORE, *[AWAY] * 4, UNDER_WAY, *[AWAY] * 4, DONE)
    code, written = scene.run("--yes")
    assert code == 0
    assert written.count("no answer (4 of 5): Could not connect") == 2


@pytest.mark.parametrize("trouble", [AWAY, EXPIRED], ids=["away", "expired"])
def test_aws_answers_no_more(scene: Scene, trouble: dict[str, Any]) -> None:
    """Nothing is ordered blindly: ECS goes on alone, and the last lines say how to."""
    scene.stubs.on("aws ecs describe-services", BEFORE, UNDER_WAY, trouble)
    scene.stubs.on("infra-python scripts/check_live_rules.py", rules(25))
    code, written = scene.run("--yes")
    assert code == 8 and f"scripts/smoke_test.sh --url {scene.url} --weight 25" in written
    assert len(scene.stubs.calls("aws ecs describe-services")) == (3 if trouble is EXPIRED else 7)
    assert [revision for revision, _ in scene.orders()] == ["8"]
    assert "--to-revision 6" in written and "--query 'services[0].deployments'" in written


def test_somebody_else_deploys_meanwhile(scene: Scene) -> None:
    scene.stubs.on("aws ecs describe-services", BEFORE, UNDER_WAY, service(deployment("d9", 9, "IN_PROGRESS")))
    code, written = scene.run("--yes")
    assert code == 8
    assert f"somebody else has deployed {FAMILY}:9" in written
    assert [revision for revision, _ in scene.orders()] == ["8"]


def test_the_order_is_refused(scene: Scene) -> None:
    scene.stubs.on("aws ecs update-service", REFUSED)
    scene.stubs.on("aws ecs describe-services", BEFORE)
    code, written = scene.run("--yes")
    assert code == 4 and "The service runs as before" in written
    assert scene.stubs.calls("aws ecs deregister-task-definition")[0]["argv"][-1] == arn(8)


def test_the_order_is_carried_out_and_its_answer_lost(scene: Scene) -> None:
    scene.stubs.on("aws ecs update-service", AWAY, ORDERED_BACK, ORDERED_BACK)
    scene.stubs.on("aws ecs describe-services", BEFORE, UNDER_WAY, UNDER_WAY, BACK)
    code, written = scene.run("--yes")
    assert code == 5, written
    assert [revision for revision, _ in scene.orders()] == ["8", "6", ""]


@pytest.mark.parametrize("call", ["docker build", "docker login", "docker push", "aws ecs register-task-definition"])
def test_what_fails_before_the_service_is_told_changes_nothing(scene: Scene, call: str) -> None:
    scene.stubs.on(call, answer(code=1, error="it broke\n"))
    code, written = scene.run("--yes")
    assert code == 4
    assert "it broke" in written and "code 4" in written
    assert scene.orders() == []


def test_another_image_under_the_same_tag_is_not_deployed(scene: Scene) -> None:
    scene.stubs.on("aws ecr describe-images", {"imageDetails": [{"imageDigest": "sha256:other"}]})
    code, written = scene.run("--yes")
    assert code == 4 and "somebody else pushes it too" in written
    assert scene.orders() == []


def test_the_live_rules_are_not_the_repositorys(scene: Scene) -> None:
    scene.stubs.on("infra-python scripts/check_live_rules.py", answer("missing  30  api_mlflow\n", code=1))
    code, written = scene.run("--yes")
    assert code == 3 and "missing  30  api_mlflow" in written
    assert not CHANGING & set(scene.named())
    scene.forget()
    assert scene.run("--yes", "--skip-rules")[0] == 0


def test_all_that_is_missing_is_told_at_once(scene: Scene) -> None:
    del scene.environ["HOKUSAI_API_KEY"]
    (scene.root / "app" / "__init__.py").write_text("changed")
    for call in ("docker version", "infra-python -c", "mlflow-python -c"):
        scene.stubs.on(call, answer(code=1))
    idle = service(deployment("d1", 6, "IN_PROGRESS"), desiredCount=0, deploymentConfiguration={})
    scene.stubs.on("aws ecs describe-services", idle)
    scene.stubs.on("aws ecr describe-repositories", REFUSED)
    code, written = scene.run("--frob", "--timeout", "soon", "--environment", "a b")
    assert code == 2
    faults = re.findall(r"^  - (.*)", written, re.MULTILINE)
    for part in (
        *("'--frob'", "--environment", "--timeout", "--yes", "in no commit", "daemon", "boto3", "HOKUSAI_API_KEY"),
        *("mlflow", "wants 0 tasks", "under way", "no alarm", "ECR repository"),
    ):
        assert [fault for fault in faults if part in fault], f"nothing told of {part}: {written}"
    assert not CHANGING & set(scene.named())


def test_credentials_that_have_expired(scene: Scene) -> None:
    scene.stubs.on("aws sts get-caller-identity", EXPIRED)
    code, written = scene.run("--yes")
    assert code == 2 and "the token is expired" in written
    assert scene.named().count("aws ecs describe-services") == 0


def test_tools_that_are_missing(scene: Scene) -> None:
    few = scene.folder / "few"
    few.mkdir()
    for name in ("bash", "git", "sed", "grep", "dirname", "date", "mktemp", "rm"):
        (few / name).symlink_to(Path("/usr/bin") / name)
    scene.environ["PATH"] = str(few)
    code, written = scene.run("--yes")
    assert code == 2
    for name in ("aws", "jq", "curl", "docker"):
        assert f"{name} is not installed" in written


def test_a_dirty_tree_is_deployed_on_demand_under_a_name_that_says_so(scene: Scene) -> None:
    (scene.root / "new.py").write_text("")
    assert scene.run("--yes")[0] == 2
    scene.forget()
    assert scene.run("--yes", "--allow-dirty")[0] == 0
    assert re.search(r":[0-9a-f]{12}-dirty-\d{14}$", scene.stubs.calls("docker push")[0]["argv"][-1])


def test_alarms_that_do_not_exist_or_sound_already(scene: Scene) -> None:
    scene.stubs.on("aws cloudwatch describe-alarms", {"MetricAlarms": [], "CompositeAlarms": []})
    code, written = scene.run("--yes")
    assert code == 2 and ALARMS[0] in written
    scene.stubs.on("aws cloudwatch describe-alarms", alarms("ALARM"))
    scene.forget()
    code, written = scene.run("--dry-run")
    assert code == 0 and "is in ALARM already; ECS does not heed" in written


def test_skip_build_deploys_what_ecr_has(scene: Scene) -> None:
    code, _ = scene.run("--yes", "--skip-build", "--image-tag", "v7")
    assert code == 0
    assert not [name for name in scene.named() if name.startswith("docker")]
    assert "imageTag=v7" in scene.stubs.calls("aws ecr describe-images")[0]["argv"]


def test_a_tag_that_cannot_be_moved_is_found_out_before_the_build(scene: Scene) -> None:
    repository = {"repositoryUri": REPOSITORY, "imageTagMutability": "IMMUTABLE"}
    scene.stubs.on("aws ecr describe-repositories", {"repositories": [repository]})
    code, written = scene.run("--yes")
    assert code == 2 and "--skip-build deploys that image" in written


def test_what_runs_already_is_not_deployed_again(scene: Scene) -> None:
    digest = {"imageDetails": [{"imageDigest": "sha256:6"}]}
    scene.stubs.on("aws ecr describe-images", digest)
    code, written = scene.run("--yes", "--skip-build")
    assert code == 0 and "nothing to deploy" in written
    assert not CHANGING & set(scene.named())


@pytest.mark.parametrize("choice", ["", "current", "newest"])
def test_a_revision_that_terraform_made_is_not_passed_over_in_silence(scene: Scene, choice: str) -> None:
    changed = definition(7, cpu="2048")
    changed["taskDefinition"]["containerDefinitions"][0]["environment"] = [{"name": "PROXY_WORKERS", "value": "4"}]
    scene.stubs.on("aws ecs list-task-definitions", {"taskDefinitionArns": [arn(7), arn(6), arn(5)]})
    scene.stubs.on("aws ecs describe-task-definition", definition(6), changed)
    code, written = scene.run("--yes", *(["--from", choice] if choice else []))
    assert "environment of mlflow-proxy, cpu" in written or "cpu, environment of mlflow-proxy" in written
    assert code == (0 if choice else 2), written
    if choice:
        sent = json.loads(scene.stubs.calls("aws ecs register-task-definition")[0]["files"]["new.json"])
        assert sent["cpu"] == {"current": "1024", "newest": "2048"}[choice]


@pytest.mark.parametrize(
    ("choice", "cpu", "deployed"), [("newest", "2048", True), ("current", "2048", False), ("newest", "1024", False)]
)
def test_the_image_that_runs_is_deployed_again_for_other_settings_alone(
    scene: Scene, choice: str, cpu: str, deployed: bool
) -> None:
    scene.stubs.on("aws ecs list-task-definitions", {"taskDefinitionArns": [arn(7), arn(6)]})
    scene.stubs.on("aws ecs describe-task-definition", definition(6), definition(7, cpu=cpu))
    scene.stubs.on("aws ecr describe-images", {"imageDetails": [{"imageDigest": "sha256:6"}]})
    code, written = scene.run("--yes", "--skip-build", "--from", choice)
    assert code == 0 and ("nothing to deploy" in written) != deployed, written
    assert [revision for revision, _ in scene.orders()] == (["8"] if deployed else [])
    sent = [json.loads(call["files"]["new.json"]) for call in scene.stubs.calls("aws ecs register-task-definition")]
    assert [(one["cpu"], one["containerDefinitions"][0]["image"]) for one in sent] == (
        [("2048", f"{REPOSITORY}@sha256:6")] if deployed else []
    )


def test_a_newer_revision_with_another_image_alone_is_passed_over(scene: Scene) -> None:
    scene.stubs.on("aws ecs list-task-definitions", {"taskDefinitionArns": [arn(7), arn(6)]})
    scene.stubs.on("aws ecs describe-task-definition", definition(6), definition(7))
    assert scene.run("--yes")[0] == 0


@pytest.mark.parametrize(("says", "wanted"), [("y", 0), ("n", 2), ("", 2)])
def test_somebody_is_asked_before_anything_is_changed(scene: Scene, says: str, wanted: int) -> None:
    master, slave = pty.openpty()
    os.write(master, f"{says}\n".encode())
    try:
        with scene.start("--url", scene.url, "--poll", "0.05", stdin=slave) as process:
            written, _ = process.communicate(timeout=60)
    finally:
        os.close(master)
        os.close(slave)
    assert process.returncode == wanted, written
    assert f"Deploy {written.partition('tag ')[2].split()[0]} to {SERVICE} in hokusai-development?" in written
    assert bool(CHANGING & set(scene.named())) == (wanted == 0)


# Dry run


def shown(written: str) -> list[list[str]]:
    """The commands of a dry run as words, up to the way back; what comes after > or | is left out, folders too."""
    main, _, _ = written.partition("If step 7 or 8 failed")
    lines = [shlex.split(line) for line in re.findall(r"^ +\$ (.*)", main, re.MULTILINE)]
    parts = []
    for line in lines:
        cut = line.index(">") if ">" in line else len(line)
        if "|" in line:
            parts += [line[: line.index("|")], line[line.index("|") + 1 :]]
        else:
            parts.append(line[:cut])
    return parts


def test_a_dry_run_shows_the_commands_of_a_real_run_and_changes_nothing(scene: Scene) -> None:
    code, written = scene.run("--dry-run")
    assert code == 0, written
    assert not CHANGING & set(scene.named())
    planned = [line for line in shown(written) if line[0] != "jq"]

    scene.stubs.on("aws ecs describe-services", BEFORE, DONE)
    scene.forget()
    assert scene.run("--yes")[0] == 0
    not_shown = {"docker version", "infra-python -c", "mlflow-python -c"}
    real = [call["argv"] for call in scene.stubs.calls() if call["call"] not in not_shown]
    assert planned == [[known(word) for word in argv] for argv in real]


def known(word: str) -> str:
    """A word of a real call as a dry run can know it."""
    word = "scripts/smoke_test.sh" if word == "smoke_test.sh" else word
    word = re.sub(r"/tmp/\S*/tmp\.\w+|/tmp/tmp\.\w+", "$WORK", word)
    return word.replace(arn(8), f"{FAMILY}:<new>").replace(DIGEST, "<digest>")


def test_every_command_of_a_dry_run_is_explained(scene: Scene) -> None:
    _, written = scene.run("--dry-run")
    unexplained = []
    lines = written.splitlines()
    for before, line in pairwise(lines):
        if line.startswith("      $ ") and not before.startswith(("      # ", "      $ ")):
            unexplained.append(line)
    assert unexplained == []


def test_a_dry_run_without_credentials_asks_nothing_and_shows_everything(scene: Scene) -> None:
    with_credentials = shown(scene.run("--dry-run")[1])
    scene.forget()
    scene.stubs.on("aws sts get-caller-identity", answer(code=255, error="Unable to locate credentials\n"))
    code, written = scene.run("--dry-run")
    assert (
        code == 2 and "Unable to locate credentials" in written and "A REAL RUN WOULD STOP HERE with code 2" in written
    )
    assert [name for name in scene.named() if name.startswith("aws")] == ["aws sts get-caller-identity"]
    assert "infra-python scripts/check_live_rules.py" not in scene.named()
    assert [line[:7] for line in shown(written.replace("<registry>", REGISTRY))] == [
        line[:7] for line in with_credentials
    ]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"services": []}, "there is no active service"),
        (answer(code=254, error="ClusterNotFoundException: Cluster not found.\n"), "Cluster not found"),
    ],
    ids=["no service", "no cluster"],
)
def test_a_dry_run_before_there_is_a_service_shows_everything_too(scene: Scene, said: Any, fault: str) -> None:
    usual = shown(scene.run("--dry-run")[1])
    scene.stubs.on("aws ecs describe-services", said)
    code, written = scene.run("--dry-run")
    assert code == 2 and fault in written and "A REAL RUN WOULD STOP HERE with code 2" in written
    assert "unbound" not in written
    assert [line[:7] for line in shown(written.replace("<registry>", REGISTRY))] == [line[:7] for line in usual]


def test_a_dry_run_shows_the_way_back_too(scene: Scene) -> None:
    _, written = scene.run("--dry-run")
    _, _, back = written.partition("If step 7 or 8 failed")
    orders = [line for line in shown(back) if "update-service" in line]
    assert [json.loads(line[-1]) for line in orders] == [GUARDS_DOWN, GUARDS_ON]
    assert arn(6) in orders[0] and "deregister-task-definition" in back


# Going back on demand


def history(*revisions: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ECS tells of the deployments that succeeded, the latest first."""
    marks = [f"revision-{index}" for index, _ in enumerate(revisions)]
    listed = {"serviceDeployments": [{"targetServiceRevisionArn": mark} for mark in marks]}
    pairs = zip(marks, revisions, strict=True)
    return listed, {"serviceRevisions": [{"serviceRevisionArn": m, "taskDefinition": arn(r)} for m, r in pairs][::-1]}


@pytest.fixture
def eighth(scene: Scene) -> Scene:
    """Revision 8 runs; 7 was never deployed; 6 and 5 were."""
    on = scene.stubs.on
    listed, ran = history(8, 6, 5)
    on("aws ecs describe-services", DONE, BACK)
    on("aws ecs describe-task-definition", definition(8), definition(6))
    on("aws ecs list-task-definitions", {"taskDefinitionArns": [arn(8), arn(7), arn(6), arn(5)]})
    on("aws ecs list-service-deployments", listed)
    on("aws ecs describe-service-revisions", ran)
    on("aws ecs update-service", ORDERED_BACK)
    give_weights(scene, 100)
    return scene


def group(name: str, **more: int) -> dict[str, Any]:
    """A target group in an action."""
    return {
        "TargetGroupArn": f"arn:aws:elasticloadbalancing:us-east-1:ACCOUNT:targetgroup/{name}/0123456789abcdef"
    } | more


def shared(weight: int) -> dict[str, Any]:
    """The action of a rule that gives this proxy so many of 100 requests."""
    groups = [group(PROXY, Weight=weight), group("old-api", Weight=100 - weight)]
    return {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}


def give_weights(scene: Scene, *weights: int) -> None:
    """Have the load balancer give the proxy so much, rule by rule; other rules lead elsewhere."""
    listeners = [{"Port": 80, "ListenerArn": "listener/80"}, {"Port": 443, "ListenerArn": "listener/443"}]
    actions = [{"Type": "forward", **group("old-auth")}, *map(shared, weights), {"Type": "fixed-response"}]
    scene.stubs.on("aws elbv2 describe-load-balancers", {"LoadBalancers": [{"LoadBalancerArn": "balancer"}]})
    scene.stubs.on("aws elbv2 describe-listeners", {"Listeners": listeners})
    give_rules(scene, *actions)


def give_rules(scene: Scene, *actions: dict[str, Any]) -> None:
    """Have the load balancer's rules be these."""
    scene.stubs.on("aws elbv2 describe-rules", {"Rules": [{"Actions": [action]} for action in actions]})


def test_back_to_the_last_revision_that_ran(eighth: Scene) -> None:
    code, written = eighth.run("--yes", script="rollback_proxy.sh")
    assert code == 0, written
    assert eighth.orders() == [("6", GUARDS_DOWN), ("", GUARDS_ON)]
    assert f"{FAMILY}:6 serves, in place of {FAMILY}:8" in written
    assert "aws ecs deregister-task-definition" not in eighth.named()
    assert "smoke_test.sh" in eighth.named()


def test_not_forth_to_the_revision_that_was_left(eighth: Scene) -> None:
    """From 6, to which somebody went back from 8: to 5, not to 8."""
    listed, ran = history(6, 8, 6, 5)
    eighth.stubs.on("aws ecs list-service-deployments", listed)
    eighth.stubs.on("aws ecs describe-service-revisions", ran)
    eighth.stubs.on("aws ecs describe-services", BEFORE, service(deployment("d3", 5, "COMPLETED")))
    eighth.stubs.on("aws ecs describe-task-definition", definition(6), definition(5))
    assert eighth.run("--yes", "--rollback")[0] == 0
    assert eighth.orders()[0][0] == "5"


def test_without_a_history_to_the_newest_older_revision(eighth: Scene) -> None:
    eighth.stubs.on("aws ecs list-service-deployments", answer(code=254, error="AccessDeniedException: no\n"))
    eighth.stubs.on("aws ecs describe-task-definition", definition(8), definition(7))
    code, written = eighth.run("--yes", "--rollback")
    assert code == 0 and "ECS tells no history" in written
    assert eighth.orders()[0][0] == "7"


def test_back_to_a_certain_revision(eighth: Scene) -> None:
    eighth.stubs.on("aws ecs describe-task-definition", definition(8), definition(5))
    assert eighth.run("--yes", "--rollback", "--to-revision", "5")[0] == 0
    assert eighth.orders()[0][0] == "5"


def test_nothing_to_go_back_to(eighth: Scene) -> None:
    eighth.stubs.on("aws ecs list-task-definitions", {"taskDefinitionArns": [arn(8)]})
    code, written = eighth.run("--yes", "--rollback")
    assert code == 2 and "nothing older than" in written
    assert eighth.orders() == []


def test_not_to_an_inactive_revision(eighth: Scene) -> None:
    eighth.stubs.on("aws ecs describe-task-definition", definition(8), definition(5, status="INACTIVE"))
    code, written = eighth.run("--yes", "--rollback", "--to-revision", "5")
    assert code == 2 and "is not ACTIVE" in written


def test_amid_a_deployment_the_revision_must_be_said(eighth: Scene) -> None:
    """ECS may be going back itself: the one before would be one too far."""
    eighth.stubs.on("aws ecs describe-services", UNDER_WAY, BACK)
    code, written = eighth.run("--yes", "--rollback")
    assert code == 2 and "--to-revision N" in written
    eighth.stubs.on("aws ecs describe-services", UNDER_WAY, BACK)
    eighth.forget()
    assert eighth.run("--yes", "--rollback", "--to-revision", "6")[0] == 0


def test_going_back_needs_no_key_and_no_docker(eighth: Scene) -> None:
    del eighth.environ["HOKUSAI_API_KEY"]
    for call in ("docker version", "infra-python -c", "mlflow-python -c"):
        eighth.stubs.on(call, answer(code=1))
    code, written = eighth.run("--yes", "--rollback")
    assert code == 0, written
    assert "HOKUSAI_API_KEY is not set" in written


def test_what_we_went_back_to_fails_the_smoke_test(tmp_path: Path) -> None:
    with registry("/api/mlflow/health") as (url, _):
        scene = Scene(tmp_path, url)
        scene.stubs.on("aws ecs describe-services", DONE, BACK)
        scene.stubs.on("aws ecs describe-task-definition", definition(8), definition(6))
        scene.stubs.on("aws ecs update-service", ORDERED_BACK)
        code, written = scene.run("--yes", "--rollback", "--to-revision", "6")
    assert code == 7 and f"{FAMILY}:6 serves" in written
    assert scene.orders() == [("6", GUARDS_DOWN), ("", GUARDS_ON)]


def test_a_dry_run_of_going_back(eighth: Scene) -> None:
    code, written = eighth.run("--dry-run", "--rollback")
    assert code == 0 and not CHANGING & set(eighth.named())
    assert arn(6) in next(line for line in shown(written) if "update-service" in line)


def weight_told(scene: Scene) -> str:
    """The weight that the smoke test was told."""
    (call,) = scene.stubs.calls("smoke_test.sh")
    return str(call["argv"][call["argv"].index("--weight") + 1])


@pytest.mark.parametrize(("weights", "told"), [((5, 5), "5"), ((25,), "25"), ((25, 5), "5"), ((0,), "0")])
def test_going_back_amid_a_rollout_is_tested_at_the_live_weight(
    eighth: Scene, weights: tuple[int, ...], told: str
) -> None:
    give_weights(eighth, *weights)
    code, written = eighth.run("--yes", "--rollback")
    assert code == 0 and f"gives this proxy {told} of 100 requests" in written
    assert weight_told(eighth) == told
    asked = {name: eighth.stubs.calls(f"aws elbv2 describe-{name}")[0]["argv"] for name in ("load-balancers", "rules")}
    assert asked["load-balancers"][-1] == BALANCER and asked["rules"][-1] == "listener/443"


@pytest.mark.parametrize(
    "action",
    [
        {"Type": "forward", **group(PROXY)},
        {"Type": "forward", "ForwardConfig": {"TargetGroups": [group(PROXY)]}},
        {"Type": "forward", "ForwardConfig": {"TargetGroups": [group(PROXY, Weight=1)]}},
    ],
    ids=["arn", "group", "weight 1"],
)
def test_a_rule_that_leads_to_this_proxy_alone_gives_it_all(eighth: Scene, action: dict[str, Any]) -> None:
    give_rules(eighth, action)
    code, written = eighth.run("--yes", "--rollback")
    assert code == 0 and "gives this proxy 100 of 100 requests" in written
    assert weight_told(eighth) == "100"


@pytest.mark.parametrize("story", ["refused", "no such rule"])
def test_a_weight_that_cannot_be_read_keeps_nobody_from_going_back(eighth: Scene, story: str) -> None:
    if story == "refused":
        eighth.stubs.on("aws elbv2 describe-load-balancers", answer(code=254, error="AccessDenied: not yours\n"))
    else:
        give_weights(eighth)
    code, written = eighth.run("--yes", "--rollback")
    assert code == 0 and "tested as if all did" in written
    assert ("not yours" in written) == (story == "refused")
    assert weight_told(eighth) == "100"


def test_amid_a_rollout_the_old_proxys_answers_are_no_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three are the old one's, which knows none of the pages."""
    requests, right = count(1), Pages._answer
    old = (404, {"detail": "Not Found"})
    monkeypatch.setattr(
        Pages, "_answer", lambda page, credential: old if next(requests) % 3 else right(page, credential)
    )
    with registry() as (url, seen):
        scene = Scene(tmp_path, url)
        scene.stubs.on("aws ecs describe-services", DONE, BACK)
        scene.stubs.on("aws ecs describe-task-definition", definition(8), definition(6))
        scene.stubs.on("aws ecs update-service", ORDERED_BACK)
        give_weights(scene, 25)
        code, written = scene.run("--yes", "--rollback", "--to-revision", "6")
    assert code == 0, written
    assert "Smoke test passed" in written and len(seen) == 3 * len(set(seen))


# Interrupted


def run_and_meanwhile(scene: Scene, sign: str, act: Callable[[], None], *options: str) -> tuple[int, str]:
    """Run a deployment, and do something as soon as the sign is written."""
    written = ""
    with scene.under_way("--poll", "0.05", *options) as process:
        assert process.stdout
        for line in process.stdout:
            written += line
            if sign in line:
                act()
    return process.returncode, written


def interrupted(scene: Scene, number: signal.Signals, *options: str, at: str = "") -> tuple[int, str]:
    """Run a deployment and signal all its processes, as a terminal does, when a call is held or `at` is read."""
    with scene.under_way(*options) as process:
        assert process.stdout
        written = ""
        if at:
            while at not in (line := process.stdout.readline()):
                assert line, written
                written += line
        else:
            deadline = time.monotonic() + 20
            while not scene.stubs.held.exists():
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
        os.killpg(process.pid, number)
        rest, _ = process.communicate(timeout=20)
    return process.returncode, written + rest


def test_interrupted_while_it_builds(scene: Scene) -> None:
    scene.stubs.on("docker build", answer(hold=True))
    code, written = interrupted(scene, signal.SIGINT, "--yes")
    assert code == 130, written
    assert "interrupted" in written and "Nothing was changed in AWS." in written
    assert "could not be built" not in written


@pytest.mark.parametrize(("number", "wanted"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_it_waits(scene: Scene, number: signal.Signals, wanted: int) -> None:
    """Amid the pause between two looks, which would last a minute more."""
    scene.stubs.on("aws ecs describe-services", BEFORE, UNDER_WAY)
    begun = time.monotonic()
    code, written = interrupted(scene, number, "--yes", "--poll", "60", at="IN_PROGRESS")
    assert code == wanted, written
    assert time.monotonic() - begun < 30
    assert "ECS goes on by itself" in written and "--to-revision 6" in written and "smoke_test.sh" in written
    assert [revision for revision, _ in scene.orders()] == ["8"]


def test_interrupted_on_the_way_back(sick: Scene) -> None:
    sick.stubs.on("aws ecs describe-services", BEFORE, DONE, DONE, answer(hold=True))
    sick.stubs.on("aws ecs update-service", ORDERED, ORDERED_BACK)
    code, written = interrupted(sick, signal.SIGINT, "--yes", "--poll", "0.05")
    assert code == 130, written
    assert f"told to go back to {FAMILY}:6" in written and "The alarms watch no deployment" in written


def test_a_fault_of_the_script_itself_says_in_what_state_it_left_things(scene: Scene) -> None:
    scene.stubs.on("aws ecs describe-services", BEFORE, service(deployment("d2", 8, "IN_PROGRESS"), events=5))
    code, written = scene.run("--yes")
    assert code == 1
    assert "by a fault of its own" in written and "--to-revision 6" in written


# What it says of itself


def test_the_names_are_those_of_terraform() -> None:
    folder = ROOT / "infrastructure" / "terraform"
    text = (folder / "ecs-proxy.tf").read_text()
    found = dict(re.findall(r'^  (cluster_name|proxy_service_name) += "(.*)"$', text, re.MULTILINE))
    given = {"${var.project}": "hokusai", "${var.environment}": "development"}
    for name, value in found.items():
        for variable, stands_for in given.items():
            value = found[name] = value.replace(variable, stands_for)
    assert found == {"cluster_name": "hokusai-development", "proxy_service_name": SERVICE}
    blocks = {name: block for name, block in blocks_of(folder, "aws_ecs_service")}
    assert blocks["proxy"]["load_balancer"][0]["container_name"] == "mlflow-proxy"
    names = {kind: dict(blocks_of(folder, kind))[name]["name"] for kind, name in BALANCED.items()}
    assert {name.replace("${var.project}", "hokusai") for name in names.values()} == {
        name.replace("development", "${var.environment}") for name in (BALANCER, PROXY)
    }
    example = (folder / "terraform.tfvars.example").read_text()
    assert re.search(r'^proxy_image += ".*\.amazonaws\.com/hokusai-mlflow-proxy:', example, re.MULTILINE)


def test_every_exit_code_is_in_the_help() -> None:
    text = "".join(path.read_text() for path in [SCRIPT, *(ROOT / "scripts" / "lib").glob("*.sh")])
    used = set(re.findall(r"(?:stop|come_back|would_stop|finish|interrupted|echo) (\d+)", text)) | {"1"}
    written = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    table = written.partition("Exit code")[2]
    told = set(re.findall(r"^  (\d+)\b", table, re.MULTILINE)) | set(re.findall(r"^  130, (143)", table, re.MULTILINE))
    assert used == told


def test_every_option_is_in_the_help() -> None:
    text = SCRIPT.read_text()
    options = set(re.findall(r"--[a-z-]+", text.partition("read_options() {")[2].partition("\n}")[0])) - {"--help"}
    written = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    assert options == set(re.findall(r"^  (--[a-z-]+)", written, re.MULTILINE))
