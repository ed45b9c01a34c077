"""`tunedeck sweep`: the same run with many settings. `tunedeck sweeps`: what became of them."""

import argparse
import contextlib
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine import paths, report, short, sweep, sweep_log, sweep_plan, sweeping
from engine.errors import RunError, SpecError
from engine.planner.rules import RANKS
from engine.reconcile import reconcile
from engine.spec import apply_sets, read_yaml
from engine.store import sweeps
from engine.store.connection import open_database
from engine.text import clean

Verb = Callable[..., argparse.ArgumentParser]
Options = argparse.Namespace
GLYPHS = {"running": "●", "stopping": "◑", "finished": "✓", "stopped": "■", "failed": "✗"}
POINT_GLYPHS = report.GLYPHS | {"waiting": "○", "refused": "✗", "gone": "–"}
PATIENCE = 20
"""Looks, two a second, after which it is said that a run waits."""
ACTIONS = {
    "show": "its points", "stop": "start no more of its runs, and stop those at work",
    "resume": "go on with a sweep that was stopped", "retry": "its failed points once more",
}  # fmt: skip
OVER = (
    "PATH=VALUES: a field of the specification and its values with commas, a value that is a list in brackets. With --random"
    " also a range a..b: whole numbers evenly; others evenly by order of magnitude, or evenly where it begins at 0"
)


def add_verbs(verb: Verb) -> None:
    """Add them to the parser."""
    one = verb(
        "sweep", start, "start the same run with many settings, one after the other or as many as there are cards"
    )
    one.add_argument("spec", nargs="?", type=Path, metavar="SPEC.yaml", help="what all have in common: see the README")
    one.add_argument("--model", help="a directory, a .gguf file or a hub id")
    one.add_argument("--data", help="a file, a directory or a data set of the hub")
    one.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="a.b=c", help="any field of the specification"
    )
    one.add_argument("--over", nargs="+", action="extend", required=True, metavar="PATH=VALUES", help=OVER)
    one.add_argument(
        "--seeds", metavar="N|LIST", help="each point with the seeds 1 to N, or with those of a list: 1,2,3"
    )
    one.add_argument("--random", type=int, metavar="N", help="N points drawn at random in place of every combination")
    one.add_argument("--sample-seed", type=int, default=0, metavar="S", help="another S draws other points (0)")
    one.add_argument("--name", default="", help="the sweep's name, with which its runs' names begin")
    one.add_argument(
        "--at-once", type=int, metavar="N", help="runs that are started at a time: as many as cards fit, one on the CPU"
    )
    one.add_argument("--goal", choices=list(RANKS), default="instructions", help="what should change")
    one.add_argument("--accept", action="store_true", help="go on in spite of fatal findings in the data")
    one.add_argument("--anyway", action="store_true", help="start even what the planner says does not fit")
    one.add_argument("--detach", action="store_true", help="return at once; the sweep goes on")
    one.add_argument("--dry-run", action="store_true", help="only show the points, with their time and memory")
    many = verb("sweeps", manage, "sweeps, how far they are and their best runs")
    many.add_argument("action", nargs="?", metavar="ACTION",
                      help="; ".join(f"{name} SWEEP: {text}" for name, text in ACTIONS.items()))  # fmt: skip
    many.add_argument("sweep", nargs="?", metavar="SWEEP", help="id, unique beginning of one, or name")
    many.add_argument("--now", action="store_true", help="with stop: kill the runs at work, save nothing")
    many.add_argument("--finish", action="store_true", help="with stop: let the runs at work come to their end")


