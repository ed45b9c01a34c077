"""Every verb. Exit codes: 0 done, 1 the run or job failed, 2 bad input, 3 it does not fit."""

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import (
    cli_after,
    cli_changes,
    cli_compare,
    cli_config,
    cli_data,
    cli_db,
    cli_exchange,
    cli_fork,
    cli_health,
    cli_lineage,
    cli_methods,
    cli_queue,
    cli_runs,
    cli_sweep,
    launch,
    paths,
    report,
)
from engine.compatibility import VARIANTS
from engine.diagnose import findings
from engine.elsewhere import refuse_imported
from engine.errors import NoFit, RunError, TuneDeckError
from engine.methods import METHODS
from engine.options import app, everywhere
from engine.planner.calibrate import PastRun
from engine.planner.rules import RANKS
from engine.reconcile import reconcile
from engine.report_environment import environment_table
from engine.spec import RunSpec, apply_sets, parse, read_yaml
from engine.store import afterwards, metrics, plans, records, runs
from engine.store.connection import DatabaseError, explained, open_database, writable
from engine.text import clean

Options = argparse.Namespace
RUN_HELP = "id, unique beginning of one, or name"


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the exit code. Errors are a title, a sentence and a hint on standard error."""
    parser = build_parser()
    options = parser.parse_args(cli_runs.joined(sys.argv[1:] if argv is None else argv))
    if options.verb is None:
        parser.print_help(sys.stderr)
        print("\nThe app needs a terminal; here only the verbs work.", file=sys.stderr)
        return 2
    try:
        return int(options.verb(options))
    except TuneDeckError as error:
        if getattr(options, "debug", False):
            raise
        print_error(error)
        return error.exit_code
    except DatabaseError as error:
        if getattr(options, "debug", False):
            raise
        print_error(explained(database(options), error))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `tunedeck runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def print_error(error: TuneDeckError) -> None:
    hint = f"\n  {error.hint}" if error.hint else ""
    print(clean(f"{error.title}\n  {error.message}{hint}"), file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs. Global flags may stand before or behind the verb."""
    common = everywhere()
    parser = argparse.ArgumentParser(
        prog="tunedeck",
        description="Fine-tune language models from a terminal. Without a verb: the app.",
        parents=[common, app()],
    )
    parser.set_defaults(verb=None)
    verbs = parser.add_subparsers(metavar="VERB")

    def verb(name: str, function: Callable[[Options], int], text: str, as_json: bool = True) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(verb=function)
        if as_json:
            sub.add_argument("--json", action="store_true", help="one JSON document on standard output")
        return sub

    verb("gpus", gpus, "the GPUs of this machine")
    verb("doctor", doctor, "is this machine ready, and what is missing")
    plan_flags(verb("plan", plan, "what fits, how fast, and why; nothing is downloaded or started"))
    train_flags(verb("train", train, "start a run and follow it"))
    cli_data.add_verbs(verbs, common)
    cli_runs.add_verb(verb)
    cli_changes.add_verbs(verb)
    verb("show", show, "everything about one run").add_argument("run", metavar="RUN", help=RUN_HELP)
    logs_ = verb("logs", logs, "what the run's worker printed", as_json=False)
    logs_.add_argument("run", metavar="RUN", help=RUN_HELP)
    logs_.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    stop_ = verb("stop", stop, "ask runs to save and stop")
    stop_.add_argument("run", nargs="+", metavar="RUN", help=RUN_HELP)
    stop_.add_argument("--now", action="store_true", help="kill them, save nothing")
    verb("checkpoint", checkpoint, "ask a run to save a checkpoint now and go on").add_argument(
        "run", metavar="RUN", help=RUN_HELP
    )
    verb("evaluate", evaluate, "ask a run to evaluate now, with samples, and go on").add_argument(
        "run", metavar="RUN", help=RUN_HELP
    )
    resume_ = verb("resume", resume, "continue a run from its last checkpoint, and follow it")
    resume_.add_argument("run", metavar="RUN", help=RUN_HELP)
    resume_.add_argument("--detach", action="store_true", help="return at once; the run goes on")
    cli_fork.add_verb(verb)
    cli_after.add_verbs(verb)
    cli_compare.add_verbs(verb)
    cli_config.add_verb(verb)
    cli_db.add_verb(verb)
    cli_exchange.add_verbs(verb)
    cli_health.add_verb(verb)
    cli_lineage.add_verb(verb)
    cli_methods.add_verb(verb)
    cli_queue.add_verb(verb)
    cli_sweep.add_verbs(verb)
    demo_ = verb("demo", demo, "train a small model on this machine, about two minutes")
    demo_.add_argument("--headless", action="store_true", help="without the app")
    demo_.add_argument("--write", type=Path, metavar="FILE", help="write the demo's rows and do nothing else")
    return parser


def train_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", nargs="?", type=Path, metavar="SPEC.yaml", help="a specification: see the README")
    parser.add_argument("--model", help="a directory, a .gguf file or a hub id")
    parser.add_argument("--data", help="a file, a directory or a data set of the hub; see: tunedeck data check")
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="a.b=c", help="any field of the specification"
    )
    parser.add_argument(
        "--accept", action="store_true", help="go on in spite of fatal findings: without the rows that cannot be used"
    )
    parser.add_argument("--goal", choices=list(RANKS), default="instructions", help="what should change")
    parser.add_argument("--anyway", action="store_true", help="start even if the planner says that it does not fit")
    parser.add_argument("--detach", action="store_true", help="return at once; the run goes on")
    parser.add_argument("--queue", action="store_true", help="on the CPU too, wait until no other run trains there")


def plan_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a directory, a .gguf file, a hub id, or a name in the catalog")
    parser.add_argument("--data", metavar="FILE", help="rows, for their number and length")
    parser.add_argument("--gpu", action="append", metavar="DESC", help="auto, a card (rtx4090), a size (24GiB), with a "
                        "count (2xrtx4090); again for others to compare")  # fmt: skip
    parser.add_argument(
        "--method",
        choices=[*METHODS, *VARIANTS],
        metavar="M",
        help=f"recommended if open, as all below: {', '.join(METHODS)}; or a variant of LoRA: {', '.join(VARIANTS)}",
    )
    parser.add_argument("--rank", type=int, metavar="R")
    parser.add_argument("--targets", metavar="T", help="all-linear, attention, or module names with commas")
    parser.add_argument("--micro-batch", type=int, metavar="N", help="rows a card sees at once")
    parser.add_argument("--max-length", type=int, metavar="N", help="tokens")
    parser.add_argument("--optimizer", metavar="O", help="as in transformers: adamw_torch_fused, adamw_8bit, ...")
    parser.add_argument("--attention", metavar="A", help="sdpa, eager, flash_attention_2")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep all activations")
    parser.add_argument("--goal", choices=list(RANKS), default="instructions", help="what should change")
    parser.add_argument("--price", type=float, metavar="P", help="what an hour of one card costs")
    parser.add_argument("--stack", choices=["current", "hf448"], default="current", help="library versions to model")
    parser.add_argument("--exact", action="store_true", help="trace the real step too, about 20 s, no GPU needed")
    parser.add_argument("--probe", action="store_true", help="run two real steps on this machine's GPU, random weights")
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="a.b=c", help="any field of the specification"
    )


def database(options: Options) -> Path:
    return paths.database(getattr(options, "db", None))


def opened(options: Options) -> sqlite3.Connection:
    """The database, made true first. Raises StoreError."""
    path = database(options)
    db = open_database(path, create=False, say=tell)
    if writable(path):
        reconcile(db, path)
    return db


def tell(text: str) -> None:
    """What was done to the database, to be read once."""
    print(clean(text), file=sys.stderr)


def emit(value: Any) -> None:
    """One JSON document; what is not finite became a text on its way into the database."""
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def gpus(options: Options) -> int:
    from engine.hardware import Sampler, probe
    from engine.tickets import read_leases

    hardware, sampler = probe(), Sampler()
    samples, used, leases = {s.uuid: s for s in sampler.sample()}, sampler.processes(), read_leases()
    if options.json:
        cards = [vars(g) | {k: v for k, v in vars(samples[g.uuid]).items() if k != "gpu"} if g.uuid in samples
                 else vars(g) for g in hardware.gpus]  # fmt: skip
        for card in cards:
            told = used.get(card["uuid"])
            card["processes"] = None if told is None else [vars(one) for one in told]
            card["run"] = next((lease.run for lease in leases if card["uuid"] in lease.cards), None)
        emit({**vars(hardware), "gpus": cards})
    else:
        print(report.gpu_table(hardware, samples, used, leases))
    return 0


def doctor(options: Options) -> int:
    from engine.doctor import examine

    checks = examine(database(options))
    if options.json:
        emit([vars(c) for c in checks])
    else:
        marks = {"ok": "✓", "note": "·", "fatal": "✗"}
        print(report.table(["", "what", "found"], [[marks[c.level], c.name, c.text] for c in checks]))
        for check in checks:
            if check.hint:
                print(f"  {check.name}: {check.hint}")
    return 1 if any(c.level == "fatal" for c in checks) else 0


def train(options: Options) -> int:
    from engine.defaults import beneath, of_config
    from engine.report_data import MARKS

    raw = read_yaml(options.spec) if options.spec else {}
    given = [(("model", "path"), options.model), (("data", "path"), options.data)]
    for (section, key), value in given:
        if value is not None:
            old = raw.get(section)
            raw = {**raw, section: {**(old if isinstance(old, dict) else {}), key: value}}
    path = database(options)
    raw, mine = beneath(apply_sets(raw, options.sets), of_config())
    prepared = launch.prepare(parse(raw), options.anyway, past_runs(path), options.accept, mine, options.goal)
    run_id = launch.create(path, prepared, options.queue)
    if not options.json:
        chosen = [[r.field, str(r.value)[:40], r.why] for r in prepared.reasons]
        print(report.table(["recommended", "value", "why"], chosen) + "\n")
        for finding in prepared.data.warnings + prepared.data.fatal:
            print(f"{MARKS[finding.severity]} {clean(finding.message, False)}   {finding.where}".rstrip())
        print(f"run {run_id}  in {paths.run_directory(path, run_id)}", flush=True)
    return follow(path, run_id, options)


def past_runs(path: Path) -> list[PastRun]:
    """What was predicted and measured on this machine; nothing without a database."""
    if not path.exists():
        return []
    with contextlib.closing(open_database(path, create=False, say=tell)) as db:
        return plans.history(db)


def plan(options: Options) -> int:
    from engine.defaults import beneath, of_config
    from engine.planner.ask import plan_sections, prepare_request
    from engine.planner.plan import as_json, nearest_hint, with_reasons
    from engine.planner.recommend import recommend, with_trace
    from engine.report_plan import plan_page

    raw, mine = beneath(plan_sections(options.model, options.data, vars(options), options.sets), of_config())
    spec = parse(raw)
    cards = options.gpu or ["auto"]
    requests = [
        prepare_request(spec, gpu, options.goal, options.stack, options.price, options.data is not None)
        for gpu in cards
    ]
    history = past_runs(database(options))
    made, *others = [with_reasons(recommend(request, history), mine) for request in requests]
    traced = None
    if options.exact or made.request.shape is None:
        from engine.planner.exact import exact

        print("Tracing the real step: about 20 s ...", file=sys.stderr)
        traced = exact(made.request.facts.config, made.choice.spec)
        made = with_trace(made, traced)
    probed = probe_here(made.request.facts.config, made.choice.spec) if options.probe else None
    if options.json:
        document = as_json(made) | ({"exact": traced} if traced else {}) | ({"probe": probed} if probed else {})
        emit(document | ({"others": [as_json(one) for one in others]} if others else {}))
    else:
        width = min(100, shutil.get_terminal_size().columns)
        rows = [(c.description, one.choice) for one in others if (c := one.request.cards)]
        print(plan_page(made, width, rows))
        if traced:
            print(report.traced(traced, made.choice.memory.peak if made.choice.memory else None))
        if probed:
            print(report.probed(probed, made.choice.memory.peak if made.choice.memory else None))
    if made.choice.fits == "no":
        print_error(NoFit("This plan cannot be carried out", made.problems[0], nearest_hint(made)))
        return 3
    return 0


def probe_here(config: dict[str, Any], spec: RunSpec) -> dict[str, Any]:
    """Two real steps of that on this machine. Raises TuneDeckError."""
    from engine.hardware import probe as hardware
    from engine.planner.probe import card_for, probe

    print("Probing: two real steps, about a minute ...", file=sys.stderr)
    return probe(config, spec, card_for(spec, hardware().gpus))


def follow(path: Path, run_id: str, options: Options) -> int:
    """Watch a run to its end (unless detached), then say how it went. Ctrl+C asks it to stop; again, it goes on alone."""
    db = open_database(path, create=False)
    run = runs.one(db, run_id)
    if options.detach:
        if options.json:
            emit(
                {
                    "id": run_id,
                    "name": run["name"],
                    "status": run["status"],
                    "directory": str(paths.run_directory(path, run_id)),
                }
            )
        else:
            print(f"{run['name']}  {run_id}  goes on without this terminal: tunedeck show {run_id}")
        return 0
    said, asked = "", False
    while run["status"] in runs.ACTIVE:
        try:
            time.sleep(0.5)
            reconcile(db, path)
            run = runs.one(db, run_id)
            line = report.progress_line(run)
            if line != said and not options.json:
                print(line, flush=True)
            said = line
        except KeyboardInterrupt:
            if asked:
                print(f"The run goes on alone: tunedeck show {run_id}", file=sys.stderr)
                return 130
            asked = True
            launch.stop(path, run)
            print("Asked to save and stop. Ctrl+C again leaves it to itself.", file=sys.stderr)
    return _ended(db, run, options)


