"""The points of a sweep: what `--over`, `--seeds` and `--random` mean. Pure.

A grid is every combination, the last field turning fastest and seeds last of all. `--random N` draws N combinations: of
a list each value is as likely as the others; of a range `a..b` of whole numbers each of them; of any other range every
order of magnitude is as likely as the others, or, where it begins at 0 or below, every number.
"""

import itertools
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from engine import short
from engine.errors import SpecError
from engine.spec import apply_sets
from engine.text import clean

LIMIT = 500
"""Points of a sweep. Each is a run with a directory of its own: who wants more wants something else."""
SEED = "training.seed"
DIGITS = 3
"""Significant digits of a number that is drawn."""
NAME_LENGTH = 80
_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*")
_LETTERS = {
    "training.learning_rate": "lr", "method.rank": "r", "method.alpha": "a", "method.dropout": "do", "training.seed": "s",
    "training.micro_batch": "mb", "training.accumulation": "acc", "training.max_length": "len", "training.epochs": "ep",
    "training.max_steps": "steps", "training.weight_decay": "wd", "training.warmup": "wu",
    "method.kind": "", "method.variant": "", "method.targets": "", "training.optimizer": "", "training.schedule": "",
    "training.precision": "", "model.path": "", "data.path": "", "objective": "",
}  # fmt: skip
"""How a field is called in the name of a run; nothing where the value says it."""

