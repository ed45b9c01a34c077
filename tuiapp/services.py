"""What the app asks of the engine: snapshots of runs and machine, and the few things that a key does.

Everything here may block; the app calls it from threads only.
"""

import contextlib
import dataclasses
import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import catalog, demo, hardware, launch, leases, tickets
from engine.defaults import beneath, of_config
from engine.errors import RunError, TuneDeckError
from engine.models import known_models, on_this_machine
from engine.spec import RunSpec, parse
from engine.store import plans, runs
from engine.store.connection import Connection, DatabaseError, Following, open_database
from tuiapp.after_services import After
from tuiapp.data_snapshot import Browsed, DataCounts, DataPage, RowsSeen
from tuiapp.draft import RunDraft
from tuiapp.list_snapshot import Asked
from tuiapp.looking import Look
from tuiapp.model_values import FitRow, ModelLine, ModelPage
from tuiapp.record_services import Records
from tuiapp.review_values import ReviewPage
from tuiapp.snapshot import (
    CardPlan,
    NewRun,
    PlanChoice,
    PlanPage,
    PlanValues,
    Snapshot,
    Traced,
)
from tuiapp.training_snapshot import TrainingPage

if TYPE_CHECKING:
    from engine.lineage import Node
    from engine.planner.calibrate import PastRun
    from engine.planner.plan import Request
    from engine.planner.rules import Goal
    from tuiapp.after_values import AfterQuestion
    from tuiapp.chatting import Talk
    from tuiapp.compare_values import ComparePage, CompareQuestion
    from tuiapp.comparing import Desk as CompareDesk
    from tuiapp.dataview import Desk as DataDesk
    from tuiapp.modeling import Shelf
    from tuiapp.planning import Desk
    from tuiapp.reviewing import Desk as ReviewDesk
    from tuiapp.reviewing import Question

LOOKED_AT = 8
"""Data sets, or ways to filter one, that are kept at hand."""
REVIEWED = 4
"""Runs that were about to start and are kept at hand."""
PLANS = 32
"""Plans that are kept at hand."""


