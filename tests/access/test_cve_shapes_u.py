"""U09: the published attacks on MLflow, replayed through the proxy against the real MLflow.

The attacker has a key that may read and write, as any third party's may. What an attack wants is planted where it can
be recognised: a file beside the artifact store, and a listener that nobody should call. Either the proxy refuses, or
MLflow does; whoever it is, the file stays as it is and its content out of every answer.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.auth_service import AuthService, new_key
from tests.support.client import RawResponse, basic, request
from tests.support.mlflow_server import MlflowServer
from tests.support.proxy import Proxy

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
AJAX_ARTIFACTS = "/ajax-api/2.0/mlflow-artifacts/artifacts"


@dataclass
class Scene:
    """A key, the file that is none of the store's, and an address at which nobody should call."""

    proxy: Proxy
    key: str
    secret: str
    file: Path
    outside: str

    def ask(self, method: str, target: str, body: Any = None, *headers: tuple[str, str]) -> RawResponse:
        pairs = [("Authorization", f"Bearer {self.key}"), *headers]
        raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        if raw is not None and not any(name == "Content-Type" for name, _ in headers):
            pairs.append(("Content-Type", "application/json"))
        return request(self.proxy.port, method, f"/api/mlflow{target}", pairs, raw, timeout=30)


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture
def scene(
    real_proxy: Proxy, mlflow_server: MlflowServer, auth_service: AuthService, listener: socket.socket
) -> Iterator[Scene]:
    secret = secrets.token_hex(16)
    file = mlflow_server.artifacts.parent / "passwd"
    file.write_text(secret)
    key = auth_service.grant(new_key(), user_id="eve", key_id="eve", scopes=["model:read", "model:write"])
    yield Scene(real_proxy, key, secret, file, f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert file.read_text() == secret, "the file beside the store was changed"
    with pytest.raises(BlockingIOError):  # nobody waits to be let in
        listener.accept()


def assert_nothing_leaked(scene: Scene, response: RawResponse) -> None:
    assert scene.secret.encode() not in response.raw and b"root:x:0:0" not in response.raw


def run_of(scene: Scene) -> str:
    """A run of the attacker's own."""
    name = f"attack-{secrets.token_hex(6)}"
    experiment = scene.ask("POST", f"{API}/experiments/create", {"name": name}).json()["experiment_id"]
    made = scene.ask("POST", f"{API}/runs/create", {"experiment_id": experiment, "start_time": 1})
    run: str = made.json()["run"]["info"]["run_id"]
    return run


UP = ("../passwd", "../../passwd", "../../../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "C:/")
ENCODED = ("..%2fpasswd", "..%252fpasswd", "%2e%2e%2fpasswd", "%252e%252e%252fpasswd", "..%5cpasswd", "..;/passwd")


@pytest.mark.parametrize(
    "path", [*UP, "..%2f..%2fpasswd", "%252e%252e%252fpasswd", "//proc/self/root/etc/passwd", "a?/a"]
)
def test_u09_a_path_in_the_query_does_not_leave_the_store(scene: Scene, path: str) -> None:
    """CVE-2023-30172, CVE-2023-3765, CVE-2023-2780, CVE-2024-8859, CVE-2026-2033."""
    run = run_of(scene)
    for target in (
        f"/get-artifact?path={path}&run_uuid={run}",
        f"{API}/artifacts/list?path={path}&run_id={run}",
        f"{ARTIFACTS}?path={path}",
        f"{AJAX_ARTIFACTS}?path={path}",
    ):
        assert_nothing_leaked(scene, scene.ask("GET", target))
    uploaded = scene.ask("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path={path}", b"x")
    assert_nothing_leaked(scene, uploaded)


@pytest.mark.parametrize("base", [ARTIFACTS, AJAX_ARTIFACTS, "/api/2.0/mlflow-artifacts/mpu/create"])
@pytest.mark.parametrize("path", [*UP[:3], *ENCODED])
def test_u09_a_path_in_the_path_is_refused_by_the_proxy(scene: Scene, path: str, base: str) -> None:
    """CVE-2023-6015, CVE-2023-6753, CVE-2023-6831, CVE-2024-1560, CVE-2026-2651."""
    for method in ("GET", "PUT", "DELETE", "POST"):
        response = scene.ask(method, f"{base}/{path}", None if method == "GET" else b"x")
        assert (response.status, response.json()["error_code"]) == (400, "BAD_REQUEST")


LOCATIONS = [
    "http:///?/../../../etc/",
    "http:///#/../../../etc/",
    "http://x/;/../../../../etc/",
    "file:///etc",
    "file://./etc",
    "file://localhost/etc",
    "//proc/self/root",
    "../../..",
    "dbfs:/",
    "mlflow-artifacts:/../../..",
    "mlflow-artifacts://host/%2e%2e/%2e%2e",
    "",
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_u09_an_experiment_stored_elsewhere_gives_nothing_away(scene: Scene, location: str) -> None:
    """CVE-2023-6909, CVE-2024-1483, CVE-2024-2928, CVE-2024-3848, CVE-2024-1593, CVE-2024-8859."""
    made = scene.ask("POST", f"{API}/experiments/create", {"name": secrets.token_hex(6), "artifact_location": location})
    assert_nothing_leaked(scene, made)
    if made.status != 200:
        return
    experiment = made.json()["experiment_id"]
    run = scene.ask("POST", f"{API}/runs/create", {"experiment_id": experiment}).json()["run"]["info"]["run_id"]
    for path in ("passwd", "etc/passwd", "../passwd"):
        assert_nothing_leaked(scene, scene.ask("GET", f"/get-artifact?path={path}&run_uuid={run}"))
        assert_nothing_leaked(scene, scene.ask("GET", f"{API}/artifacts/list?path={path}&run_id={run}"))


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("source", [*LOCATIONS, "file://HOST/etc", "models:/x/1", "runs:/x/../../../etc"])
def test_u09_a_model_version_from_elsewhere_gives_nothing_away(scene: Scene, source: str, prompt: bool) -> None:
    """CVE-2023-1177, CVE-2023-2780, CVE-2023-2356, CVE-2023-6974, CVE-2024-3573, CVE-2025-11201, CVE-2026-2614."""
    name = f"m-{secrets.token_hex(6)}"
    assert scene.ask("POST", f"{API}/registered-models/create", {"name": name}).status == 200
    for given in (source, source.replace("HOST", scene.outside.removeprefix("http://")), f"{scene.outside}/{source}"):
        tags = [{"key": "mlflow.prompt.is_prompt", "value": "true"}] if prompt else []
        made = scene.ask("POST", f"{API}/model-versions/create", {"name": name, "source": given, "tags": tags})
        assert_nothing_leaked(scene, made)
        if made.status != 200:
            continue
        version = made.json()["model_version"]["version"]
        for path in ("passwd", "etc/passwd", "../passwd"):
            target = f"/model-versions/get-artifact?path={path}&name={name}&version={version}"
            assert_nothing_leaked(scene, scene.ask("GET", target))


SCOPED = {
    "CVE-2026-2393, CVE-2026-64849: webhooks that call inside": ("POST", "/api/2.0/mlflow/webhooks"),
    "the same, tried at once": ("POST", "/api/2.0/mlflow/webhooks/x/test"),
    "CVE-2026-3198: gateway lists with their secrets": ("GET", "/api/3.0/mlflow/gateway/secrets/list"),
    "CVE-2026-0545: jobs": ("POST", "/ajax-api/3.0/jobs/"),
    "CVE-2026-115886: scorers with addresses of their own": ("POST", "/ajax-api/3.0/mlflow/scorer/invoke"),
    "the same by evaluation": ("POST", "/ajax-api/3.0/mlflow/genai/evaluate/invoke"),
    "the assistant's shell": ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),
}


@pytest.mark.parametrize("case", SCOPED)
def test_u09_what_reaches_further_than_data_needs_more_than_a_write_scope(scene: Scene, case: str) -> None:
    method, path = SCOPED[case]
    body = {"name": "x", "url": scene.outside, "events": [], "kwargs": {"base_url": scene.outside}}
    assert scene.ask(method, path, body).status == 403


@pytest.mark.parametrize("path", ["/v1/traces", "/ajax-api/3.0/jobs/", "/ajax-api/3.0/jobs/search", "/signup"])
def test_u09_no_route_is_forgotten_by_the_gate(scene: Scene, path: str) -> None:
    """CVE-2026-0545, CVE-2026-2652, CVE-2025-1473: routes that MLflow served without asking who calls."""
    for mount in ("/api/mlflow", "/mlflow", ""):
        response = request(scene.proxy.port, "POST", mount + path, [("Content-Type", "application/json")], b"{}")
        assert response.status in (401, 404)


@pytest.mark.parametrize("trace", ["../x", "..%2fx", "../../passwd", "/etc/passwd"])
def test_u09_a_trace_named_like_a_path_is_no_path(scene: Scene, trace: str) -> None:
    """CVE-2026-53995."""
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
    info = {"trace_id": trace, "trace_location": location, "request_time": "2026-01-01T00:00:00Z", "state": "OK"}
    assert_nothing_leaked(scene, scene.ask("POST", "/api/3.0/mlflow/traces", {"trace": {"trace_info": info}}))
    assert_nothing_leaked(scene, scene.ask("GET", f"/ajax-api/3.0/mlflow/get-trace-artifact?request_id={trace}"))


@pytest.mark.parametrize("sent", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}], ids=str)
def test_u09_a_page_of_another_site_changes_nothing(scene: Scene, sent: dict[str, str]) -> None:
    """CVE-2023-43472: with the password that the browser remembers, and a body that needs no preflight."""
    credential = ("Authorization", basic(scene.key, "eve"))
    run = run_of(scene)
    target = f"/api/mlflow/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=a.txt"
    headers = [credential, ("Content-Type", "text/plain")]
    forged = request(scene.proxy.port, "POST", target, [*headers, *sent.items()], b"x")
    assert (forged.status, forged.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert "files" not in scene.ask("GET", f"{API}/artifacts/list?run_id={run}").json()
    # The same from our own page is what the UI does.
    own = [("Sec-Fetch-Site", "same-origin"), ("Origin", "https://registry.hokus.ai"), ("Host", "registry.hokus.ai")]
    assert request(scene.proxy.port, "POST", target, [*headers, *own], b"x").status == 200


def test_u09_a_name_that_leads_here_is_no_way_around_the_host_check(scene: Scene) -> None:
    """CVE-2025-14279: DNS rebinding. A page's own name in Host gives it no key, and MLflow never sees the name."""
    response = request(scene.proxy.port, "GET", "/mlflow/version", [("Host", "rebound.evil.example")])
    assert response.status == 401
    assert scene.ask("GET", "/version", None, ("Host", "rebound.evil.example")).status == 200
