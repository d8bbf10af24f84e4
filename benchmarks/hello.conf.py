"""The proxy's own gunicorn configuration, executed: same worker class, same settings, another application."""

import runpy
from pathlib import Path

globals().update(runpy.run_path(str(Path(__file__).resolve().parents[1] / "gunicorn.conf.py")))
wsgi_app = "benchmarks.hello_app:app"
