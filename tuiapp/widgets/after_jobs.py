"""What was done with the run, jobs and files; and what can be done with it."""

from dataclasses import dataclass

from textual.content import Content

from tuiapp import format as f
from tuiapp.after_values import AfterState, JobLine, MadeLine
from tuiapp.glyphs import CURSOR, state_glyph, state_role
from tuiapp.widgets.bars import share
from tuiapp.widgets.cursor_pane import Line
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import fit, line, spread

MADE = "made "
"""How the key of a file begins in the list."""
NAME, WORD, HASH = 9, 9, 8


@dataclass(frozen=True)
class Offer:
    """What can be done: the action of the screen, its key, and what it is about. `why`: why it cannot be done now."""

    action: str
    key: str
    name: str
    about: str
    why: str = ""


def offers(state: AfterState) -> list[Offer]:
    """Everything, in the order in which people do it."""
    page = state.page
    problem = "nothing was saved" if page.problem else ""
    rows = "" if page.total else "needs an evaluation"
    merge = "" if page.adapter else "all weights were trained: there is nothing to merge"
    return [
        Offer("evaluate", "e", "Evaluate", "held-out rows, or a file of yours", problem),
        Offer("judge", "a", "Judge", "another model compares the answers", problem or rows),
        Offer("chat", "t", "Chat", "with base and tuned side by side", problem),
        Offer("merge", "M", "Merge", "base and adapter into one model", problem or merge),
        Offer("export", "E", "Export", "GGUF, Ollama, vLLM, adapter", problem),
    ]


def next_length(state: AfterState) -> int:
    """Lines of what can be done."""
    return len(offers(state))


def next_pane(state: AfterState, look: Look, selected: str) -> list[Line]:
    """A line for each, with its key."""
    rows: list[Line] = [("", title("Do", look))]
    for one in offers(state):
        mark = CURSOR if one.action == selected and look.focused else " "
        words = (one.why or one.about, "$dim")
        start = line(f" {mark} ", (one.key, "$dim" if one.why else "$accent"), f"  {one.name:<10}", words)
        rows.append((one.action, fit(start, look.width)))
    return rows


def jobs_length(state: AfterState) -> int:
    """Lines of jobs and files, a heading between them among it."""
    made = len(state.page.made)
    return max(1, len(state.page.jobs)) + (made + 2 if made else 0)


def jobs_pane(state: AfterState, look: Look, selected: str) -> list[Line]:
    """The jobs, those at work first, then the newest; below them the files that were made."""
    page = state.page
    rows: list[Line] = [("", title("Done with it", look, *([] if page.jobs else [("nothing yet", "$dim")])))]
    for job in sorted(page.jobs, key=lambda one: not one.active):
        rows.append((job.job, _job(job, state.now, look, job.job == selected)))
    if page.made:
        rows += [("", line("")), ("", line((" Files", "bold")))]
        rows += [(MADE + one.path, _file(one, look, MADE + one.path == selected)) for one in page.made]
    return rows


def _job(job: JobLine, now: float, look: Look, here: bool) -> Content:
    mark = CURSOR if here and look.focused else " "
    start = line(
        f" {mark} ", (f"{state_glyph(job.status)} ", state_role(job.status)), f"{f.left(f.clean(job.job), NAME)} ",
        (f.left(job.status, WORD), state_role(job.status)), "  ",
    )  # fmt: skip
    if not job.active:
        end = line((f"{_ago(now - (job.ended_at or job.created_at))} ", "$dim"))
        return spread(line(start, f.clean(job.outcome)), end, look.width)
    count = f"{job.done:,} of {job.total:,}" if job.total and job.done is not None else ""
    room = look.width - start.cell_length - len(count) - 3
    bar = min(14, room - 12)
    parts = line(start)
    if count and bar >= 4:
        parts = line(parts, share(job.done, job.total, bar), "  ")
    return spread(line(parts, (f.clean(job.phase), "$dim")), line(f"{count} "), look.width)


def _ago(seconds: float) -> str:
    text = f.age(seconds)
    return text if text == "now" else f"{text} ago"


def _file(one: MadeLine, look: Look, here: bool) -> Content:
    mark = CURSOR if here and look.focused else " "
    gone = "" if one.there else "gone: "
    size = f.right(f.size(one.bytes), 9)
    start = line(f" {mark} ", f"{f.left(f.clean(one.kind), NAME + 2)} {size}  ",
                 (f"{one.sha256[:HASH] or f.DASH:<{HASH}}  ", "$dim"), (gone, "$warn"))  # fmt: skip
    return line(start, f.clip_left(f.clean(one.path), max(4, look.width - start.cell_length - 1)))
