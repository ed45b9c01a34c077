"""`eval`: what a run has learned, against its base model, on rows that it was not trained on."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Options = argparse.Namespace


def add_verb(verb: Callable[..., argparse.ArgumentParser]) -> None:
    from engine.after.held_out import MOST

    eval_ = verb("eval", evaluate, "measure a run against its base model, on rows that it was not trained on")
    eval_.add_argument("run", metavar="RUN", help="id, unique beginning of one, or name")
    eval_.add_argument(
        "--data", metavar="FILE", help="rows of your own, in any format; else those that training held out"
    )
    eval_.add_argument(
        "--rows", type=_positive, default=MOST, metavar="N", help=f"rows at most, chosen at random ({MOST})"
    )
    eval_.add_argument("--seed", type=int, default=0, metavar="N", help="of that choice (0)")
    eval_.add_argument("--step", type=int, metavar="N", help="of a checkpoint; else what the run saved at its end")
    eval_.add_argument(
        "--max-new-tokens", type=_positive, metavar="N", help="of an answer; else by the longest reference"
    )
    eval_.add_argument("--general", action=argparse.BooleanOptionalAction, default=True,
                       help="also general texts and questions: what was forgotten")  # fmt: skip
    eval_.add_argument("--lm-eval", action="append", default=[], metavar="TASK",
                       help="also a task of lm-eval, where that is installed: its name, a task file, a directory; again for more")  # fmt: skip
    eval_.add_argument("--bertscore", nargs="?", const="default", metavar="MODEL",
                       help="also BERTScore, where bert_score is installed; a directory with its model")  # fmt: skip
    eval_.add_argument("--base", metavar="PATH", help="where the base model is now, if it has moved")
    eval_.add_argument("--anyway", action="store_true", help="go on though the base model is not what was trained on")
    eval_.add_argument("--detach", action="store_true", help="return at once; the job goes on")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)


def evaluate(options: Options) -> int:
    from engine import cli
    from engine.after import extras
    from engine.after import job as jobs
    from engine.after.held_out import check
    from engine.after.trained import pin, trained
    from engine.cli_after import follow
    from engine.fingerprint import at, check_base
    from engine.store import runs

    db, database = cli.opened(options), cli.database(options)
    run = runs.find(db, options.run)
    meant = at(trained(database, run, options.step), options.base)
    data = options.data and _absolute(options.data)
    ask = asked(options) | {"data": data, "step": meant.step, "base": options.base and meant.spec.model.path}
    extras.check(ask)
    check_base(meant, options.anyway)
    check(meant.spec, meant.run_dir, data)
    job = jobs.create(database, run["id"], "eval", ask)
    pin(meant, jobs.directory(database, run["id"], job))
    return follow(options, db, run["id"], job, lambda row: show(options, row))


def asked(options: Options) -> dict[str, Any]:
    """What the flags ask for, as job.json keeps it."""
    return {
        "rows": options.rows, "seed": options.seed, "max_new_tokens": options.max_new_tokens, "general": options.general,
        "lm_eval": [_task(one) for one in options.lm_eval], "bertscore": options.bertscore or False, "anyway": options.anyway,
        "gib": None,
    }  # fmt: skip


def _absolute(path: str) -> str:
    """The job has another working directory. A data set of the hub stays as it is."""
    from engine.data.rows import local

    here = local(path)
    return str(here.absolute()) if here.exists() else path


def _task(task: str) -> str:
    from engine.after.extras import looks_like_path

    return str(Path(task).expanduser().absolute()) if looks_like_path(task) else task


def show(options: Options, row: dict[str, Any]) -> None:
    from engine import cli
    from engine.report_eval import page
    from engine.store import afterwards

    worst = afterwards.rows(cli.opened(options), row["run_id"], row["job"], "worst", 3)
    print(page(row, worst))
