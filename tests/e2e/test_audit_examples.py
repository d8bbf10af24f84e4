"""The examples of tests/access/resources.tsv against the installed MLflow: its own messages know every name in them.

A field that a new MLflow calls otherwise would silently empty the audit trail's `resource`. Here it is told.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.support.mlflow_server import run_client

EXAMPLES = Path(__file__).resolve().parents[1] / "access" / "resources.tsv"

# Served by handlers that take JSON or a query without a message of their own; read from their source by hand.
WITHOUT_MESSAGES = (
    "/ajax-api/2.0/mlflow/upload-artifact",
    "/ajax-api/2.0/mlflow/runs/create-promptlab-run",
    "/ajax-api/2.0/mlflow/gateway-proxy",
    "/ajax-api/2.0/mlflow/get-trace-artifact",
    "/ajax-api/2.0/mlflow/logged-models/",
    "/ajax-api/2.0/mlflow/metrics/get-history-bulk",
    "/ajax-api/2.0/mlflow/experiments/search-datasets",
    "/ajax-api/3.0/",
    "/api/2.0/mlflow/users/",
    "/api/3.0/mlflow/users/",
    "/api/3.0/mlflow/roles/",
    "/api/3.0/mlflow/mcp-servers",
    "/api/3.0/mlflow/scorers/online-config",
    "/api/3.0/mlflow/server-info",
    "/gateway/",
    "/get-artifact",
    "/model-versions/get-artifact",
    "/graphql",
    "/v1/traces",
    "/version",
    "/static-files/",
    "/build/",
)

COMPARE = r"""
import csv, importlib, json, pkgutil, re, sys
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message_factory import GetMessageClass
import mlflow.protos
from mlflow.protos import databricks_pb2

endpoints = []
for module in pkgutil.iter_modules(mlflow.protos.__path__):
    if not module.name.endswith("_pb2") or re.match("databricks|unity", module.name):
        continue
    descriptor = importlib.import_module(f"mlflow.protos.{module.name}").DESCRIPTOR
    for service in descriptor.services_by_name.values():
        for method in service.methods:
            for endpoint in method.GetOptions().Extensions[databricks_pb2.rpc].endpoints:
                slash = "" if endpoint.path.startswith("/") else "/?"
                path = re.sub(r"<path:\w+>", "<>", re.sub(r"\{[\w.]+\}", "{}", endpoint.path))
                pattern = re.escape(path).replace(r"\{\}", "[^/]+").replace("<>", ".+")
                base = rf"/api/{endpoint.since.major}\.0{slash}{pattern}"
                endpoints.append((path.count("{") + path.count("<"), endpoint.method, re.compile(base), method))
endpoints.sort(key=lambda endpoint: endpoint[0])  # fixed paths first

def parse(text, message):
    try:
        ParseDict(json.loads(text), GetMessageClass(message)())
    except ParseError as error:
        return str(error)

report = {"compared": [], "unknown": [], "wrong": []}
for request, body, answer, _ in csv.reader(open(sys.argv[1]), delimiter="\t", quoting=csv.QUOTE_NONE):
    method, _, target = request.partition(" ")
    path, _, query = target.partition("?")
    found = [m for _, verb, pattern, m in endpoints if verb == method and pattern.fullmatch(path)]
    if not found:
        report["unknown"].append(request)
        continue
    report["compared"].append(request)
    asked, answered = found[0].input_type, found[0].input_type.nested_types_by_name["Response"]
    if method == "GET":
        names = {pair.partition("=")[0] for pair in query.split("&") if pair}
        wrong = sorted(names - set(asked.fields_by_name))
        report["wrong"] += [f"{request}: no field {name} in {asked.name}" for name in wrong]
    for text, message in ((body, asked), (answer, answered)):
        if text and (error := parse(text, message)):
            report["wrong"].append(f"{request}: {error}")
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report() -> dict[str, list[str]]:
    run = run_client(COMPARE, {}, args=[str(EXAMPLES)])
    assert run.returncode == 0, run.stdout + run.stderr
    told: dict[str, list[str]] = json.loads(run.stdout.splitlines()[-1])
    return told


def test_mlflows_messages_know_every_name_of_the_examples(report: dict[str, list[str]]) -> None:
    assert report["wrong"] == []


def test_the_examples_without_a_message_are_those_that_are_known_to_have_none(report: dict[str, list[str]]) -> None:
    with EXAMPLES.open(newline="") as file:
        requests = [row[0] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    unknown = [request for request in report["unknown"] if request in requests]
    assert [one for one in unknown if not one.partition(" ")[2].startswith(WITHOUT_MESSAGES) and one != "GET /"] == []
    assert len(report["compared"]) > 190
