"""What an upload to the hub would be: which files go where, and whether there is a token. Nothing is sent here."""

import re
from dataclasses import dataclass
from pathlib import Path

from engine.after.trained import Trained
from engine.errors import RunError
from engine.taking.files import model_files, total
from engine.text import clean

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
CARD = "README.md"


@dataclass(frozen=True)
class Upload:
    """`files` by the name that they get; the card comes to them as README.md. `notes` should be known before it is done."""

    repo: str
    public: bool
    files: dict[str, Path]
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return total(self.files.values())


def upload_of(trained: Trained, repo: str, public: bool, merged: str | None, gguf: str | None, base: str) -> Upload:
    """The adapter or model of a run, or instead the merged model, with a GGUF file if one is named. Raises RunError.

    `base`: the base model's name on the hub, "" if it has none there.
    """
    check_name(repo)
    source = Path(merged) if merged else trained.path
    files = {str(path.relative_to(source)): path for path in model_files(source)}
    if gguf:
        files[Path(gguf).name] = Path(gguf)
    if not files:
        raise RunError("There is nothing to upload", f"{source} holds no model.", "Name another.")
    notes = []
    if trained.adapter and not merged and not base:
        notes.append("adapter_config.json names the base model by its path on this machine, which others do not have.")
    return Upload(repo, public, files, tuple(notes))


def check_name(repo: str) -> None:
    """Raises RunError unless it can be the name of a repository."""
    if not NAME.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith((".git", ".", "-")):
        raise RunError("That is no name on the hub", f"{clean(repo, False)} is not USER/NAME.",
                       "For example: --to hub me/captain-lora")  # fmt: skip


def token_is_there() -> bool:
    """Whether `hf auth login` or $HF_TOKEN has a token. It is used by huggingface_hub alone and never kept."""
    from huggingface_hub import get_token

    return bool(get_token())


def need_token() -> None:
    """Raises RunError."""
    if not token_is_there():
        raise RunError("There is no token for the hub", "Neither hf auth login nor $HF_TOKEN has one.",
                       "Log in: hf auth login, or set HF_TOKEN. A token that may write is needed.")  # fmt: skip
