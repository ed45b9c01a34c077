"""Why a run failed, in place of its charts: a title, a sentence, what helps, and its last words."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import state_glyph
from tuiapp.widgets.curves import LiveState
from tuiapp.widgets.head import elapsed
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import line

TITLES = {
    "oom": "The memory was not enough",
    "crashed": "The training process ended without a word",
    "failed": "The run failed",
}


def error_panel(state: LiveState, look: Look) -> list[Content]:
    """The panel; the last words take what is left of the room."""
    detail, run = state.detail, state.detail.run
    mark = ("▌", "$accent") if look.focused else " "
    name = f.clean(detail.error_title) or TITLES.get(run.status, "The run failed")
    rows = [line(mark, (f"{state_glyph(run.status)} {name}", "bold $bad")), line("")]
    width = max(20, look.width - 6)
    rows += [line(f"   {text}") for text in f.wrap(f.clean(detail.error_message), width, 5)]
    if detail.error_hint:
        rows += [line(""), line(("   What helps", "bold"))]
        rows += [line(f"   {text}") for text in f.wrap(f.clean(detail.error_hint), width, 4)]
    rows += [line(""), _times(state)]
    room = look.height - len(rows) - 2
    if detail.log and room > 0:
        rows += [line(""), line(("   Last words", "bold"), ("   output.log", "$dim"))]
        rows += [line((f"     {f.clip(f.clean(text), look.width - 7)}", "$dim")) for text in detail.log[-room:]]
    return rows[: look.height]


def _times(state: LiveState) -> Content:
    run = state.detail.run
    took = f"after {f.duration(elapsed(run, state.now))}" if run.started_at is not None else "before it began"
    parts = [f"started {f.clock(run.started_at, True)}   " if run.started_at is not None else ""]
    parts.append(f"ended {f.clock(run.ended_at, True)} {took}" if run.ended_at is not None else "")
    if run.step is not None:
        parts.append(f"   step {f.count(run.step)} of {f.count(run.total_steps)}")
    return line((f"   {''.join(parts)}", "$dim"))
