"""How the proxy is served: every line with its reason. Read by `gunicorn --config gunicorn.conf.py wsgi:app`."""

import logging
import os
import sys
from typing import Any

from gunicorn.http import message

from app.access_log import AccessLog, logging_config
from app.exporter import Exporter
from app.settings import ConfigError, Settings

try:
    settings = Settings.from_env(os.environ)
except ConfigError as error:  # before a port is bound or a worker forked: nothing half-started
    sys.exit(str(error))

bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
workers = settings.workers
worker_class = "app.worker.ProxyWorker"  # gevent: a slow client costs a greenlet, not a thread
worker_connections = 10000  # greenlets per worker, some kilobytes each; at the limit not even /health is answered
backlog = 2048
preload_app = False  # the upstream's pool is made after the fork; and gevent must patch before requests is imported

# The load balancer must be the first to close an idle connection, else its next request meets a closed one (502).
keepalive = int(settings.alb_idle_timeout) + 5
timeout = 60  # without a heartbeat; the heartbeat has a greenlet of its own, so long transfers do not count
# Below the 120 s that ECS Fargate waits between SIGTERM and SIGKILL at most. The server kills its workers then; they
# end what is left by themselves so many seconds earlier, and tell of it.
graceful_timeout = 115
ENDING_SECONDS = 5
max_requests = 0  # a restart would cut transfers that last longer than graceful_timeout

limit_request_line = 16384  # what a load balancer of AWS passes; GET queries of the MLflow client are long
message.MAX_REQUEST_LINE = limit_request_line  # gunicorn caps the setting at 8190, and knows only "no limit" above that
limit_request_fields = 100
limit_request_field_size = 16384

header_map = "drop"  # names with underscores: `X_Hokusai_User_Id` would fold into the environ key of our own header
forwarder_headers = ""  # else a SCRIPT_NAME header from a trusted peer rewrites the path
forwarded_allow_ips = "127.0.0.1"  # only for the scheme, which nothing here reads; not from FORWARDED_ALLOW_IPS
secure_scheme_headers = {}  # contradictory ones would be answered 400
proxy_protocol = "off"  # the load balancer does not speak it
http_parser = "python"  # "auto" would change parsers when a package happens to be installed
http2_cleartext = "off"  # no h2c smuggling
control_socket_disable = True  # no file in $HOME, which may be read-only or missing
SHARED_MEMORY = "/dev/shm"  # noqa: S108  # gunicorn makes its file there with mkstemp, so nobody can prepare it
worker_tmp_dir = SHARED_MEMORY if os.path.isdir(SHARED_MEMORY) else None  # heartbeat: no disk, no writable root

logger_class = AccessLog
logconfig_dict = logging_config(settings.debug)


def on_starting(server: Any) -> None:
    """Open the metrics' port before there is anything else: what serves it must have no other socket."""
    server.exporter = None
    if settings.metrics.port:
        try:
            server.exporter = Exporter(settings.metrics, settings.workers)
        except OSError as error:
            where = f"METRICS_HOST {settings.metrics.host} and METRICS_PORT {settings.metrics.port}"
            sys.exit(str(ConfigError([f"{where}: nothing can listen there: {error.strerror}."])))


def pre_fork(server: Any, worker: Any) -> None:
    """Give a new worker a place for what it counts."""
    if server.exporter is not None:
        server.exporter.admit(worker)


def post_fork(server: Any, worker: Any) -> None:
    """In the worker: tell its access log what else to do for each request, and when to end what is left of them."""
    worker.cfg.set("graceful_timeout", max(0, worker.cfg.graceful_timeout - ENDING_SECONDS))
    worker.log.measured = settings.metrics.service if settings.metrics.emf else ""
    if server.exporter is not None:
        server.exporter.equip(worker)


def child_exit(server: Any, worker: Any) -> None:
    """A worker has ended, in whatever way: what it had under way is over."""
    if server.exporter is not None:
        server.exporter.dismiss(worker)


def on_exit(server: Any) -> None:
    """Nothing outlives the server."""
    if server.exporter is not None:
        server.exporter.stop()


def when_ready(server: Any) -> None:
    """Say once what one cannot see from outside: how far the rate limits reach."""
    log = logging.getLogger("app.limits")
    if settings.limits.redis_url:
        log.info("rate_limits_shared")
    else:  # a key may send up to so many times its limit, as chance spreads its requests
        log.warning("rate_limits_per_process", extra={"workers": settings.workers})
