"""The first rows of every screen: where am I, the machine, and how far the run is."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import state_glyph, state_role
from tuiapp.snapshot import RunDetail, RunLine, Snapshot
from tuiapp.widgets.bars import share
from tuiapp.widgets.rows import Part, line, spread
from tuiapp.widgets.strip import strip_line

METHODS = {"lora": "LoRA", "qlora": "QLoRA", "dora": "DoRA", "full": "full"}


def method_name(run: RunLine) -> str:
    """The method as people write it, with its rank where it has one: LoRA r16."""
    name = METHODS.get(run.method.lower(), f.clean(run.method))
    return f"{name} r{run.rank}" if run.rank else name


def state(status: str) -> tuple[str, str]:
    """A state's glyph and word in its colour."""
    return (f"{state_glyph(status)} {f.clean(status)}", state_role(status))


def where_line(place: str, width: int, *right: Part, name: str = "") -> Content:
    """` TuneDeck   Runs › name` and what belongs at the right."""
    start = line((" TuneDeck", "$accent"), "   ", place, *((" › ", f.clean(name)) if name else ()))
    return spread(start, line(*right, " "), width)


def database(path: str, width: int) -> str:
    """The end of a path that fits."""
    return f.clip_left(f.clean(path), max(10, width))


def elapsed(run: RunLine, now: float) -> float | None:
    """Seconds the run took so far, or took."""
    if run.started_at is None:
        return None
    return (run.ended_at if run.ended_at is not None else now) - run.started_at


def minutes(seconds: float | None) -> str:
    """How long something goes on, by the minute: a ticking second is no news."""
    return "under 1 min" if f.known(seconds) and (seconds or 0.0) < 60 else f.duration(seconds)


def when(detail: RunDetail, now: float) -> tuple[str, str]:
    """`ends 14:52`, or how long it took; the one number of a live screen beside the loss."""
    run = detail.run
    if run.ended_at is not None:
        return "took ", f.duration(elapsed(run, now))
    if detail.ends_at is not None:
        return "ends ", f.clock(detail.ends_at)
    return ("", "") if run.started_at is None else ("for ", minutes(elapsed(run, now)))


def fraction(run: RunLine) -> float | None:
    """How much of the steps is done."""
    if run.step is None or not run.total_steps:
        return None
    return min(1.0, run.step / run.total_steps)


def steps(run: RunLine) -> str:
    """`step 262 of 414`."""
    total = f" of {f.count(run.total_steps)}" if run.total_steps else ""
    return f"step {f.count(run.step)}{total}"


def progress_line(detail: RunDetail, now: float, width: int) -> Content:
    """Step, bar, share, epoch and the end of the run."""
    run = detail.run
    word, value = when(detail, now)
    done = fraction(run)
    phase = f.clean(detail.phase)
    if run.step is None and done is None:
        what = phase if phase and run.ended_at is None else run.status
        return spread(line(f" {what}"), line((word, "$dim"), (value, "bold"), " "), width)
    start = f" {steps(run)}  "
    if phase and phase != "train" and run.ended_at is None:
        start = f" {phase}   {steps(run)}  "
    share_text = f"  {f.right(f.percent(None if done is None else int(done * 100)), 5)}"
    epoch = ""
    if detail.epoch is not None:
        whole = f" of {detail.epochs:.2f}".removesuffix(".00") if detail.epochs else ""
        epoch = f"  epoch {detail.epoch:.2f}{whole}" if width >= 72 else ""
    end = line(
        epoch, (_rest(detail, now) if width >= 120 else "", "$dim"), (f"   {word}", "$dim"), (value, "bold"), " "
    )
    bar = max(4, min(80, width - len(start) - len(share_text) - end.cell_length - 1))
    return spread(line(start, share(done, 1.0, bar), share_text), end, width)


def _rest(detail: RunDetail, now: float) -> str:
    """`   4.19 M tokens   33 min elapsed   19 min left`, as far as it is known."""
    run, tokens = detail.run, detail.curves.get("num_tokens", ())
    parts = [f"{f.short(tokens[-1][1])} tokens"] if tokens else []
    if run.started_at is not None and run.ended_at is None:
        parts.append(f"{minutes(elapsed(run, now))} elapsed")
        parts += [f"{minutes(detail.ends_at - now)} left"] if detail.ends_at is not None else []
    return "".join(f"   {part}" for part in parts)


def live_head(snapshot: Snapshot | None, detail: RunDetail | None, run_id: str, width: int) -> list[Content]:
    """The first three rows of a live screen."""
    if snapshot is None or detail is None:
        return [where_line("Runs", width, name=run_id)]
    run = detail.run
    more = f"   {f.clean(run.id)}" if width >= 120 else ""
    right = (state(run.status), f"{more}   {f.clean(snapshot.machine.host)}")
    return [
        where_line("Runs", width, *right, name=run.name),
        strip_line(snapshot.machine, width),
        progress_line(detail, snapshot.now, width),
    ]
