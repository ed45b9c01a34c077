"""What one turns on the plan page: its fields, what each can be, and the values after a key. Pure functions."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tuiapp.snapshot import NewRun, PlanChoice, PlanPage, PlanValues

FIELDS = (
    "card",
    "method",
    "rank",
    "targets",
    "max_length",
    "micro_batch",
    "checkpointing",
    "packing",
    "optimizer",
)
LABELS = {"max_length": "max length", "micro_batch": "micro-batch"}
METHODS = {"lora": "LoRA", "qlora": "QLoRA", "dora": "DoRA", "full": "full", "full-bf16": "full in bf16"}
NUMBERS = ("rank", "max_length", "micro_batch")
"""These end at their smallest and largest; the others go round."""
OPTIMIZERS = ("adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "adafactor")
RANKS = (4, 8, 16, 32, 64, 128, 256)
MICRO_BATCHES = (1, 2, 4, 8, 16, 32, 64)
SHORTEST = 128


def is_full(values: PlanValues) -> bool:
    """Whether all weights are trained: then there is no rank and no target."""
    return values.method.startswith("full")


def options(page: PlanPage, field: str) -> tuple[Any, ...]:
    """What a field can be, in order; what is recommended is always among it."""
    usual: dict[str, tuple[Any, ...]] = {
        "card": tuple(key for key, _ in page.cards),
        "method": tuple(METHODS),
        "rank": RANKS,
        "targets": ("all-linear", "attention"),
        "max_length": (*_doubled(SHORTEST, page.context), page.context),
        "micro_batch": MICRO_BATCHES,
        "checkpointing": (False, True),
        "packing": (False, True),
        "optimizer": OPTIMIZERS,
    }
    found = usual[field]
    if field == "card":
        return found
    best = getattr(page.recommended.values, field)
    return tuple(sorted({*found, best})) if field in NUMBERS else tuple(dict.fromkeys((*found, best)))


def beside(page: PlanPage, values: PlanValues, field: str, by: int) -> Any:
    """The value `by` places further; the same one where it goes no further."""
    found = options(page, field)
    now = page.card if field == "card" else getattr(values, field)
    if field in NUMBERS:
        further = [one for one in found if (one > now if by > 0 else one < now)]
        return (further[0] if by > 0 else further[-1]) if further else now
    at = found.index(now) if now in found else 0
    return found[(at + by) % len(found)]


def settled(page: PlanPage, values: PlanValues) -> PlanValues:
    """The same with the accumulation that leaves as many rows to an optimizer step as are recommended."""
    best = page.recommended.values
    rows = best.micro_batch * best.accumulation * rows_in_one(page, best)
    accumulation = round(rows / (values.micro_batch * rows_in_one(page, values)))
    return replace(values, accumulation=max(1, accumulation))


def rows_in_one(page: PlanPage, values: PlanValues) -> float:
    """How many rows of the data one row of the micro-batch holds: several where they are packed."""
    if not values.packing or not page.mean_length:
        return 1.0
    return max(1.0, values.max_length / page.mean_length)


def rows_a_step(page: PlanPage, values: PlanValues) -> int:
    """Rows of the data that an optimizer step sees, on all cards."""
    return round(values.micro_batch * values.accumulation * page.processes * rows_in_one(page, values))


def different(values: PlanValues, other: PlanValues) -> dict[str, Any]:
    """The fields of `values` that are not as in `other`; the accumulation goes with them, as it follows from several."""
    found = {name: value for name, value in vars(values).items() if getattr(other, name) != value}
    return {**found, "accumulation": values.accumulation} if found else {}


def shown(field: str, value: Any) -> str:
    """A value as people read it."""
    if field == "method":
        return METHODS.get(value, str(value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _doubled(least: int, most: int) -> tuple[int, ...]:
    return tuple(least * 2**i for i in range(32) if least * 2**i < most)


@dataclass
class Draft:
    """What was chosen on the page, kept by who opened it for when it is opened again."""

    form: NewRun | None = None
    card: str = ""
    chosen: dict[str, Any] | None = None
    """Values that are not as recommended; None before anything was."""
    past: list[dict[str, Any]] = field(default_factory=list)
    """`chosen` before each change, for undo."""
    choice: PlanChoice | None = None

    def open(self, form: NewRun) -> None:
        """Go on with what was chosen for the same model and data, with the form's method; else begin anew."""
        old, self.form = self.form, form
        if old is None or (old.model, old.data) != (form.model, form.data):
            self.chosen, self.past, self.choice = None, [], None
        elif self.chosen is not None and self.choice and form.method not in ("", kind_of(self.choice.values.method)):
            self.chosen = {**self.chosen, "method": form.method}
        if self.chosen is not None:  # what the form has chosen since counts as recommended
            given = {path.rpartition(".")[2] for path, _ in form.chosen}
            self.chosen = {name: value for name, value in self.chosen.items() if name not in given}

    def first(self, page: PlanPage) -> dict[str, Any]:
        """What the page opens with: what was chosen before, else the best choice of the method that the form names."""
        if self.chosen is not None:
            return self.chosen
        method = self.form.method if self.form else ""
        found = [one.values for one in (page.recommended, *page.alternatives) if kind_of(one.values.method) == method]
        if found:
            return different(found[0], page.recommended.values)
        return {"method": method} if method else {}


def in_words(choice: PlanChoice) -> str:
    """A choice in a few words: what it is and takes."""
    v = choice.values
    parts = [choice.name, f"{v.micro_batch} x {v.accumulation}", f"length {v.max_length:,}"]
    parts += [] if v.checkpointing else ["no checkpointing"]
    parts += ["packed"] if v.packing else []
    parts += [v.optimizer] if v.optimizer != OPTIMIZERS[0] else []
    gib = f": {choice.device_gib:.1f} GiB" if choice.device_gib is not None else ""
    return f"{', '.join(parts)}{gib}"


def obstacle(form: NewRun, page: PlanPage, choice: PlanChoice, near: PlanChoice | None) -> str:
    """Why a run cannot start as planned; empty if it can."""
    if choice.fits == "no":
        return f"It does not fit. {'Space takes the nearest that does.' if near else 'Nothing near it does.'}"
    if not page.here:
        return f"This plan is for {page.card_name}, which is not here: choose this machine under card."
    return "" if form.data else "A run needs data: Esc goes back to where it is named."


def kind_of(method: str) -> str:
    """The method as the form names it, which leaves the precision open."""
    return method.removesuffix("-bf16")


def planned(form: NewRun, choice: PlanChoice) -> NewRun:
    """The form with what the page settled, over what was chosen before."""
    return with_chosen(replace(form, method=kind_of(choice.values.method)), choice.settings)


def with_chosen(form: NewRun, pairs: Iterable[tuple[str, Any]]) -> NewRun:
    """The form with more chosen, or other values for what was."""
    return replace(form, chosen=tuple({**dict(form.chosen), **dict(pairs)}.items()))
