"""Which words of the command line do what."""

import argparse
import os
from pathlib import Path
from urllib.parse import urlsplit

from scripts.dev.checkout import Checkout
from scripts.dev.environments import ensure_mlflow, ensure_proxy
from scripts.dev.keys import add_key, read_settings
from scripts.dev.run import answers, run
from scripts.dev.terminal import Trouble, complain, say


def dispatch(arguments: list[str]) -> int:
    """Do what the arguments say, in the working directory. Gives the exit code."""
    parser = argparse.ArgumentParser(prog="scripts.dev")
    commands = parser.add_subparsers(dest="command", required=True)
    environment = commands.add_parser("env", help="make the environments")
    environment.add_argument("kind", choices=("run", "dev"))
    commands.add_parser("run", help="MLflow behind the proxy, until Ctrl-C")
    commands.add_parser("register", help="register a model through the running proxy")
    commands.add_parser("key", help="make a key and print it").add_argument("--user", required=True)
    chosen = parser.parse_args(arguments)
    checkout = Checkout(Path.cwd())
    try:
        if chosen.command == "env":
            ensure_proxy(checkout, chosen.kind)
            ensure_mlflow(checkout)
            return 0
        if chosen.command == "run":
            return run(checkout, os.environ)
        if chosen.command == "key":
            ensure_proxy(checkout, "run")
            say(add_key(checkout, chosen.user))
            return 0
        return register(checkout)
    except Trouble as trouble:
        complain(str(trouble))
        return 1
    except KeyboardInterrupt:
        return 130


def origin(uri: str) -> tuple[str, str]:
    """Scheme and authority of an address."""
    parts = urlsplit(uri)
    return parts.scheme, parts.netloc


def register(checkout: Checkout) -> int:
    """Become test_real_registration.py, against `make run` or against MLFLOW_TRACKING_URI where the user set it.

    It takes this process's place, so that Ctrl-C and the exit code are its own.
    """
    environ = dict(os.environ)
    local = read_settings(checkout)
    given = environ.get("MLFLOW_TRACKING_URI", "")
    if given and origin(given) == origin(local.get("MLFLOW_TRACKING_URI", "")):
        environ = {**local, **environ}  # another mount of what `make run` started: its key fits
    elif not given:
        if "MLFLOW_TRACKING_URI" not in local:
            raise Trouble("There is nothing to register at yet: start `make run` in another terminal first.")
        if not answers(local["MLFLOW_TRACKING_URI"] + "/health"):
            raise Trouble(f"Nothing answers at {local['MLFLOW_TRACKING_URI']}: start `make run` in another terminal.")
        environ |= local
    ensure_mlflow(checkout)
    python = str(checkout.mlflow_environment / "bin" / "python")
    os.execve(python, [python, str(checkout.root / "test_real_registration.py")], environ)
