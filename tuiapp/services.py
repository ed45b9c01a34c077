"""What the app asks of the engine: snapshots of runs and machine, and the few things that a key does.

Everything here may block; the app calls it from threads only.
"""

import contextlib
import dataclasses
import functools
import json
import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from engine import catalog, demo, hardware, launch, paths
from engine.errors import TuneDeckError
from engine.models import inspect_model, known_models, on_this_machine
from engine.outcome import last_words
from engine.reconcile import reconcile
from engine.spec import DataSpec, RunSpec, parse
from engine.store import metrics, plans, runs
from engine.store.connection import Connection, DatabaseError, open_database, writable
from tuiapp.data_snapshot import DataCounts, DataPage, RowsSeen
from tuiapp.detail import run_detail, run_line
from tuiapp.snapshot import (
    CardPlan,
    FormCheck,
    GpuLine,
    Machine,
    NewRun,
    PlanChoice,
    PlanPage,
    PlanValues,
    RunDetail,
    RunLine,
    Snapshot,
    Traced,
)

if TYPE_CHECKING:
    from engine.planner.calibrate import PastRun
    from engine.planner.plan import Request
    from tuiapp.dataview import Desk as DataDesk
    from tuiapp.planning import Desk

LINE_KEYS = ("loss", "eval_loss", "memory_allocated_gib", "tokens_per_second", "learning_rate")
LOG_LINES = 200
LOOKED_AT = 8
"""Data sets, or ways to filter one, that are kept at hand."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Services:
    """The engine behind one database."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self._local = threading.local()  # an SQLite connection belongs to the thread that made it
        self._sparks: dict[tuple[str, int], tuple[float, ...]] = {}
        self._read: tuple[Any, tuple[RunLine, ...], RunDetail | None] | None = None
        self._desks: dict[tuple[NewRun, str], Desk] = {}
        self._request: tuple[Any, Request] | None = None
        self._looked: dict[str, DataDesk] = {}

    @functools.cached_property
    def _hardware(self) -> hardware.Hardware:
        return hardware.probe()

    @functools.cached_property
    def _sampler(self) -> hardware.Sampler:
        return hardware.Sampler()

    def _db(self) -> Connection:
        if getattr(self._local, "db", None) is None:
            self._local.db = open_database(self.database)
        db: Connection = self._local.db
        return db

    def snapshot(self, selected: str | None) -> Snapshot:
        """All runs, the machine now, and the selected run in detail. A database that cannot be read is a sentence."""
        machine, place = self._machine(), str(self.database)
        if not self.database.exists():
            return Snapshot(machine, place, time.time())
        can_write = writable(self.database)
        try:
            if can_write:
                with contextlib.suppress(DatabaseError):  # a locked or full database can still be read
                    reconcile(self._db(), self.database)
            lines, detail = self._runs(selected)
        except (TuneDeckError, DatabaseError) as error:
            self._local.db = None
            return Snapshot(machine, place, time.time(), problem=str(error), read_only=not can_write)
        return Snapshot(machine, place, time.time(), lines, detail, read_only=not can_write)

    def _runs(self, selected: str | None) -> tuple[tuple[RunLine, ...], RunDetail | None]:
        """Read only when something was written since, by anybody, or another run is selected."""
        db = self._db()
        log = self._log_size(selected)
        key = (db.execute("PRAGMA data_version").fetchone()[0], db.total_changes, selected, log)
        if self._read is None or self._read[0] != key:
            rows = runs.lines(db, LINE_KEYS)
            sparks = self._sparks_of(db, rows)
            lines = tuple(run_line(row, sparks.get(row["id"], ())) for row in rows)
            line = next((one for one in lines if one.id == selected), None)
            self._read = key, lines, self._detail(db, line) if line else None
        return self._read[1], self._read[2]

    def _log_size(self, run_id: str | None) -> int:
        try:
            return (paths.run_directory(self.database, run_id) / "output.log").stat().st_size if run_id else 0
        except OSError:
            return 0

    def _sparks_of(self, db: Connection, rows: list[runs.Row]) -> dict[str, tuple[float, ...]]:
        """The curves of the table; those of runs that did not move since are not read again."""
        keys = {row["id"]: (row["id"], row["latest"]["loss"]["step"]) for row in rows if "loss" in row["latest"]}
        missing = [run_id for run_id, key in keys.items() if key not in self._sparks]
        found = metrics.sparks(db, missing)
        self._sparks = {key: self._sparks.get(key) or found.get(run_id, ()) for run_id, key in keys.items()}
        return {run_id: self._sparks[key] for run_id, key in keys.items()}

    def _detail(self, db: Connection, line: RunLine) -> RunDetail:
        directory = paths.run_directory(self.database, line.id)
        return run_detail(db, line, directory, last_words(directory, LOG_LINES, 64 << 10))

    def _machine(self) -> Machine:
        samples = {s.uuid: s for s in self._sampler.sample()}
        unknown = hardware.GpuSample(-1, None, None, None, None)
        cards = []
        for gpu in self._hardware.gpus:
            now = samples.get(gpu.uuid, unknown)
            cards.append(GpuLine(
                gpu.index, gpu.name, now.memory_used, gpu.memory_total, now.utilization, now.power, now.temperature
            ))  # fmt: skip
        return Machine(
            host=socket.gethostname(), gpus=tuple(cards), gpu_problem=self._hardware.problem,
            cpu_name=self._hardware.cpu, cpu_percent=psutil.cpu_percent(), ram_used=hardware.ram_used(),
            ram_total=self._hardware.ram_total,
        )  # fmt: skip

    def stop(self, run_id: str, now: bool = False) -> None:
        """Ask a run to stop. Raises RunError."""
        launch.stop(self.database, self._find(run_id), now)

    def resume(self, run_id: str) -> None:
        """Continue a run from its last checkpoint. Raises TuneDeckError."""
        launch.resume(self.database, self._find(run_id))

    def _find(self, run_id: str) -> runs.Row:
        db = open_database(self.database, create=False)
        try:
            return runs.find(db, run_id)
        finally:
            db.close()

    def start(self, form: NewRun) -> str:
        """Check everything, write the run and start it; its id. Raises TuneDeckError."""
        return launch.create(self.database, launch.prepare(_spec(form), history=self._history()))

    def check(self, form: NewRun) -> FormCheck:
        """What can be said of the form before anything starts. Never raises for what the user typed."""
        here = on_this_machine(form.model)
        model_text, model_ok = _about_model(form.model, here)
        data_text, data_ok = _about_data(form)
        plan: tuple[tuple[str, str, str], ...] = ()
        if model_ok and data_ok and here:
            try:
                reasons = launch.prepare(_spec(form), history=self._history()).reasons
                plan = tuple((r.field, json.dumps(r.value, ensure_ascii=False), r.why) for r in reasons)
            except TuneDeckError as error:
                model_text, model_ok = f"{error.message} {error.hint}", False
        return FormCheck(model_text, model_ok, data_text, data_ok, plan)

    def complete_path(self, text: str) -> list[str]:
        """Paths that begin with this text; directories end in a slash, hidden ones stay hidden unless asked for."""
        folder, name = os.path.split(text)
        try:
            entries = sorted(os.scandir(Path(folder or ".").expanduser()), key=lambda e: e.name)
        except OSError:
            return []
        fitting = [
            e for e in entries if e.name.startswith(name) and (name.startswith(".") or not e.name.startswith("."))
        ]
        return [os.path.join(folder, e.name) + ("/" if e.is_dir() else "") for e in fitting[:50]]

    def models(self) -> list[str]:
        """Models that are on this machine."""
        with contextlib.suppress(TuneDeckError):
            return [*known_models(), demo.demo_model()]
        return known_models()

    def plan_models(self) -> list[str]:
        """Models that can be planned for: those on this machine and those of the catalog."""
        return list(dict.fromkeys([*self.models(), *catalog.models()]))

    def plan(self, form: NewRun, card: str = "") -> PlanPage:
        """The plan for a form whose data may be open, on a card of `PlanPage.cards`. Raises TuneDeckError."""
        from tuiapp import planning

        desk = planning.open_desk(form, card, self._asked(form), self._hardware, self._history())
        self._desks[form, desk.card] = desk
        return planning.page_of(desk)

    def what_if(self, page: PlanPage, values: PlanValues) -> PlanChoice:
        """What other values cost. Fast enough for the event loop: arithmetic, no file is read."""
        from tuiapp import planning

        return planning.turned(self._desks[page.form, page.card], values)

    def nearest(self, page: PlanPage, values: PlanValues) -> PlanChoice | None:
        """The nearest choice that fits where these values do not."""
        from tuiapp import planning

        return planning.nearest(self._desks[page.form, page.card], values)

    def other_cards(self, page: PlanPage) -> tuple[CardPlan, ...]:
        """The best that fits on common cards."""
        from tuiapp import planning

        return planning.other_cards(self._desks[page.form, page.card])

    def trace(self, page: PlanPage, values: PlanValues) -> Traced:
        """Trace the real step with these values: about 20 s, no GPU needed. Raises TuneDeckError."""
        from engine.planner.exact import exact
        from tuiapp import planning

        desk = self._desks[page.form, page.card]
        found = exact(desk.plan.request.facts.config, planning.spec_of(desk, values))
        return Traced(found["peak_allocated"] / 2**30, found["peak_reserved"] / 2**30)

    def look(self, form: NewRun) -> DataPage:
        """The form's data, with its model if it names one. Raises TuneDeckError."""
        from tuiapp import dataview

        desk = dataview.open_desk(form, _spec(form), self._hardware, self._history())
        before = next((one for one in self._looked.values() if one.report is desk.report), None)
        if before is not None:  # the engine remembers what it saw: looking took as long as it took then
            desk = dataclasses.replace(desk, seconds=before.seconds)
        self._looked.pop(repr(form), None)
        self._looked[repr(form)] = desk
        while len(self._looked) > LOOKED_AT:
            self._looked.pop(next(iter(self._looked)))
        return dataview.page_of(desk)

    def count(self, page: DataPage, max_length: int | None, long_rows: str) -> DataCounts:
        """What a length makes of the data. Fast enough for the event loop: arithmetic, no file is read."""
        from tuiapp import dataview

        return dataview.counts_of(self._looked[repr(page.form)], max_length, long_rows)

    def see(self, page: DataPage, max_length: int | None, long_rows: str, first: int) -> RowsSeen:
        """Rows as the trainer makes them: some seconds. Raises TuneDeckError."""
        from tuiapp import dataview

        return dataview.see(self._looked[repr(page.form)], max_length, long_rows, first)

    def _asked(self, form: NewRun) -> "Request":
        """The request of a form with the method open; model and data are read again only when they changed."""
        from engine.planner.ask import NO_DATA, prepare_request

        data = Path(form.data).expanduser()
        changed = data.stat().st_mtime if form.data and data.exists() else None
        key = (form.model, form.data, form.max_steps, form.chosen, changed)
        if self._request is None or self._request[0] != key:
            open_form = dataclasses.replace(form, data=form.data or NO_DATA, method="")
            self._request = key, prepare_request(_spec(open_form), data=bool(form.data))
        return self._request[1]

    def _history(self) -> "list[PastRun]":
        """What was predicted and measured on this machine; nothing where that cannot be read."""
        if not self.database.exists():
            return []
        try:
            return plans.history(self._db())
        except (TuneDeckError, DatabaseError):
            return []


