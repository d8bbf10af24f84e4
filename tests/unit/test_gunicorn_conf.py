"""gunicorn.conf.py, read by gunicorn's own loader: the lines that a deployment's life hangs on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.app.base import Application
from gunicorn.config import Config
from gunicorn.http import message
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine
from gunicorn.http.parser import RequestParser

from app import exporter
from app.access_log import AccessLog, logging_config
from app.metric_settings import MetricSettings
from app.worker import ProxyWorker
from tests.unit.samples import ENVIRONMENT

CONFIG = Path(__file__).resolve().parents[2] / "gunicorn.conf.py"


class FromFile(Application):
    """gunicorn as `--config gunicorn.conf.py` starts it, up to where it would bind."""

    def load_config(self) -> None:
        self.load_config_from_file(str(CONFIG))


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file changes a constant of gunicorn's, and registers itself as a module: both are put back."""
    monkeypatch.setattr(message, "MAX_REQUEST_LINE", message.MAX_REQUEST_LINE)
    monkeypatch.setattr(os, "environ", dict(ENVIRONMENT))
    monkeypatch.setattr(sys, "argv", ["gunicorn"])
    yield
    sys.modules.pop("__config__", None)


def load(**variables: str) -> Config:
    os.environ.update(variables)
    return FromFile().cfg


@pytest.mark.parametrize("idle", ["60", "1", "60.9", "400", "4000"])
def test_the_load_balancer_is_the_first_to_close_an_idle_connection(idle: str) -> None:
    """Else its next request meets a closed connection, and its client a 502."""
    assert load(ALB_IDLE_TIMEOUT_SECONDS=idle).keepalive > float(idle)


def test_a_stop_is_over_before_ecs_kills() -> None:
    assert load().graceful_timeout <= 115  # the longest stopTimeout of Fargate is 120 s


PINNED: dict[str, Any] = {
    "worker_class": ProxyWorker,
    "logger_class": AccessLog,
    "preload_app": False,
    "max_requests": 0,
    "limit_request_line": 16384,
    "limit_request_field_size": 16384,
    "header_map": "drop",
    "forwarder_headers": [],
    "forwarded_allow_ips": ["127.0.0.1"],
    "secure_scheme_headers": {},
    "proxy_protocol": "off",
    "http_parser": "python",
    "http2_cleartext": "off",
    "control_socket_disable": True,
}


@pytest.mark.parametrize("name", PINNED)
def test_a_setting_that_something_depends_on_is_as_it_must_be(name: str) -> None:
    assert getattr(load(), name) == PINNED[name]


def test_neither_the_environment_nor_a_header_makes_a_peer_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """FORWARDED_ALLOW_IPS is read by uvicorn too, and set to * in shared environments."""
    config = load(FORWARDED_ALLOW_IPS="*")
    assert (config.forwarded_allow_ips, config.forwarder_headers) == (["127.0.0.1"], [])


def test_lines_go_to_stdout_in_json_and_debug_is_passed_on() -> None:
    assert (load().logconfig_dict, load(MLFLOW_PROXY_DEBUG="true").logconfig_dict) == (
        logging_config(False),
        logging_config(True),
    )


@pytest.mark.parametrize(
    ("host", "bind"),
    [("127.0.0.1", ["127.0.0.1:9001"]), ("0.0.0.0", ["0.0.0.0:9001"]), ("::", ["[::]:9001"]), ("h", ["h:9001"])],
)
def test_it_listens_where_the_settings_say(host: str, bind: list[str]) -> None:
    config = load(API_HOST=host, API_PORT="9001", PROXY_WORKERS="3")
    assert (config.bind, config.workers) == (bind, 3)


def test_the_heartbeat_needs_no_writable_disk_where_there_is_shared_memory() -> None:
    assert load().worker_tmp_dir == ("/dev/shm" if os.path.isdir("/dev/shm") else None)


def test_a_configuration_with_faults_starts_nothing_and_names_them_all() -> None:
    with pytest.raises(SystemExit) as raised:
        load(API_PORT="x", MLFLOW_SERVER_URL="https://registry.hokus.ai")
    assert [
        name for name in ("API_PORT", "MLFLOW_SERVER_URL", "public host") if name not in str(raised.value.code)
    ] == []


# --- metrics, at each turn of a worker ---


