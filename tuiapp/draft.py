"""A new run as far as it is settled: what the wizard's steps fill in, kept in a file until the run starts."""

import contextlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuiapp.data_values import MAX_LENGTH, DataDraft
from tuiapp.goals import GOALS, QUESTIONS
from tuiapp.plan_values import Draft
from tuiapp.snapshot import NewRun, PlanChoice

if TYPE_CHECKING:
    from engine.planner.rules import Goal

STEPS = ("Goal", "Model", "Data", "Plan", "Training", "Review")
GOAL, MODEL, DATA, PLAN, TRAINING, REVIEW = range(6)


@dataclass
class RunDraft:
    """Everything that a person settled; what is not here is recommended. Dictionaries are by path of the specification."""

    goal: "Goal" = "instructions"
    """A key of `tuiapp.goals.GOALS`."""
    answers: list[bool | None] = field(default_factory=lambda: [None, None, None])
    """Of the three questions whether fine-tuning is the right tool; None is open."""
    model: str = ""
    data: str = ""
    name: str = ""
    parent: str = ""
    """The id of the run that this is a fork of."""
    given: dict[str, Any] = field(default_factory=dict)
    """What a fork has from its parent."""
    card: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    """What was turned on the Plan step, by the names of `PlanValues`."""
    settled: dict[str, Any] = field(default_factory=dict)
    """The same as the Plan step settled it, with what follows from it."""
    rows: dict[str, Any] = field(default_factory=dict)
    """What was ticked and turned on the Data step."""
    training: dict[str, Any] = field(default_factory=dict)
    """What was changed on the Training step."""
    step: int = GOAL
    passed: list[int] = field(default_factory=list)
    """Steps that were accepted."""

    def choose_model(self, path: str) -> None:
        """Another model: what was planned and measured with the old one counts no longer."""
        if path != self.model:
            self.model, self.plan, self.settled = path, {}, {}
            self.given = {name: value for name, value in self.given.items() if not name.startswith("model.")}
            self.rows = {name: value for name, value in self.rows.items() if name.startswith("data.")}

    def choose_data(self, path: str) -> None:
        """Other data: what was ticked for the old one counts no longer."""
        if path != self.data:
            self.data, self.rows, self.plan, self.settled = path, {}, {}, {}
            self.given = {name: value for name, value in self.given.items() if not name.startswith("data.")}
            self.training = {name: value for name, value in self.training.items() if not name.startswith("data.")}

    def tick(self, rows: dict[str, Any]) -> None:
        """What the Data step shows now."""
        self.rows = rows
        self._give_way(rows)

    def settle_plan(self, chosen: dict[str, Any], choice: PlanChoice | None) -> None:
        """What the Plan step shows now; `choice` None where it is for another machine than this."""
        self.plan = chosen
        self.settled = dict(choice.settings) if choice is not None and chosen else {}
        if choice is not None and MAX_LENGTH in self.rows:  # there it was given; what it became is what counts
            self.rows[MAX_LENGTH] = choice.values.max_length
        self._give_way(self.settled)

    def _give_way(self, settled: dict[str, Any]) -> None:
        """What another step settles now counts, where the Training step had said something else before."""
        self.training = {path: value for path, value in self.training.items() if settled.get(path, value) == value}

    def form(self, *, planned: bool = True, ticked: bool = True, trained: bool = True) -> NewRun:
        """What a run is started with; without what the Plan, the Data or the Training step changed, for that step itself."""
        settled, rows, training = (
            self.settled if planned else {},
            self.rows if ticked else {},
            self.training if trained else {},
        )
        kind = training.get("method.kind", settled.get("method.kind"))
        if kind != settled.get("method.kind"):  # what was planned for another method is of no use to this one
            settled = {path: value for path, value in settled.items() if not path.startswith("method.")}
        chosen = {**self._given({**settled, **training}), **settled, **rows, **training}
        return NewRun(self.model, self.data, "", self.name, None, tuple(chosen.items()), self.goal, self.parent)

    def _given(self, settled: dict[str, Any]) -> dict[str, Any]:
        """What a fork has from its parent: with another method nothing of the parent's."""
        same = settled.get("method.kind", self.given.get("method.kind")) == self.given.get("method.kind")
        return {path: value for path, value in self.given.items() if same or not path.startswith("method.")}

    def change(self, path: str, value: Any) -> None:
        """Settle one field of the specification, in the step that it belongs to."""
        name = path.rpartition(".")[2]
        if path not in self.settled:
            self.training[path] = value
            return
        self.settled[path] = value
        if name in self.plan:
            self.plan[name] = value

    def plan_draft(self) -> Draft:
        """What the Plan page goes on with."""
        other = ("method", "rank", "targets") if "method.kind" in self.training else ()
        plan = {name: value for name, value in self.plan.items() if name not in other}
        return Draft(self.form(planned=False), self.card, plan or None)

    def data_draft(self) -> DataDraft:
        """What the Data page goes on with."""
        rows = {path: value for path, value in self.rows.items() if path not in self.training}
        return DataDraft(self.form(ticked=False), rows)

    @property
    def is_begun(self) -> bool:
        """Whether there is anything that one would be sorry to lose."""
        return any(
            getattr(self, one.name) for one in fields(self) if one.name not in ("goal", "answers", "step", "passed")
        )


def load(file: Path) -> RunDraft | None:
    """The draft in a file; None where there is none that can be read."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    usual = RunDraft()
    known = {one.name: getattr(usual, one.name) for one in fields(RunDraft)}
    if not isinstance(raw, dict) or any(type(raw[name]) is not type(known[name]) for name in raw.keys() & known.keys()):
        return None
    if len(raw.get("answers", usual.answers)) != len(QUESTIONS) or raw.get("goal", usual.goal) not in {
        g.key for g in GOALS
    }:
        return None
    return RunDraft(**{name: value for name, value in raw.items() if name in known})


def save(file: Path, draft: RunDraft) -> None:
    """Write it so that the old one or the new one is there whatever happens. Raises OSError."""
    from engine.files import write_private  # not needed for the first paint

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(file, json.dumps(asdict(draft), ensure_ascii=False, indent=1))


def drop(file: Path) -> None:
    """It is not needed any more."""
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
