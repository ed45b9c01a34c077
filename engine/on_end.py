"""The user's command at the end of a run (`on_end` of the config), run by the supervisor: it works with the app closed.

Its text may hold a secret (a web hook, say), so it and what it prints are written nowhere.
"""

import os
import signal
import subprocess
from pathlib import Path

from engine import config

SECONDS = 60.0
"""Time it has."""


def run_command(run_dir: Path, database: Path, name: str, status: str, seconds: float = SECONDS) -> str:
    """Run the command, if the config has one, and wait for it: what went wrong, empty if nothing did. Never raises."""
    command = config.read().on_end
    if not command:
        return ""
    about = {"RUN": run_dir.name, "NAME": name, "STATUS": status, "DIR": str(run_dir), "DB": str(database)}
    environment = os.environ | {f"TUNEDECK_{key}": value for key, value in about.items()}
    try:
        child = subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=run_dir, env=environment, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"could not be started: {error.strerror}"
    try:
        code = child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f"was ended after {seconds:g} s"
    return "" if code == 0 else f"ended with exit code {code}"
