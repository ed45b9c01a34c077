"""What the live screen offers and says of a run: pure functions."""

from collections.abc import Callable
from dataclasses import dataclass

from tuiapp import format as f
from tuiapp.chat_runs import can_chat
from tuiapp.glyphs import ACTIVE, BROKEN, RESUMABLE, STOPPABLE
from tuiapp.layout import is_narrow
from tuiapp.snapshot import RunDetail
from tuiapp.widgets.head import elapsed, minutes

NUMBERED = ("loss", "curves", "samples", "log", "memory", "health", "checkpoints", "events", "facts")
"""The panes by their digit; the panel of a failed run stands where its loss would be."""
HELP = {
    "error": "Why the run ended, and what helps.",
    "loss": "How wrong the model is on the next token: the line is the rows it trains on, o rows kept aside, · the "
    "baseline. Both should fall; if only o rises it is over-fitting: stop, or fewer epochs.",
    "curves": "The other curves of this run; v brings them into the large chart one after the other.",
    "samples": "What the model answers to the same prompts as it learns; base is before training.",
    "log": "What the process writes: output.log.",
    "memory": "Memory of the card as the driver says, beside what the plan predicted.",
    "health": "What is wrong with the run, with the numbers behind it and what helps; and what is well.",
    "checkpoints": "Saved states. * has the lowest eval loss; a resumed run goes on from the last one.",
    "events": "What happened, the newest first.",
    "facts": "What the run is made of.",
}
WHAT = "what happened"
WIDEST = 156
"""From here on the status line has room for the numbers of the panes."""
STALE = 60.0
"""Seconds without a point after which that is said."""


@dataclass(frozen=True)
class Offer:
    """What the keys depend on."""

    detail: RunDetail | None
    writable: bool
    width: int
    height: int
    view: str
    views: int
    axes: int
    zoom: str | None


def _active(offer: Offer) -> bool:
    return offer.detail is not None and offer.writable and offer.detail.run.status == "running"


def _charted(offer: Offer) -> bool:
    """Whether a large chart is there to be changed."""
    narrow = is_narrow(offer.width, offer.height)
    return offer.view != WHAT and (offer.zoom == "loss" if narrow else offer.zoom in (None, "loss"))


def _status_in(*states: str) -> Callable[[Offer], bool]:
    return lambda offer: offer.detail is not None and offer.writable and offer.detail.run.status in states


def _own(offer: Offer) -> bool:
    """Whether it was trained here: an imported run has no specification to go on from."""
    return offer.detail is not None and not offer.detail.run.imported


RULES: dict[str, Callable[[Offer], bool]] = {
    "choose": lambda offer: offer.view == WHAT and not is_narrow(offer.width, offer.height),
    "stop": _status_in(*STOPPABLE),
    "resume": lambda offer: _own(offer) and _status_in(*RESUMABLE)(offer),
    "chat": lambda offer: offer.detail is not None and offer.writable and can_chat(offer.detail.run),
    "save": _active,
    "evaluate": lambda offer: _active(offer) and offer.detail is not None and offer.detail.held_out,
    "after": lambda offer: offer.detail is not None and can_chat(offer.detail.run),
    "fork": lambda offer: _own(offer) and offer.detail is not None and offer.writable and bool(offer.detail.spec),
    "new": lambda offer: offer.writable,
    "view": lambda offer: offer.views > 1 and (not is_narrow(offer.width, offer.height) or offer.zoom == "loss"),
    "zoom": lambda offer: offer.width >= 24 and offer.height >= 6,
    "pane": lambda offer: offer.width >= 24 and offer.height >= 6,
    "log": _charted,
    "smooth": _charted,
    "x": lambda offer: _charted(offer) and offer.axes > 1,
    "prompt": lambda offer: offer.detail is not None and len({one.prompt for one in offer.detail.samples}) > 1,
    "search": lambda offer: offer.detail is not None and bool(offer.detail.log) and RULES["pane"](offer),
    "inspect": lambda offer: offer.detail is not None,
    "copy": lambda offer: offer.detail is not None,
    "pin": lambda offer: offer.detail is not None,
    "compare": lambda offer: offer.detail is not None,
}
"""Actions that are not always there: a key that would do nothing is not shown and does nothing."""


def allowed(action: str, offer: Offer) -> bool:
    """Whether an action does something now."""
    rule = RULES.get(action)
    return rule is None or rule(offer)


def lines_of(detail: RunDetail) -> dict[str, int]:
    """How many lines each pane of texts has to say, about: what a sentence takes is known only where it is drawn."""
    asked = {sample.prompt for sample in detail.samples}
    answers = max((sum(one.prompt == prompt for one in detail.samples) for prompt in asked), default=0)
    return {
        "samples": answers * (2 if answers < 3 else 1),
        "health": sum(1 + (len(one.text) > 40) for one in detail.health),
        "checkpoints": len(detail.checkpoints),
        "events": len(detail.events),
        "log": len(detail.log),
    }


def checkpoint_words(detail: RunDetail) -> str:
    """Which checkpoint is the best that is kept, or the last."""
    kept = [point for point in detail.checkpoints if point.kept]
    if not kept:
        return ""
    scored = [point for point in kept if point.eval_loss is not None]
    if not scored:
        return f"last checkpoint: step {kept[-1].step:,}"
    return f"best checkpoint: step {min(scored, key=lambda point: point.eval_loss or 0.0).step:,}"


def status_words(detail: RunDetail, now: float, width: int) -> str:
    """The usual text of the status line; a wide screen says elsewhere what a small one says here."""
    run = detail.run
    took = elapsed(run, now)
    words = [
        f"{f.duration(took) if run.ended_at is not None else minutes(took)} elapsed"
        if took is not None
        else "not begun"
    ]
    if width < 60:
        saved = [point.time for point in detail.checkpoints if point.kept]
        return f"{f.age(now - saved[-1])} since the last checkpoint" if saved else words[0]
    if run.ended_at is None and detail.ends_at is not None:
        words[0] += f", {minutes(detail.ends_at - now)} left"
    words.append(checkpoint_words(detail))
    if width >= WIDEST:
        names = " ".join(f"{number} {name} " for number, name in enumerate((*NUMBERED[:-1], "run"), 1)).rstrip()
        words = [*(words[:1] if took is None else []), f"panes {names}"]
    words.append(_quiet(detail, now))
    if width >= 120 and run.status in ACTIVE and detail.supervisor_pid is not None:
        words.append(f"supervisor pid {detail.supervisor_pid}: closing this window changes nothing")
    elif run.status in BROKEN and detail.directory:
        room = width - len("   ".join(word for word in words if word)) - 12
        words.append(f"kept in {f.clip_left(f.clean(detail.directory), max(8, room))}")
    return "   ".join(word for word in words if word)


def _quiet(detail: RunDetail, now: float) -> str:
    """That nothing was reported for a while; by the minute, as a ticking number is no news."""
    run = detail.run
    if run.status != "running" or run.started_at is None or not detail.worked or detail.phase not in ("", "train"):
        return ""
    silent = now - run.started_at - detail.worked[-1][1]
    usual = detail.worked[-1][1] / max(1, len(detail.worked))
    return f"no point for {f.age(silent)}" if detail.attempt == 1 and silent > max(STALE, 5 * usual) else ""