Point = tuple[tuple[str, Any], ...]
"""(path, value) of each field that the sweep sets, in the order of `--over`, the seed last."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `whole` ones only."""

    low: float
    high: float
    whole: bool

    def draw(self, dice: random.Random) -> int | float:
        """One of them, by the rule above."""
        if self.whole:
            return dice.randint(int(self.low), int(self.high))
        if self.low > 0:
            drawn = math.exp(dice.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = dice.uniform(self.low, self.high)
        return min(self.high, max(self.low, float(f"{drawn:.{DIGITS}g}")))


@dataclass(frozen=True)
class Axis:
    """A field and what it is to be: `values`, or a range to draw from."""

    path: str
    values: tuple[Any, ...] = ()
    range: Range | None = None


def axis(item: str) -> Axis:
    """`training.learning_rate=1e-4,2e-4` or `=1e-5..1e-3`; values as `--set` reads them, lists in brackets. Raises SpecError."""
    path, equals, text = item.partition("=")
    path, said = path.strip(), clean(item, False)
    if not equals or not path:
        hint = "As in --over training.learning_rate=1e-4,2e-4. The specification's file stands before --over."
        raise SpecError("--over needs path=values", f"'{said}' is not of that form.", hint)
    if path.partition(".")[0] == "run":
        raise SpecError(
            "--over cannot change whose run it is", f"'{said}': the sweep names its runs itself.", "See --name."
        )
    if found := _RANGE.fullmatch(text):
        return Axis(path, range=_range(found[1], found[2], said))
    values = tuple(_value(path, one) for one in _parts(text, said))
    if not values:
        raise SpecError("--over has no values", f"'{said}' gives {path} none.", "As in --over method.rank=8,16")
    if any(isinstance(one, str) and _RANGE.fullmatch(one) for one in values):
        raise SpecError("A range stands alone", f"'{said}' mixes one with other values.", "As in --over training.learning_rate=1e-5..1e-3")  # fmt: skip
    return Axis(path, values)


def _range(low: str, high: str, said: str) -> Range:
    whole = all(re.fullmatch(r"[+-]?\d{1,15}", one) for one in (low, high))
    made = Range(float(low), float(high), whole)
    if not made.low < made.high or not math.isfinite(made.high - made.low):
        raise SpecError("The range is empty", f"'{said}' does not go up.", "The smaller number stands first.")
    return made


def _parts(text: str, said: str) -> list[str]:
    """The values of a list with commas, each as it was written: brackets and quotes keep theirs together."""
    listed = f"[{text}]"
    try:
        node = yaml.compose(listed)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SpecError(
            "--over has an unreadable value", f"'{said}' is no list of values.",
            "Commas between them, nothing left out; a value that is a list in brackets, odd texts in quotes.",
        ) from None  # fmt: skip
    return [listed[one.start_mark.index : one.end_mark.index] for one in (node.value if node else ())]


def _value(path: str, text: str) -> Any:
    node: Any = apply_sets({}, [f"x={text}"])["x"]
    return node


def points(axes: Sequence[Axis], seeds: Sequence[int] = (), count: int | None = None, dice: int = 0) -> list[Point]:
    """All points in order, none twice: the grid, or `count` drawn at random with the seed `dice`. Raises SpecError."""
    paths = [one.path for one in axes] + [SEED] * bool(seeds)
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        how = "Give the seeds once." if SEED in twice else "Put its values into one list."
        raise SpecError("A field is there twice", f"--over has {', '.join(twice)} more than once.", how)
    if count is None:
        made = _grid(axes, max(1, len(seeds)))
    else:
        _limit(count * max(1, len(seeds)))
        made = _drawn(axes, count, dice)
    if seeds:
        made = [(*point, (SEED, seed)) for point in made for seed in seeds]
    return list({_key(point): point for point in made}.values())


def asked_for(axes: Sequence[Axis], seeds: Sequence[int], count: int | None) -> int:
    """How many points were asked for; `points` may find fewer different ones."""
    return (count if count is not None else math.prod(len(one.values) for one in axes)) * max(1, len(seeds))


def _grid(axes: Sequence[Axis], seeds: int) -> list[Point]:
    for one in axes:
        if one.range is not None:
            raise SpecError(
                "A range is drawn from", f"{one.path} is a range, and a grid needs values.",
                "Add --random N for N points drawn at random, or list the values with commas.",
            )  # fmt: skip
    _limit(math.prod(len(one.values) for one in axes) * seeds)
    return [
        tuple(zip([one.path for one in axes], combination, strict=True))
        for combination in itertools.product(*(one.values for one in axes))
    ]


def _limit(count: int) -> None:
    if count < 1:
        raise SpecError("There are no points", f"{count} were asked for.", "At least one.")
    if count > LIMIT:
        raise SpecError(
            "There are too many points", f"That makes {count:,} runs; a sweep has at most {LIMIT}.",
            "Shorten the lists, or draw some of them with --random N.",
        )  # fmt: skip


def _drawn(axes: Sequence[Axis], count: int, dice: int) -> list[Point]:
    """`count` different points; all that there are, in the order of the grid, where there are not more."""
    source = random.Random(dice)
    unlike = [list({_key((("", v),)): v for v in one.values}.values()) for one in axes]
    total = math.prod(map(len, unlike))
    if all(one.range is None for one in axes) and total <= 20 * LIMIT:
        chosen = sorted(source.sample(range(total), min(count, total)))
        return [tuple(zip([one.path for one in axes], _digits(index, unlike), strict=True)) for index in chosen]
    found: dict[str, Point] = {}
    for _ in range(count * 20):  # there may not be so many: a range of few whole numbers
        point = tuple((one.path, one.range.draw(source) if one.range else source.choice(one.values)) for one in axes)
        found.setdefault(_key(point), point)
        if len(found) == count:
            break
    return list(found.values())


def _digits(index: int, values: Sequence[Sequence[Any]]) -> list[Any]:
    """The combination with this number in the order of the grid."""
    chosen: list[Any] = []
    for one in reversed(values):
        index, at = divmod(index, len(one))
        chosen.insert(0, one[at])
    return chosen


def _key(point: Point) -> str:
    """Equal for points that are the same; 1 and 1.0 are, true is another."""
    plain = [
        [path, float(v) if isinstance(v, int) and not isinstance(v, bool) and abs(v) < 2**53 else v]
        for path, v in point
    ]
    return json.dumps(plain, default=repr, sort_keys=True)


def seeds(text: str) -> list[int]:
    """`3` means the seeds 1, 2 and 3; with a comma they are those listed. Raises SpecError."""
    numbers = [one.strip() for one in text.split(",") if one.strip()]
    if (
        not numbers
        or not all(re.fullmatch(r"\d{1,9}", one) for one in numbers)
        or (numbers == ["0"] and "," not in text)
    ):
        raise SpecError("--seeds needs whole numbers", f"'{clean(text, False)}' is neither a number of seeds nor a list.", "As in --seeds 3, or --seeds 1,2,3")  # fmt: skip
    if "," in text:
        return list(dict.fromkeys(map(int, numbers)))
    _limit(int(numbers[0]))
    return list(range(1, int(numbers[0]) + 1))


def sets(point: Point) -> list[str]:
    """As `--set` would take them; for people, and for names."""
    return [f"{short.field(path)} {short.value(value)}" for path, value in point]


def names(base: str, made: Sequence[Point]) -> list[str]:
    """A readable name for each point, no two the same: `base-lr2e-4-r16-s1`. What all points share is left out."""
    same = (
        {path for path in dict(made[0]) if len({_key(((path, dict(one)[path]),)) for one in made}) == 1}
        if made
        else set()
    )
    ends = ["-".join(_word(path, value) for path, value in point if path not in same) for point in made]
    room = NAME_LENGTH - 5  # for a number that keeps two apart
    found = [
        f"{base[: max(8, room - len(end) - 1)].rstrip('-._')}-{end}"[:room].rstrip("-._") if end else base
        for end in ends
    ]
    return [name if found.count(name) == 1 else f"{name}-p{i}" for i, name in enumerate(found, 1)]


def _word(path: str, value: Any) -> str:
    letters = _LETTERS.get(path, short.field(path).rpartition(".")[2].replace("_", ""))
    text = short.value(value) if value is not None else "none"
    if path == "data.path":
        text = text.rpartition(".")[0] or text
    return letters + re.sub(r"[^\w.+-]+", "-", text).strip("-")[:24]
