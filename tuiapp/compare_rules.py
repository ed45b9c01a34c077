"""What the screen that compares runs offers and says: pure functions."""

from collections.abc import Callable, Mapping

from engine.compared import Comparison
from tuiapp.compare_values import CompareState
from tuiapp.widgets import compare_chart as chart
from tuiapp.widgets import compare_side as side
from tuiapp.widgets import compare_table as tables

ACROSS = {"chart": "curve", "curves": "curve", "samples": "step"}
"""What left and right choose in a pane; elsewhere a run."""
LENGTHS: dict[str, Callable[[CompareState], int]] = {
    "differs": tables.differs_length, "result": tables.result_length, "samples": side.samples_length,
    "curves": chart.curves_length, "hints": side.hints_length, "memory": side.memory_length,
    "reached": side.reached_length, "lineage": side.lineage_length, "said": side.said_length,
}  # fmt: skip
"""How many lines each pane has to say, its title apart."""
EXPORTS = (
    ("html", "HTML report", "one file, opens in any browser"),
    ("markdown", "Markdown", "the comparison as text"),
    ("csv", "CSV", "every point of these runs"),
    ("jsonl", "JSON lines", "every point of these runs"),
    ("parquet", "Parquet", "every point of these runs"),
)


def allowed(action: str, state: CompareState, shown: Mapping[str, object], across: str, zoom: str | None) -> bool:
    """Whether an action does something now. `shown` are the panes that are there."""
    c = state.comparison
    if action == "across":
        many = {"run": len(c.runs), "curve": len(c.metrics), "step": side.most_steps(state)}
        return many[across] > 1
    if action in ("log", "smooth"):
        return "chart" in shown and bool(state.page.key)
    if action == "x":
        return "chart" in shown and bool(state.page.key) and len(chart.axes_known(state)) > 1
    if action == "view":
        return "differs" in shown and len(c.settings) > len(c.differing)
    if action == "pin":
        return len(c.runs) > 1
    if action == "prompt":
        return len(c.prompts) > 1
    if action == "zoom":
        return zoom is not None or "narrow" not in shown
    return True


def status_words(c: Comparison, width: int) -> str:
    """What the marks mean, and how much of it may be chance."""
    if width < 60:
        return "* best   B baseline"
    words = ["* best", "B baseline"]
    words += ["= the same as B", "– not measured"] if width >= 120 else []
    words += ["! not like with like"] if c.notes or any(one.warning for one in c.differing) else []
    spread = f"{c.repeats[0].spread:.3f}" if c.repeats else "– (no repeated runs)"
    words.append(f"spread between seeds: {spread}")
    return "   ".join(words)
