"""What one turns on the Training step: what a key makes of a field, its words, the presets. Pure functions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.trainer_needs import warmup_steps
from tuiapp import format as f
from tuiapp.training_fields import BY_PATH, ESSENTIAL, FIELDS, usual_rates
from tuiapp.training_snapshot import TrainingPage

RATE, EPOCHS, MAX_STEPS = "training.learning_rate", "training.epochs", "training.max_steps"
WARMUP, KEEP, STOPPING = "training.warmup", "saving.keep", "evaluation.early_stopping"
EVALUATE, SAMPLES, SAVE = "evaluation.every", "evaluation.sample_every", "saving.every"
EVERY = (EVALUATE, SAMPLES, SAVE)
"""A number of steps, or below 1 a fraction of an epoch; 0 is never."""
OFTEN = (20, 10, 5, 3, 2, 1)
"""How often in a run, from which ←→ makes numbers of steps."""
QUICK = 20
"""Steps of a quick look."""
SMALL_MODEL = 1_000_000_000
FAR = 3.0
"""Times the usual at which a learning rate is remarked on; a tenth of it at the other end."""


@dataclass(frozen=True)
class Preset:
    """Fields that change together, by path."""

    name: str
    about: str
    changes: Mapping[str, Any]


def presets(page: TrainingPage, parent: Mapping[str, Any] | None) -> tuple[Preset, ...]:
    """The first changes nothing. `parent` is what a fork was given by it, None where there is none."""
    found = [Preset("recommended", "what the rules say for this model, this data and this method", {})]
    if parent is not None:
        rules = [path for path in ESSENTIAL if path in parent and path != "training.seed"]
        differing = [path for path in rules if page.own[path] != page.recommended[path]]
        own = {path: None if path in EVERY else page.own[path] for path in differing}  # a rhythm follows from the steps
        found = [
            Preset("as its parent", "everything as in the run that this is a fork of", {}),
            Preset("recommended", "what the rules say, whatever the parent had", own),
        ]
    steps = quick_steps(page)
    quick = Preset("quick look", f"{steps} steps, to see that everything works; it learns little", {MAX_STEPS: steps})
    return (*found, quick, _careful(page))


def quick_steps(page: TrainingPage) -> int:
    """Steps of a quick look: half of a run that is short itself."""
    whole = page.epoch_steps * (page.recommended[EPOCHS] or 1) if page.epoch_steps else None
    return QUICK if whole is None or whole >= 2 * QUICK else max(1, int(whole // 2))


def _careful(page: TrainingPage) -> Preset:
    rate, epochs = page.recommended[RATE], page.recommended[EPOCHS]
    changes: dict[str, Any] = {RATE: float(f"{rate / 2:.2g}"), EPOCHS: 2 * epochs} if rate and epochs else {}
    about = "half the learning rate, twice the epochs"
    if page.values["data.validation"]:
        changes |= {EVALUATE: 0.5, STOPPING: 3}
        about += ", and it ends when eval loss no longer falls"
    if page.recommended[MAX_STEPS]:
        changes[MAX_STEPS] = None
    return Preset("careful", about, changes)


def preset_of(found: Sequence[Preset], changed: Mapping[str, Any]) -> Preset:
    """The preset that says most of what is changed; the first says nothing."""
    fitting = [one for one in found if one.changes.items() <= changed.items()]
    return max(fitting, key=lambda one: len(one.changes))


def with_preset(found: Sequence[Preset], preset: Preset, changed: Mapping[str, Any]) -> dict[str, Any]:
    """What is changed with another preset: fields that no preset is about stay as they are."""
    theirs = {path for one in found for path in one.changes}
    return {path: value for path, value in changed.items() if path not in theirs} | dict(preset.changes)


def with_value(page: TrainingPage, changed: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """What is changed with another value; as recommended is not changed."""
    rest = {name: one for name, one in changed.items() if name != path}
    return rest if same(value, page.recommended.get(path)) else {**rest, path: value}


def same(one: Any, other: Any) -> bool:
    """Whether two values mean the same: 1 and True are two."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def shown_paths(page: TrainingPage, changed: Mapping[str, Any], room: int, whole: bool) -> tuple[str, ...]:
    """The fields that are listed: all, or what matters as far as there is room, and whatever was changed."""
    if whole:
        return tuple(one.path for one in FIELDS)
    matters = [
        path for path in ESSENTIAL if path in changed or page.values[path] is not None or path in (STOPPING, MAX_STEPS)
    ]
    others = [one.path for one in FIELDS if one.path in changed and one.path not in ESSENTIAL]
    kept = matters[: max(1, room - len(others))]
    return (*kept, *(path for path in matters[len(kept) :] if path in changed), *others)


