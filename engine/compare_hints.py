"""Hints from several runs: what goes with a lower loss, how much chance there is, and what came of it in a sentence. Pure."""

import json
import math
from collections.abc import Sequence

from engine.compare_results import best_of, words
from engine.compare_settings import UNKNOWN, Facts, written
from engine.compared import ComparedRun, Correlation, Measure, Repeats
from engine.health import NOISE
from engine.report import number

LEAST = 3
"""Runs below which no correlation is reckoned."""
FEW = 5
"""Runs below which one is said to rest on too few."""
MOST = 12
"""Correlations that are given."""
SEED = "training.seed"


def ranks(values: Sequence[float]) -> list[float]:
    """Places in the order of size from 1; equal values share the mean of their places."""
    order = sorted(range(len(values)), key=values.__getitem__)
    result = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for i in range(start, end + 1):
            result[order[i]] = (start + end) / 2 + 1
        start = end + 1
    return result


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """The rank correlation, -1 to 1; None where one of the two does not vary."""
    x, y = ranks(a), ranks(b)
    mean = (len(x) + 1) / 2
    over = sum((p - mean) * (q - mean) for p, q in zip(x, y, strict=True))
    under = math.sqrt(sum((p - mean) ** 2 for p in x) * sum((q - mean) ** 2 for q in y))
    return max(-1.0, min(1.0, over / under)) if under else None


def correlations(found: Sequence[Facts], runs: Sequence[ComparedRun], metric: str) -> tuple[Correlation, ...]:
    """Each parameter that varies with the best of the metric in the runs evaluated alike, the strongest first."""
    pairs = [
        (one, value)
        for one, run in zip(found, runs, strict=True)
        if not run.unlike and (value := best_of(one, metric)) is not None
    ]
    rows = []
    for path in dict.fromkeys(path for one, _ in pairs for path in one.settings):
        known = [
            (value, best) for one, best in pairs if (value := one.setting(path)) is not UNKNOWN and value is not None
        ]
        numbers, more = _numbers([value for value, _ in known])
        if len(known) < LEAST or not numbers:
            continue
        rho = spearman(numbers, [best for _, best in known])
        if rho is not None:
            rows.append(Correlation(path, f"{name_of(path)} {more}".rstrip(), rho, len(known)))
    return tuple(sorted(rows, key=lambda row: -abs(row.rho))[:MOST])


def name_of(path: str) -> str:
    """`training.learning_rate` as `learning rate`, `method.kind` as `method`."""
    return "method" if path == "method.kind" else path.rpartition(".")[2].replace("_", " ")


