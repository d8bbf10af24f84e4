"""Keys of the local proxy, and the file that tells a shell where the proxy is and which key it takes."""

import os
import subprocess
import tempfile

from scripts.dev.checkout import Checkout
from scripts.dev.terminal import Trouble

NO_MLFLOW = "http://127.0.0.1:9"  # the proxy's settings ask for an address; for a key nothing is sent there


def add_key(checkout: Checkout, user: str, requests_per_hour: int | None = None) -> str:
    """Make a key for a user and give it: it is written nowhere, only its hash is. Raises Trouble."""
    command = [str(checkout.proxy_environment / "bin" / "flask"), "--app", "wsgi", "keys", "add", "--user", user]
    if requests_per_hour is not None:
        command += ["--rate-limit", str(requests_per_hour)]
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "MLFLOW_SERVER_URL": NO_MLFLOW,
        "LOCAL_KEYS_PATH": str(checkout.keys),
    }
    result = subprocess.run(command, cwd=checkout.root, env=environ, capture_output=True, text=True, check=False)
    key = result.stdout.strip()
    if result.returncode or not key:
        lines = result.stderr.strip().splitlines() or ["it gave no reason."]
        raise Trouble(f"No key was made: {lines[-1].removeprefix('Error: ')}")
    return key


def read_settings(checkout: Checkout) -> dict[str, str]:
    """What .local/env holds; empty when there is none."""
    try:
        lines = checkout.settings.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def write_settings(checkout: Checkout, settings: dict[str, str]) -> None:
    """Write .local/env: the old file or the new one, whole, and readable for its owner only (mkstemp: mode 600)."""
    descriptor, name = tempfile.mkstemp(dir=checkout.local, prefix="env.")
    with os.fdopen(descriptor, "w") as file:
        file.write("# Written by `make run`. For a shell: set -a; . .local/env; set +a\n")
        file.writelines(f"{variable}={value}\n" for variable, value in settings.items())
    os.replace(name, checkout.settings)