def candidates(page: TrainingPage, path: str) -> tuple[Any, ...]:
    """What ←→ goes through, in order; what is recommended is among it. Empty for what can only be typed."""
    line = BY_PATH[path]
    found = list(_rhythm(page) if path in EVERY else line.values or page.options.get(path, ()))
    if not found:
        return ()
    best = page.recommended.get(path)
    if not any(same(one, best) for one in found) and (best is not None or path not in page.options):
        found.append(best)
    if any(isinstance(one, str | bool) for one in found):
        return tuple(found)
    return tuple(sorted(found, key=lambda one: (one is not None, one or 0)))


def _rhythm(page: TrainingPage) -> list[int]:
    if not page.steps:
        return []
    return [0, *sorted({max(1, round(page.steps / often)) for often in OFTEN})]


def beside(page: TrainingPage, path: str, now: Any, by: int) -> Any:
    """The value `by` places further; numbers end at their smallest and largest, where it is the same again."""
    found = candidates(page, path)
    if not found:
        return now
    if any(isinstance(one, str | bool) for one in found):
        at = next((i for i, one in enumerate(found) if same(one, now)), -1 if by > 0 else 0)
        return found[(at + by) % len(found)]
    order = [one if one is not None else -1.0 for one in found]
    here = now if now is not None else -1.0
    further = [i for i, one in enumerate(order) if (one > here if by > 0 else one < here)]
    return (found[further[0]] if by > 0 else found[further[-1]]) if further else now


def every_steps(page: TrainingPage, every: float | None) -> int | None:
    """`every` in optimizer steps, as the worker counts (engine.worker.arguments.steps_of); None where an epoch is not known."""
    if not every or every >= 1:
        return int(every or 0)
    return max(1, round(every * page.epoch_steps)) if page.epoch_steps else None


def times(page: TrainingPage, every: float | None) -> int | None:
    """How often in the run."""
    steps = every_steps(page, every)
    return page.steps // steps if page.steps and steps else None if steps is None or page.steps is None else 0


def rate_words(value: float) -> str:
    """A learning rate as it is: 2e-4, 1.25e-4."""
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def shown(page: TrainingPage, path: str, value: Any) -> str:
    """A value as people read it."""
    if path in EVERY:
        return _every_words(page, value)
    if path == STOPPING:
        return "off" if value is None else f"after {value}"
    if value is None:
        return f.DASH
    if path == RATE:
        return rate_words(value)
    if path == WARMUP:
        return _warmup_words(page, value)
    if path == KEEP:
        return f"{value}, best by eval" if page.values[EVALUATE] and page.values["data.validation"] else str(value)
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value) or f.DASH
    if isinstance(value, dict):
        return ", ".join(f"{name}={_plain(one)}" for name, one in value.items()) or f.DASH
    return f.clean(str(value)) or f.DASH


def _every_words(page: TrainingPage, value: float | None) -> str:
    if not value:
        return "never" if value is not None else f.DASH
    if value >= 1:
        return f"{int(value):,} step{'' if int(value) == 1 else 's'}"
    steps = every_steps(page, value)
    return f"{value:g} epoch{f' ({steps})' if steps else ''}"