def _spec(form: NewRun) -> RunSpec:
    """What the form describes."""
    return parse(_sections(form))


def _sections(form: NewRun) -> dict[str, Any]:
    method = {"kind": "lora", "variant": "dora"} if form.method == "dora" else {"kind": form.method or None}
    raw: dict[str, Any] = {
        "model": {"path": form.model or "none"}, "data": {"path": form.data}, "method": method,
        "training": {"max_steps": form.max_steps}, "run": {"name": form.name or None},
    }  # fmt: skip
    for path, value in form.chosen:
        *sections, name = path.split(".")
        functools.reduce(lambda place, section: place.setdefault(section, {}), sections, raw)[name] = value
    return raw


def _about_model(path: str, here: bool) -> tuple[str, bool]:
    if not path.strip():
        return "a directory, a .gguf file or a hub id", False
    if not here and HUB_ID.fullmatch(path):  # nobody asks the hub for every letter that is typed
        return "not on this machine: the hub is asked when it starts", True
    try:
        facts = inspect_model(path)
    except TuneDeckError as error:
        return f"{error.message} {error.hint}", False
    size = f"{facts.parameters / 1e6:,.0f} M parameters, " if facts.parameters else ""
    template = "chat template" if facts.has_template else "no chat template"
    return f"{facts.architecture}, {size}{facts.size / 2**30:.2f} GiB, {template}", True


def _about_data(form: NewRun) -> tuple[str, bool]:
    path = form.data
    from engine.data.examine import examine
    from engine.data.hub import downloaded, is_hub_name

    if not path.strip():
        return "a file, a directory or a data set of the hub", False
    if is_hub_name(path) and not downloaded(path):  # nobody asks the hub for every letter that is typed
        return "not on this machine: F3 fetches it", False
    try:
        report = examine(DataSpec.model_validate(_sections(form)["data"]), None)
    except TuneDeckError as error:
        return f"{error.message} {error.hint}", False
    if report.fatal:
        return f"{report.fatal[0].message}. {report.fatal[0].hint}", False
    left_out = sum(one.count for one in report.dropped.values())
    dropped = f", {left_out:,} left out" if left_out else ""
    many = len(report.warnings)
    warnings = f", {many} warning{'' if many == 1 else 's'}: F3 shows {'it' if many == 1 else 'them'}" if many else ""
    return f"{report.format}: {report.kept:,} rows{dropped}{warnings}", True
