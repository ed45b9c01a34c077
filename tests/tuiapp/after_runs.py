"""A database with a finished run and what was done with it afterwards, written by hand as its jobs would have written it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import scoring
from engine.after import job as jobs
from engine.after.ingest import ingest
from engine.events import Attempt, Done, Exit, Failed, Phase, Progress
from engine.files import EventFile
from engine.spec import parse
from engine.store import runs
from engine.store.connection import open_database

NOW = 1_790_000_000.0

ASKED = ("What is the capital of Italy?", "How do I boil an egg?", "Who wrote Hamlet?", "Name a colour of the rainbow.")
SAID = (
    "The capital of Italy is Rome.",
    "Boil it until it is soft.",
    "William Shakespeare wrote it.",
    "Red is one of them.",
)


def answered(number: int) -> dict[str, Any]:
    """A row as engine.worker.evaluate makes it: the tuned model is better, the later the row the less."""
    asked, said = ASKED[number % 4], SAID[number % 4]
    reference = f"Ahoy, matey! {said} Fair winds!"
    base = {"answer": said if number % 3 else f"{asked}\n\n{asked}\n\n{asked}", "loss": 3.0 + number % 7 / 10, "trained": 12,
            "tokens": 9, "stopped": bool(number % 3), "seconds": 0.5}  # fmt: skip
    tuned = {"answer": reference if number % 5 else f"Ahoy! {said}", "loss": 0.4 + number / 40, "trained": 12, "tokens": 14,
             "stopped": True, "seconds": 0.6}  # fmt: skip
    row = {"row": number, "place": f"line {number}", "question": f"{asked} ({number})", "messages": None, "prompt": asked,
           "reference": reference, "base": base, "tuned": tuned}  # fmt: skip
    return scoring.finish(row, "text")


def lightly(number: int) -> dict[str, Any]:
    """A row whose answers are not scored, as that takes a while."""
    sides = {
        voice: {"answer": "Aye.", "loss": loss, "trained": 12}
        for voice, loss in (("base", 3.0), ("tuned", number / 1000))
    }
    about = {"row": number, "place": f"line {number}", "question": f"Row {number}?", "reference": "Aye."}
    return {**about, **sides, "badness": 1.0 + number, "gain": 3.0 - number / 1000}


def judged(number: int) -> dict[str, Any]:
    winner = ("tuned", "tuned", "tie", "base")[number % 4]
    return {"row": number, "winner": winner, "agreed": winner != "tie", "base_score": 4, "tuned_score": 8,
            "reasons": ["It answers like a sailor, as it should."], "badness": 0.0, "gain": 1.0}  # fmt: skip


@dataclass
class Trained:
    """A database with one finished run, `r1`, that has an adapter and held-out rows."""

    home: Path

    def __post_init__(self) -> None:
        self.database = self.home / "experiments.db"
        self.run_dir = self.home / "runs" / "r1"
        (self.run_dir / "model").mkdir(parents=True)
        base = self.home / "SmolLM2"
        base.mkdir()
        (base / "config.json").write_text("{}")
        (base / "model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
        (self.run_dir / "model" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
        (self.run_dir / "model" / "adapter_model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
        data = self.home / "captain.jsonl"
        data.write_text(
            "".join(json.dumps({"instruction": ASKED[i % 4], "output": SAID[i % 4] + str(i)}) + "\n" for i in range(40))
        )
        spec = {"model": {"path": str(base)}, "data": {"path": str(data), "validation": 0.2},
                "compute": {"devices": "cpu"}, "run": {"name": "captain"}}  # fmt: skip
        (self.run_dir / "spec.yaml").write_text(json.dumps(spec))
        db = open_database(self.database)
        runs.insert(db, "r1", parse(spec), {}, "gpubox", NOW - 7200)
        runs.set_fields(db, "r1", status="finished", started_at=NOW - 7200, ended_at=NOW - 3600)
        db.close()

    def job(self, kind: str, ask: dict[str, Any], rows: list[dict[str, Any]], summary: dict[str, Any] | None, *, status: str = "",
            reason: str = "", progress: tuple[int, int] | None = None) -> str:  # fmt: skip
        """One that has finished if it has a summary; else it is at work, or ended as `status` says."""
        name = jobs.create(self.database, "r1", kind, ask)
        folder = jobs.directory(self.database, "r1", name)
        (folder / jobs.ROWS).write_text("".join(json.dumps(row) + "\n" for row in rows))
        runner, events = EventFile(folder / jobs.RUNNER_EVENTS), EventFile(folder / jobs.EVENTS)
        runner.append(Attempt(1, 1.0))
        if progress is not None:
            events.append(Phase("evaluate", "64 rows, base and tuned"))
            events.append(Progress(*progress, 0.0))
        if summary is not None:
            events.append(Done(summary, summary.get("verdict", "")))
            runner.append(Exit("finished", "finished", 0))
        elif status:
            events.append(Failed("other", reason, ""))
            runner.append(Exit(status, reason, 1))
        self.read(name)
        return name

    def read(self, name: str) -> None:
        """What is new in a job's files, into the database."""
        db = open_database(self.database)
        ingest(db, "r1", jobs.directory(self.database, "r1", name))
        db.close()

    def write_rows(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Results of a job, as its process writes them."""
        with (jobs.directory(self.database, "r1", name) / jobs.ROWS).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def summary(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """What an evaluation of these rows came to."""
        count = len(rows)
        data = {
            "path": str(self.home / "captain.jsonl"),
            "rows": count,
            "of": count,
            "held_out": True,
            "sha256": "ab" * 32,
        }
        lost = {
            "base": 2.9,
            "tuned": 2.95,
            "verdict": "No sign of forgetting: loss 2.950 against 2.900 on 24 general texts.",
        }
        about = {"data": data, "forgetting": lost, "step": None, "seconds": 41.0, "artifacts": []}
        return scoring.summarise(rows, "text") | about

    def evaluated(self, count: int = 64, quick: bool = False, **more: Any) -> str:
        """A finished evaluation of so many rows; `quick`: of their losses alone."""
        rows = [answered(i) if not quick or i <= 20 else lightly(i) for i in range(1, count + 1)]
        return self.job("eval", {"data": None, "rows": count}, rows, self.summary(rows[:64]) | more)

    def judged(self, evaluation: str, count: int = 64) -> str:
        verdict = "The judge prefers the tuned model: 32 of 64 rows, 16 ties."
        return self.job(
            "judge",
            {"eval": evaluation},
            [judged(i) for i in range(1, count + 1)],
            {"verdict": verdict, "artifacts": []},
        )

    def exported(self) -> Path:
        """A finished export of a file."""
        file = self.home / "captain-q8_0.gguf"
        file.write_bytes(b"GGUF" + bytes(2_000_000))
        made = {"kind": "gguf", "path": str(file), "bytes": file.stat().st_size, "sha256": "1a2b3c4d" * 8}
        self.job("export", {"to": "gguf"}, [], {"target": str(file), "artifacts": [made]})
        return file
