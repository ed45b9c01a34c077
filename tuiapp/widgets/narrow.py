"""The live screen in very little room: 40x12, or a single line."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import state_glyph, state_role
from tuiapp.snapshot import Machine
from tuiapp.widgets.bars import share
from tuiapp.widgets.curves import best, last, loss_text
from tuiapp.widgets.head import fraction, state, steps, when
from tuiapp.widgets.health_pane import WORDS, troubles
from tuiapp.widgets.live_state import LiveState
from tuiapp.widgets.rows import fit, line, spread
from tuiapp.widgets.sparkline import sparkline


def narrow_live(live: LiveState, machine: Machine, width: int, height: int) -> list[Content]:
    """As many of the lines as fit, the most important first; under 24x6 one line."""
    if width < 24 or height < 3:
        return [_one_line(live, width)]
    detail, run = live.detail, live.detail.run
    word, value = when(detail, live.now)
    done = fraction(run)
    share_text = f.percent(None if done is None else int(done * 100))
    count = steps(run) if width >= 34 else f"{f.count(run.step)} of {f.count(run.total_steps)}"
    loss, evals = detail.curves.get("loss", ()), detail.curves.get("eval_loss", ())
    top = best(evals)
    rows = [
        spread(line(f.clean(run.name)), line(state(run.status)), width),
        spread(line(f"{count}  {share_text}"), line((word if width >= 34 else "", "$dim"), (value, "bold")), width),
        share(done, 1.0, width - 1),
        line(""),
        line(
            ("loss     ", "$dim"), ("train ", "$dim"), (loss_text(last(loss)), "bold"),
            ("   eval ", "$dim"), (loss_text(top[1] if top else run.best_eval), "$eval"),
            (" best" if top else "", "$dim"),
        ),
        line("         ", (sparkline([value for _, value in loss], width - 10), "$train")),
        spread(line(("memory   ", "$dim"), f.of_total(detail.memory_now, detail.memory_total)),
               line(("plan ", "$dim"), f.gib(detail.predicted_device)), width - 1),
        spread(line(("speed    ", "$dim"), f"{f.count(run.tokens_per_second)} tok/s"), line(_card(machine)), width - 1),
        line(("health   ", "$dim"), *_health(live)),
    ]  # fmt: skip
    if detail.error_title:
        rows[4:6] = [line((f"✗ {f.clean(detail.error_title)}", "$bad")), line(f.clean(detail.error_message))]
    if height < len(rows):
        rows = [row for row in rows if row.plain]
    return [fit(row, width) for row in rows[:height]]


def _health(live: LiveState) -> list[str | tuple[str, str]]:
    """`1 note: micro-batch 8 fits`."""
    found = troubles(live.detail)
    if not found:
        well = sum(1 for one in live.detail.health if one.severity == "ok")
        return [(f"✓ {well} looked at, all well", "$good")] if well else [f.DASH]
    alike = [one for one in found if one.severity == found[0].severity]
    word = "warning" if found[0].severity == "warning" else WORDS[found[0].severity]
    role = "$warn" if word == "warning" else ""
    return [(f"{len(alike)} {word}{'s' if len(alike) > 1 else ''}: ", role), f.clean(found[0].text)]


def _one_line(live: LiveState, width: int) -> Content:
    detail, run = live.detail, live.detail.run
    done = fraction(run)
    text = f" {f.percent(None if done is None else int(done * 100))}  {f.gib(detail.memory_now)}"
    _, value = when(detail, live.now)
    end = f"  {value}" if value else ""
    unit = " GiB" if len(text) + len(end) + 5 <= width else ""
    return fit(line((state_glyph(run.status), state_role(run.status)), text, unit, end), width)


def _card(machine: Machine) -> str:
    if not machine.gpus:
        return f"CPU {f.percent(machine.cpu_percent)}"
    card = machine.gpus[0]
    heat = f"{card.temperature:.0f} °C" if card.temperature is not None else f"{f.DASH} °C"
    return f"{f.percent(card.utilization)}  {heat}"
