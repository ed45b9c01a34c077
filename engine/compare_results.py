"""The table of results: what each run came to, what was best, and how far it is from the baseline. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.compare_settings import DASH, Facts
from engine.compared import Better, Cell, ComparedRun, Measure
from engine.report import last
from engine.store.metrics import higher_is_better

SKIPPED = ("eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_num_tokens",
           "eval_model_preparation_time")  # fmt: skip
LOW_IS_GOOD = ("loss", "perplexity")
MINUS = "–"
BROKEN = ("failed", "crashed", "oom")
HEADS = {
    ".best": "best", ".step": "at step", "eval_loss": "last", "loss": "train", "gap": "eval-train", "memory": "GiB",
    "memory.predicted": "planned", "speed": "tok/s", "mfu": "MFU",
}  # fmt: skip
"""Of columns, where the rows are runs."""


@dataclass(frozen=True)
class Wanted:
    """A row: `value` of a run, `like` says of which runs it can be compared, `write` makes a text of it."""

    key: str
    name: str
    better: Better
    value: Callable[[Facts], float | None]
    write: Callable[[float], str]
    of_eval: bool = False
    of_machine: bool = False
    ended: bool = False
    """Only runs that are finished can be best, and only if all took as many steps."""
    sub: bool = False
    plain: bool = False
    """Without its difference to the baseline."""


def number_of(facts: Facts, key: str, which: str = "last") -> float | None:
    """A summary of a metric; NaN where it is no number."""
    value = last(facts.run, key, which)
    return None if value is None else float(value)


def best_of(facts: Facts, metric: str) -> float | None:
    """A run's best of a metric, finite."""
    value = number_of(facts, metric, "max" if direction(metric) == "more" else "min")
    return value if value is not None and math.isfinite(value) else None


def usual_metric(found: Sequence[Facts]) -> str:
    """What decides which run is best where nobody says."""
    known = (key for key in ("eval_loss", "reward", "loss") if any(best_of(one, key) is not None for one in found))
    return next(known, "eval_loss")


def measures(
    found: Sequence[Facts], runs: Sequence[ComparedRun], best_steps: Sequence[int | None], metric: str
) -> tuple[Measure, ...]:
    """The rows that are known of any run, the best of the metric and the step that it was at first."""
    steps = dict(zip((one.run["id"] for one in found), best_steps, strict=True))
    rows = []
    for wanted in _wanted(found, steps, metric):
        values = [wanted.value(one) for one in found]
        if any(value is not None for value in values):
            head = (
                HEADS.get(wanted.key.removeprefix(metric) if wanted.key.startswith(f"{metric}.") else wanted.key)
                or wanted.name
            )
            rows.append(Measure(wanted.key, wanted.name, wanted.better, _cells(wanted, values, runs), wanted.sub, head))
    return tuple(rows)


def _wanted(found: Sequence[Facts], steps: dict[str, int | None], metric: str) -> list[Wanted]:
    return [
        Wanted(f"{metric}.best", f"best {words(metric)}", direction(metric) or "less", lambda one: best_of(one, metric),
               decimals([best_of(one, metric) for one in found]), of_eval=True),
        Wanted(f"{metric}.step", "at step", "", lambda one: steps[one.run["id"]], whole, sub=True, plain=True),
        *_losses(found, metric),
        *_costs(found),
        *_evaluations(found, metric),
        Wanted("steps", "steps", "", lambda one: (one.run["progress"] or {}).get("step"), whole, plain=True),
        Wanted("epochs", "epochs", "", lambda one: (one.run["progress"] or {}).get("epoch"), _fixed(2), sub=True, plain=True),
        Wanted("tokens", "tokens seen", "", lambda one: number_of(one, "num_tokens", "max"), whole, plain=True),
    ]  # fmt: skip


def _losses(found: Sequence[Facts], metric: str) -> list[Wanted]:
    known = [number_of(one, "eval_loss") for one in found] + [one.train_mean for one in found]
    write = decimals(known)
    counts = {one.averaged for one in found if one.train_mean is not None}
    name = f"train loss, last {counts.pop()}" if len(counts) == 1 else "train loss, last points"
    rows = [
        Wanted("eval_loss", "eval loss, last", "less", lambda one: number_of(one, "eval_loss"), write, of_eval=True),
        Wanted("loss", name, "", lambda one: one.train_mean, write),
        Wanted("gap", "eval minus train", "", _gap, write, of_eval=True),
    ]
    return rows if metric != "loss" else rows[1:2]


def _evaluations(found: Sequence[Facts], metric: str) -> list[Wanted]:
    """What else was measured on held-out rows, or rewarded: the best of what is known to have one, else the last."""
    keys = {
        key
        for one in found
        for key in one.run["latest"]
        if key.startswith("eval_") or key in ("reward", "general_loss")
    }
    return [_metric(key, found) for key in sorted(keys - {metric, *SKIPPED})]


def _metric(key: str, found: Sequence[Facts]) -> Wanted:
    better = direction(key)
    which = {"more": "max", "less": "min", "": "last"}[better]
    write = decimals([number_of(one, key, which) for one in found])
    name = words(key) + ("" if better else ", last")
    return Wanted(key, name, better, lambda one: number_of(one, key, which), write, of_eval=key.startswith("eval_"))


