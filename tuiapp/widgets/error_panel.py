"""Why a run failed, in place of its charts: a title, a sentence, what helps, and its last words. Never a traceback first."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import CURSOR, state_glyph
from tuiapp.remedies import Choice, choices
from tuiapp.snapshot import RunDetail
from tuiapp.widgets.head import elapsed
from tuiapp.widgets.live_state import LiveState
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import Part, line

TITLES = {
    "oom": "The memory was not enough",
    "crashed": "The training process ended without a word",
    "failed": "The run failed",
}
PHASES = ("import", "download", "convert", "tokenize", "load", "train")


def error_title(detail: RunDetail) -> str:
    """What happened, in a few words."""
    return f.clean(detail.error_title) or TITLES.get(detail.run.status, "The run failed")


def choice_count(state: LiveState) -> int:
    """How many things can be done."""
    return len(choices(state.detail))


def error_panel(state: LiveState, look: Look) -> list[Content]:
    """The panel; the last words take what is left of the room."""
    detail = state.detail
    mark = ("▌", "$accent") if look.focused else " "
    rows = [line(mark, (f"{state_glyph(detail.run.status)} {error_title(detail)}", "bold $bad")), line("")]
    width = max(20, look.width - 6)
    low = look.height < 16
    rows += [line(f"   {text}") for text in f.wrap(f.clean(detail.error_message), width, 2 if low else 5)]
    rows += [line(f"   {text}") for text in f.wrap(f.clean(detail.error_hint), width, 2 if low else 3)]
    rows += [line("")] if len(rows) > 2 else []
    rows += [line(("   What helps", "bold"))] if choices(detail) else []
    rows += [_choice(one, look, i == look.scroll) for i, one in enumerate(choices(detail))]
    rows += [line(""), *_phases(state, width)]
    room = look.height - len(rows) - 2
    if detail.log and room > 0:
        rows += [line(""), line(("   Last words", "bold"), ("   output.log", "$dim"))]
        rows += [line((f"     {f.clip(f.clean(text), look.width - 7)}", "$dim")) for text in detail.log[-room:]]
    return rows[: look.height]


def _choice(one: Choice, look: Look, here: bool) -> Content:
    mark: Part = (CURSOR, "$accent") if here and look.focused else " "
    return line("   ", mark, f" {one.name:<15} ", (f.clip(one.text, look.width - 22), "$dim"))


def _phases(state: LiveState, width: int) -> list[Content]:
    """`started 14:40:02   load 14:40:03   failed after 2 s   exit code 1`."""
    detail, run = state.detail, state.detail.run
    parts = [f"started {f.clock(run.started_at, True)}"] if run.started_at is not None else []
    begun = {event.text.partition(":")[0]: event.time for event in reversed(detail.events) if event.type == "phase"}
    parts += [f"{name} {f.clock(begun[name], True)}" for name in PHASES if name in begun]
    took = f"after {f.duration(elapsed(run, state.now))}" if run.started_at is not None else "before it began"
    parts += [f"{f.clean(run.status)} {took}"] if run.ended_at is not None else []
    parts += [f"step {f.count(run.step)} of {f.count(run.total_steps)}"] if run.step is not None else []
    parts += [_exit(detail.exit_code)] if detail.exit_code is not None else []
    lines, text = [], ""
    for part in parts:
        if text and len(text) + len(part) + 3 > width - 9:
            lines.append(text)
            text = ""
        text = f"{text}   {part}" if text else part
    heads = ["   Phases", *["         "] * len(lines)]
    return [line((head, "bold"), (f"   {words}", "$dim")) for head, words in zip(heads, [*lines, text], strict=True)]


def _exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"


def error_text(detail: RunDetail) -> str:
    """All of it as plain text, to be copied."""
    parts = [
        error_title(detail),
        f.clean(detail.error_message),
        f.clean(detail.error_hint),
        *map(f.clean, detail.log[-50:]),
    ]
    return "\n".join(part for part in parts if part)
