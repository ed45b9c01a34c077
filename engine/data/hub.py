"""Data sets of the hub and tokenizers, as files on this machine; fetched by a child process if they are not here."""

import fcntl
import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from engine.data.read import SUFFIXES
from engine.data.tokens import Tokens, load_tokens
from engine.errors import DataError, ModelError, TuneDeckError
from engine.jobs import job
from engine.models import ModelFacts
from engine.paths import cache_directory
from engine.spec import ModelSpec

NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<config>[\w.-]+))?(?::(?P<split>[\w.+\[\]%:-]+))?")
"""`owner/name`, with `@config` and `:split` if there are several: `openai/gsm8k@main:train`."""


def is_hub_name(path: str) -> bool:
    """Whether that may be a data set of the hub: it looks like one, and there is no such file."""
    file = path.lower().removesuffix(".gz").endswith(SUFFIXES)
    return NAME.fullmatch(path) is not None and not file and not Path(path).expanduser().exists()


def downloaded(path: str) -> Path | None:
    """The copy of a data set of the hub, if it was fetched before."""
    file = _file(path)
    return file if is_hub_name(path) and file.is_file() else None


def _file(path: str) -> Path:
    key = hashlib.sha256(path.encode()).hexdigest()[:12]
    return cache_directory() / "datasets" / f"{path.replace('/', '--').replace(':', '-')}-{key}.parquet"


def fetch_data(path: str) -> None:
    """Fetch a data set of the hub unless it is here; nothing for anything else. Raises DataError."""
    found = NAME.fullmatch(path)
    if not found or not is_hub_name(path) or downloaded(path):
        return
    file = _file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        made = Path(folder) / "rows.parquet"
        options = [f"--{key}={value}" for key in ("config", "split") if (value := found[key])]
        try:
            job("engine.worker.fetch", ["dataset", found["name"], str(made), *options], "Fetching the data set")
        except TuneDeckError as error:
            raise DataError(
                "The data was not found", f"There is no file {path} here, and the hub: {error.message}", error.hint
            ) from None
        made.rename(file)


def ready_tokens(facts: ModelFacts, model: ModelSpec, template: str | None) -> Tokens:
    """The model's tokenizer with the template that is used. Takes 10 s once, where it is not there as tokenizer.json.

    Raises ModelError.
    """
    directory = tokenizer_directory(facts, model)
    if not (directory / "tokenizer.json").is_file():
        _convert(facts, model, directory)
    return load_tokens(directory, template)


def tokens_if_here(facts: ModelFacts, model: ModelSpec, template: str | None) -> Tokens | None:
    """The same where it costs no child process: None if the tokenizer is not there as a file, or unreadable."""
    directory = tokenizer_directory(facts, model)
    if not (directory / "tokenizer.json").is_file():
        return None
    try:
        return load_tokens(directory, template)
    except ModelError:
        return None


def tokenizer_directory(facts: ModelFacts, model: ModelSpec) -> Path:
    """Where the model's tokenizer.json lies: beside the model, or in the cache, where it may not be yet."""
    path = Path(facts.path)
    if (path / "tokenizer.json").is_file():
        return path
    stat = path.stat() if path.exists() else None
    what = f"{path.resolve() if stat else facts.path}:{model.revision}:{stat.st_size if stat else 0}:{stat.st_mtime_ns if stat else 0}"
    return cache_directory() / "tokenizers" / hashlib.sha256(what.encode()).hexdigest()[:16]


def _convert(facts: ModelFacts, model: ModelSpec, target: Path) -> None:
    """The tokenizer as files in the cache, by transformers. Raises ModelError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        options = [f"--revision={model.revision}"] if model.revision else []
        options += ["--trust-remote-code"] if model.trust_remote_code else []
        try:
            job("engine.worker.fetch", ["tokenizer", facts.path, folder, *options], "Reading the tokenizer",
                {"CUDA_VISIBLE_DEVICES": ""})  # fmt: skip
        except TuneDeckError as error:
            raise ModelError("The tokenizer cannot be read", error.message, "Is the model complete?") from None
        if not (Path(folder) / "tokenizer.json").is_file():
            raise ModelError(
                "The tokenizer cannot be read", f"{facts.label} has no fast tokenizer.", "Take a model that has."
            )
        with open(target.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be at it, or may read what is there
            if not (target / "tokenizer.json").is_file():
                shutil.rmtree(target, ignore_errors=True)
                unfinished = target.with_name(f"{target.name}.new")
                shutil.rmtree(unfinished, ignore_errors=True)
                shutil.copytree(folder, unfinished).rename(target)
