"""`python -P -m engine.worker.evaluate JOB_DIR`: what a run has learned, against its base: losses and answers of single rows."""

import gc
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from engine import scoring
from engine.after import extras
from engine.after import job as jobs
from engine.after.held_out import FEWEST, LONGEST, SPARE, HeldOut, choose, options
from engine.after.results import Results
from engine.after.trained import Trained, of_directory, unpin
from engine.data.turns import Turn
from engine.errors import DataError
from engine.events import Done, Notice
from engine.files import write_private
from engine.fingerprint import at, check_base
from engine.worker.evaluate_bertscore import add_bertscore
from engine.worker.evaluate_general import forgetting
from engine.worker.evaluate_loss import Sequence, summed_losses, told
from engine.worker.evaluate_rows import Measured, measured
from engine.worker.evaluate_tasks import check_tasks, tasks
from engine.worker.generate import Answer, answers, batches, precision
from engine.worker.job import Job, main
from engine.worker.tuned import Pair

CHOSEN = "chosen.json"
"""Which data the job began with: one that goes on must measure the same rows."""
T = TypeVar("T")


class Bench:
    """Both models and how they are asked: batches that a GPU has no room for are halved, and stay so."""

    def __init__(self, pair: Pair, job: Job, most: int) -> None:
        self.pair, self.job, self.most = pair, job, most
        self._rows = 1 << 20

    def voices(self) -> Iterator[tuple[str, Any]]:
        """The base and the tuned model, one after the other."""
        for name, state in (("base", self.pair.base), ("tuned", self.pair.tuned)):
            with state() as model, precision(self.pair.spec, self.pair.device):
                yield name, model

    def losses(self, model: Any, sequences: list[Sequence]) -> list[float]:
        return self._smaller(sequences, lambda some: summed_losses(model, some, self.pair.device))

    def answers(self, model: Any, prompts: list[list[int]], most: int | None = None) -> list[Answer]:
        return self._smaller(prompts, lambda some: answers(model, self.pair.tokenizer, some, most or self.most))

    def batches(self, lengths: list[int], most: int) -> list[list[int]]:
        """Padding would come between learned prompts and the text, as it never did in training: then one at a time."""
        return batches(lengths, most, self.pair.device, 1 if self.pair.learned_prompts else None)

    def _smaller(self, items: list[Any], do: Callable[[list[Any]], list[T]]) -> list[T]:
        found: list[T] = []
        while len(found) < len(items):
            self.job.stop()
            part = items[len(found) : len(found) + self._rows]
            try:
                found += do(part)
                continue
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
            # outside of the handler: the error holds on to what did not fit
            self._rows = len(part) // 2
            self.job.reporter.say(
                Notice("note", f"no room on the GPU for {len(part)} rows at once: {self._rows} from here on")
            )
            gc.collect()
            torch.cuda.empty_cache()
        return found


def evaluate(job: Job) -> Done:
    """The whole job. Raises TuneDeckError for what cannot be evaluated."""
    began, ask = time.monotonic(), job.ask
    trained = at(of_directory(job.run_dir, ask.get("step"), job.folder), ask.get("base"))
    notes = check_base(trained, bool(ask.get("anyway")))
    extras.check(ask)
    if ask.get("lm_eval"):
        check_tasks(ask["lm_eval"])
    job.reporter.phase("read", "which rows are held out")
    held = choose(trained.spec, job.run_dir, **options(ask))
    _same_as_before(job, held)
    pair = Pair(trained.spec, trained.path, job.reporter)
    rows, dropped = measured(held.questions, trained.spec, pair.tokenizer)
    if not rows:
        raise DataError("No row can be evaluated on", f"{_why(dropped)}.", "See: tunedeck data check FILE")
    notes += [*held.notes, *([f"Left out: {_why(dropped)}."] if dropped else [])]
    bench = Bench(pair, job, _most(ask, trained, rows, pair.tokenizer))
    kind = scoring.kind_of([row.about["reference"] for row in rows])
    done = _answer_all(bench, rows, kind, trained, notes)
    summary = scoring.summarise(done, kind, ask.get("seed") or 0, held.held_out) | {
        "data": {"path": held.path, "rows": len(rows), "of": held.total, "held_out": held.held_out, "sha256": held.sha256,
                 "seen": sum(q.seen for q in held.questions), "dropped": dropped, "notes": notes},
        "step": trained.step, "max_new_tokens": bench.most, "tokens_per_second": _speed(done),
    }  # fmt: skip
    summary |= _more(bench, job, done)
    unpin(job.folder)
    return Done(summary | {"seconds": round(time.monotonic() - began, 1), "artifacts": []}, summary["verdict"])


def _same_as_before(job: Job, held: HeldOut) -> None:
    """Raises DataError if the data is not what this job began with: its finished rows would be of other rows."""
    file = job.folder / CHOSEN
    if not file.exists():
        write_private(file, held.sha256 + "\n")
    elif file.read_text(encoding="utf-8").strip() != held.sha256:
        raise DataError("The data has changed since the evaluation began", f"{held.path} has other content.",
                        "Start a new evaluation.")  # fmt: skip


