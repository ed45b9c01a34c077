"""Files to choose data from: what can follow a text that is typed as a path."""

import os
from os.path import commonprefix
from pathlib import Path

from tuiapp.data_snapshot import Browsed, FileLine
from tuiapp.format import clean

DATA = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".md", ".gz", ".zst")
MOST = 40
BEGINNING = 4096
"""Bytes of a file that are looked at."""


def browse(text: str) -> Browsed:
    """The first of the files, and how the one that is named begins. Never raises."""
    files = listed(text)
    common = commonprefix([one.path for one in files])  # noqa: RUF071  by character is what completion means
    return Browsed(tuple(files[:MOST]), max(0, len(files) - MOST), common, preview(text))


def listed(text: str) -> list[FileLine]:
    """What goes on from a text: data files first, then directories, then the rest; hidden ones only when asked for."""
    folder, name = os.path.split(text)
    try:
        entries = [one for one in os.scandir(Path(folder or ".").expanduser()) if _fits(one.name, name)]
    except (OSError, ValueError):
        return []
    return sorted(
        (_file(folder, one) for one in entries), key=lambda one: (not one.is_data, not one.path.endswith("/"), one.path)
    )


def _fits(name: str, start: str) -> bool:
    return name.startswith(start) and (start.startswith(".") or not name.startswith("."))


def _file(folder: str, entry: "os.DirEntry[str]") -> FileLine:
    path = os.path.join(folder, entry.name)
    try:
        if entry.is_dir():
            return FileLine(f"{path}/", None)
        return FileLine(path, entry.stat().st_size, entry.name.lower().endswith(DATA))
    except OSError:
        return FileLine(path, None)


def preview(text: str) -> tuple[str, ...]:
    """How a text file begins; nothing of what is none."""
    path = Path(text).expanduser()
    try:
        if not text or not path.is_file():
            return ()
        with path.open("rb") as file:
            start = file.read(BEGINNING)
    except (OSError, ValueError):
        return ()
    if b"\0" in start:
        return ("no text: its rows are shown once it is read",)
    return tuple(clean(line) for line in start.decode("utf-8", "replace").splitlines()[:8])