def start(options: Options) -> int:
    from engine import cli

    path = cli.database(options)
    planned = sweep_plan.plan(_asked(options), _names(path), cli.past_runs(path))
    if options.dry_run:
        if options.json:
            cli.emit(document(planned))
        else:
            print(page(planned))
        return 0
    sweep_id = sweeping.start(path, planned)
    if not options.json:
        print(
            f"{page(planned)}\n\nsweep {planned.name}  {sweep_id}  in {paths.sweeps_directory(path) / sweep_id}",
            flush=True,
        )
    if options.detach:
        if options.json:
            cli.emit({"id": sweep_id, "name": planned.name, "status": "running", **document(planned),
                      "directory": str(paths.sweeps_directory(path) / sweep_id)})  # fmt: skip
        else:
            print(f"It goes on without this terminal: tunedeck sweeps show {sweep_id}")
        return 0
    return follow(path, sweep_id, options)


def _asked(options: Options) -> sweep_plan.Asked:
    """Raises SpecError."""
    raw = read_yaml(options.spec) if options.spec else {}
    given = (("model", options.model), ("data", options.data))
    raw = apply_sets(_with_paths(raw, given), options.sets)
    for name in ("random", "at_once"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise SpecError(f"--{name.replace('_', '-')} needs a number from 1 on", f"{value} was given.", "")
    return sweep_plan.Asked(
        raw, tuple(sweep.axis(one) for one in options.over), tuple(sweep.seeds(options.seeds)) if options.seeds else (),
        options.random, options.sample_seed, options.name, options.goal, options.anyway, options.accept, options.at_once,
    )  # fmt: skip


def _with_paths(raw: dict[str, Any], given: tuple[tuple[str, str | None], ...]) -> dict[str, Any]:
    for section, value in given:
        if value is not None:
            old = raw.get(section)
            raw = {**raw, section: {**(old if isinstance(old, dict) else {}), "path": value}}
    return raw


def _names(path: Path) -> Callable[[str], set[str]]:
    """The names of sweeps that begin so; none without a database."""

    def taken(prefix: str) -> set[str]:
        if not path.exists():
            return set()
        with contextlib.closing(open_database(path, create=False)) as db:
            return sweeps.names_like(db, prefix)

    return taken


def document(planned: sweep_plan.Planned) -> dict[str, Any]:
    """What `sweep --dry-run --json` prints. Seconds and GiB are predictions, None where they are not known."""
    points = [{"number": i, "name": d.spec.run.name, "sets": dict(p), "seconds": sweep_plan.seconds(d.plan),
               "gib": sweep_plan.memory(d.plan), "fits": d.plan.get("fits")}
              for i, (p, d) in enumerate(zip(planned.points, planned.drafts, strict=True), 1)]  # fmt: skip
    return {"name": planned.name, "over": planned.over, "at_once": planned.at_once, "seconds": planned.seconds,
            "notes": list(planned.notes), "points": points}  # fmt: skip


def page(planned: sweep_plan.Planned) -> str:
    """The points for people, and what all of it comes to."""
    fields = [short.field(path) for path, _ in planned.points[0]]
    rows = [[str(i), d.spec.run.name or "", *(short.value(v) for _, v in p), _minutes(sweep_plan.seconds(d.plan)),
             report.number(sweep_plan.memory(d.plan), 2)]
            for i, (p, d) in enumerate(zip(planned.points, planned.drafts, strict=True), 1)]  # fmt: skip
    head = ["", "run", *fields, "time", "GiB"]
    right = [0, *range(2, len(head))]
    count = len(planned.points)
    where = "on the CPU" if not planned.cards else f"on {planned.cards} card{'s' if planned.cards > 1 else ''}"
    pace = "one at a time" if planned.at_once == 1 else f"{planned.at_once} at a time"
    total = f"{count} run{'s' if count > 1 else ''}, {pace} {where}: {_minutes(planned.seconds)} of training in all"
    return clean("\n".join([report.table(head, rows, right), *(f"· {note}" for note in planned.notes), total]))


def _minutes(seconds: float | None) -> str:
    return report.duration(seconds) if seconds is None else f"about {report.duration(max(1.0, seconds))}"


def follow(path: Path, sweep_id: str, options: Options) -> int:
    """Say what ends until all has; Ctrl+C leaves it going. Exit code 0 if every run finished."""
    from engine import cli

    db = open_database(path, create=False)
    told: dict[int, str] = {}
    waited: Counter[int] = Counter()
    # An exception may come where nobody passes it on (while memory is freed, say); this cannot be missed
    asked = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        while True:
            reconcile(db, path)
            row = sweeps.find(db, sweep_id)
            made = sweeping.as_json(db, path, row)
            for line in _news(made, told, waited):
                if not options.json:
                    print(line, flush=True)
            if row["status"] not in sweeps.ACTIVE:
                break
            if asked.wait(0.5):
                print(f"The sweep goes on alone: tunedeck sweeps show {sweep_id}", file=sys.stderr)
                return 130
    finally:
        signal.signal(signal.SIGINT, before)
    if options.json:
        cli.emit(made)
    else:
        print(f"\n{shown(made)}")
    return 0 if all(one["status"] == "finished" for one in made["points"]) else 1


def _news(made: Mapping[str, Any], told: dict[int, str], waited: Counter[int]) -> list[str]:
    """A line for each point that is not as it was told last; `told`, and the looks that each `waited`, are brought up to date."""
    lines, count = [], len(made["points"])
    for one in made["points"]:
        word, number = _word(one), one["number"]
        waited[number] += word == "queued"
        if word in ("waiting", "starting", told.get(number)) or (word == "queued" and waited[number] < PATIENCE):
            continue
        told[number] = word
        rest = [f"{made['metric']} {one['best']:.4g}"] if one["best"] is not None and one["state"] == "ended" else []
        if word not in ("finished", "running", "queued"):
            rest.append(clean(one["text"] or one["exit_reason"] or "", False))
        words = "  ".join([word, *rest])
        lines.append(f"{POINT_GLYPHS[word]} {number} of {count}  {clean(one['name'], False)}  {words}".rstrip())
    return lines


def _word(point: Mapping[str, Any]) -> str:
    """A point's state in a word; of one that is at work or has ended its run's."""
    return str(point["status"] if point["state"] in ("active", "ended") else point["state"])


def manage(options: Options) -> int:
    from engine import cli

    action, name = options.action, options.sweep
    if action and action not in ACTIONS and name is None:
        action, name = "show", action
    if action and action not in ACTIONS:
        raise RunError(
            "Nothing can be done so",
            f"'{clean(action, False)}' is none of {', '.join(ACTIONS)}.",
            "See: tunedeck sweeps --help",
        )
    if action and not name:
        raise RunError(
            "Which sweep is meant?", f"tunedeck sweeps {action} needs its name or id.", "See: tunedeck sweeps"
        )
    if ((options.now or options.finish) and action != "stop") or (options.now and options.finish):
        raise RunError("That does not go together", "--now and --finish go with stop, one of them.", "")
    path = cli.database(options)
    if not path.exists() and not action:  # a first look is no error
        print("[]" if options.json else "No sweeps yet. Start one: tunedeck sweep")
        return 0
    db = cli.opened(options)
    if not action:
        found = [sweeping.as_json(db, path, row) for row in sweeps.listing(db)]
        if options.json:
            cli.emit(found)
        else:
            print(listed(found) if found else "No sweeps yet. Start one: tunedeck sweep")
        return 0
    row = sweeps.find(db, name)
    said = _done(action, db, path, row, options)
    made = sweeping.as_json(db, path, sweeps.find(db, row["id"]))
    if options.json:
        cli.emit(made)
    else:
        print(said or shown(made))
    return 0


def _done(action: str, db: sqlite3.Connection, path: Path, row: Mapping[str, Any], options: Options) -> str:
    """Carry out an action; what is said of it, nothing for `show`. Raises TuneDeckError."""
    name = clean(row["name"], False)
    if action == "stop":
        how = "now" if options.now else "finish" if options.finish else "soon"
        sweeping.stop(path, row, how)
        words = {
            "now": "its runs at work are killed",
            "finish": "its runs at work come to their end",
            "soon": "its runs at work save and stop",
        }
        return f"{name}  {row['id']}  starts no more runs; {words[how]}. Go on with: tunedeck sweeps resume {row['id']}"
    if action in ("resume", "retry"):
        which = ("stopped",) if action == "resume" else sweeping.AGAIN
        wanted = sweeping.go_on(db, path, row, which)
        return f"{name}  {row['id']}  goes on with {len(wanted)} point{'s' if len(wanted) > 1 else ''}: tunedeck sweeps show {row['id']}"
    return ""


def listed(found: list[dict[str, Any]]) -> str:
    """All sweeps, a row each."""
    rows = []
    for one in found:
        best = next((p for p in one["points"] if one["best"] and p["run"] == one["best"]), None)
        rows.append([
            one["id"], f"{GLYPHS[one['status']]} {one['status']}", one["name"], _progress(one), _over(one),
            f"{best['best']:.4g} {one['metric']}" if best else "–", best["name"] if best else "–",
            report.duration((one["ended_at"] or time.time()) - one["created_at"]),
        ])  # fmt: skip
    return report.table(["id", "status", "name", "points", "over", "best", "best run", "time"], rows, [7])


def _progress(made: Mapping[str, Any]) -> str:
    """`5 of 8`, and what did not go well."""
    words = [_word(one) for one in made["points"]]
    ended = sum(one["state"] in ("ended", "refused", "gone") for one in made["points"])
    bad = [
        f"{words.count(word)} {word}"
        for word in ("failed", "crashed", "oom", "refused", "stopped", "gone")
        if word in words
    ]
    return f"{ended} of {len(words)}" + (f", {', '.join(bad)}" if bad else "")


def _over(made: Mapping[str, Any]) -> str:
    return ", ".join(f"{short.field(path)} {_few(values)}" for path, values in made["over"].items())


def _few(values: list[Any]) -> str:
    words = [short.value(one) for one in values]
    return " ".join(words) if len(words) <= 4 else f"{words[0]} … {words[-1]}"


def shown(made: Mapping[str, Any]) -> str:
    """One sweep with its points, the best of those that have ended marked."""
    head = f"{GLYPHS[made['status']]} {clean(made['name'], False)}  {made['id']}  {made['status']}  {_progress(made)}"
    fields = list(made["over"])
    rows = []
    for one in made["points"]:
        mark = "*" if one["run"] and one["run"] == made["best"] else ""
        word = _word(one)
        ran = (one["ended_at"] or time.time()) - one["started_at"] if one["started_at"] else None
        rows.append([
            str(one["number"]), f"{POINT_GLYPHS[word]} {word}", one["run"] or "–", one["name"],
            *(short.value(one["sets"].get(path)) for path in fields),
            "–" if one["best"] is None else f"{one['best']:.4g}{mark or ' '}", report.duration(ran),
        ])  # fmt: skip
    names = ["", "status", "id", "run", *(short.field(path) for path in fields), made["metric"] or "best", "time"]
    right = [0, *range(4, len(names))]
    wrong = [f"{one['number']}: {clean(one['text'] or one['exit_reason'] or '', False)}" for one in made["points"]
             if _word(one) in ("failed", "crashed", "oom", "refused") and (one["text"] or one["exit_reason"])]  # fmt: skip
    queued = any(_word(one) == "queued" for one in made["points"])
    waits = ["what a queued run waits for: tunedeck queue"] * queued + _waits(made)
    return "\n".join([head, report.table(names, rows, right), *wrong, *waits])


def _waits(made: Mapping[str, Any]) -> list[str]:
    """What the controller waits for, if that was the last thing that it said."""
    entries = sweep_log.read(Path(made["directory"]))
    last = entries[-1] if entries and made["status"] in sweeps.ACTIVE else {}
    return [f"waits: {clean(str(last.get('text', '')), False)}"] if last.get("event") == "waits" else []
