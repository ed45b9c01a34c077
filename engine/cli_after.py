"""`jobs`, and what the verbs of the jobs after training share: the run that is meant, starting a job, following it."""

import argparse
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import cli_chat, cli_eval, cli_judge, cli_merge, cli_take
from engine.after import job as jobs
from engine.reconcile import reconcile
from engine.store import afterwards, runs
from engine.text import clean

Options = argparse.Namespace
TICK = 0.3


def add_verbs(verb: Callable[..., argparse.ArgumentParser]) -> None:
    cli_eval.add_verb(verb)
    cli_judge.add_verb(verb)
    jobs_ = verb("jobs", listing, "evaluations, judgements, chats, merges and exports of a run; stop one, let it go on")
    jobs_.add_argument("run", metavar="RUN", help="id, unique beginning of one, or name")
    jobs_.add_argument("--stop", metavar="JOB", help="ask it to stop; what it has done is kept")
    jobs_.add_argument("--resume", metavar="JOB", help="let one go on that stopped, failed or crashed")
    jobs_.add_argument("--show", metavar="JOB", help="what came of one that finished")
    cli_chat.add_verb(verb)
    cli_merge.add_verb(verb)


def listing(options: Options) -> int:
    from engine import cli

    db = cli.opened(options)
    run = runs.find(db, options.run)
    if options.stop:
        jobs.stop(cli.database(options), afterwards.find(db, run["id"], options.stop))
    if options.resume:
        job = afterwards.find(db, run["id"], options.resume)["job"]
        return follow(options, db, run["id"], job, lambda row: show(options, db, row))
    if options.show:
        row = afterwards.find(db, run["id"], options.show)
        cli.emit(row) if options.json else show(options, db, row)
        return 0
    found = afterwards.of_run(db, run["id"])
    if options.json:
        cli.emit(found)
    elif not found:
        print(f"Nothing was done with {run['name']} yet. Evaluate it: tunedeck eval {run['id']}")
    for row in [] if options.json else found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created_at"]))
        print(
            clean(
                f"{row['job']:<10} {row['status']:<9} {when}  {row['reason'] or row['phase'] or ''}", keep_lines=False
            )
        )
    return 0


def show(options: Options, db: sqlite3.Connection, row: dict[str, Any]) -> None:
    """What came of a job, as its own verb prints it; of a chat what was said."""
    if row["status"] != "finished":
        print(clean(f"{row['job']} {row['status']}: {row['reason'] or row['phase'] or ''}", keep_lines=False))
    elif row["kind"] == "eval":
        cli_eval.show(options, row)
    elif row["kind"] == "judge":
        print(cli_judge.text(db, row))
    elif row["kind"] == "merge":
        cli_merge.show(row)
    elif row["kind"] == "export":
        cli_take.show(row)
    else:
        for turn in afterwards.rows(db, row["run_id"], row["job"]):
            print(clean(f"{turn.get('voice') or turn['role']}: {turn['text']}\n"))


def follow(
    options: Options,
    db: sqlite3.Connection,
    run_id: str,
    job: str,
    show: Callable[[dict[str, Any]], None] | None = None,
) -> int:
    """Start a job, or let it go on, and follow it until it ends (not with --detach); the exit code.

    `show` prints what came of a job that finished; with --json the job's row is printed instead. Ctrl+C leaves it at work.
    """
    from engine import cli

    database: Path = cli.database(options)
    jobs.start(database, run_id, job)
    if getattr(options, "detach", False):
        row = afterwards.find(db, run_id, job)
        cli.emit(row) if options.json else print(f"{job} of {run_id} is at work: tunedeck jobs {run_id}")
        return 0
    try:
        row = _until_ended(options, db, database, run_id, job)
    except KeyboardInterrupt:
        print(
            f"\n{job} goes on. Look: tunedeck jobs {run_id}; stop it: tunedeck jobs {run_id} --stop {job}",
            file=sys.stderr,
        )
        return 130
    if options.json:
        cli.emit(row)
    elif row["status"] == "finished" and show:
        show(row)
    elif row["status"] != "finished":
        print(clean(f"{job} {row['status']}: {row['reason']}"), file=sys.stderr)
        go_on = "When that is mended" if row["status"] == "failed" else "Let it go on"
        print(f"{go_on}: tunedeck jobs {run_id} --resume {job}", file=sys.stderr)
    return 0 if row["status"] == "finished" else 1


def _until_ended(options: Options, db: sqlite3.Connection, database: Path, run_id: str, job: str) -> dict[str, Any]:
    said = ""
    while True:
        time.sleep(TICK)
        row = afterwards.find(db, run_id, job)
        line = " ".join([row["phase"] or "", f"{row['done']}/{row['total']}" if row["total"] else ""]).strip()
        if line != said and not options.json:
            print(clean(f"  {line}", keep_lines=False), file=sys.stderr, flush=True)
            said = line
        if row["status"] not in afterwards.ACTIVE:
            return row
        reconcile(db, database)
