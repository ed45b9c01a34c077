"""The rows of a run as Arrow files of token ids, made once for all that determines them. Nothing is lost without a word."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List
from datasets import Value as Column
from datasets.arrow_writer import ArrowWriter

from engine.data.formats import Value
from engine.data.prepare import Dropped, Drops, chosen_rows, select
from engine.data.rows import Row, content_hash, rows_of, sources, validation_source
from engine.data.tokens import last_answer
from engine.errors import DataError
from engine.events import DataReady, Notice
from engine.paths import cache_directory
from engine.planner.steps import validation_rows
from engine.spec import RunSpec
from engine.worker.parallel import ordered
from engine.worker.preprocess import BATCH, Ids, Unusable, preprocess
from engine.worker.reporter import Reporter

FORMAT = 2
"""Of what is cached: raised whenever the same specification would give other rows."""
KEPT_CACHES = 20
ANSWERS = ("chosen_ids", "rejected_ids", "completion_ids")
TYPES = {"label": Column("bool"), "row": Column("string")}
"""Columns that are no lists of ids."""


def datasets_for(spec: RunSpec, tokenizer: Any, reporter: Reporter) -> tuple[Dataset, Dataset | None]:
    """The training and the validation data set (None if nothing is held out), as TRL's trainers take them.

    Raises DataError if no training row is left.
    """
    folder = cache_directory() / "prepared"
    folder.mkdir(parents=True, exist_ok=True)
    digest = _digest(spec)
    _as_checked(reporter, digest)
    target = folder / _key(spec, tokenizer, digest)
    with open(target.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run, or another rank, may be at it
        cached = (target / "ready.json").is_file()
        if cached:
            os.utime(target / "ready.json")
        else:
            _prune(folder)
            _write(spec, tokenizer, digest, target)
        ready = DataReady(**json.loads((target / "ready.json").read_text(encoding="utf-8")) | {"cached": cached})
        train = Dataset.from_file(str(target / "train.arrow"))
        held_out = Dataset.from_file(str(target / "validation.arrow")) if ready.validation else None
    reporter.say(ready)
    _warn(reporter, spec, ready)
    return train, held_out


def _digest(spec: RunSpec) -> str:
    return content_hash([*sources(spec.data), *validation_source(spec.data)])


def _as_checked(reporter: Reporter, digest: str) -> None:
    """Raises DataError if the files are not those that were checked when the run was made."""
    file = Path(getattr(reporter, "run_dir", os.devnull)) / "data.sha256"
    if file.is_file() and file.read_text().strip() != digest:
        raise DataError(
            "The data has changed since it was checked",
            "Its files have other content than when the run was made.",
            "Put the old files back, or start a new run.",
        )


def _key(spec: RunSpec, tokenizer: Any, digest: str) -> str:
    """Everything that determines the ids; not where the files lie."""
    data = spec.data.model_dump(exclude={"path", "validation", "template"})
    weights = [] if isinstance(spec.data.path, str) else [one.weight for one in spec.data.path]
    held = spec.data.validation if not isinstance(spec.data.validation, str) else "file"
    determining = {
        "format": FORMAT, "sha256": digest, "data": data, "weights": weights, "validation": held,
        "template": tokenizer.chat_template, "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "specials": tokenizer.special_tokens_map, "max_length": spec.training.max_length,
        "long_rows": spec.training.long_rows, "grpo": spec.objective == "grpo", "seed": spec.training.seed,
        "versions": [importlib.metadata.version(name) for name in ("trl", "transformers", "tokenizers")],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(determining, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _prune(folder: Path) -> None:
    """Only the newest stay, and what killed processes left half done goes; what another process is at is left alone."""
    ready = sorted(folder.glob("*/ready.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    unfinished = [path for path in folder.glob("*.*") if path.is_dir()]
    for path in [*(file.parent for file in ready[KEPT_CACHES:]), *unfinished]:
        with open(folder / f"{path.stem}.lock", "w") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)


def _write(spec: RunSpec, tokenizer: Any, digest: str, target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        ready = _write_into(spec, tokenizer, digest, unfinished)
        if _digest(spec) != digest:
            raise DataError("The data changed while it was read", "Its files were written to.", "Start the run again.")
        (unfinished / "ready.json").write_text(json.dumps(asdict(ready)), encoding="utf-8")
        with contextlib.suppress(OSError):
            shutil.rmtree(target)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_into(spec: RunSpec, tokenizer: Any, digest: str, folder: Path) -> DataReady:
    found = sources(spec.data)
    selection = select(found, spec.data, spec.training.seed)
    selected = chosen_rows(found, spec.data, selection)
    outside = validation_source(spec.data)
    held_rows: Iterable[tuple[Row, int]] = ((row, 0) for row in rows_of(outside, spec.data) if isinstance(row, Row))
    writers = {name: _Writer(folder / f"{name}.arrow") for name in ("train", "validation")}
    drops = Drops(selection.dropped)
    for rows in (selected, held_rows):
        for often, ids in _encoded(spec, rows, tokenizer, drops):
            for _ in range(often or 1):
                writers["train" if often else "validation"].add(ids)
    for writer in writers.values():
        writer.close()
    train = writers["train"]
    if not train.rows:
        raise DataError("No row is left to train on", f"{_said(drops)}.", _remedy(drops, spec))
    return DataReady(
        sha256=digest, format=found[0].detected.format or "", train=train.rows, validation=writers["validation"].rows,
        tokens=train.tokens, trained_tokens=train.trained, dropped={reason: one.count for reason, one in drops.items()},
        lines={reason: one.lines for reason, one in drops.items()},
    )  # fmt: skip


def _encoded(spec: RunSpec, rows: Iterable[tuple[Row, int]], tokenizer: Any, drops: Drops) -> Iterator[tuple[int, Ids]]:
    """(how often, ids) of each row, at most max_length long."""
    whole = spec.objective != "grpo"

    def encode(batch: list[tuple[Row, int]]) -> list[Ids | Unusable]:
        return list(preprocess([row.value if whole else _prompt_alone(row.value) for row, _ in batch], tokenizer))

    for batch, encoded in ordered(encode, batches(rows)):
        for (row, often), made in zip(batch, encoded, strict=True):
            if not whole and "tools" in row.value:
                raise DataError("GRPO cannot give the model tools", f"Row {row.line} has some; TRL takes them for a whole run only.",
                                "Leave the column out, or train with another objective.")  # fmt: skip
            pieces, reason = ([], str(made)) if isinstance(made, Unusable) else fit(made, spec)
            if reason:
                drops.setdefault(reason, Dropped()).add(row.line)
            for piece in pieces:
                yield often, piece if spec.objective != "grpo" else asked(row.value, piece)
            if pieces and isinstance(made, dict) and "labels" in made and spec.training.long_rows == "split":
                for _ in range(-(-len(made["input_ids"]) // (spec.training.max_length or 1024)) - len(pieces)):
                    drops.setdefault("pieces without an answer", Dropped()).add(row.line)


def asked(value: Value, ids: Ids) -> Ids:
    """A row for GRPO: the prompt as it is, with what its reward functions get beside it (`answer`, other columns), as JSON."""
    if "messages" in value:
        prompt, said = last_answer(value["messages"])
        row = {"prompt": prompt, "answer": said[0]["content"]}
    else:
        last: Any = value.get("completion")
        answer = last[-1]["content"] if isinstance(last, list) else last
        row = {"prompt": value["prompt"]} | ({"answer": answer} if answer else {}) | value.get("columns", {})
    return {"row": json.dumps(row, ensure_ascii=False, default=str), "prompt_ids": ids["prompt_ids"]}


def _prompt_alone(value: Value) -> Value:
    """What GRPO asks of a row that has an answer too."""
    if "messages" in value:
        return {"prompt": last_answer(value["messages"])[0]}
    return {"prompt": value["prompt"]}


def batches(rows: Iterable[tuple[Row, int]]) -> Iterator[list[tuple[Row, int]]]:
    batch: list[tuple[Row, int]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def fit(ids: Ids, spec: RunSpec) -> tuple[list[Ids], str]:
    """The row within max_length as `long_rows` says, and why nothing is left of it, if so."""
    limit, how = spec.training.max_length or 1024, spec.training.long_rows or "drop"
    if "labels" not in ids:
        return _fit_pair(ids, limit, how)
    if all(label == -100 for label in ids["labels"]):
        return [], "nothing_trained"
    length = len(ids["input_ids"])
    if length <= limit:
        return [ids], ""
    if how == "drop":
        return [], f"longer than {limit} tokens"
    ends = range(0, length if how == "split" else limit, limit)
    pieces = [{name: part[start : start + limit] for name, part in ids.items()} for start in ends]
    trained = [piece for piece in pieces if any(label != -100 for label in piece["labels"][1:])]
    return trained, "" if trained else "the prompt alone fills max_length"


def _fit_pair(ids: Ids, limit: int, how: str) -> tuple[list[Ids], str]:
    """Pairs are not cut here: TRL's collator does it, and needs a prompt that leaves room."""
    prompt = len(ids["prompt_ids"])
    answers = [len(part) for name, part in ids.items() if name in ANSWERS]
    if prompt + max(answers, default=0) <= limit:
        return [ids], ""
    if how == "cut":
        return ([ids], "") if prompt < limit else ([], "the prompt alone fills max_length")
    return [], f"longer than {limit} tokens"