def _why(dropped: dict[str, int]) -> str:
    return "; ".join(
        f"{count:,} {'row' if count == 1 else 'rows'}: {why.replace('_', ' ')}" for why, count in dropped.items()
    )


def _most(ask: dict[str, Any], trained: Trained, rows: list[Measured], tokenizer: Any) -> int:
    """Tokens of an answer at most."""
    if ask.get("max_new_tokens"):
        return int(ask["max_new_tokens"])
    if trained.spec.objective == "grpo":
        return trained.spec.objective_options.completion_length or 256
    longest = max(
        (len(tokenizer(row.about["reference"])["input_ids"]) for row in rows if row.about["reference"]), default=0
    )
    return min(LONGEST, max(FEWEST, math.ceil(SPARE * longest))) if longest else 256


def _answer_all(
    bench: Bench, rows: list[Measured], kind: str, trained: Trained, notes: list[str]
) -> list[dict[str, Any]]:
    """Every row with what both models make of it, in the order of the rows; those that are done already are not done again."""
    job = bench.job
    results = Results(job.folder / jobs.ROWS)
    job.reporter.phase("evaluate", f"{len(rows):,} rows, base and tuned")
    rewards = _rewards(trained)
    lengths = [len(row.prompt_ids or ()) or sum(len(ids) for ids, _ in row.sequences) for row in rows]
    for batch in bench.batches(lengths, bench.most):
        missing = [rows[i] for i in batch if rows[i].number not in results.rows]
        job.progress(len(results.rows), len(rows))
        job.stop()
        if missing:
            results.append(scoring.finish(row, kind) for row in _batch(bench, missing, rewards))
    job.progress(len(rows), len(rows))
    if job.ask.get("bertscore"):
        job.reporter.phase("evaluate", "BERTScore")
        if problem := add_bertscore(results, job.ask["bertscore"], bench.pair.device):
            notes.append(problem)
    results.close()
    return [results.rows[row.number] for row in rows]


def _batch(bench: Bench, rows: list[Measured], rewards: "Rewards | None") -> list[dict[str, Any]]:
    """What both models make of some rows, the losses and the answers."""
    found: list[dict[str, Any]] = [dict(row.about) for row in rows]
    sequences = [sequence for row in rows for sequence in row.sequences]
    prompts = [row.prompt_ids for row in rows if row.prompt_ids is not None]
    for voice, model in bench.voices():
        losses = iter(bench.losses(model, sequences))
        said = iter(bench.answers(model, prompts) if prompts else [])
        for row, one in zip(rows, found, strict=True):
            total = sum(next(losses) for _ in row.sequences)
            loss = total / row.trained if row.trained else None
            answer = next(said) if row.prompt_ids is not None else None
            one[voice] = {"loss": None if loss is None else told(loss), "trained": row.trained,
                          **(_said(answer) if answer else {"answer": None})}  # fmt: skip
            if answer and rewards:
                one[voice]["scores"] = rewards.of(row, answer.text)
    return found


def _said(answer: Answer) -> dict[str, Any]:
    return {
        "answer": answer.text,
        "tokens": answer.tokens,
        "stopped": answer.stopped,
        "seconds": round(answer.seconds, 4),
    }


class Rewards:
    """The run's own reward functions: what GRPO has trained for is also what its answers are judged by."""

    def __init__(self, named: list[str]) -> None:
        from engine.worker.grpo import reward

        self._functions = {f"reward {one.rpartition(':')[2]}": reward(one) for one in named}

    def of(self, row: Measured, answer: str) -> dict[str, float]:
        """Each function's score of an answer; nothing from one that gives none (None)."""
        messages, told = row.about["messages"], {"answer": row.about["reference"]} | row.columns
        said: str | list[Turn] = [{"role": "assistant", "content": answer}] if messages else answer
        given = {"prompts": [messages or row.about["question"]], "completions": [said]}
        given |= {name: [value] for name, value in told.items()}
        found = {name: function(**given)[0] for name, function in self._functions.items()}
        return {name: float(value) for name, value in found.items() if value is not None}


def _rewards(trained: Trained) -> "Rewards | None":
    named = trained.spec.objective_options.rewards
    return Rewards(named) if trained.spec.objective == "grpo" and named else None


def _speed(rows: list[dict[str, Any]]) -> float | None:
    """Tokens that were generated in a second, over all rows and both models."""
    sides = [row[voice] for row in rows for voice in ("base", "tuned") if row[voice].get("seconds")]
    seconds = sum(side["seconds"] for side in sides)
    return round(sum(side["tokens"] for side in sides) / seconds, 1) if seconds else None


def _more(bench: Bench, job: Job, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What else was asked for: general texts and questions, tasks of lm-eval."""
    found: dict[str, Any] = {"forgetting": {}, "lm_eval": {}}
    if job.ask.get("general", True):
        found["forgetting"] = forgetting(bench)
    if job.ask.get("lm_eval"):
        found["lm_eval"] = tasks(bench, job.ask["lm_eval"])
    return found


if __name__ == "__main__":
    sys.exit(main(evaluate))
