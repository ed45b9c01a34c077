"""Everything that is known of one run, read once: what a report and a model card are written from."""

import math
import sqlite3
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine.diagnose import findings
from engine.errors import RunError
from engine.health import Finding, best_evaluation
from engine.report import GLYPHS, duration, last, number, short
from engine.store import afterwards, health, metrics, records, runs
from engine.text import clean

Row = dict[str, Any]
EVENTS = 2000
WORST = 5
"""Rows of the evaluation in which the tuned model is worst."""


@dataclass(frozen=True)
class Dossier:
    """`settings` are (path, value, why it was recommended). `curves` of few points, whole, by metric name."""

    run: Row
    settings: tuple[tuple[str, str, str], ...]
    events: tuple[Row, ...]
    samples: tuple[Row, ...]
    checkpoints: tuple[Row, ...]
    artifacts: tuple[Row, ...]
    health: tuple[Finding, ...]
    evaluations: tuple[tuple[int, dict[str, float]], ...]
    """(step, values without their `eval_`) in order of step."""
    speed: float | None
    parent: str
    card_used: float | None
    """The most that NVML saw in use on one of its cards, by anyone, GiB."""
    evaluated: Row | None = None
    """The newest finished evaluation against the base (engine.store.afterwards)."""
    worst: tuple[Row, ...] = ()
    """Its rows in which the tuned model is worst."""
    judged: Row | None = None
    """The newest finished judgement."""

    @property
    def plan(self) -> Row:
        return self.run["plan"] or {}

    @property
    def environment(self) -> Row:
        return self.run["environment"] or {}

    @property
    def spec(self) -> Row:
        return self.run["spec"] or {}

    @property
    def status(self) -> str:
        return f"{GLYPHS.get(self.run['status'], '')} {self.run['status']}".strip()

    @cached_property
    def method(self) -> str:
        """`LoRA r16`, `full`."""
        kind = self.run["method"] or "–"
        rank = (self.spec.get("method") or {}).get("rank")
        name = {"lora": "LoRA", "qlora": "QLoRA"}.get(kind, kind)
        return f"{name} r{rank}" if rank and kind != "full" else name

    @property
    def seconds(self) -> float | None:
        began = self.run["started_at"]
        end = self.run["ended_at"] or (self.run["progress"] or {}).get("time")
        return end - began if began and end else None

    @cached_property
    def data(self) -> Row:
        """What the worker said of the rows that it trains on; {} until it has."""
        return next((e["data"] for e in self.events if e["type"] == "data" and e["data"].get("train")), {})

    @cached_property
    def failure(self) -> Row | None:
        """The last event of its kind: message, hint."""
        failed = [e["data"] for e in self.events if e["type"] == "failed"]
        return failed[-1] if failed and self.run["status"] in ("failed", "oom", "crashed") else None

    @cached_property
    def best(self) -> tuple[int, float] | None:
        """(step, eval loss)"""
        return best_evaluation([(step, values["loss"]) for step, values in self.evaluations if "loss" in values])

    def latest(self, key: str, which: str = "last") -> float | None:
        """A summary of a metric; NaN where it is no number."""
        value = last(self.run, key, which)
        return None if value is None else float(value)


def read(db: sqlite3.Connection, name: str) -> Dossier:
    """The run with this id, unique prefix of an id, or name. Raises RunError."""
    run = runs.one(db, name)
    run_id = run["id"]
    reasons = {r["field"]: str(r.get("why") or "") for r in (run["plan"] or {}).get("reasons", [])}
    keys = [key for key in metrics.keys(db, run_id) if key.startswith("eval_")]
    evaluated = afterwards.latest(db, run_id, "eval")
    by_step: dict[int, dict[str, float]] = {}
    for key, points in metrics.curves(db, run_id, keys).items():
        for step, _, value in points:
            by_step.setdefault(step, {})[key.removeprefix("eval_")] = value
    return Dossier(
        run=run,
        settings=tuple((path, value, reasons.get(path, "")) for path, value in runs.params(db, run_id)
                       if value not in (None, "", "[]", "{}")),
        events=tuple(records.events(db, run_id, EVENTS)),
        samples=tuple(records.samples(db, run_id)),
        checkpoints=tuple(records.checkpoints(db, run_id)),
        artifacts=tuple(records.artifacts(db, run_id)),
        health=findings(db, run_id),
        evaluations=tuple(sorted(by_step.items())),
        speed=health.recent_speed(db, run_id),
        parent=_name_of(db, run["parent_id"]),
        card_used=health.most_used(db, run_id),
        evaluated=evaluated,
        worst=tuple(afterwards.rows(db, run_id, evaluated["job"], "worst", WORST)) if evaluated else (),
        judged=afterwards.latest(db, run_id, "judge"),
    )  # fmt: skip


def _name_of(db: sqlite3.Connection, run_id: str | None) -> str:
    if not run_id:
        return ""
    try:
        return f"{runs.find(db, run_id)['name']} ({run_id})"
    except RunError:
        return f"a run that is gone ({run_id})"


def plain(value: str) -> str:
    """A setting as people write it: 32.0 as 32."""
    return value.removesuffix(".0") if value.removesuffix(".0").isdecimal() else value


