"""The report of one run."""

import math
import shlex
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from engine import dossier, report_eval
from engine.dossier import Dossier
from engine.pages import curves, family
from engine.pages.chart import Chart, Drawn, draw
from engine.pages.page import render, when
from engine.report import number

TONES = {"finished": "good", "stopped": "warn", "failed": "bad", "crashed": "bad", "oom": "bad"}
FINDING_TONES = {"warning": "warn", "note": "", "ok": "good", "n/a": "dim"}
FINDING_MARKS = {"warning": "!", "note": "·", "ok": "✓", "n/a": "–"}
SHORT = {"mean_token_accuracy": "tokens right"}
PROMPTS = 12
DIFF = 20_000
"""Characters of the changes since the commit that are shown."""
TEXT = 6000
"""Characters of a sample, a setting or an event."""
ROWS = 200
"""Evaluations and events; the database has them all."""


class Against(NamedTuple):
    """Tuned against base: sentences, the table of scores, that of lm-eval, and rows as (question, [(whose, answer)])."""

    said: list[str]
    head: Sequence[str]
    explained: str
    scores: list[list[str]]
    tasks: list[list[str]]
    worst: list[tuple[str, list[tuple[str, str]]]]


def run_page(db: sqlite3.Connection, name: str) -> str:
    """The page of the run with this id, prefix of one, or name. Raises RunError."""
    d = dossier.read(db, name)
    prompts = _prompts(d)
    head, rows = _evaluations(d)
    diff = str((d.environment.get("git") or {}).get("diff") or "")
    return render(
        "run.html",
        d=d, tone=TONES.get(d.run["status"], ""), facts=_facts(d), sentence=dossier.sentence(d), numbers=dossier.key_numbers(d),
        charts=_drawn(curves.main_charts(db, d)), more=_drawn(curves.more_charts(db, d)), cards=_drawn(curves.card_charts(db, d)),
        marks=FINDING_MARKS, tones=FINDING_TONES, prompts=prompts[:PROMPTS], prompts_left=max(0, len(prompts) - PROMPTS),
        against=_against(d), files=dossier.files(d), evaluation_head=head, evaluations=rows, memory=_memory(d), settings=_settings(d), origin=_origin(d),
        diff=diff[:DIFF], diff_cut=len(diff) > DIFF, failure=_failure(d), lineage=family.of_run(db, d.run["id"]), timeline=_timeline(d), last_words=_last_words(d),
    )  # fmt: skip


def _drawn(charts: list[Chart]) -> list[Drawn]:
    return [drawn for chart in charts if (drawn := draw(chart))]


def _facts(d: Dossier) -> list[tuple[str, str]]:
    """What stands under the name."""
    run = d.run
    found = [
        ("run", run["id"]), ("project", run["project"]), ("model", run["model"]), ("method", d.method), ("objective", d.spec.get("objective")),
        ("data", run["dataset"]), ("started", when(run["started_at"] or run["created_at"])), ("ended", when(run["ended_at"])),
        ("on", run["host"]), ("from", d.parent), ("imported from", run.get("source")), ("tags", ", ".join(run["tags"] or [])),
    ]  # fmt: skip
    return [(what, str(value)) for what, value in found if value]


def _failure(d: Dossier) -> list[str]:
    """What was wrong and what helps, as far as the sentence does not say it."""
    failure = d.failure or {}
    message = str(failure.get("message") or "")
    said = [] if message in (d.run["exit_reason"] or "") else [message]
    return [text[:TEXT] for text in (*said, str(failure.get("hint") or "")) if text]


def _settings(d: Dossier) -> list[tuple[str, str, str]]:
    return [(path, dossier.plain(value)[:TEXT], why) for path, value, why in d.settings if not path.startswith("run.")]


def _prompts(d: Dossier) -> list[tuple[str, list[tuple[int, str]]]]:
    """Each prompt with its answers by step."""
    found: dict[str, list[tuple[int, str]]] = {}
    for sample in d.samples:
        found.setdefault(str(sample["prompt"])[:TEXT], []).append((sample["step"], str(sample["text"])[:TEXT]))
    return list(found.items())


def _evaluations(d: Dossier) -> tuple[list[str], list[list[str]]]:
    """A row for each step that was evaluated or saved, with what is known of it."""
    names = [
        name
        for name in ("loss", "mean_token_accuracy", "reward", "entropy")
        if any(name in v for _, v in d.evaluations)
    ]
    values, saved = dict(d.evaluations), {c["step"]: c for c in d.checkpoints}
    rows = []
    for step in sorted({*values, *saved})[-ROWS:]:
        cells = [number(values.get(step, {}).get(name), 4) for name in names]
        best = "best" if d.best and step == d.best[0] else ""
        kept = f"checkpoint, {saved[step]['bytes'] / 2**20:,.0f} MiB" if step in saved else ""
        rows.append([f"{step:,}", *cells, ", ".join(part for part in (best, kept) if part)])
    return ["step", *(f"eval {SHORT.get(name, name)}" for name in names), ""], rows


