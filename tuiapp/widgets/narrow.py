"""The live screen in very little room: 40x12, or a single line."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import state_glyph, state_role
from tuiapp.snapshot import Machine
from tuiapp.widgets.bars import share
from tuiapp.widgets.curves import LiveState, best, last
from tuiapp.widgets.head import fraction, state, steps, when
from tuiapp.widgets.rows import fit, line, spread
from tuiapp.widgets.sparkline import sparkline


def narrow_live(live: LiveState, machine: Machine, width: int, height: int) -> list[Content]:
    """As many of the lines as fit, the most important first; under 24x6 one line."""
    if width < 24 or height < 6:
        return [_one_line(live, width)]
    detail, run = live.detail, live.detail.run
    word, value = when(detail, live.now)
    done = fraction(run)
    share_text = f.percent(None if done is None else int(done * 100))
    loss, evals = detail.curves.get("loss", ()), detail.curves.get("eval_loss", ())
    top = best(evals)
    rows = [
        spread(line(f.clean(run.name)), line(state(run.status)), width),
        spread(line(f"{steps(run)}  {share_text}"), line((word, "$dim"), (value, "bold")), width),
        share(done, 1.0, width - 1),
        line(""),
        line(
            ("loss     ", "$dim"), ("train ", "$dim"), (f.number(last(loss)), "bold"),
            ("   eval ", "$dim"), (f.number(top[1] if top else run.best_eval), "$eval"),
            (" best" if top else "", "$dim"),
        ),
        line("         ", (sparkline([value for _, value in loss], width - 10), "$train")),
        line(("memory   ", "$dim"), f.of_total(detail.memory_now, detail.memory_total)),
        line(("speed    ", "$dim"), f"{f.count(run.tokens_per_second)} tok/s   ", _card(machine)),
    ]  # fmt: skip
    if detail.error_title:
        rows[4:6] = [line((f"✗ {f.clean(detail.error_title)}", "$bad")), line(f.clean(detail.error_message))]
    return [fit(row, width) for row in rows[:height]]


def _one_line(live: LiveState, width: int) -> Content:
    detail, run = live.detail, live.detail.run
    done = fraction(run)
    text = f" {f.percent(None if done is None else int(done * 100))}  {f.gib(detail.memory_now)} GiB"
    word, value = when(detail, live.now)
    end = f"  {word}{value}" if word else ""
    return fit(line((state_glyph(run.status), state_role(run.status)), text, end), width)


def _card(machine: Machine) -> str:
    if not machine.gpus:
        return f"CPU {f.percent(machine.cpu_percent)}"
    card = machine.gpus[0]
    heat = f"{card.temperature:.0f} °C" if card.temperature is not None else f"{f.DASH} °C"
    return f"{f.percent(card.utilization)}  {heat}"