def _costs(found: Sequence[Facts]) -> list[Wanted]:
    """What the runs took: memory, time and disk."""
    unit, seconds, digits = _time_unit([one.seconds for one in found])
    size_unit, size, size_digits = _size_unit([one.size for one in found])
    return [
        Wanted("memory", "peak memory, GiB", "less", lambda one: number_of(one, "memory_allocated_gib", "max"), _fixed(1),
               of_machine=True),
        Wanted("memory.predicted", "predicted", "", _predicted, _fixed(1), sub=True, plain=True),
        Wanted("time", f"time, {unit}", "less", lambda one: one.seconds, _scaled(seconds, digits), of_machine=True, ended=True),
        Wanted("speed", "speed, tok/s", "more", lambda one: one.speed, whole, of_machine=True),
        Wanted("mfu", "MFU, %", "more", lambda one: number_of(one, "mfu"), _fixed(0), of_machine=True),
        Wanted("size", f"model on disk, {size_unit}", "less", lambda one: one.size, _scaled(size, size_digits)),
    ]  # fmt: skip


def words(key: str) -> str:
    """The name of a metric as people say it: `eval loss`, `train loss`."""
    return "train loss" if key == "loss" else key.replace("_", " ")


def direction(key: str) -> Better:
    """Which way a metric is good, "" where that is not known."""
    if higher_is_better(key):
        return "more"
    return "less" if any(word in key for word in LOW_IS_GOOD) else ""


def _gap(one: Facts) -> float | None:
    evaluated = number_of(one, "eval_loss")
    return None if evaluated is None or one.train_mean is None else evaluated - one.train_mean


def _predicted(one: Facts) -> float | None:
    """What was predicted of a card; where none trained, that was of another thing."""
    if one.environment.get("device") != "cuda":
        return None
    value = (one.plan.get("memory") or {}).get("peak_gib")
    return float(value) if isinstance(value, int | float) else None


def _cells(wanted: Wanted, values: list[float | None], runs: Sequence[ComparedRun]) -> tuple[Cell, ...]:
    like = [_like(wanted, run) for run in runs]
    steps = {run.step for run in runs if run.status == "finished"} if wanted.ended else set()
    able = len(steps) < 2  # a shorter run takes less time
    can = [
        value if able and alike and value is not None and math.isfinite(value) and not (wanted.ended and run.status != "finished")
        else None
        for value, alike, run in zip(values, like, runs, strict=True)
    ]  # fmt: skip
    known = [value for value in can if value is not None]
    best = (min(known) if wanted.better == "less" else max(known)) if wanted.better and len(known) > 1 else None
    # what is written alike is as good; where all are, none is best
    texts = {wanted.write(value) for value in known}
    wins = None if best is None or len(texts) == 1 else wanted.write(best)
    cells = []
    for value, alike, candidate, run in zip(values, like, can, runs, strict=True):
        broken = wanted.ended and run.status in BROKEN
        told = not wanted.plain and alike and not broken and run is not runs[0]
        difference = _difference(value, values[0]) if told else None
        cells.append(Cell(value, _text(wanted, value, run), difference,
                          _signed(wanted.write, difference), candidate is not None and wanted.write(candidate) == wins, alike))  # fmt: skip
    return tuple(cells)


def _like(wanted: Wanted, run: ComparedRun) -> bool:
    return not (wanted.of_eval and run.unlike) and not (wanted.of_machine and run.other_machine)


def _difference(value: float | None, base: float | None) -> float | None:
    if value is None or base is None or not math.isfinite(value) or not math.isfinite(base):
        return None
    return value - base


def _signed(write: Callable[[float], str], difference: float | None) -> str:
    """`+0.9`, `–0.056`, `=`: with its sign, in the digits of the row."""
    if difference is None:
        return ""
    text = write(abs(difference))
    if not text.strip("0.,"):
        return "="
    return f"{'+' if difference > 0 else MINUS}{text}"


def _text(wanted: Wanted, value: float | None, run: ComparedRun) -> str:
    if value is None:
        return DASH
    if not math.isfinite(value):
        return str(value)
    text = wanted.write(value) if value >= 0 else f"{MINUS}{wanted.write(-value)}"
    if wanted.ended and run.active and run.share:
        return f"{text} of {wanted.write(value / run.share)}"
    return text


def whole(value: float) -> str:
    return f"{value:,.0f}"


def _fixed(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:,.{digits}f}"


def _scaled(unit: float, digits: int) -> Callable[[float], str]:
    return lambda value: f"{value / unit:,.{digits}f}"


def decimals(values: Sequence[float | None]) -> Callable[[float], str]:
    """Three decimals, more where all values are small or lie near to one another."""
    known = sorted({abs(value) for value in values if value is not None and math.isfinite(value)})
    apart = known[-1] - known[0] if len(known) > 1 else known[-1] if known else 1.0
    digits = 3 if apart >= 0.02 or not apart else min(6, 1 - math.floor(math.log10(apart)))
    return _fixed(max(3, digits))


def _time_unit(seconds: Sequence[float | None]) -> tuple[str, float, int]:
    """The unit in which the longest says most: its name, its seconds, and digits."""
    longest = max((one for one in seconds if one is not None), default=0.0)
    if longest < 5 * 60:
        return "s", 1.0, 0
    if longest < 2 * 3600:
        return "min", 60.0, 0 if longest >= 1200 else 1
    return "h", 3600.0, 1 if longest >= 36_000 else 2


def _size_unit(sizes: Sequence[int | None]) -> tuple[str, float, int]:
    known = [one for one in sizes if one is not None]
    if min(known, default=0) >= 2**30 / 20:
        return "GiB", 2.0**30, 2
    return "MiB", 2.0**20, 1 if max(known, default=0) < 100 * 2**20 else 0