def _warmup_words(page: TrainingPage, value: float) -> str:
    if value >= 1:
        return f"{int(value):,} step{'' if int(value) == 1 else 's'}"
    steps = f" ({warmup_steps(value, page.steps)} steps)" if page.steps else ""
    return f"{100 * value:g} %{steps}"


def typed(path: str, value: Any) -> str:
    """A value as one would type it."""
    if value is None or value in ([], {}):
        return ""
    if path == RATE:
        return rate_words(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return str(value[0])
    return (
        json.dumps(value, ensure_ascii=False)
        if isinstance(value, list | dict)
        else f"{value:.12g}"
        if isinstance(value, float)
        else str(value)
    )


def span_of(page: TrainingPage, path: str) -> tuple[float, float] | None:
    """What is usual, as numbers."""
    if path != RATE:
        return BY_PATH[path].span
    rule = page.own[RATE] or page.recommended[RATE]
    small = (page.choice.parameters or SMALL_MODEL) < SMALL_MODEL
    return usual_rates(page.values["method.kind"] or "lora", page.values["objective"], small, rule) if rule else None


def usual(page: TrainingPage, path: str) -> str:
    """What is usual, in words."""
    line, span = BY_PATH[path], span_of(page, path)
    if span is None:
        return line.usual
    if path == RATE:
        return f"{rate_words(span[0])} to {rate_words(span[1])}"
    if path == WARMUP:
        return f"{100 * span[0]:g} to {100 * span[1]:g} %"
    return f"{span[0]:g} to {span[1]:g}"


def why(page: TrainingPage, path: str, given: Mapping[str, str]) -> str:
    """Why a field is as it is recommended; `given` says where values come from that the planner was given."""
    if path == KEEP and page.checkpoint and path in page.default:
        return f"{f.size(page.checkpoint * 2**30)} each"
    if path == EPOCHS and page.values[MAX_STEPS]:
        return "not used: max steps decides"
    return f.clean(page.reasons.get(path) or given.get(path) or (BY_PATH[path].why if path in page.default else ""))


def in_short(reason: str, width: int) -> str:
    """As much of a reason as has room and still says something: its first clauses."""
    for end in ("", "; ", ": ", " (", ", "):
        reason = reason.partition(end)[0] if end else reason
        if len(reason) <= width:
            break
    return f.clip(reason, width)


def caution(page: TrainingPage, path: str) -> str:
    """What is odd about a value; empty if nothing is."""
    value = page.values.get(path)
    if not value:
        return ""
    if path == RATE and (span := span_of(page, RATE)):
        if value > FAR * span[1]:
            return "far above the usual: the loss may explode"
        return "far below the usual: it may learn nothing" if value < span[0] / 10 else ""
    if path == WARMUP and page.steps and warmup_steps(value, page.steps) >= page.steps:
        return "the whole run is warm-up"
    if path in EVERY and page.steps and (every_steps(page, value) or 0) > page.steps:
        return f"the run has only {page.steps:,} steps"
    if path == STOPPING and (count := times(page, page.values[EVALUATE])) is not None and count <= value:
        return f"only {count} evaluation{'' if count == 1 else 's'}: it cannot end early"
    return ""


def cautions(page: TrainingPage) -> list[str]:
    """The fields that are odd."""
    return [path for path in ESSENTIAL if caution(page, path)]


def consequences(page: TrainingPage) -> str:
    """What the changes do to memory and time."""
    before, now = page.before.device_gib, page.choice.device_gib
    words = []
    if before is not None and now is not None:
        same_memory = abs(before - now) < 0.05
        words.append("Nothing here changes the memory." if same_memory else f"Memory {before:.1f} → {now:.1f} GiB.")
    first, then = page.before.seconds, page.choice.seconds
    if first and then and abs(then / first - 1) > 0.02:
        words.append(f"Time {f.duration(first)} → {f.duration(then)}.")
    return " ".join(words)


def label(path: str) -> str:
    """A field's name among all: its path under the heading."""
    return path.partition(".")[2] or path