def _against(d: Dossier) -> Against | None:
    """What the newest evaluation and judgement found, with the rows where the tuned model is worst."""
    if not d.evaluated and not d.judged:
        return None
    summary = d.evaluated["summary"] if d.evaluated else {}
    said = [report_eval.said(summary), *report_eval.more_said(summary)] if d.evaluated else []
    said += [report_eval.judged(d.judged)] if d.judged else []
    said += [*report_eval.notes(summary), report_eval.facts(d.evaluated)] if d.evaluated else []
    scores, tasks = report_eval.score_rows(summary), report_eval.task_rows(summary)
    return Against(said, report_eval.HEAD, report_eval.EXPLAINED, scores, tasks, [_compared(row) for row in d.worst])


def _compared(row: dossier.Row) -> tuple[str, list[tuple[str, str]]]:
    """The question with its place, and the answers by whose they are."""
    answers = [("expected", row.get("reference"))]
    for voice in ("base", "tuned"):
        side = row.get(voice) or {}
        loss = f", loss {number(side['loss'])}" if side.get("loss") is not None else ""
        answers.append((f"{voice}{loss}", side.get("answer")))
    question = f"{row.get('place') or row.get('row')}: {str(row.get('question') or '')[:TEXT]}"
    return question, [(whose, str(text)[:TEXT]) for whose, text in answers if text is not None]


def _memory(d: Dossier) -> list[list[str]]:
    return [
        [part, number(predicted, 2), number(measured, 2), _off(predicted, measured)]
        for part, predicted, measured in dossier.memory_rows(d)
    ]


def _off(predicted: float | None, measured: float | None) -> str:
    """How much more was measured than predicted."""
    if not predicted or measured is None or not math.isfinite(measured):
        return "–"
    return f"{100 * (measured / predicted - 1):+.1f} %"


def _origin(d: Dossier) -> list[tuple[str, str]]:
    """What it was trained on, from which code, where, and with which versions."""
    data, env = d.data, d.environment
    git, machine = env.get("git") or {}, env.get("machine") or {}
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in (data.get("dropped") or {}).items())
    cards = ", ".join(f"{c.get('name')} {number(c.get('memory_gib'), 1)} GiB" for c in machine.get("cards") or [])
    changed = " with changes" if git.get("dirty") else ""
    found = [
        ("data", str((d.spec.get("data") or {}).get("path") or "")),
        ("rows", f"{data['train']:,} trained on, {data.get('validation') or 0:,} held out" if data else ""),
        ("tokens", f"{data['tokens']:,}, {data['trained_tokens']:,} of them trained" if data.get("tokens") else ""),
        ("left out", dropped),
        ("data sha256", str(data.get("sha256") or env.get("data_sha256") or "")),
        ("command", shlex.join(map(str, env.get("command") or []))),
        ("directory", str(env.get("directory") or "")),
        ("git", f"{git['commit']} on {git.get('branch') or 'no branch'}{changed}" if git.get("commit") else ""),
        ("machine", ", ".join(str(machine[k]) for k in ("host", "cpu", "system") if machine.get(k))),
        ("cores, memory", f"{machine.get('cores') or '–'} cores, {number(machine.get('ram_gib'), 1)} GiB" if machine else ""),
        ("cards", cards or ", ".join(map(str, env.get("gpus") or []))),
        ("driver, CUDA", ", ".join(str(machine[k]) for k in ("driver", "cuda") if machine.get(k))),
        ("versions", ", ".join(f"{name} {version}" for name, version in (env.get("versions") or {}).items())),
        ("seed", str(env.get("seed") or (d.spec.get("training") or {}).get("seed") or "")),
    ]  # fmt: skip
    return [(what, text[:TEXT]) for what, text in found if text]


def _timeline(d: Dossier) -> list[tuple[str | None, str, str]]:
    shown = [e for e in d.events if e["type"] != "sample"][-ROWS:]
    return [(when(e["time"]), e["level"], str(e["text"])[:TEXT]) for e in shown]


def _last_words(d: Dossier) -> str:
    if TONES.get(d.run["status"]) != "bad":
        return ""
    exits = [e["data"] for e in d.events if e["type"] == "exit"]
    return "\n".join(map(str, exits[-1].get("last_words") or [])) if exits else ""
