"""The audit trail of a model's life, told by the access lines: the real client, the proxy and the real MLflow."""

from __future__ import annotations

import re

from tests.support.audited import SECRET, Audited
from tests.support.proxy import Line


def where(audited: Audited, **fields: str) -> list[Line]:
    return [line for line in audited.lines if fields.items() <= line.items()]


def trail(audited: Audited, user: str) -> list[tuple[str, str]]:
    """What a user changed, in order."""
    changes = [line for line in where(audited, user_id=user, outcome="ok") if line["method"] != "GET"]
    return [(line["action"], line["resource"]) for line in changes if not line["action"].endswith(".search")]


def test_every_change_names_what_it_changed(audited: Audited) -> None:
    ids, run = audited.ids, f"run:{audited.ids['run']}"
    assert trail(audited, "alice") == [
        ("experiments.create", f"experiment:{ids['experiment']}"),
        ("runs.create", run),
        ("runs.log-parameter", run),
        ("runs.log-batch", run),
        ("runs.tag.set", run),
        ("artifacts.upload", f"artifact:{ids['experiment']}/{ids['run']}/artifacts/a folder/model.bin"),
        ("registered-models.create", "registered-model:churn"),
        *[("model-versions.create", f"model-version:churn/{number}") for number in range(1, 8)],
        ("model-versions.transition-stage", "model-version:churn/7"),
        ("registered-models.alias.set", "model-alias:churn/champion/7"),
        ("model-versions.tag.set", "model-version:churn/7"),
        ("model-versions.update", "model-version:churn/7"),
        ("logged-models.create", f"logged-model:{ids['model']}"),
        ("runs.update", run),
    ]
    assert trail(audited, "bob") == [
        ("registered-models.alias.delete", "model-alias:churn/champion"),
        ("model-versions.delete", "model-version:churn/7"),
        ("registered-models.rename", "registered-model:churn"),
        ("registered-models.delete", "registered-model:other"),
        ("runs.delete", run),
        ("experiments.delete", f"experiment:{ids['experiment']}"),
    ]


def test_who_registered_version_7(audited: Audited) -> None:
    (line,) = where(audited, action="model-versions.create", resource="model-version:churn/7")
    assert (line["user_id"], line["key_id"], line["status"]) == ("alice", "key-of-alice", 200)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])


def test_what_was_only_read_is_named_too(audited: Audited) -> None:
    assert where(audited, action="runs.get", resource=f"run:{audited.ids['run']}") != []
    path = f"{audited.ids['experiment']}/{audited.ids['run']}/artifacts/a folder/model.bin"
    assert where(audited, action="artifacts.download", resource=f"artifact:{path}") != []


def test_names_and_ids_are_told_and_no_content(audited: Audited) -> None:
    assert SECRET not in audited.text
