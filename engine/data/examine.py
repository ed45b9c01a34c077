"""What a specification's data is, for its model: fetched if need be, looked at once as long as nothing changes."""

from pathlib import Path

from engine.data.hub import fetch_data, ready_tokens, tokens_if_here
from engine.data.read import files
from engine.data.rows import local, named
from engine.data.scan import Report, scan
from engine.errors import TuneDeckError
from engine.models import ModelFacts
from engine.spec import DataSpec, ModelSpec

_seen: dict[tuple[object, ...], Report] = {}
REMEMBERED = 8


def examine(data: DataSpec, facts: ModelFacts | None, model: ModelSpec | None = None, wait: bool = True) -> Report:
    """The report on the data, with the model's tokenizer and template if there is a model.

    Without `wait` the tokenizer is only used if it is at hand, instead of being converted in a child process. Raises
    TuneDeckError for what cannot be read.
    """
    paths = [one.path for one in named(data)] + ([data.validation] if isinstance(data.validation, str) else [])
    for path in paths:
        fetch_data(path)
    key = (data.model_dump_json(), tuple(_state(path) for path in paths), facts.path if facts else "", model.model_dump_json() if model else "",
           _state(data.template) if data.template else "", wait)  # fmt: skip
    if key not in _seen:
        tokens = None
        if facts and (facts.local or wait):
            try:
                found = ready_tokens if wait else tokens_if_here
                tokens = found(facts, model or ModelSpec(path=facts.path), data.template)
            except TuneDeckError:
                if facts.local:
                    raise
        report = scan(data, tokens)
        while len(_seen) >= REMEMBERED:
            _seen.pop(next(iter(_seen)))
        _seen[key] = report
    return _seen[key]


def _state(path: str) -> tuple[object, ...]:
    """What changes when the files change."""
    place = local(path)
    if not place.exists():
        return (path,)
    found = files(place) if place.is_dir() else [place]
    return (path, *((str(file), _stamp(file)) for file in found))


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns
