"""Starts, stops and resumes runs; checks everything that can be checked before anything is written."""

import dataclasses
import fcntl
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import outcome, paths, trackers
from engine.cards import own_cards
from engine.elsewhere import refuse_imported
from engine.environment import capture
from engine.errors import DataError, NoFit, RunError, SpaceError, SpecError
from engine.events import Waiting
from engine.files import EventFile, write_private
from engine.fingerprint import identity
from engine.hardware import Gpu, probe
from engine.ingest import ingest
from engine.models import ModelFacts, inspect_model
from engine.outcome import usable
from engine.planner.calibrate import PastRun
from engine.planner.disk import disk_needed
from engine.planner.plan import Plan, Request, as_json, nearest_hint
from engine.planner.recommend import recommend
from engine.planner.rules import Goal, Reason
from engine.runnable import check_runnable, forms, needs, with_format
from engine.spec import RunSpec, parse, to_yaml
from engine.store import runs
from engine.store.connection import open_database, transaction
from engine.trainer_needs import lacking
from engine.waiting import QUEUE

if TYPE_CHECKING:
    from engine.data.scan import Report

EPOCH = 1577836800  # 2020-01-01: six characters of base 36 reach to 2088
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Prepared:
    """A complete specification, why its values are what they are, and what was found out on the way."""

    spec: RunSpec
    reasons: list[Reason]
    model: ModelFacts
    data: "Report"
    plan: Plan


def prepare(
    spec: RunSpec,
    anyway: bool = False,
    history: list[PastRun] | None = None,
    accept: bool = False,
    mine: Sequence[Reason] = (),
    goal: Goal = "instructions",
) -> Prepared:
    """Check model and data and fill what is open. Writes nothing but caches. Raises TuneDeckError.

    `anyway`: start what the planner says does not fit. `accept`: go on without the rows that fatal findings are about.
    `history`: past runs of this machine, which correct the planner. `mine`: what the user's config settled (engine.defaults).
    `goal`: what should change, which decides the rank of an adapter.
    """
    from engine.data.examine import examine  # the data layer is not for those who only look at runs
    from engine.data.general import read_general
    from engine.data.scan import at_length, refuse
    from engine.planner.ask import request_for

    check_runnable(spec)
    trackers.check(spec.report_to)
    spec = with_format(spec)
    model = inspect_model(spec.model.path, spec.model.revision)
    data = examine(spec.data, model, spec.model)
    spec, reasons = _for_data(spec, data, accept)
    reasons = [*mine, *reasons]
    gpus = _check_devices(spec)
    no_gpu = not gpus and spec.compute.devices == "auto"
    if no_gpu:
        # what is stored is what will be used: a card that appears later must not be trained on as if it were a CPU
        spec = spec.model_copy(update={"compute": spec.compute.model_copy(update={"devices": "cpu"})})
    cards = own_cards(gpus)
    alike = [g.index for g in gpus if cards and g.name == cards.name and (g.memory_total or 0.0) >= cards.memory]
    plan = _planned(request_for(_absolute(spec), model, data, cards, goal), anyway, history or [])
    spec, reasons = plan.choice.spec, reasons + [r for r in plan.choice.reasons if r.why]
    check_runnable(spec)
    if refusals := lacking(spec):
        raise SpecError("The trainer would refuse this", refusals[0], "Choose another, or install what is missing.")
    data, _ = at_length(data, spec.training.max_length or 1024, spec.training.long_rows or "drop")
    if not (accept and data.acceptable):
        refuse(data)
    if len(alike) < len(gpus):  # another kind of card may be too small for what was planned
        spec = spec.model_copy(update={"compute": spec.compute.model_copy(update={"devices": alike})})
        reasons.append(
            Reason("compute.devices", alike, f"the cards that it is planned for: {cards.name if cards else ''}")
        )
    if no_gpu:
        reasons.append(Reason("compute.devices", "cpu", "no GPU is usable on this machine"))
    _check_held_out(spec, data)
    if isinstance(spec.evaluation.general, str):
        read_general(spec.evaluation.general, 1)
    if spec.evaluation.prompts is None:
        prompts = _prompts(spec, data)
        spec = spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update={"prompts": prompts})})
        reasons.append(Reason("evaluation.prompts", prompts, "the first row's question, to see the answer change"))
    parse(spec.model_dump())  # what was filled in must stand by itself, as the worker will read it
    return Prepared(spec, reasons, model, data, plan)


def _check_held_out(spec: RunSpec, data: "Report") -> None:
    """Raises SpecError or DataError if what is evaluated leaves nothing to train on, or nothing is evaluated that should be."""
    if spec.evaluation.early_stopping and not spec.evaluation.every:
        raise SpecError("Early stopping needs evaluations", "evaluation.early_stopping is set, but nothing is evaluated.",
                        "Set evaluation.every and data.validation.")  # fmt: skip
    held = spec.data.validation
    if isinstance(held, int | float) and held >= 1 and held >= data.kept:
        raise DataError("No row is left to train on", f"data.validation holds out {held:g} of {data.kept:,} rows.",
                        "Lower data.validation.")  # fmt: skip


def _prompts(spec: RunSpec, data: "Report") -> list[str]:
    """What the model is asked as it learns: the first row's question. A reward model gives a score and writes nothing."""
    from engine.data.rows import first_question

    question = "" if spec.objective == "reward" else first_question(data.first[0].value)[:500]
    return [question] if question else []


def _planned(request: Request, anyway: bool, history: list[PastRun]) -> Plan:
    """The plan on one card, on all of them if it does not fit on one. Raises NoFit unless `anyway`."""
    many, spec = request.cards, request.spec
    alone = spec.compute.processes == 1 and spec.compute.sharding == "ddp"
    one = dataclasses.replace(many, count=1) if many and alone else many
    plan = recommend(dataclasses.replace(request, cards=one), history)
    if plan.choice.fits == "no" and many and many.count > 1:
        plan = recommend(request, history)
    if plan.choice.fits == "no" and not anyway:
        raise NoFit("The run does not fit", plan.problems[0], nearest_hint(plan))
    return plan


def _for_data(spec: RunSpec, data: "Report", accept: bool) -> tuple[RunSpec, list[Reason]]:
    """The specification with the objective that the data is for. Raises DataError if they do not go together, or if the data
    has fatal findings and nobody accepts them."""
    from engine.data.scan import refuse

    if not (accept and data.acceptable):
        refuse(data)
    objective = spec.objective or data.objective
    if data.form not in forms(objective):
        raise DataError("The data is for another objective", f"objective {objective} needs {needs(objective)}; this is {data.format}.",
                        f"Leave objective open: for this data it is {data.objective}.")  # fmt: skip
    reasons = [] if spec.objective else [Reason("objective", objective, f"the data is {data.format}")]
    spec = spec.model_copy(update={"objective": objective})
    check_runnable(spec)
    return spec, reasons


def _check_devices(spec: RunSpec) -> tuple[Gpu, ...]:
    """The GPUs that may train. Raises SpecError if the cards that the spec names are not there, or too few."""
    cards = probe().gpus
    allowed = usable(spec, cards)
    wanted = spec.compute.devices
    if isinstance(wanted, list) and len(allowed) < len(wanted):
        there = ", ".join(str(g.index) for g in cards) or "none"
        raise SpecError(
            "Those GPUs are not here", f"compute.devices is {wanted}; usable here: {there}.", "See: tunedeck gpus"
        )
    if len(allowed) == 1 and spec.compute.sharding in ("fsdp", "zero2", "zero3"):
        raise SpecError(
            "There is nothing to share among", f"compute.sharding is {spec.compute.sharding}; one GPU may train.",
            "Leave compute.sharding open, or allow several GPUs: see tunedeck gpus",
        )  # fmt: skip
    if allowed and spec.compute.processes > len(allowed):
        raise SpecError(
            "There are too few GPUs",
            f"compute.processes is {spec.compute.processes}, the spec allows {len(allowed)} GPUs.",
            "Lower compute.processes: one process a GPU.",
        )
    return tuple(allowed)


def _absolute(spec: RunSpec) -> RunSpec:
    """Local paths made absolute: the worker runs elsewhere."""

    from engine.data.rows import named

    def absolute(path: str) -> str:
        return os.path.abspath(Path(path).expanduser())

    model, data = spec.model.path, spec.data
    if Path(model).expanduser().exists():
        model = absolute(model)

    def here(path: str) -> str:
        return absolute(path) if Path(path).expanduser().exists() else path  # a name of the hub stays one

    changes: dict[str, Any] = {"path": here(data.path) if isinstance(data.path, str) else
                               [one.model_copy(update={"path": here(one.path)}) for one in named(data)]}  # fmt: skip
    for name in ("validation", "template"):
        value = getattr(data, name)
        if isinstance(value, str) and value not in ("chatml", "alpaca"):
            changes[name] = here(value)
    options = spec.objective_options
    general = spec.evaluation.general
    evaluation = spec.evaluation.model_copy(update={"general": here(general) if isinstance(general, str) else general})
    rewards = [f"{here(file)}:{name}" for file, _, name in (one.rpartition(":") for one in options.rewards)]
    return spec.model_copy(update={
        "objective_options": options.model_copy(update={"rewards": rewards}),
        "model": spec.model.model_copy(update={"path": model}), "data": data.model_copy(update=changes),
        "evaluation": evaluation})  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """What a run directory begins with: a complete specification with a name, its plan as it is stored, and its surroundings."""

    spec: RunSpec
    plan: dict[str, Any]
    environment: dict[str, Any]


def draft_of(prepared: Prepared, spec: RunSpec | None = None, environment: dict[str, Any] | None = None) -> Draft:
    """What would be written for this run if it were started here and now; with another name or surroundings if given."""
    from engine.data.scan import as_json as data_json

    spec = spec or _called(prepared.spec, base_name(prepared))
    reasons = {"reasons": [vars(r) for r in prepared.reasons], "data": data_json(prepared.data)}
    around = environment or capture(prepared.data.digest, spec.training.seed)
    return Draft(spec, as_json(prepared.plan) | reasons, around)


def create(database: Path, prepared: Prepared, queue: bool = False) -> str:
    """Write the run directory and the run's row, start the supervisor; the run's id.

    `queue`: a run on the CPU waits until no other run trains there, now and when it is resumed; a run on GPUs waits for
    its cards in any case (engine.waiting). Raises SpaceError if there is no room or no permission; then nothing stays behind.
    """
    check_room(database, prepared)
    return begin(database, draft_of(prepared), queue)


def begin(
    database: Path,
    draft: Draft,
    queue: bool = False,
    sweep: str | None = None,
    noted: Callable[[str], None] | None = None,
) -> str:
    """The same for what was prepared before. `sweep` is the id of the one that the run is a point of; `noted` is told
    the run's id before there is more of it than a directory with a lock. Raises SpaceError."""
    db = open_database(database)
    now = time.time()
    run_id, run_dir = new_directory(paths.runs_directory(database), now)
    lock = try_lock(run_dir)
    if lock is None:
        raise RunError("The run could not be started", f"{run_dir} is locked.", "Try again.")
    try:
        if noted is not None:
            noted(run_id)
        spec = _called(draft.spec, _unused(draft.spec.run.name or run_id, lambda base: runs.names_like(db, base)))
        base = identity(spec.model.path, spec.model.revision)  # None: the worker downloads it first, and says it then
        environment = draft.environment | ({"base": base} if base else {})
        write_private(run_dir / "spec.yaml", to_yaml(spec))
        write_private(run_dir / "data.sha256", f"{environment['data_sha256']}\n")
        if queue:
            write_private(run_dir / QUEUE, "")
        write_private(run_dir / "environment.json", json.dumps(environment, indent=1) + "\n")
        write_private(run_dir / "plan.json", json.dumps(draft.plan) + "\n")
        with transaction(db):
            runs.insert(db, run_id, spec, draft.plan, socket.gethostname(), now)
            runs.add_environment(db, run_id, environment)
            if sweep is not None:
                runs.set_fields(db, run_id, sweep_id=sweep)
        try:
            start_supervisor(database, run_dir, lock)
        except OSError:
            runs.delete(db, run_id)
            raise
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise SpaceError(
            "The run could not be written", f"{run_dir}: {error}.", "Free some space, or use --db."
        ) from None
    finally:
        os.close(lock)
        db.close()
    return run_id


def new_directory(root: Path, now: float, first: str = "") -> tuple[str, Path]:
    """A fresh id, which sorts by time and begins with `first`, and its directory."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = int(now) - EPOCH
    while True:
        run_id, n = "", number
        while n:
            n, digit = divmod(n, 36)
            run_id = DIGITS[digit] + run_id
        directory = root / f"{first}{run_id}"
        try:
            directory.mkdir(mode=0o700)
            return directory.name, directory
        except FileExistsError:
            number += 1


def _called(spec: RunSpec, name: str) -> RunSpec:
    return spec.model_copy(update={"run": spec.run.model_copy(update={"name": name})})


def free_name(prepared: Prepared, taken: Callable[[str], set[str]]) -> str:
    """A name that no other run has: `smollm2-lora-r16`, `smollm2-lora-r16-2`, `smollm2-dpo-full`, ...

    `taken` gives the names of runs that begin so.
    """
    return _unused(base_name(prepared), taken)


def _unused(base: str, taken: Callable[[str], set[str]]) -> str:
    others = taken(base)
    return next(n for i in range(1, len(others) + 2) if (n := base if i == 1 else f"{base}-{i}") not in others)


def base_name(prepared: Prepared) -> str:
    """The run's name as it was given, or made of the model and the method."""
    return prepared.spec.run.name or f"{model_word(prepared)}-{_way(prepared.spec)}"


def model_word(prepared: Prepared) -> str:
    """The model in a run's name."""
    return prepared.model.name.lower().removesuffix(".gguf").split("/")[-1][:24].rstrip("-._")


def _way(spec: RunSpec) -> str:
    """Objective, method and rank in a run's name; supervised fine-tuning is what most runs are, and goes without saying."""
    method = spec.method
    objective = spec.objective if spec.objective not in ("sft", "text") else None
    return "-".join(
        part for part in (objective, method.kind, method.variant, method.rank and f"r{method.rank}") if part
    )


def check_room(database: Path, prepared: Prepared) -> None:
    """Whether the place can be written and has room. Raises SpaceError; leaves nothing behind."""
    check_space(database, disk_needed(prepared.spec, prepared.model), "The run needs")


def check_space(database: Path, needed: float, who: str) -> None:
    """Whether the place can be written and has so many bytes of room; `who` begins the sentence. Raises SpaceError."""
    place = database.parent
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise SpaceError(
            "The runs cannot be written here", f"{database.parent}: {error.strerror}.", "Name another place with --db."
        ) from None
    free = shutil.disk_usage(place).free
    if free < needed:
        raise SpaceError(
            "There is not enough disk space",
            f"{who} about {needed / 2**30:.1f} GiB, {place} has {free / 2**30:.1f} GiB free.",
            "Free some, lower saving.keep, or name another place with --db.",
        )


def try_lock(run_dir: Path, patience: float = 0.0) -> int | None:
    """The run's lock, held by its supervisor as long as it lives; None if one does.

    Somebody who only looks holds it for a moment too: `patience` is how many seconds to wait for that.
    """
    fd = os.open(run_dir / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(0.05)


def start_supervisor(database: Path, run_dir: Path, lock: int, adopt: bool = False) -> None:
    """Start it in its own session. It inherits the lock, so there is no moment without one; our copy stays ours."""
    start_detached("engine.supervisor", database, run_dir, lock, *["--adopt"] * adopt)


def start_detached(module: str, database: Path, directory: Path, lock: int, *more: str) -> None:
    """Start a process of ours that looks after a directory and has its lock, in its own session, its words in output.log."""
    command = [sys.executable, "-P", "-m", module, str(directory), f"--db={database}", f"--lock-fd={lock}", *more]
    with open(os.open(directory / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=directory,
            start_new_session=True, pass_fds=[lock],
        )  # fmt: skip


def stop(database: Path, run: runs.Row, now: bool = False) -> None:
    """Ask a run to stop: it saves a checkpoint first, or, with `now`, is killed. Raises RunError, SpaceError."""
    run_dir = paths.run_directory(database, run["id"])
    if run["status"] not in runs.ACTIVE:
        raise RunError("The run is not running", f"{run['name']} is {run['status']}.", "Nothing has to be stopped.")
    _leave(run_dir / ("KILL" if now else "STOP"))


def _leave(wish: Path) -> None:
    """Put an empty file where the run looks for it. Raises SpaceError."""
    try:
        wish.touch(mode=0o600)
    except OSError as error:
        raise SpaceError(
            "The run cannot be reached", f"{wish}: {error.strerror}.", "Its directory has to be writable."
        ) from None


def checkpoint(database: Path, run: runs.Row) -> None:
    """Ask a run to save a checkpoint at the end of the step that it is at, and to go on. Raises RunError."""
    if run["status"] not in runs.ACTIVE:
        raise RunError("The run is not running", f"{run['name']} is {run['status']}.", "There is nothing to save.")
    _leave(paths.run_directory(database, run["id"]) / "CHECKPOINT")


def evaluate(database: Path, run: runs.Row) -> None:
    """Ask a run to evaluate at the end of the step that it is at, with samples, and to go on. Raises RunError."""
    if run["status"] not in runs.ACTIVE:
        raise RunError("The run is not running", f"{run['name']} is {run['status']}.", "There is nothing to evaluate.")
    if not run["spec"]["data"]["validation"]:
        raise RunError("Nothing is held out", f"{run['name']} trains on all its rows.",
                       "Start a run with data.validation: a number of rows, a fraction or a file.")  # fmt: skip
    _leave(paths.run_directory(database, run["id"]) / "EVALUATE")


def resume(database: Path, run: runs.Row) -> None:
    """Continue a run that stopped, failed or crashed, as the same run, from its last checkpoint. Raises RunError."""
    run_dir = paths.run_directory(database, run["id"])
    if run["status"] in runs.ACTIVE:
        raise RunError(
            "The run is still running",
            f"{run['name']} is {run['status']}.",
            f"Stop it first: tunedeck stop {run['id']}",
        )
    refuse_imported(run, "continued")
    if run["status"] == "finished":
        raise RunError("The run is finished", f"{run['name']} did all its steps.", "Start a new run to train further.")
    if not (run_dir / "spec.yaml").is_file():
        raise RunError("The run's files are gone", f"{run_dir} has no spec.yaml.", "Start a new run.")
    inspect_model(run["spec"]["model"]["path"], run["spec"]["model"]["revision"])
    same_data(run)
    lock = try_lock(run_dir, patience=2.0)
    if lock is None:
        raise RunError(
            "The run is still running", f"A supervisor of {run['name']} lives.", "Wait a moment, then try again."
        )
    try:
        _queue_again(database, run["id"], run_dir)
        start_supervisor(database, run_dir, lock)
    except (OSError, sqlite3.Error) as error:
        raise SpaceError("The run could not be continued", f"{run_dir}: {error}.", "Free some space.") from None
    finally:
        os.close(lock)


def same_data(run: runs.Row) -> None:
    """Raises RunError if the data is not what the run began with: its order would not go on, and nobody would know."""
    from engine.data.rows import content_hash, sources, validation_source

    data = parse(run["spec"]).data
    known = ((run["plan"] or {}).get("data") or {}).get("sha256")
    if known and content_hash([*sources(data), *validation_source(data)]) != known:
        raise RunError(
            "The data has changed since the run began",
            f"{run['dataset']} has other content than at the start.",
            "Put the old file back, or start a new run on the new one.",
        )


def _queue_again(database: Path, run_id: str, run_dir: Path) -> None:
    """Note in the run's own file, then in the database, that it goes on: from here on it is not ended."""
    for name in ("STOP", "KILL", "CHECKPOINT", "EVALUATE"):
        (run_dir / name).unlink(missing_ok=True)
    log = EventFile(run_dir / "supervisor.jsonl", outcome.read_history(run_dir).attempt)
    log.append(Waiting("asked to go on"))
    log.close()
    db = open_database(database)
    try:
        ingest(db, run_id, run_dir)
    finally:
        db.close()
