"""What is wrong with how the machine is used: pure functions over a run's streams.

On a CPU only waiting, padding and speed can be seen. Thresholds without a source are rules of thumb.
"""

import math
from collections.abc import Sequence
from typing import Any

from engine.compatibility import why_not
from engine.health import Finding, Streams
from engine.health_curves import middle
from engine.planner.complete import IMITATES
from engine.planner.memory import SLACK
from engine.planner.plan import HEADROOM

RECENT = 50
"""Steps that say how it is now; ENOUGH of them before anything is said."""
ENOUGH = 10
WAITS, WAITS_MUCH = 0.1, 0.3
IDLE = 50.0
"""Percent of the time in which a card did something, by NVML, below which half of it is paid for nothing."""
THROTTLED = 0.1
"""Share of the samples in which heat or power held the clock back."""
PADDED = 0.3
FULL, NEARLY_FULL = 0.95, 0.90
"""Shares of a card that the allocator's peak takes."""
WORTH = 0.15
"""Share of a card that must be left over before a larger batch is worth a word."""
SLOW = {True: 0.75, False: 0.5}
"""Share of the usual speed, on a card and on a CPU, whose cores others use too."""
EARLIER = 3
"""Runs that make a speed the usual one."""
UPDATES = 30
"""GPU samples, a second each, before anything is said."""


def machine(s: Streams) -> list[Finding]:
    """Of waiting and idling, throttling, memory, padding and speed."""
    found = [_waiting(s), _idle(s), _throttling(s), _memory(s), _padding(s), _slow(s)]
    return [one for one in found if one is not None]


def _recent(s: Streams, key: str) -> list[float]:
    return [value for _, _, value in s.points(key)[-RECENT:] if math.isfinite(value)]


def _waiting(s: Streams) -> Finding | None:
    waits = _recent(s, "data_wait")
    if len(waits) < ENOUGH:
        return Finding("waiting", "n/a", "waiting for data: too early to say") if waits else None
    share = min(1.0, max(0.0, sum(waits) / len(waits)))
    who = "GPU" if s.cuda else "training"
    if share < WAITS:
        return Finding("waiting", "ok", f"{who} waited for data {100 * share:.0f} % of the time")
    workers = s.spec.get("extra.trainer.dataloader_num_workers") or 0
    more: tuple[tuple[str, Any], ...] = (("extra.trainer.dataloader_num_workers", 4),) if not workers else ()
    return Finding("waiting", "warning" if share > WAITS_MUCH else "note", f"{who} waits for data {100 * share:.0f} % of the time",
                   f"mean of the last {len(waits)} steps; {workers} loader processes",
                   "Let several processes make the batches." if more else "Look at the disk and at who else uses the CPU.", more)  # fmt: skip


def _idle(s: Streams) -> Finding | None:
    """Only where the data is not what it waits for."""
    waits = _recent(s, "data_wait")
    used = [one.utilization for one in _training(s) if one.utilization is not None]
    if len(used) < UPDATES or (waits and sum(waits) / len(waits) > WAITS):
        return None
    busy = middle(used)
    if busy >= IDLE:
        return Finding("idle", "ok", f"GPU busy {busy:.0f} % of the time")
    return Finding("idle", "note", f"GPU idle {100 - busy:.0f} % of the time", f"the middle of {len(used)} samples",
                   "The steps are too small for the card: a larger training.micro_batch with less accumulation.",
                   _larger_batch(s, 2))  # fmt: skip


def _training(s: Streams) -> list[Any]:
    """The moments between the first and the last step that was reported."""
    times = [point[1] for point in s.points("loss")]
    first, last = min(times, default=0.0), max(times, default=-1.0)
    return [one for one in s.gpu if first <= one.time <= last]


def _throttling(s: Streams) -> Finding | None:
    moments = _training(s)
    if len(moments) < UPDATES:
        return None
    held = [one.throttle for one in moments if one.throttle]
    hottest = max((one.temperature for one in moments if one.temperature is not None), default=None)
    heat = f"; {hottest:.0f} °C" if hottest is not None else ""
    share = len(held) / len(moments)
    if share < THROTTLED:
        return Finding("throttling", "ok", f"no throttling{heat}")
    thermal = sum("thermal" in one or "slowdown" in one for one in held) > len(held) / 2
    why = "heat" if thermal else "its power limit"
    return Finding("throttling", "warning" if thermal else "note", f"{why} slows the GPU {100 * share:.0f} % of the time",
                   f"{len(held)} of {len(moments)} samples{heat}",
                   "Look at its fans and the air around it." if thermal else
                   "Nothing is wrong: a higher power limit would make it faster.")  # fmt: skip


