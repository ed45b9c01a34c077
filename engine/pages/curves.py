"""Which curves a report shows of a run, and how they are read."""

import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.dossier import Dossier
from engine.pages.chart import Chart, Line, Points
from engine.store import metrics, records, reports

MOST = 1000
"""Points of a curve that are drawn; the least and the greatest of each stretch are among them."""
SMOOTH_FROM = 12
"""From so many points on a noisy curve has a smoothed one over it."""
DETAIL = 400
"""Stretches whose means the smoothed line of a long curve goes through."""
MORE = 30
LEFT_OUT = ("_runtime", "_per_second", "num_tokens", "total_flos", "train_loss", "epoch")
"""Ends of the names of metrics that say nothing as a curve, or twice."""


@dataclass(frozen=True)
class Wanted:
    """A chart: `noisy` curves get a smoothed line, `checked` ones were measured on held-out rows and get dots."""

    title: str
    unit: str
    noisy: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    from_zero: bool = False


MAIN = (
    Wanted("Loss", "", noisy=("loss",), checked=("eval_loss", "general_loss")),
    Wanted("Reward", "", noisy=("reward",), checked=("eval_reward",)),
    Wanted("Learning rate", "", plain=("learning_rate",), from_zero=True),
    Wanted("Gradient norm", "", noisy=("grad_norm",)),
    Wanted("Speed", "tokens a second", noisy=("tokens_per_second",), from_zero=True),
    Wanted("Memory", "GiB", plain=("memory_allocated_gib", "memory_reserved_gib"), from_zero=True),
    Wanted("Tokens right", "share", noisy=("mean_token_accuracy",), checked=("eval_mean_token_accuracy",)),
)
NAMES = {
    "loss": "train loss", "eval_loss": "eval loss", "general_loss": "loss on general texts", "grad_norm": "gradient norm",
    "learning_rate": "learning rate", "tokens_per_second": "tokens a second", "memory_allocated_gib": "peak allocated",
    "memory_reserved_gib": "reserved", "mean_token_accuracy": "training", "eval_mean_token_accuracy": "held out",
}  # fmt: skip


def name_of(key: str) -> str:
    return NAMES.get(key, key)


def main_charts(db: sqlite3.Connection, dossier: Dossier) -> list[Chart]:
    """The charts that every report has, as far as they were measured."""
    keys = set(metrics.keys(db, dossier.run["id"]))
    found = [_chart(db, dossier, wanted) for wanted in MAIN if keys & {*wanted.noisy, *wanted.plain, *wanted.checked}]
    return [chart for chart in found if chart.lines]


def more_charts(db: sqlite3.Connection, dossier: Dossier) -> list[Chart]:
    """The other metrics, at most MORE, each with what was measured of it on held-out rows."""
    keys = metrics.keys(db, dossier.run["id"])
    shown = {key for wanted in MAIN for key in (*wanted.noisy, *wanted.plain, *wanted.checked)}
    rest = [key for key in keys if key not in shown and not key.endswith(LEFT_OUT)]
    alone = [key for key in rest if not (key.startswith("eval_") and key.removeprefix("eval_") in rest)]
    charts = [_chart(db, dossier, Wanted(key, "", noisy=(key,), checked=(f"eval_{key}",))) for key in alone[:MORE]]
    return [chart for chart in charts if any(len(line.points) > 1 for line in chart.lines)]


def _chart(db: sqlite3.Connection, dossier: Dossier, wanted: Wanted) -> Chart:
    run_id = dossier.run["id"]
    lines: list[Line] = []
    longest = 0
    for key in (*wanted.noisy, *wanted.plain, *wanted.checked):
        points, stored = raw(db, run_id, key)
        if not points or (key == "memory_reserved_gib" and dossier.environment.get("device") == "cpu"):
            continue  # on a CPU it is what is allocated
        longest = max(longest, stored)
        if key in wanted.noisy:
            line = smoothed(db, run_id, key) if stored >= SMOOTH_FROM else []
            lines.append(Line(name_of(key), points, "train faint" if line else "train"))
            if line:
                lines.append(Line("smoothed", line, "train", gaps=False))
        elif key in wanted.plain:
            lines.append(Line(name_of(key), points, "train" if key == wanted.plain[0] else "baseline"))
        else:
            lines.append(Line(name_of(key), points, "eval" if key == wanted.checked[0] else "baseline", dots=True))
    return Chart(wanted.title, wanted.unit, lines, from_zero=wanted.from_zero, levels=_levels(dossier, wanted),
                 note=drawn_of(longest))  # fmt: skip


def _levels(dossier: Dossier, wanted: Wanted) -> list[tuple[str, float, str]]:
    """Of memory: what was predicted, and what there is, where a card trained."""
    if wanted.title != "Memory" or dossier.environment.get("device") != "cuda":
        return []
    levels = [
        ("predicted", (dossier.plan.get("memory") or {}).get("peak_gib"), "predicted"),
        ("the card has", dossier.environment.get("memory_total_gib"), "total"),
    ]
    return [(name, float(value), style) for name, value, style in levels if isinstance(value, int | float)]


def drawn_of(stored: int) -> str:
    """What is said of a curve that is not drawn point for point."""
    return "" if stored <= MOST else f"{stored:,} points, drawn in short: spikes and gaps stay"


def raw(db: sqlite3.Connection, run_id: str, key: str) -> tuple[Points, int]:
    """(step, value) as they were logged, of very many the extremes, and how many there are."""
    rows, stored = metrics.thinned(db, run_id, key, MOST)
    return [(step, value) for step, _, value in rows], stored


def smoothed(db: sqlite3.Connection, run_id: str, key: str) -> Points:
    """A line through the noise: of a long curve through the means of its stretches."""
    points = reports.means(db, run_id, key, DETAIL * 4)
    return thin(average(points, 1 - 1 / max(3.0, len(points) / 30)), DETAIL)


def average(points: Points, weight: float) -> list[tuple[float, float]]:
    """The exponential moving average with the bias of its start taken out; a gap stays a gap."""
    total, scale = 0.0, 0.0
    result: list[tuple[float, float]] = []
    for x, value in points:
        if math.isfinite(value):
            total = total * weight + value * (1 - weight)
            scale = scale * weight + (1 - weight)
            value = total / scale
        result.append((x, value))
    return result


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Every so many of them, the last among them: enough of a smooth line."""
    stride = max(1, -(-len(points) // most))
    kept = list(points[::stride])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def card_charts(db: sqlite3.Connection, dossier: Dossier) -> list[Chart]:
    """What NVML saw of the cards, over the minutes."""
    moments = records.gpu_moments(db, dossier.run["id"], most=MOST // 2)
    if len(moments) < 2:
        return []
    began = dossier.run["started_at"] or moments[0][0]
    parts = (
        ("Load of the cards", "%", 2),
        ("Power", "W a card", 3),
        ("Memory in use", "GiB, the fullest card", 1),
        ("Heat", "°C, the hottest card", 4),
    )
    return [
        Chart(title, unit, [Line(title.lower(), line, "train")], x_name="minute", from_zero=title != "Heat")
        for title, unit, column in parts
        if (line := _over_minutes(moments, column, began))
    ]


def _over_minutes(moments: Iterable[records.Moment], column: int, began: float) -> list[tuple[float, float]]:
    found = [(moment[0], moment[column]) for moment in moments]
    return [((time - began) / 60, float(value)) for time, value in found if value is not None]
