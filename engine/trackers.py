"""Other trackers that a run reports to besides ours: tensorboard, wandb, mlflow, trackio, where they are installed.

transformers does the reporting; here is what each needs so that it asks nobody anything and writes into the run's directory.
What the user has set in the environment stays as it is. Keys are read by the trackers themselves, never by us.
"""

import importlib.util
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.errors import SpecError
from engine.spec import RunSpec

MODULES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}
"""By the names that transformers gives them: the modules, any of which is enough."""
PACKAGES = {"mlflow": "mlflow-skinny"}
"""What to install where it is not the name: the whole of mlflow wants an older pandas than the tested set has."""


def check(report_to: list[str]) -> None:
    """Raises SpecError for a tracker that we do not know or that is not installed."""
    unknown = [name for name in report_to if name not in MODULES]
    if unknown:
        raise SpecError("There is no such tracker", f"report_to names {', '.join(unknown)}.",
                        f"It may name {', '.join(MODULES)}; TuneDeck's own record needs none.")  # fmt: skip
    absent = [name for name in report_to if not any(map(importlib.util.find_spec, MODULES[name]))]
    if absent:
        raise SpecError("A tracker is not installed", f"report_to names {', '.join(absent)}.",
                        f"pip install {' '.join(PACKAGES.get(name, name) for name in absent)}")  # fmt: skip


def arguments(spec: RunSpec) -> dict[str, Any]:
    """What TrainingArguments takes for them: names, and that nothing is uploaded to a Space of the hub."""
    return {"run_name": spec.run.name, "project": spec.run.project} if spec.report_to else {}


def variables(spec: RunSpec, run_dir: Path, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment variables of the worker for its trackers. `given` is the user's environment, which goes before ours."""
    made: dict[str, str] = {}
    for name in spec.report_to:
        made |= VARIABLES[name](spec, run_dir, given)
    return {name: value for name, value in made.items() if name not in given}


def _tensorboard(spec: RunSpec, run_dir: Path, given: Mapping[str, str]) -> dict[str, str]:
    return {"TENSORBOARD_LOGGING_DIR": str(run_dir / "tensorboard")}


def _wandb(spec: RunSpec, run_dir: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Without a key it records offline: `wandb sync` sends it later. Its console capture would take output.log away."""
    mode = {} if has_wandb_key(given) else {"WANDB_MODE": "offline"}
    return mode | {
        "WANDB_DIR": str(run_dir),
        "WANDB_PROJECT": spec.run.project,
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
    }


def _mlflow(spec: RunSpec, run_dir: Path, given: Mapping[str, str]) -> dict[str, str]:
    """mlflow-skinny alone has no database, and so only the file store, which mlflow 3 wants to be asked for by name."""
    named = {"MLFLOW_EXPERIMENT_NAME": spec.run.project}
    if importlib.util.find_spec("sqlalchemy") and importlib.util.find_spec("alembic"):
        return named | {"MLFLOW_TRACKING_URI": f"sqlite:///{run_dir / 'mlflow.db'}"}
    return named | {"MLFLOW_TRACKING_URI": (run_dir / "mlruns").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}


def _trackio(spec: RunSpec, run_dir: Path, given: Mapping[str, str]) -> dict[str, str]:
    return {"TRACKIO_DIR": str(run_dir / "trackio")}


VARIABLES = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}


def has_wandb_key(given: Mapping[str, str]) -> bool:
    """Whether wandb can log in by itself: a key in the environment, or an entry in the netrc file (`wandb login`)."""
    if given.get("WANDB_API_KEY"):
        return True
    host = urlsplit(given.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    usual = (os.path.expanduser(name) for name in ("~/.netrc", "~/_netrc"))
    file = given.get("NETRC") or next(filter(os.path.isfile, usual), "")
    try:
        return bool(host and file and netrc.netrc(file).authenticators(host))
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return False
