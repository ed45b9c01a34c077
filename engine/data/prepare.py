"""Which rows are trained on and which are held out: filters, duplicates, sample, split. Every row left out has a reason."""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from engine.data.duplicates import Exact, Near, fingerprint
from engine.data.formats import split_text, whole_text
from engine.data.quality import refuses
from engine.data.rows import Bad, Row, Source, rows_of, validation_source
from engine.planner.steps import validation_rows
from engine.spec import DataSpec, FiltersSpec


@dataclass
class Dropped:
    """Rows left out for one reason: how many, and the first lines."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.lines) < 20:
            self.lines.append(line)


Drops = dict[str, Dropped]


@dataclass(frozen=True)
class Selection:
    """Rows by their number among the usable ones (from 0), and those that were left out, by reason."""

    train: tuple[int, ...]
    held_out: frozenset[int]
    dropped: Drops


class Outside:
    """The rows of a validation file, to know them again in the training rows, exactly or nearly."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._marks, self._near = set[int](), Near()
        for row in rows:
            self._marks.add(mark(row))
            self._near.earlier(whole_text(row.value), row.line)

    def has(self, row: Row, text: str) -> bool:
        if not self._marks:
            return False
        return mark(row) in self._marks or self._near.earlier(text, row.line, remember=False) is not None


class Filter:
    """Says of each row why it is left out, if it is. Remembers rows, to know the repeated ones."""

    def __init__(self, filters: FiltersSpec, held_out: Iterable[Row] = ()) -> None:
        self._filters = filters
        self._exact = Exact() if filters.duplicates else None
        self._near = Near() if filters.duplicates == "near" else None
        self._exclude = [re.compile(one) for one in filters.exclude]
        self._outside = Outside(held_out if filters.leaks else ())

    def reason(self, row: Row) -> str:
        """Why the row is left out; "" if it is not."""
        f = self._filters
        if f == FiltersSpec():
            return ""
        (_, answer), text = split_text(row.value), whole_text(row.value)
        if f.refusals and refuses(answer):
            return "refusal"
        if f.min_characters and len(answer) < f.min_characters:
            return f"answer shorter than {f.min_characters} characters"
        if f.max_characters and len(answer) > f.max_characters:
            return f"answer longer than {f.max_characters} characters"
        for one in self._exclude:
            if one.search(text):
                return f"matches {one.pattern[:40]}"
        if self._outside.has(row, text):
            return "is a validation row"
        if self._exact and self._exact.earlier(mark(row), row.line) is not None:
            return "duplicate"
        if self._near and self._near.earlier(text, row.line) is not None:
            return "near duplicate"
        return ""


def mark(row: Row) -> int:
    """The row's fingerprint: the same for rows that say the same."""
    value = row.value
    more = [str(value[name]) for name in ("rejected", "label", "tools") if name in value]
    return fingerprint("\n".join((*split_text(value), *more)))


def select(found: list[Source], data: DataSpec, seed: int) -> Selection:
    """One pass over the sources: what is trained on and what is held out. The same seed selects the same rows."""
    outside = (
        [row for row in rows_of(validation_source(data), data) if isinstance(row, Row)] if data.filters.leaks else []
    )
    sieve, dropped, kept, groups = Filter(data.filters, outside), Drops(), list[int](), list[str]()
    weights: list[float] = []
    number = -1
    for item in rows_of(found, data):
        if isinstance(item, Bad):
            if item.lost:
                dropped.setdefault(item.kind, Dropped()).add(item.line)
            continue
        number += 1
        if reason := sieve.reason(item):
            dropped.setdefault(reason, Dropped()).add(item.line)
            continue
        kept.append(number)
        groups.append(item.group)
        weights.append(found[item.source].weight)
    random_ = random.Random(seed)
    chosen = sorted(sample(len(kept), data.max_rows, random_))
    if len(chosen) < len(kept):
        dropped["not in the sample"] = Dropped(len(kept) - len(chosen))
    count = validation_rows(data.validation, len(chosen))
    held = held_out([groups[i] for i in chosen], count, data.split, random_)
    train = [i for place, i in enumerate(chosen) if place not in held]
    often = {i: times(weights[i], random_) for i in train}
    if spared := sum(not n for n in often.values()):
        dropped["left out by the weight of its file"] = Dropped(spared)
    repeated = [i for i in train for _ in range(often[i])]
    return Selection(tuple(kept[i] for i in repeated), frozenset(kept[chosen[place]] for place in held), dropped)


def sample(rows: int, most: int | None, random_: random.Random) -> list[int]:
    return list(range(rows)) if not most or most >= rows else random_.sample(range(rows), most)


def times(weight: float, random_: random.Random) -> int:
    """How often a row of a source with this weight is taken: 1.5 is once, and half of the rows twice."""
    return int(weight) + (weight % 1 > 0 and random_.random() < weight % 1)


def held_out(groups: list[str], count: int, how: str, random_: random.Random) -> set[int]:
    """Places of `count` rows to hold out: at random, from each group its share, or whole groups, about as many rows."""
    places = random_.sample(range(len(groups)), len(groups))
    if count <= 0:
        return set()
    if how == "random":
        return set(places[:count])
    by_group: dict[str, list[int]] = defaultdict(list)
    for place in places:
        by_group[groups[place]].append(place)
    if how == "group":
        return _whole_groups(list(by_group.values()), count)
    share = count / len(groups)
    held = {place for members in by_group.values() for place in members[: int(share * len(members))]}
    rest = [place for place in places if place not in held]
    return held | set(rest[: count - len(held)])


def _whole_groups(groups: list[list[int]], count: int) -> set[int]:
    """The groups that fit, in their order, and one more if that is nearer to `count`; never all of them."""
    held: set[int] = set()
    left: list[list[int]] = []
    for members in groups:
        if len(held) + len(members) <= count:
            held.update(members)
        else:
            left.append(members)
    smallest = min(left, key=len, default=[])
    nearer = len(held) + len(smallest) - count < count - len(held) or not held
    return held | set(smallest) if nearer and len(left) > 1 else held


def chosen_rows(found: list[Source], data: DataSpec, selection: Selection) -> Iterator[tuple[Row, int]]:
    """The selected rows in the order of the files, each with how often it is trained on: 0 is held out."""
    often: dict[int, int] = defaultdict(int)
    for number in selection.train:
        often[number] += 1
    usable = (row for row in rows_of(found, data) if isinstance(row, Row))
    for number, row in enumerate(usable):
        if number in often or number in selection.held_out:
            yield row, often.get(number, 0)
