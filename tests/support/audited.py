"""A log to ask questions of: a model's life by the real client, through the proxy, at the real MLflow; and trouble."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.support.auth_service import ALL_SCOPES, AuthService, new_key
from tests.support.client import request
from tests.support.mlflow_server import MlflowServer, run_client
from tests.support.process import free_port
from tests.support.proxy import Line, Proxy

ALICE, BOB, READER = new_key(), new_key(), new_key()
TROUBLED = "troubled-request"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "secret-value"

LIFE = """
import json, pathlib
import mlflow
from mlflow.entities import Metric, Param

client = mlflow.MlflowClient()
experiment = client.create_experiment("prices")
run = client.create_run(experiment).info.run_id
client.log_param(run, "alpha", "secret-value")
client.log_batch(run, [Metric(f"m{i}", i / 3, 1700000000000 + i, i) for i in range(200)], [Param("p", "secret-value")])
client.set_tag(run, "k", "secret-value")
pathlib.Path("model.bin").write_bytes(b"model" * 100000)
client.log_artifact(run, "model.bin", "a folder")
mlflow.artifacts.download_artifacts(run_id=run, artifact_path="a folder/model.bin", dst_path="down")
client.create_registered_model("churn", tags={"k": "secret-value"}, description="secret-value")
for _ in range(7):
    version = client.create_model_version("churn", source=f"runs:/{run}/model", run_id=run).version
client.transition_model_version_stage("churn", version, "Production")
client.set_registered_model_alias("churn", "champion", version)
client.set_model_version_tag("churn", version, "k", "secret-value")
client.update_model_version("churn", version, "secret-value")
model = client.create_logged_model(experiment, "audited", source_run_id=run).model_id
client.set_terminated(run)
print(json.dumps({"experiment": experiment, "run": run, "version": version, "model": model}))
"""

END = """
import mlflow, sys

client = mlflow.MlflowClient()
client.delete_registered_model_alias("churn", "champion")
client.delete_model_version("churn", "7")
client.rename_registered_model("churn", "other")
client.delete_registered_model("other")
client.delete_run(sys.argv[1])
client.delete_experiment(sys.argv[2])
"""


@dataclass(frozen=True)
class Audited:
    """What was written, as it stands and parsed, and what the client was told that it had made."""

    text: str
    ids: dict[str, Any]

    @property
    def lines(self) -> list[Line]:
        """The access lines, in order."""
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if line["event"] == "proxy_request"]


def audited_run(mlflow: MlflowServer) -> Audited:
    """Live through it all, with an auth service and two proxies: one to MLflow, and one whose MLflow is away."""
    with AuthService() as service:
        for key, user in ((ALICE, "alice"), (BOB, "bob")):
            service.grant(key, user_id=user, key_id=f"key-of-{user}", scopes=ALL_SCOPES)
        service.grant(READER, user_id="reader", key_id="key-of-reader", scopes=["model:read"])
        env = {"HOKUSAI_AUTH_SERVICE_URL": service.url}
        away = f"http://127.0.0.1:{free_port()}"
        with (
            Proxy({**env, "MLFLOW_SERVER_URL": mlflow.url}) as proxy,
            Proxy({**env, "MLFLOW_SERVER_URL": away}) as lost,
        ):
            ids = _life(proxy)
            _trouble(proxy, lost)
            last = proxy.access_line("the-last"), lost.access_line(TROUBLED)
            assert all(last)
            lines = [json.dumps(line) for one in (proxy, lost) for line in one.lines()]
            assert not any(key in one.output for key in (ALICE, BOB, READER) for one in (proxy, lost))
    return Audited("\n".join(lines) + "\n", ids)


def _life(proxy: Proxy) -> dict[str, Any]:
    env = {"MLFLOW_TRACKING_URI": f"{proxy.url}/api/mlflow"}
    run = run_client(LIFE, {**env, "MLFLOW_TRACKING_TOKEN": ALICE})
    assert run.returncode == 0, run.stdout + run.stderr
    ids: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    end = run_client(END, {**env, "MLFLOW_TRACKING_TOKEN": BOB}, args=[ids["run"], ids["experiment"]])
    assert end.returncode == 0, end.stdout + end.stderr
    return ids


def _trouble(proxy: Proxy, lost: Proxy) -> None:
    search = "/mlflow/api/2.0/mlflow/experiments/search"
    delete = "/mlflow/api/2.0/mlflow/registered-models/delete"

    def ask(to: Proxy, key: str, method: str, target: str, *more: tuple[str, str]) -> int:
        return request(
            to.port, method, target, [("Authorization", f"Bearer {key}"), *more], b'{"max_results": 5}'
        ).status

    for address in ("203.0.113.7", "203.0.113.7", "203.0.113.8"):
        assert ask(proxy, new_key(), "POST", search, ("X-Forwarded-For", address), ("User-Agent", "curl")) == 401
    assert ask(proxy, READER, "DELETE", delete, ("X-Forwarded-For", "203.0.113.9")) == 403
    for path in ("/mlflow/nothing", "/mlflow/nothing", "/api/mlflow/api/2.0/mlflow/none"):
        assert ask(proxy, ALICE, "GET", path) == 404
    assert request(proxy.port, "GET", "/.env").status == 404
    trace = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")
    assert ask(lost, BOB, "POST", search, ("X-Request-ID", TROUBLED), trace) == 502
    named = (("X-Request-ID", "the-last"), ("Content-Type", "application/json"))
    assert ask(proxy, READER, "POST", search, *named, trace) == 200