def _larger_batch(s: Streams, times: int) -> tuple[tuple[str, Any], ...]:
    """A micro-batch so many times as large, with the same rows a step; nothing where they do not divide."""
    micro, accumulation = s.spec.get("training.micro_batch"), s.spec.get("training.accumulation")
    if not isinstance(micro, int) or not isinstance(accumulation, int) or accumulation % times:
        return ()
    return (("training.micro_batch", micro * times), ("training.accumulation", accumulation // times))


def _memory(s: Streams) -> Finding | None:
    total = s.memory_total
    if not s.cuda or not total:
        return None
    # both are peaks since the start of the attempt: the last one says it
    peaks, held = _recent(s, "memory_allocated_gib"), _recent(s, "memory_reserved_gib")
    used = s.memory_used or (held[-1] if held else None)
    if not peaks or used is None or not math.isfinite(used):
        return Finding("memory", "n/a", "memory: not measured yet")
    peak = peaks[-1]
    free = max(0.0, total - used)
    if peak > NEARLY_FULL * total:
        micro, accumulation = s.spec.get("training.micro_batch"), s.spec.get("training.accumulation")
        smaller: tuple[tuple[str, Any], ...] = ()
        if isinstance(micro, int) and isinstance(accumulation, int) and micro > 1 and micro % 2 == 0:
            smaller = (("training.micro_batch", micro // 2), ("training.accumulation", accumulation * 2))
        return Finding("memory", "warning" if peak > FULL * total and not s.ended else "note",
                       f"memory is nearly full: {peak:.1f} of {total:.1f} GiB", f"{used:.1f} GiB with the cache, by NVML",
                       "A longer row may not fit: a smaller micro-batch, or checkpointing.", smaller)  # fmt: skip
    return _unused(s, total, used) or Finding("memory", "ok", f"memory {used:.1f} of {total:.1f} GiB, {free:.1f} free")


def _unused(s: Streams, total: float, used: float) -> Finding | None:
    """The largest micro-batch that should fit with the planner's headroom: activations and logits grow with it, the rest stays."""
    grows = sum(s.planned.get(name, 0.0) for name in ("activations", "logits")) * (1 + SLACK["current"])
    free = total - used
    if grows <= 0 or free < WORTH * total:
        return None
    micro = s.spec.get("training.micro_batch")
    for times in (16, 8, 4, 2):
        need, larger = used + (times - 1) * grows, _larger_batch(s, times)
        if larger and isinstance(micro, int) and need <= (1 - HEADROOM) * total:
            return Finding("memory", "note", f"{free:.1f} GiB unused: micro-batch {micro * times} fits (about {need:.1f} GiB)",
                           f"{used:.1f} of {total:.1f} GiB in use; {grows:.1f} GiB more for each {micro} rows, as planned",
                           "Larger micro-batches with less accumulation: the same rows a step, a little faster.", larger)  # fmt: skip
    return None


def _padding(s: Streams) -> Finding | None:
    shares = _recent(s, "padding")
    if len(shares) < ENOUGH:
        return Finding("padding", "n/a", "padding: too early to say") if shares else None
    share = min(1.0, max(0.0, sum(shares) / len(shares)))
    packed = s.spec.get("training.packing")
    if share < PADDED:
        return Finding("padding", "ok", f"padding {100 * share:.1f} % of tokens" + " (packed)" * bool(packed))
    changes, remedy = _less_padding(s)
    return Finding("padding", "note", f"padding is {100 * share:.0f} % of the tokens", f"mean of the last {len(shares)} steps",
                   remedy, changes)  # fmt: skip


def _less_padding(s: Streams) -> tuple[tuple[tuple[str, Any], ...], str]:
    """Packing on a card where the method goes with it, else rows of like length together."""
    kind = str(s.spec.get("method.kind"))
    imitates = s.spec.get("objective") in IMITATES
    if (
        imitates
        and s.cuda
        and not s.spec.get("training.packing")
        and not why_not(kind, s.spec.get("method.variant"), "packing")
    ):
        return (("training.packing", True),), "Pack several rows into one."
    if imitates and not s.spec.get("training.group_by_length"):
        return (("training.group_by_length", True),), "Put rows of like length into a batch."
    return (), "A smaller micro-batch has less of it."


def _slow(s: Streams) -> Finding | None:
    speeds, usual = _recent(s, "tokens_per_second"), _earlier(s.usual_speeds)
    if len(speeds) < ENOUGH:
        return None
    if len(usual) < EARLIER:
        return Finding("slow", "n/a", f"speed: {len(usual)} of {EARLIER} earlier runs like it to compare with")
    now, before = middle(speeds), middle(usual)
    if now >= SLOW[s.cuda] * before:
        return Finding("slow", "ok", f"{now:,.0f} tokens a second, usual {before:,.0f}")
    return Finding("slow", "note", f"slow: {now:,.0f} tokens a second, usual {before:,.0f}",
                   f"the middle of {len(usual)} runs of this model, method and batch on this machine",
                   "Look at who else uses the machine (tunedeck gpus), its heat and its power limit.")  # fmt: skip


def _earlier(speeds: Sequence[float]) -> list[float]:
    return [one for one in speeds if math.isfinite(one) and one > 0]