class Services:
    """The engine behind one database."""

    def __init__(self, database: Path, look: Look | None = None) -> None:
        """`look`: one that there is already."""
        self.database = database
        self.drafts = database.parent / "drafts"
        self._look = look or Look(database)
        self.records = Records(database, self._look.changed)
        self.after = After(database, self._look.changed)
        self._local = threading.local()  # an SQLite connection belongs to the thread that made it
        self._desks: dict[tuple[str, str], Desk] = {}
        self._request: tuple[Any, Request] | None = None
        self._looked: dict[str, DataDesk] = {}
        self._shelf: Shelf | None = None
        self._reviewed: dict[tuple[str, int | None], ReviewDesk] = {}
        self._compared: CompareDesk | None = None

    @functools.cached_property
    def _hardware(self) -> hardware.Hardware:
        return self._look.hardware

    @functools.cached_property
    def _sampler(self) -> hardware.Sampler:
        return self._look.sampler

    def _db(self) -> Connection:
        if getattr(self._local, "db", None) is None:
            self._local.db = Following(self.database, create=True)
        db: Connection = self._local.db.get()
        return db

    def snapshot(self, selected: str | None, baseline: str | None = None) -> Snapshot:
        """All runs, the machine now, the selected run in detail and the curves of the one that is pinned.

        A database that cannot be read is a sentence.
        """
        return self._look.snapshot(selected, baseline)

    def ask(self, asked: Asked) -> None:
        """What the list of runs needs of the snapshots from now on."""
        self._look.ask(asked)

    def follow(self, asked: "AfterQuestion | None") -> None:
        """What the snapshots tell from now on of a run after its training."""
        self._look.follow(asked)

    def hold(self, card: str, held: bool) -> None:
        """Hold a card back from queued runs, by UUID, or give it free. Raises RunError."""
        (leases.hold if held else leases.give_free)(card)

    def move(self, key: str, by: int) -> None:
        """Move a run of ours in the queue, by its ticket's key. Raises RunError."""
        tickets.move(key, by)

    def unqueue(self, key: str) -> None:
        """Take a run of ours out of the queue. Raises RunError."""
        found = next((one for one in tickets.read_tickets() if one.key == key), None)
        if found is None:
            raise RunError("The run is not in the queue", "It has just started, or was taken out.", "")
        tickets.remove(found)

    def stop(self, run_id: str, now: bool = False) -> None:
        """Ask a run to stop. Raises RunError."""
        launch.stop(self.database, self._find(run_id), now)

    def checkpoint(self, run_id: str) -> None:
        """Ask a run to save a checkpoint now and to go on. Raises RunError."""
        launch.checkpoint(self.database, self._find(run_id))

    def evaluate(self, run_id: str) -> None:
        """Ask a run to evaluate now and to go on. Raises RunError."""
        launch.evaluate(self.database, self._find(run_id))

    def resume(self, run_id: str) -> None:
        """Continue a run from its last checkpoint. Raises TuneDeckError."""
        launch.resume(self.database, self._find(run_id))

    def _find(self, run_id: str) -> runs.Row:
        db = open_database(self.database, create=False)
        try:
            return runs.find(db, run_id)
        finally:
            db.close()

    def start(self, form: NewRun, queue: bool = False) -> str:
        """Check everything, write the run and start it; its id. `queue`: on the CPU too it waits for its turn.

        Raises TuneDeckError.
        """
        return launch.create(self.database, self._prepared(_sections(form), form.goal, self._history()), queue)

    def _prepared(self, raw: dict[str, Any], goal: "Goal", history: "list[PastRun]") -> launch.Prepared:
        """A run over what the user's config has, as `tunedeck train` makes it. Raises TuneDeckError."""
        laid, mine = beneath(raw, of_config())
        return launch.prepare(parse(laid), history=history, mine=mine, goal=goal)

    def review(self, form: NewRun) -> ReviewPage:
        """The run as it would start; what is in the way is in the page. The last forms are remembered."""
        from tuiapp import reviewing

        data = Path(form.data).expanduser()
        key = (repr(form), data.stat().st_mtime_ns if form.data and data.exists() else None)
        try:
            desk = self._reviewed.get(key) or reviewing.open_desk(self._question(form))
            self._reviewed = {**dict([*self._reviewed.items()][-REVIEWED:]), key: desk}
            return reviewing.page_now(desk, self.database, self._hardware, self._sampler, self._names_like)
        except TuneDeckError as error:
            return reviewing.page_of_error(form, error)

    def _question(self, form: NewRun) -> "Question":
        from tuiapp.reviewing import Question

        history, parent = self._history(), None
        with contextlib.suppress(TuneDeckError, DatabaseError):  # it may be gone: a fork goes on without it
            parent = self._find(form.parent) if form.parent and self.database.exists() else None
        return Question(
            form, _sections(form), lambda raw: self._prepared(raw, form.goal, history), self.database, self._hardware,
            tuple(history), parent,
        )  # fmt: skip

    def _names_like(self, text: str) -> set[str]:
        """Names of runs that begin so."""
        return runs.names_like(self._db(), text) if self.database.exists() else set()

    def save(self, page: ReviewPage, path: str, replace: bool = False) -> str:
        """Write the page's YAML; where it is, or "" if there is a file that may not be replaced. Raises SpaceError."""
        from tuiapp import reviewing

        return reviewing.save(page.yaml, path, replace)

    def fork(self, run_id: str) -> RunDraft:
        """What the wizard begins with for a run like this one. Raises TuneDeckError."""
        from tuiapp import forking

        return forking.draft_of(self._find(run_id))

    def compare(self, asked: "CompareQuestion") -> "ComparePage":
        """Runs side by side. Raises RunError if none of them is there."""
        from tuiapp.comparing import Desk

        if self._compared is None:
            self._compared = Desk()
        return self._compared.page(self._db(), asked)

    def export_compared(self, ids: tuple[str, ...], form: str) -> str:
        """Write the comparison, or every point, to a new file of the working directory; its path. Raises TuneDeckError."""
        from tuiapp.comparing import export

        return export(self._db(), ids, form)

    def lineage(self, run_id: str) -> "Node":
        """Everything that a run is related to. Raises TuneDeckError."""
        from engine import lineage

        with contextlib.closing(open_database(self.database, create=False)) as db:
            return lineage.tree(db, run_id)

    def chat(self, run_ids: tuple[str, ...], cpu: bool = False) -> "Talk":
        """Begin a conversation with runs of one base model, and with that. Raises TuneDeckError."""
        from tuiapp.chatting import Talk

        return Talk(self.database, run_ids, cpu)

    def browse(self, text: str) -> Browsed:
        """Files that go on from a text."""
        from tuiapp.browse import browse

        return browse(text)

    def complete_path(self, text: str) -> list[str]:
        """Paths that begin with this text; directories end in a slash, hidden ones stay hidden unless asked for."""
        from tuiapp.browse import listed

        return [one.path for one in listed(text)]

    def models(self) -> list[str]:
        """Models that are on this machine."""
        with contextlib.suppress(TuneDeckError):
            return [*known_models(), demo.demo_model()]
        return known_models()

    def plan_models(self) -> list[str]:
        """Models that can be planned for: those on this machine and those of the catalog."""
        return list(dict.fromkeys([*self.models(), *catalog.models()]))

    def model_names(self) -> tuple[ModelLine, ...]:
        """The models of this machine and of the catalog by name alone."""
        from tuiapp import modeling

        return modeling.names(self.database)

    def model_page(self, chosen: str = "") -> ModelPage:
        """All of them with facts and verdicts; reads files of this machine only."""
        from tuiapp import modeling

        self._shelf = modeling.Shelf(self._hardware, tuple(self._history()))
        return modeling.page_of(self._shelf, self.database, chosen)

    def about_model(self, text: str) -> ModelLine:
        """What is known of a path or a hub id that is typed; the hub is not asked."""
        from tuiapp import modeling

        if self._shelf is None:
            self._shelf = modeling.Shelf(self._hardware, tuple(self._history()))
        return modeling.about(self._shelf, text)

    def model_fits(self, path: str) -> tuple[FitRow, ...]:
        """What fits of a model that was looked at. Fast enough for the event loop: arithmetic, no file is read."""
        from tuiapp import modeling

        return modeling.fit_rows(self._shelf, path) if self._shelf is not None else ()

    def plan(self, form: NewRun, card: str = "") -> PlanPage:
        """The plan for a form whose data may be open, on a card of `PlanPage.cards`. Raises TuneDeckError."""
        from tuiapp import planning

        return planning.page_of(self._desk(form, card, self._asked(form)))

    def training(self, form: NewRun, base: NewRun, changed: tuple[str, ...] = (), card: str = "") -> TrainingPage:
        """A form completed, what it comes to and what would stop it: some tenths of a second. Raises TuneDeckError.

        `base` is the form without what was changed on the Training step, the fields `changed`.
        """
        from tuiapp import training

        before = self._desk_at_hand(base, card)
        own = self._desk_at_hand(training.unforked(base), card) if base.parent else before
        desk = self._desk_at_hand(form, card)
        prepared, refusal = self._ready(form)
        return training.page_for(desk, before, own, changed, prepared, refusal)

    def what_if(self, page: PlanPage, values: PlanValues) -> PlanChoice:
        """What other values cost. Fast enough for the event loop: arithmetic, no file is read."""
        from tuiapp import planning

        return planning.turned(self._desks[repr(page.form), page.card], values)

    def nearest(self, page: PlanPage, values: PlanValues) -> PlanChoice | None:
        """The nearest choice that fits where these values do not."""
        from tuiapp import planning

        return planning.nearest(self._desks[repr(page.form), page.card], values)

    def other_cards(self, page: PlanPage) -> tuple[CardPlan, ...]:
        """The best that fits on common cards."""
        from tuiapp import planning

        return planning.other_cards(self._desks[repr(page.form), page.card])

    def trace(self, page: PlanPage, values: PlanValues) -> Traced:
        """Trace the real step with these values: about 20 s, no GPU needed. Raises TuneDeckError."""
        from engine.planner.exact import exact
        from tuiapp import planning

        desk = self._desks[repr(page.form), page.card]
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
        key = (form.model, form.data, form.max_steps, form.chosen, form.goal, changed)
        if self._request is None or self._request[0] != key:
            open_form = dataclasses.replace(form, data=form.data or NO_DATA, method="")
            self._request = key, prepare_request(_spec(open_form), goal=form.goal, data=bool(form.data))
        return self._request[1]

    def _desk(self, form: NewRun, card: str, request: "Request") -> "Desk":
        """A plan, kept at hand."""
        from engine.planner.plan import with_reasons
        from tuiapp import planning

        desk = planning.open_desk(form, card, request, self._hardware, self._history())
        mine = beneath(_sections(form), of_config())[1]
        desk = dataclasses.replace(desk, plan=with_reasons(desk.plan, mine))
        self._desks.pop((repr(form), desk.card), None)
        self._desks[repr(form), desk.card] = desk
        while len(self._desks) > PLANS:
            self._desks.pop(next(iter(self._desks)))
        return desk

    def _desk_at_hand(self, form: NewRun, card: str) -> "Desk":
        """The same for what trains here where no card is named; not planned again where nothing changed."""
        from tuiapp import planning

        request = self._asked(form)
        on_cpu = request.spec.compute.devices == "cpu" or not (card or self._hardware.gpus)
        card = planning.CPU if on_cpu else card or planning.HERE
        before = self._desks.get((repr(form), card))
        if before is not None and before.plan.request == dataclasses.replace(request, cards=before.plan.request.cards):
            return before
        return self._desk(form, card, request)

    def _ready(self, form: NewRun) -> "tuple[launch.Prepared | None, str]":
        """The form as it would start here, or why it could not; neither where its model or data is not here to look at."""
        if not form.data or not on_this_machine(form.model):
            return None, ""
        try:
            prepared = self._prepared(_sections(form), form.goal, self._history())
            launch.check_room(self.database, prepared)
        except TuneDeckError as error:
            return None, f"{error.title}: {error.message} {error.hint}"
        return prepared, ""

    def _history(self) -> "list[PastRun]":
        """What was predicted and measured on this machine; nothing where that cannot be read."""
        if not self.database.exists():
            return []
        try:
            return plans.history(self._db())
        except (TuneDeckError, DatabaseError):
            return []


def _spec(form: NewRun) -> RunSpec:
    """What the form describes, over what the user's config has."""
    return parse(beneath(_sections(form), of_config())[0])


def _sections(form: NewRun) -> dict[str, Any]:
    method = {"kind": "lora", "variant": "dora"} if form.method == "dora" else {"kind": form.method or None}
    raw: dict[str, Any] = {
        "model": {"path": form.model or "none"}, "data": {"path": form.data}, "method": method,
        "training": {"max_steps": form.max_steps}, "run": {"name": form.name or None, "parent": form.parent or None},
    }  # fmt: skip
    for path, value in form.chosen:
        *sections, name = path.split(".")
        functools.reduce(lambda place, section: place.setdefault(section, {}), sections, raw)[name] = value
    return raw
