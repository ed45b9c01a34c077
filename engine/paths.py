"""Where things live. Functions only: importing this module touches nothing."""

import os
from pathlib import Path

import platformdirs


def database(given: str | os.PathLike[str] | None = None) -> Path:
    """The database: `given`, else $TUNEDECK_DB, else ./experiments.db if it exists, else the user's data directory."""
    if given or os.environ.get("TUNEDECK_DB"):
        return Path(given or os.environ["TUNEDECK_DB"]).expanduser().absolute()
    local = Path("experiments.db").absolute()
    return local if local.exists() else Path(platformdirs.user_data_dir("tunedeck")) / "experiments.db"


def runs_directory(db: Path) -> Path:
    """Run directories lie beside the database."""
    return db.parent / "runs"


def run_directory(db: Path, run_id: str) -> Path:
    return runs_directory(db) / run_id


def sweeps_directory(db: Path) -> Path:
    """Sweeps have directories beside those of the runs."""
    return db.parent / "sweeps"


def config_file() -> Path:
    """The user's config: $TUNEDECK_CONFIG, else config.yaml in the user's config directory."""
    given = os.environ.get("TUNEDECK_CONFIG")
    return Path(given).expanduser() if given else Path(platformdirs.user_config_dir("tunedeck")) / "config.yaml"


def cache_directory() -> Path:
    """Things that can be made again: models dequantised from GGUF files."""
    return Path(os.environ.get("TUNEDECK_CACHE") or platformdirs.user_cache_dir("tunedeck"))


def locks_directory() -> Path:
    """Locks and leases of cards, the queue, and cards held back: the same for every database of every user of this machine."""
    return Path(os.environ.get("TUNEDECK_LOCKS") or "/tmp/tunedeck-locks")
