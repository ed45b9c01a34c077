"""`judge`: a language model compares what a run answers with what its base model answers."""

import argparse
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.errors import RunError
from engine.text import clean

if TYPE_CHECKING:
    from engine.judging.prepare import Plan

Options = argparse.Namespace
LOST = 5
"""Rows that the page shows."""
ABOUT = """\
The address comes from --url, $TUNEDECK_JUDGE_URL or $OPENAI_BASE_URL; the key only from $TUNEDECK_JUDGE_KEY, or,
for OpenAI itself and where $OPENAI_BASE_URL points, $OPENAI_API_KEY. Keys are not stored: a judgement that goes on later needs it again."""


def add_verb(verb: Callable[..., argparse.ArgumentParser]) -> None:
    judge_ = verb("judge", judge, "let a language model compare the answers of a run with those of its base model")
    judge_.epilog = ABOUT
    judge_.add_argument("run", metavar="RUN", help="id, unique beginning of one, or name")
    judge_.add_argument(
        "--eval", metavar="JOB", help="the evaluation whose answers are judged; else the newest finished one"
    )
    judge_.add_argument(
        "--url", metavar="U", help="any endpoint that speaks OpenAI's protocol: http://localhost:8000/v1"
    )
    judge_.add_argument("--model", metavar="M", help="its model; not needed where it has only one")
    judge_.add_argument(
        "--criteria", metavar="TEXT|FILE", help="what makes an answer good; else: helpful, correct, as the reference"
    )
    judge_.add_argument(
        "--rows", type=_positive, metavar="N", help="so many of the evaluation's rows, chosen at random; else all"
    )
    how = judge_.add_mutually_exclusive_group()
    how.add_argument("--pairwise", dest="pairwise", action="store_true", default=True,
                     help="which of both answers is better, asked in both orders (this is the rule)")  # fmt: skip
    how.add_argument("--scored", dest="pairwise", action="store_false", help="each answer alone, from 1 to 10")
    judge_.add_argument("--price-in", type=_price, metavar="P", help="of a million tokens of questions")
    judge_.add_argument("--price-out", type=_price, metavar="P", help="of a million tokens of replies")
    judge_.add_argument("--concurrency", type=_positive, default=4, metavar="N", help="calls at once (4)")
    judge_.add_argument(
        "--timeout", type=_seconds, default=120.0, metavar="S", help="seconds that a call may take (120)"
    )
    judge_.add_argument("--max-tokens", type=_positive, default=1024, metavar="N", help="of a reply (1024)")
    judge_.add_argument("--yes", action="store_true", help="do not ask")
    judge_.add_argument("--detach", action="store_true", help="return at once; the job goes on")
    judge_.add_argument(
        "--show", nargs="?", const="", metavar="JOB", help="ask nobody: show a judgement, the newest if none is named"
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)


def _number(text: str, least: str, above: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not above(value) or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number {least}")
    return value


def _price(text: str) -> float:
    return _number(text, "from 0 on", lambda value: value >= 0)


def _seconds(text: str) -> float:
    return _number(text, "above 0", lambda value: value > 0)


def judge(options: Options) -> int:
    from engine import cli
    from engine.after import job as jobs
    from engine.cli_after import follow
    from engine.judging import prepare
    from engine.store import runs

    db, database = cli.opened(options), cli.database(options)
    run = runs.find(db, options.run)
    if options.show is not None:
        return show(options, db, run)
    made = prepare.plan(db, run, vars(options))
    made = _named(made)
    if not options.yes and (options.json or not sys.stdin.isatty()):
        said = ". ".join(prepare.lines(made)[1:4])
        raise RunError("Nobody was asked", f"{clean(said, False)}.", "Say --yes.")
    made = _tried(made, options)
    if not options.yes and not _agreed():
        return 1
    job = jobs.create(database, run["id"], "judge", made.ask)
    return follow(options, db, run["id"], job, lambda row: print(text(db, row)))


def _named(made: "Plan") -> "Plan":
    """With a model: asked for where none was named. Raises RunError."""
    import asyncio  # it brings ssl: not for the start of every verb

    from engine.judging import prepare, trial

    if made.ask["model"]:
        return made
    model = asyncio.run(trial.only_model(prepare.endpoint(made.ask), made.ask["timeout"]))
    return replace(made, ask=made.ask | {"model": model})


def _tried(made: "Plan", options: Options) -> "Plan":
    """What it comes to, shown before the question, with what a trial call took. Raises EndpointError."""
    import asyncio  # it brings ssl: not for the start of every verb

    from engine.judging import prepare, trial

    ask = made.ask
    found = asyncio.run(trial.try_it(prepare.endpoint(ask), ask["pairwise"], ask["timeout"], ask["max_tokens"]))
    made = prepare.with_trial(made, found.tokens, found.seconds)
    if not options.json or found.warning:
        lines = [*prepare.lines(made), found.text]
        print("\n".join(clean(line, False) for line in lines), file=sys.stderr, flush=True)
    return made


def _agreed() -> bool:
    print("Ask the judge? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().casefold() in ("y", "yes"):
        return True
    print("Nothing was sent but the trial call.")
    return False


def show(options: Options, db: sqlite3.Connection, run: dict[str, Any]) -> int:
    """A judgement that there is. Raises RunError."""
    from engine import cli
    from engine.store import afterwards

    row = afterwards.find(db, run["id"], options.show) if options.show else afterwards.latest(db, run["id"], "judge")
    if row is None or row["kind"] != "judge" or not row["summary"]:
        raise RunError(
            "There is no judgement",
            f"{run['name']} has no finished one of that name.",
            f"See: tunedeck jobs {run['id']}",
        )
    if options.json:
        cli.emit(row)
    else:
        print(text(db, row))
    return 0


def text(db: sqlite3.Connection, row: dict[str, Any]) -> str:
    """The page of a finished judgement."""
    from engine.judging.page import page
    from engine.store import afterwards

    lost = afterwards.rows(db, row["run_id"], row["job"], "worst", LOST)
    evaluated = afterwards.those(db, row["run_id"], row["ask"]["eval"], [one["row"] for one in lost])
    return clean(page(row, lost, {one["row"]: one for one in evaluated}))