class Exporter:
    """In the real one's place: notes what it is asked."""

    def __init__(self, settings: MetricSettings, workers: int) -> None:
        if settings.host == "taken":
            raise OSError(98, "Address already in use")
        self.calls: list[Any] = [(settings.host, settings.port, workers)]

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self.calls.append((name, *given))


def turns(config: Config) -> tuple[SimpleNamespace, SimpleNamespace]:
    """The server and a worker after all that happens to them between start and end."""
    server, worker = SimpleNamespace(), SimpleNamespace(log=SimpleNamespace(), cfg=Config())
    config.on_starting(server)
    for hook in (config.pre_fork, config.post_fork, config.child_exit):
        hook(server, worker)
    config.on_exit(server)
    return server, worker


def test_metrics_are_started_first_and_told_of_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "Exporter", Exporter)
    server, worker = turns(load(METRICS_PORT="9464", METRICS_HOST="::1", PROXY_WORKERS="3"))
    assert server.exporter.calls == [
        ("::1", 9464, 3),
        ("admit", worker),
        ("equip", worker),
        ("dismiss", worker),
        ("stop",),
    ]


def test_without_a_port_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "Exporter", None)
    assert turns(load())[0].exporter is None


def test_a_reload_goes_on_with_the_same_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn reads the file again, and calls what it finds there with the server that it is."""
    monkeypatch.setattr(exporter, "Exporter", Exporter)
    server, worker = SimpleNamespace(), SimpleNamespace(log=SimpleNamespace(), cfg=Config())
    load(METRICS_PORT="9464").on_starting(server)
    load(METRICS_PORT="9464").pre_fork(server, worker)
    assert server.exporter.calls[1:] == [("admit", worker)]


@pytest.mark.parametrize(("emf", "measured"), [("true", "of-staging"), ("false", ""), ("", "")])
def test_a_workers_log_writes_documents_for_cloudwatch_when_it_is_told_to(emf: str, measured: str) -> None:
    assert turns(load(METRICS_EMF=emf, METRICS_SERVICE="of-staging"))[1].log.measured == measured


def test_a_port_that_cannot_be_had_ends_it_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "Exporter", Exporter)
    with pytest.raises(SystemExit) as raised:
        turns(load(METRICS_PORT="9464", METRICS_HOST="taken"))
    assert str(raised.value.code).splitlines() == [
        "The proxy is not configured correctly:",
        "  - METRICS_HOST taken and METRICS_PORT 9464: nothing can listen there: Address already in use.",
    ]


# --- that the limits are really those that are written down: gunicorn caps the setting ---


def parse(config: Config, request: bytes) -> Any:
    """The first request that gunicorn's parser finds in some bytes."""
    return next(RequestParser(config, [request], ("192.0.2.1", 4711)))


def request_line(length: int) -> bytes:
    around = len(b"GET / HTTP/1.1")
    return b"GET /" + b"a" * (length - around) + b" HTTP/1.1"


@pytest.mark.parametrize("length", [8000, 8191, 12000, 16384])
def test_a_request_line_of_up_to_16_kib_is_parsed(length: int) -> None:
    request = parse(load(), request_line(length) + b"\r\nHost: h\r\n\r\n")
    assert len(request.uri) == length - len(b"GET  HTTP/1.1")


def test_a_longer_request_line_is_refused() -> None:
    with pytest.raises(LimitRequestLine):
        parse(load(), request_line(16386) + b"\r\nHost: h\r\n\r\n")


def test_a_header_of_up_to_16_kib_is_parsed_and_a_longer_one_refused() -> None:
    head = b"GET / HTTP/1.1\r\nHost: h\r\nX-Long: "
    assert dict(parse(load(), head + b"a" * 16000 + b"\r\n\r\n").headers)["X-LONG"] == "a" * 16000
    with pytest.raises(LimitRequestHeaders):
        parse(load(), head + b"a" * 17000 + b"\r\n\r\n")


def test_sixty_four_kib_of_headers_pass_as_the_load_balancer_passes_them() -> None:
    head = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"X-%d: %b\r\n" % (i, b"a" * 15000) for i in range(4)) + b"\r\n"
    assert len(parse(load(), head).headers) == 5


def test_a_name_with_an_underscore_never_reaches_the_environ() -> None:
    request = parse(load(), b"GET / HTTP/1.1\r\nHost: h\r\nX_Hokusai_User_Id: admin\r\nSCRIPT_NAME: /x\r\n\r\n")
    assert request.headers == [("HOST", "h")]