def _numbers(values: Sequence[object]) -> tuple[list[float], str]:
    """Values as numbers; of words that there are two of, one is 0 and the other, which is given, 1; none without an order."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return [float(value) for value in values if isinstance(value, int | float)], ""
    texts = [written(value) for value in values]
    both = sorted(set(texts))
    return ([float(both.index(text)) for text in texts], both[1]) if len(both) == 2 else ([], "")


def repeats(found: Sequence[Facts], runs: Sequence[ComparedRun], metric: str) -> tuple[Repeats, ...]:
    """Groups of runs with all the same settings and data but for the seed, the widest spread first."""
    groups: dict[str, list[int]] = {}
    for i, one in enumerate(found):
        if best_of(one, metric) is not None and not runs[i].active:
            alike = {path: value for path, value in one.settings.items() if path != SEED}
            key = json.dumps([alike, one.sha256, one.run["model"]], sort_keys=True, default=str)
            groups.setdefault(key, []).append(i)
    rows = []
    for places in (places for places in groups.values() if len(places) > 1):
        values = [best for i in places if (best := best_of(found[i], metric)) is not None]
        seeds = {found[i].seed for i in places}
        by_seed = len(seeds) > 1 and not isinstance(found[places[0]].setting("data.validation"), str)
        rows.append(Repeats(tuple(runs[i].letter for i in places), max(values) - min(values), by_seed))
    return tuple(sorted(rows, key=lambda row: -row.spread))


def sentence(runs: Sequence[ComparedRun], measures: Sequence[Measure], repeated: Sequence[Repeats]) -> str:
    """What came of it: which is best and by how much, what else it costs, and how sure that is.

    The first of the measures is that of the metric.
    """
    if len(runs) < 2:
        return "There is one run: nothing to compare it with."
    row = next((row for row in measures if row.key.endswith(".best")), None)
    if row is None:
        return f"None of these runs has a result{' yet' if any(run.active for run in runs) else ''}."
    known = [
        (cell.value, run)
        for cell, run in zip(row.cells, runs, strict=True)
        if cell.value is not None and math.isfinite(cell.value) and cell.like
    ]
    known.sort(key=lambda pair: -pair[0] if row.better == "more" else pair[0])
    parts = [*_first(row, known, runs), *_chance(row, known, repeated), *_cheaper(measures, runs, known)]
    return " ".join([*parts, *_state(runs, [run for _, run in known], row)])


def _first(row: Measure, known: list[tuple[float, ComparedRun]], runs: Sequence[ComparedRun]) -> list[str]:
    """The best and its distance to the next and to the baseline."""
    metric = row.key.removesuffix(".best")
    if not known:
        return ["Nothing that was measured can be compared with the baseline."]
    (value, best), *others = known
    if not others:
        article = "an" if metric[0] in "aeiou" else "a"
        return [f"Only {best.letter} has {article} {words(metric)} that can be compared: {number(value)}."]
    side = "above" if row.better == "more" else "below"
    (near, second) = others[0]
    said = [f"{_apart(near, value)} {side} {second.letter}{', which still runs' if second.active else ''}"]
    base = next((other for other, run in others if run is runs[0]), None)
    if base is not None and second is not runs[0]:
        said.append(f"{_apart(base, value)} {side} {runs[0].letter}")
    distance = (", and " if second.active else " and ").join(said)
    so_far = " so far" if best.active else ""
    if metric == "loss":
        return [
            f"{best.letter} has the lowest train loss{so_far}, {distance}; nothing was held out to tell whether it is better."
        ]
    return [f"{best.letter} is best{so_far}, {distance}."]


def _apart(one: float, other: float) -> str:
    """A distance in as many digits as it needs."""
    apart = abs(one - other)
    return (
        f"{apart:.3f}"
        if apart >= 0.0095 or not apart
        else f"{apart:.{min(6, 1 - math.floor(math.log10(apart) + 1e-9))}f}"
    )


def _chance(row: Measure, known: list[tuple[float, ComparedRun]], repeated: Sequence[Repeats]) -> list[str]:
    """Whether the distance to the next is more than what runs differ by anyway."""
    if len(known) < 2 or row.key == "loss.best":
        return []
    value, near = known[0][0], known[1][0]
    apart = abs(near - value)
    if repeated:
        spread = repeated[0].spread
        said = f"Runs with the same settings lie {_apart(spread, 0.0)} apart"
        return [f"{said}: it may be chance." if apart <= spread else f"{said}: it is more than that."]
    if apart < NOISE * abs(near):
        return ["That is too little to tell, and seeds were not repeated."]
    return ["Seeds were not repeated: it may be chance."]


def _cheaper(
    measures: Sequence[Measure], runs: Sequence[ComparedRun], known: list[tuple[float, ComparedRun]]
) -> list[str]:
    """A run that takes a third less memory than the best, and what that costs."""
    memory = next((row for row in measures if row.key == "memory"), None)
    if memory is None or len(known) < 2:
        return []
    peaks = {run.id: cell.value for run, cell in zip(runs, memory.cells, strict=True) if cell.like and cell.value}
    (loss, best), *others = known
    at_best = peaks.get(best.id)
    cheap = [(peaks[run.id] or 0.0, value, run) for value, run in others if run.id in peaks]
    least = min(cheap, key=lambda one: one[0], default=None)
    if at_best is None or least is None or least[0] > 0.67 * at_best:
        return []
    peak, value, run = least
    how = "halves the memory" if peak <= 0.55 * at_best else f"takes {100 * (1 - peak / at_best):.0f} % less memory"
    return [
        f"{run.letter} {how} ({number(peak, 1)} of {number(at_best, 1)} GiB), for {number(abs(value - loss))} of the loss."
    ]


def _state(runs: Sequence[ComparedRun], known: Sequence[ComparedRun], row: Measure) -> list[str]:
    """Who is not in it, and why."""
    said = []
    unlike = [run.letter for run, cell in zip(runs, row.cells, strict=True) if not cell.like and cell.value is not None]
    if unlike:
        one = len(unlike) == 1
        said.append(
            f"{joined(unlike)} {'was' if one else 'were'} not evaluated like {runs[0].letter}, so not compared with it."
        )
    for state, statuses in (
        ("failed", ("failed", "crashed", "oom")),
        ("have no result yet", ("queued", "starting", "running")),
    ):
        who = [run.letter for run in runs if run.status in statuses and run not in known and run.letter not in unlike]
        if who:
            said.append(f"{joined(who)} {state if len(who) > 1 else state.replace('have', 'has')}.")
    return said


def joined(letters: Sequence[str]) -> str:
    """`C`, `C and D`, `C, D and E`; of many only how many more there are."""
    if len(letters) > 6:
        return f"{', '.join(letters[:5])} and {len(letters) - 5} more"
    return " and ".join([", ".join(letters[:-1]), letters[-1]]) if len(letters) > 1 else letters[0]


def signed(rho: float) -> str:
    """A correlation as people write it: `+0.31`, `–0.97`, `0.00`."""
    text = f"{abs(rho):.2f}"
    return text if text == "0.00" else f"{'+' if rho > 0 else '–'}{text}"
