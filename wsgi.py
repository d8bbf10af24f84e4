"""What gunicorn and `flask --app wsgi` load."""

import os
import sys

from app import create_app
from app.settings import ConfigError, Settings

try:
    app = create_app(Settings.from_env(os.environ))
except ConfigError as error:
    sys.exit(str(error))
