"""Several proxies for one test file: started when they are needed, stopped together at its end.

gunicorn's gevent worker looks once a second whether it should end, so stopping one proxy takes as long as stopping ten.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.support.process import REPOSITORY
from tests.support.proxy import Proxy

Start = Callable[..., Proxy]


@contextlib.contextmanager
def fleet() -> Iterator[Start]:
    """Gives `start(env, root=...)`, which gives a running Proxy. What goes wrong in stopping is raised at the end."""
    proxies: list[Proxy] = []

    def start(env: Mapping[str, str], root: Path = REPOSITORY) -> Proxy:
        proxy = Proxy(env, root=root)
        proxy.start()
        proxies.append(proxy)
        return proxy

    with contextlib.ExitStack() as stack:
        try:
            yield start
        finally:
            for proxy in proxies:
                stack.callback(proxy.stop)
                proxy.send_signal(signal.SIGTERM)