class _Writer:
    """Writes rows of ids to an Arrow file and counts them."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._writer: ArrowWriter | None = None
        self.rows = self.tokens = self.trained = 0

    def add(self, ids: Ids) -> None:
        if self._writer is None:
            features = Features({name: TYPES.get(name) or List(Column("int32")) for name in ids})
            self._writer = ArrowWriter(path=self._path, features=features)
        self._writer.write(ids)
        self.rows += 1
        answers = [part for name, part in ids.items() if name in ANSWERS]
        prompts = [len(ids["prompt_ids"])] * max(1, len(answers)) if "prompt_ids" in ids else []
        self.tokens += len(ids.get("input_ids", ())) + sum(prompts) + sum(map(len, answers))
        labels = ids.get("labels", [])
        self.trained += sum(map(len, answers)) + sum(label != -100 for label in labels)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.finalize()


def _said(drops: Drops) -> str:
    parts = []
    for reason, one in drops.items():
        lines = ", ".join(map(str, one.lines[:5])) + (" …" if one.count > 5 and one.lines else "")
        parts.append(
            f"{one.count:,} {'row' if one.count == 1 else 'rows'}: {reason.replace('_', ' ')}"
            + (f" (lines {lines})" if lines else "")
        )
    return "; ".join(parts) or "The file has no usable row"


def _remedy(drops: Drops, spec: RunSpec) -> str:
    if any("longer than" in reason or "fills max_length" in reason for reason in drops):
        return "Raise training.max_length, or set training.long_rows to cut or split."
    return "Mend the rows, or name a data.template. See: tunedeck data check"


def _warn(reporter: Reporter, spec: RunSpec, ready: DataReady) -> None:
    if not ready.validation and (
        isinstance(spec.data.validation, str) or validation_rows(spec.data.validation, ready.train)
    ):
        text = "no row could be held out: no evaluation"
        reporter.say(Notice("warning", text, "With split=group there must be several groups; see data.split_by."))
    if ready.dropped:
        drops = {reason: Dropped(count, ready.lines.get(reason, [])) for reason, count in ready.dropped.items()}
        reporter.say(Notice("warning", f"left out: {_said(drops)}", "See: tunedeck data check"))