def sentence(d: Dossier) -> str:
    """How the run went, in a sentence or two."""
    run, progress = d.run, d.run["progress"] or {}
    step, total = progress.get("step"), progress.get("total")
    after = f" after {duration(d.seconds)}" if d.seconds else ""
    if run["status"] in ("failed", "crashed", "oom"):
        at = f" at step {step:,} of {total:,}" if step and total else ""
        reason = clean(run["exit_reason"] or "", keep_lines=False).rstrip(".")
        words = {"failed": "It failed", "crashed": "It crashed", "oom": "It ran out of memory"}[run["status"]]
        return f"{words}{at}{after}: {reason or 'why is not known'}."
    if run["status"] in ("queued", "starting"):
        return "It has not begun to train."
    so_far = {"finished": "", "stopped": f" Stopped at step {step or 0:,} of {total or 0:,}."}.get(
        run["status"], f" It is still running: step {step or 0:,} of {total or 0:,}."
    )
    return f"{_result(d)},{after}.{so_far}" if after else f"{_result(d)}.{so_far}"


def _result(d: Dossier) -> str:
    evaluated = [(step, values["loss"]) for step, values in d.evaluations if "loss" in values]
    if d.best and evaluated:
        first, end = evaluated[0], evaluated[-1]
        text = f"Eval loss {number(d.best[1])} at best, at step {d.best[0]:,}"
        if math.isfinite(first[1]) and first[1] > d.best[1]:
            text += f", from {number(first[1])} at step {first[0]:,}"
        return text if end[0] == d.best[0] else f"{text}; {number(end[1])} at the end, at step {end[0]:,}"
    if (reward := d.latest("reward")) is not None:
        return f"Mean reward {number(reward)} at the end, {number(d.latest('reward', 'max'))} at most"
    if (loss := d.latest("loss")) is not None:
        return f"Training loss {number(loss)} at the end, {number(d.latest('loss', 'max'))} at most; nothing was held out to evaluate on"
    return "No loss was recorded"


def key_numbers(d: Dossier) -> list[tuple[str, str, str]]:
    """(what, value, the particulars) of what is known, the most asked for first."""
    run, progress = d.run, d.run["progress"] or {}
    found: list[tuple[str, str, str]] = []
    if d.best:
        found.append(("Best eval loss", number(d.best[1]), f"step {d.best[0]:,}"))
    if (reward := d.latest("reward", "max")) is not None:
        found.append(("Best reward", number(reward), "mean of a batch"))
    if (loss := d.latest("loss")) is not None:
        found.append(("Train loss", number(loss), f"at the end, {number(d.latest('loss', 'min'))} at least"))
    if (accuracy := d.latest("eval_mean_token_accuracy", "best")) is not None:
        found.append(("Tokens right", f"{100 * accuracy:.1f} %", "of the held-out answers, at best"))
    if progress.get("total"):
        epoch = f", {progress['epoch']:.2f} epochs" if progress.get("epoch") else ""
        found.append(("Steps", f"{progress['step']:,}", f"of {progress['total']:,}{epoch}"))
    if d.seconds:
        found.append(("Time", duration(d.seconds), "from the first start to the end" if run["ended_at"] else "so far"))
    if d.speed is not None:
        found.append(("Speed", f"{short(round(d.speed))}", "tokens a second"))
    if (tokens := d.latest("num_tokens")) is not None:
        found.append(("Tokens seen", f"{tokens:,.0f}", "prompts among them"))
    if (peak := d.latest("memory_allocated_gib", "max")) is not None:
        total = d.environment.get("memory_total_gib")
        where = "of the process" if d.environment.get("device") == "cpu" else "of the allocator"
        found.append(("Peak memory", f"{number(peak, 1)} GiB", f"{where}, of {number(total, 1)}" if total else where))
    if model := next((a for a in reversed(d.artifacts) if a["kind"] == "model"), None):
        found.append(("Result", f"{model['bytes'] / 2**20:,.0f} MiB", "on disk"))
    return found


def files(d: Dossier) -> list[tuple[str, str, str, str]]:
    """(name, kind, MiB, SHA-256) of what was made of the run, the newest of each place."""
    newest = {one["path"]: one for one in d.artifacts}
    return [
        (str(path).rstrip("/").rpartition("/")[2], one["kind"], f"{one['bytes'] / 2**20:,.1f}", one["sha256"] or "–")
        for path, one in newest.items()
    ]


def memory_rows(d: Dossier) -> list[tuple[str, float | None, float | None]]:
    """(part, predicted GiB, measured GiB) where a GPU trained and memory was predicted; without one that is of another thing."""
    memory = d.plan.get("memory")
    if not memory or d.environment.get("device") != "cuda":
        return []
    measured = d.environment.get("memory_components") or {}
    rows = [
        (str(name), _float(value), _float(measured.get(name)))
        for name, value in (memory.get("components") or {}).items()
    ]
    rows.append(("allocator peak", _float(memory.get("peak_gib")), d.latest("memory_allocated_gib", "max")))
    rows.append(("allocator, reserved", None, d.latest("memory_reserved_gib", "max")))
    return [*rows, ("whole card", _float(memory.get("device_gib")), d.card_used)]


def _float(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None
