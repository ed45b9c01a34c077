"""Tasks of lm-eval, on the base and on the tuned model that are loaded already."""

import difflib
import functools
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine import scoring
from engine.after.extras import looks_like_path, task_files
from engine.after.results import Results
from engine.errors import RunError
from engine.text import clean

if TYPE_CHECKING:
    from engine.worker.evaluate import Bench

FILE = "tasks.jsonl"
NAME = re.compile(r"^task:\s*[\"']?([\w.-]+)[\"']?\s*$", re.M)
LOWER = ("perplexity", "bits_per_byte", "ter", "brier_score")

Row = dict[str, Any]


def named(wanted: list[str]) -> tuple[list[str], list[str]]:
    """The names of the tasks, and the directories that define some of them. Raises RunError if a file names none."""
    names, places = list[str](), list[str]()
    for task in wanted:
        if not looks_like_path(task):
            names.append(task)
            continue
        found = [
            (match[1], file) for file in task_files(task) if (match := NAME.search(file.read_text(encoding="utf-8")))
        ]
        if not found:
            raise RunError(
                "There are no such tasks", f"{clean(task, False)} names no task (`task: name`).", "Check --lm-eval."
            )
        names += [name for name, _ in found]
        places += [str(Path(task).parent if Path(task).is_file() else task)]
    return list(dict.fromkeys(names)), places


@functools.cache
def _manager(places: tuple[str, ...], built_in: bool) -> Any:
    """What knows the tasks; to look at the 14,000 of lm-eval takes ten seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=list(places) or None, include_defaults=built_in)


def _managed(wanted: list[str]) -> tuple[list[str], Any]:
    names, places = named(wanted)
    return names, _manager(tuple(places), not all(map(looks_like_path, wanted)))


def check_tasks(wanted: list[str]) -> None:
    """Raises RunError for a task that lm-eval does not know."""
    names, manager = _managed(wanted)
    for name in names:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, 3, 0.6)
            raise RunError("lm-eval has no such task", f"{clean(name, False)} is none of its {len(manager.all_tasks):,} tasks.",
                           f"Did you mean {', '.join(near)}?" if near else "List them: lm-eval ls tasks")  # fmt: skip


def tasks(bench: "Bench", wanted: list[str]) -> Row:
    """By task and metric: base, tuned, their difference, and where single documents have a value its interval."""
    if bench.pair.learned_prompts:
        raise RunError(
            "lm-eval cannot measure this method",
            "It does not know of prompts that were learned.",
            "Leave --lm-eval out.",
        )
    names, manager = _managed(wanted)
    results = Results(bench.job.folder / FILE, "id")
    for voice, model in bench.voices():
        for name in names:
            bench.job.stop()
            if f"{voice} {name}" not in results.rows:
                bench.job.reporter.phase("evaluate", f"lm-eval: {name}, {voice}")
                results.append([{"id": f"{voice} {name}", **_measured(bench, model, name, manager)}])
    results.close()
    seed = bench.job.ask.get("seed") or 0
    return {name: _compared(results.rows[f"base {name}"], results.rows[f"tuned {name}"], seed) for name in names}


def _measured(bench: "Bench", model: Any, name: str, manager: Any) -> Row:
    """The numbers of a task, and of its documents those that are numbers. Raises RunError for one that cannot be done."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    mixed = torch.bfloat16 if bench.pair.spec.training.precision != "fp32" else None
    asked = HFLM(pretrained=model, tokenizer=bench.pair.tokenizer, mixed_precision_dtype=mixed,
                 batch_size="auto" if bench.pair.device == "cuda" else 4)  # fmt: skip
    try:
        made = lm_eval.simple_evaluate(asked, tasks=[name], task_manager=manager, bootstrap_iters=0)
    except (OSError, KeyError, ValueError) as error:  # most of its tasks have their documents from the hub
        raise RunError(
            "lm-eval cannot do the task", f"{name}: {clean(str(error), False)[:300]}.", "See output.log."
        ) from error
    numbers = {
        key: value
        for key, value in made["results"].get(name, {}).items()
        if _is_number(value) and "_stderr" not in key and key != "sample_len"
    }
    metrics = {key.partition(",")[0] for key in numbers}
    samples = [{key: value for key, value in one.items() if key in metrics and _is_number(value)}
               for one in sorted(made["samples"].get(name, []), key=lambda one: one["doc_id"])]  # fmt: skip
    return {"numbers": numbers, "samples": samples}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _compared(base: Row, tuned: Row, seed: int) -> Row:
    found: Row = {}
    for key, before in base["numbers"].items():
        metric, _, sieve = key.partition(",")
        if key not in tuned["numbers"]:
            continue
        after, name = tuned["numbers"][key], metric if sieve in ("", "none") else f"{metric} ({sieve})"
        found[name] = {"base": before, "tuned": after, "difference": after - before}
        values = [[one.get(metric) for one in side["samples"]] for side in (base, tuned)]
        if (
            sieve in ("", "none")
            and len(values[0]) == len(values[1])
            and None not in (*values[0], *values[1])
            and values[0]
        ):
            paired = scoring.compare(values[0], values[1], not metric.startswith(LOWER), seed)
            found[name] = paired | found[name]
    return found