def _ended(db: sqlite3.Connection, run: runs.Row, options: Options) -> int:
    last = records.last_event(db, run["id"], ("failed", "attempt"))
    failed = last if last and last["type"] == "failed" else None
    if options.json:
        emit(run | {"checkpoints": records.checkpoints(db, run["id"]), "samples": records.samples(db, run["id"])})
    else:
        print(f"{report.GLYPHS[run['status']]} {run['name']} {run['status']}: {clean(run['exit_reason'] or '')}")
        for artifact in records.artifacts(db, run["id"]):
            print(f"  {artifact['kind']} in {artifact['path']}")
    if run["status"] in ("finished", "stopped"):
        return 0
    hint = failed["data"]["hint"] if failed else f"See the log: tunedeck logs {run['id']}"
    print_error(TuneDeckError(f"The run {run['status']}", run["exit_reason"] or "", hint))
    return 1


def show(options: Options) -> int:
    db = opened(options)
    run = runs.one(db, runs.find(db, options.run)["id"])
    events, samples = records.events(db, run["id"]), records.samples(db, run["id"])
    if options.json:
        curves = {k: [[s, t, metrics.encode(v)] for s, t, v in points]
                  for k, points in metrics.curves(db, run["id"], metrics.keys(db, run["id"])).items()}  # fmt: skip
        emit(run | {"metrics": curves, "events": events, "samples": samples,
                    "checkpoints": records.checkpoints(db, run["id"]), "artifacts": records.artifacts(db, run["id"]),
                    "jobs": afterwards.of_run(db, run["id"]), "health": cli_health.as_json(findings(db, run["id"]))})  # fmt: skip
    else:
        directory = paths.run_directory(database(options), run["id"])
        page = run | {"params": runs.params(db, run["id"]), "directory": str(directory),
                      "health": cli_health.lines(findings(db, run["id"]), run["id"]),
                      "started_from": environment_table(run["environment"]),
                      "checkpoints": records.checkpoints(db, run["id"]), "artifacts": records.artifacts(db, run["id"]),
                      "jobs": afterwards.of_run(db, run["id"])}  # fmt: skip
        print(report.run_page(page, events, samples))
    return 0


def logs(options: Options) -> int:
    db = opened(options)
    run = runs.find(db, options.run)
    log = paths.run_directory(database(options), run["id"]) / "output.log"
    if not log.is_file():
        refuse_imported(run, "followed")
        raise RunError("The run has no log", f"{log} does not exist.", "Its directory may have been deleted.")
    with log.open(encoding="utf-8", errors="replace") as file:
        while True:
            text = file.read()
            if text:
                print(clean(text.replace("\r", "\n")), end="", flush=True)
            if not options.follow or runs.find(db, run["id"])["status"] not in runs.ACTIVE:
                return 0
            time.sleep(0.5)
            reconcile(db, database(options))


def stop(options: Options) -> int:
    db = opened(options)
    found = [runs.find(db, name) for name in options.run]
    for run in found:
        launch.stop(database(options), run, options.now)
    if options.json:
        emit([{"id": r["id"], "name": r["name"], "asked": "now" if options.now else "soon"} for r in found])
    else:
        for run in found:
            print(f"{run['name']}  {run['id']}  " + ("is killed" if options.now else "saves a checkpoint and stops"))
    return 0


def checkpoint(options: Options) -> int:
    return _ask(options, launch.checkpoint, "checkpoint", "saves a checkpoint at the end of this step")


def evaluate(options: Options) -> int:
    return _ask(options, launch.evaluate, "evaluate", "evaluates at the end of this step")


def _ask(options: Options, ask: Callable[[Path, runs.Row], None], what: str, does: str) -> int:
    """Ask a running run for something; it goes on."""
    run = runs.find(opened(options), options.run)
    try:
        ask(database(options), run)
    except RunError as error:  # nothing is wrong with what was asked: it came too late, or to a run that cannot do it
        print_error(error)
        return 1
    if options.json:
        emit({"id": run["id"], "name": run["name"], "asked": what})
    else:
        print(f"{run['name']}  {run['id']}  {does}")
    return 0


def resume(options: Options) -> int:
    db = opened(options)
    run = runs.find(db, options.run)
    launch.resume(database(options), run)
    return follow(database(options), run["id"], options)


def demo(options: Options) -> int:
    from engine.demo import headless, write_to

    if options.write:
        return write_to(options.write, options.json)
    return headless(database(options), options.json)
