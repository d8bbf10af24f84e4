"""What a request costs that does nothing: the least that Flask under our gunicorn configuration can do."""

import os

from flask import Flask

from app.settings import Settings
from app.worker import CLIENT_IDLE

app = Flask(__name__)
app.config[CLIENT_IDLE] = Settings.from_env(os.environ).upstream.timeouts.client_idle  # our worker asks for it


@app.get("/health")
@app.get("/hello")
def hello() -> str:
    """A greeting."""
    return "Hello, World!"
