"""What the live screen draws and decides, without a screen: pure functions."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.content import Content
from textual.geometry import Region

from engine.health import Finding
from tests.tuiapp.fakes import GPU_BOX, NOW, detail, run, runs
from tuiapp.layout import live_places
from tuiapp.live_pages import finding_page
from tuiapp.live_rules import Offer, allowed, lines_of, status_words
from tuiapp.meanings import MEANINGS
from tuiapp.remedies import choices
from tuiapp.screens.pick import Option, baselines, matching
from tuiapp.snapshot import Checkpoint, RunDetail, Sample
from tuiapp.widgets.curves import loss_chart, loss_text, loss_title, number_rows, points_words, small_charts, views
from tuiapp.widgets.health_pane import health_pane
from tuiapp.widgets.live_state import LiveState, along, clock, x_axes, x_end
from tuiapp.widgets.log_pane import _grown, matches
from tuiapp.widgets.memory import memory_pane, trend
from tuiapp.widgets.narrow import narrow_live
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import _changed, line
from tuiapp.widgets.texts import checkpoints_pane, samples_pane

RUNNING = detail(runs()[0])


def said(rows: list[Content]) -> str:
    """Lines as text."""
    return "\n".join(row.plain.rstrip() for row in rows)


def state(shown: RunDetail = RUNNING, **values: object) -> LiveState:
    return LiveState(shown, NOW, **values)  # type: ignore[arg-type]


# where the panes stand

DROPPED = ("facts", "events", "log", "checkpoints", "curves", "samples")


@given(st.integers(120, 240), st.integers(30, 90))
def test_wide_terminals_drop_panes_in_the_order_that_is_promised(width: int, height: int) -> None:
    places = live_places(width, height, lines=lines_of(RUNNING))
    assert {"loss", "memory", "health", "head", "keys", "status"} <= set(places)
    for column in (("events", "log", "curves", "samples"), ("facts", "checkpoints")):
        there = [name in places for name in column]
        assert there == sorted(there)


@pytest.mark.parametrize(("size", "there", "gone"), [
    ((80, 24), {"loss", "memory", "health", "samples"}, {"log", "curves", "events", "facts", "checkpoints"}),
    ((100, 30), {"loss", "memory", "health", "samples", "checkpoints"}, {"facts"}),
    ((160, 48), {"loss", "memory", "health", *DROPPED}, set()),
    ((200, 60), {"loss", "memory", "health", *DROPPED}, set()),
    ((60, 20), {"loss", "memory", "health"}, {"samples"}),
])  # fmt: skip
def test_panes_by_size(size: tuple[int, int], there: set[str], gone: set[str]) -> None:
    places = set(live_places(*size, lines=lines_of(RUNNING)))
    assert there <= places
    assert not gone & places


def test_a_pane_is_not_higher_than_what_it_says() -> None:
    few = live_places(160, 48, lines={"samples": 3, "checkpoints": 1, "events": 2})
    many = live_places(160, 48, lines={"samples": 30, "checkpoints": 9, "events": 30})
    assert few["samples"].height == 4
    assert few["checkpoints"].height == 3
    assert many["samples"].height > few["samples"].height


# what the keys depend on


def offer(shown: RunDetail | None = RUNNING, **values: object) -> Offer:
    usual = {"writable": True, "width": 80, "height": 24, "view": "loss", "views": 3, "axes": 4, "zoom": None}
    return Offer(shown, **(usual | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(("action", "offered", "expected"), [
    ("save", offer(), True),
    ("save", offer(writable=False), False),
    ("save", offer(detail(runs()[2])), False),
    ("save", offer(None), False),
    ("evaluate", offer(), True),
    ("evaluate", offer(replace(RUNNING, held_out=False)), False),
    ("resume", offer(), False),
    ("resume", offer(detail(runs()[-1])), True),
    ("log", offer(), True),
    ("log", offer(zoom="log"), False),
    ("log", offer(width=40, height=12), False),
    ("log", offer(width=40, height=12, zoom="loss"), True),
    ("x", offer(axes=1), False),
    ("pane", offer(width=20, height=5), False),
    ("choose", offer(), False),
    ("prompt", offer(replace(RUNNING, samples=RUNNING.samples[:1])), False),
    ("leave", offer(None), True),
])  # fmt: skip
def test_keys_that_would_do_nothing_are_not_offered(action: str, offered: Offer, expected: bool) -> None:
    assert allowed(action, offered) is expected


def test_the_status_line_by_width() -> None:
    assert status_words(RUNNING, NOW, 80) == "33 min elapsed, 19 min left   best checkpoint: step 230"
    assert "supervisor pid 41199" in status_words(RUNNING, NOW, 130)
    wide = status_words(RUNNING, NOW, 160)
    assert wide.startswith("panes 1 loss  2 curves  3 samples  4 log")
    assert wide.endswith("closing this window changes nothing")
    assert len(wide) < 159
    assert status_words(RUNNING, NOW, 40).endswith("since the last checkpoint")
    assert "kept in runs/mbx1b2" in status_words(detail(runs()[5]), NOW, 160)


def test_seconds_do_not_tick() -> None:
    started = RUNNING.run.started_at
    assert started is not None
    early = replace(RUNNING, ends_at=started + 100)
    texts = {status_words(early, started + seconds, 80) for seconds in range(45, 58)}
    assert texts == {"under 1 min elapsed, under 1 min left   best checkpoint: step 230"}


def test_a_run_that_has_gone_quiet_is_named_by_the_minute() -> None:
    started = RUNNING.run.started_at
    assert started is not None
    assert "no point" not in status_words(RUNNING, started + RUNNING.worked[-1][1] + 20, 80)
    late = started + RUNNING.worked[-1][1] + 310
    assert "no point for 5 min" in status_words(RUNNING, late, 120)
    assert "no point" not in status_words(replace(RUNNING, phase="evaluate"), late, 120)


# along which axis


def test_steps_become_tokens_seconds_and_epochs() -> None:
    curve = ((100.0, 1.0), (200.0, 0.5), (262.0, 0.4))
    assert along(RUNNING, curve, "step") is curve
    assert along(RUNNING, curve, "tokens") == ((1_600_000.0, 1.0), (3_200_000.0, 0.5), (4_192_000.0, 0.4))
    assert along(RUNNING, curve, "time") == ((750.0, 1.0), (1500.0, 0.5), (1965.0, 0.4))
    assert along(RUNNING, curve, "epoch")[-1][0] == pytest.approx(1.9)
    assert along(RUNNING, curve, "epoch")[0][0] == pytest.approx(1.9 * 100 / 262)


def test_points_between_and_after_the_ticks_lie_in_proportion() -> None:
    shown = replace(RUNNING, worked=((10.0, 100.0), (20.0, 300.0)))
    points = along(shown, ((5.0, 1.0), (15.0, 2.0), (25.0, 3.0)), "time")
    assert [x for x, _ in points] == [50.0, 200.0, 400.0]


def test_the_axis_ends_at_the_last_step_and_stands_still() -> None:
    assert x_end(RUNNING, "step") == 414.0
    assert x_end(RUNNING, "tokens") == pytest.approx(6.7e6)  # 6.624 M, rounded up to two digits
    assert x_end(RUNNING, "epoch") == pytest.approx(1.9 * 414 / 262)
    ended = replace(RUNNING, run=replace(RUNNING.run, ended_at=NOW))
    assert x_end(ended, "tokens") == 262 * 16_000.0
    assert x_end(replace(RUNNING, run=replace(RUNNING.run, total_steps=None)), "step") is None


def test_a_token_count_that_begins_anew_goes_on() -> None:
    curves = {**RUNNING.curves, "num_tokens": ((1.0, 100.0), (2.0, 200.0), (3.0, 50.0), (4.0, 150.0))}
    assert clock(replace(RUNNING, curves=curves), "tokens") == ((1.0, 100.0), (2.0, 200.0), (3.0, 250.0), (4.0, 350.0))


def test_only_axes_that_are_known() -> None:
    assert x_axes(RUNNING) == ["step", "tokens", "time", "epoch"]
    assert x_axes(RunDetail(run=runs()[1])) == ["step"]


# numbers and curves


def test_curves_of_no_known_name_can_be_seen_too() -> None:
    curves = {
        **RUNNING.curves,
        "rewards/margins": ((1.0, 0.1),),
        "eval_rewards/margins": ((1.0, 0.2),),
        "num_tokens": ((1.0, 9.0),),
    }
    found = views(replace(RUNNING, curves=curves))
    assert found[0] == "loss"
    assert found[-1] == "rewards/margins"
    assert "num_tokens" not in found
    assert {"gpu_power", "gpu_utilization", "gpu_temperature"} <= set(found)


def test_a_small_loss_keeps_its_digits() -> None:
    assert [loss_text(value) for value in (1.0834, 0.0123, 0.00042, 0.0, math.nan, None)] == [
        "1.083", "0.012", "4.2e-4", "0.000", "NaN", "–"
    ]  # fmt: skip


def test_the_five_numbers_are_there_whether_known_or_not() -> None:
    rows = said(number_rows(state(RunDetail(run=runs()[1])), 27, 5)).splitlines()
    assert [row.split("  ")[0].strip() for row in rows] == ["lr", "grad norm", "tok/s", "MFU", "waits for data"]
    assert all(row.endswith("–") for row in rows)


def test_small_charts_name_speed_and_mfu_and_are_six_where_there_is_room() -> None:
    text = said(small_charts(state(), Look(100, 6)))
    assert "2,217 tok/s   MFU 43 %" in text
    assert "GPU power" not in text
    assert "GPU power" in said(small_charts(state(), Look(100, 13)))


def test_honest_numbers_of_points() -> None:
    assert points_words(state(), 128) == "128 of 131 points"
    thinned = replace(RUNNING, stored={"loss": 1_000_000})
    assert points_words(state(thinned), 168) == "168 of 1,000,000 points"
    assert points_words(state(RunDetail(run=runs()[1])), 0) == ""


def test_a_longer_baseline_does_not_make_the_run_narrow() -> None:
    other = replace(RUNNING, curves={"loss": tuple((float(i), 1.0) for i in range(0, 2000, 2))})
    rows = loss_chart(state(baseline=other), Look(60, 12)).lines
    assert rows[-1].plain.split()[-2:] == ["414", "step"]
    assert said(rows).count("·") > 5


def test_a_title_without_room_keeps_its_numbers() -> None:
    other = detail(runs()[2])
    assert loss_title(state(), Look(47, 10), "").plain.rstrip() == " Loss   train 0.926   eval 1.106 best"
    narrow = loss_title(state(baseline=other, log=True), Look(47, 10), "").plain
    assert narrow.split() == ["Loss", "0.926", "eval", "1.106", "B", "1.100", "y", "log"]


# memory


def test_memory_beside_what_was_predicted() -> None:
    low = said(memory_pane(state(), Look(28, 11)))
    assert [row.split()[-1] for row in low.splitlines()[1:4]] == ["24.0", "19.2", "19.3"]
    assert "flat" in low
    wide = said(memory_pane(state(), Look(54, 15)))
    assert "total" in wide
    assert "plan" in wide
    rows = {row[1:17].strip(): row.split()[-4:] for row in wide.splitlines()[-3:]}
    assert rows["allocated peak"] == ["18.24", "18.31", "+0.4", "%"]
    assert rows["device (NVML)"] == ["19.20", "19.30", "+0.5", "%"]


def test_memory_of_a_run_on_the_processor_was_not_predicted() -> None:
    cpu = replace(
        RUNNING, predicted_peak=None, predicted_device=None, allocated_peak=None, reserved_peak=None, memory_label="RAM"
    )
    assert "process peak" in said(memory_pane(state(cpu), Look(54, 15)))
    assert said(memory_pane(state(cpu), Look(28, 11))).splitlines()[2].endswith("–")


@pytest.mark.parametrize(("values", "word"), [
    ([1, 5, 10, 10, 10, 10, 10, 10.1], "flat"), ([1, 2, 3, 4, 5, 6, 7, 8], "rising"),
    ([9, 9, 9, 9, 9, 8, 7, 6], "falling"), ([1, 2, 3], ""),
])  # fmt: skip
def test_what_the_memory_does(values: list[float], word: str) -> None:
    assert trend(tuple((float(i), float(value)) for i, value in enumerate(values))) == word


# health

WARNING = Finding(
    "rate_high",
    "warning",
    "loss rises: the steps are too large",
    "2.1 to 3.4",
    "Lower it.",
    (("training.learning_rate", 2e-5),),
)


def test_two_lines_of_health() -> None:
    rows = said(health_pane(state(), Look(80, 2))).splitlines()
    assert rows[0].startswith(" Health  · note  4.7 GiB unused")
    assert rows[1].startswith("         ✓ ok    loss falls, eval follows, gradients calm")


def test_a_second_trouble_says_more_than_what_is_well() -> None:
    worse = replace(RUNNING, health=(WARNING, *RUNNING.health))
    rows = said(health_pane(state(worse), Look(80, 2))).splitlines()
    assert "! warn  loss rises" in rows[0]
    assert "· note  4.7 GiB unused" in rows[1]


def test_all_findings_with_the_cursor_in_view() -> None:
    text = said(health_pane(state(), Look(54, 4, focused=True, scroll=5)))
    assert "▸ – n/a" in text
    assert "4.7 GiB unused" not in text


def test_before_anything_was_looked_at() -> None:
    assert "after the first steps" in said(health_pane(state(replace(RUNNING, health=())), Look(80, 2)))


def test_every_kind_that_the_rules_know_is_explained() -> None:
    text = "".join(path.read_text() for path in (Path(__file__).parents[2] / "engine").glob("health_*.py"))
    kinds = set(re.findall(r'Finding\(\s*"([a-z_]+)"', text))
    assert kinds
    assert kinds <= set(MEANINGS)


def test_the_page_of_a_finding_has_its_numbers_and_what_a_fork_would_have() -> None:
    page = finding_page(WARNING)
    text = said(page.build(70))
    assert "overshoot" in text
    assert "2.1 to 3.4" in text
    assert "training.learning_rate       2e-5" in text
    assert page.keys == (("f", "fork with it"),)
    assert finding_page(Finding("loss", "ok", "loss falls")).keys == ()


# a run that failed


def failed(kind: str, status: str = "failed", **spec: str) -> RunDetail:
    line = run("a", "one", status)
    paths = {f"training.{name}": value for name, value in spec.items()}
    return RunDetail(run=line, error_kind=kind, spec=paths)


def test_less_memory_after_running_out_of_it() -> None:
    first = choices(failed("oom", "oom", micro_batch="4", accumulation="2"))[0]
    assert first.changes == (("training.micro_batch", 2), ("training.accumulation", 4))
    assert choices(failed("oom", "oom", micro_batch="1", checkpointing="false"))[0].changes == (
        ("training.checkpointing", True),
    )
    assert choices(failed("oom", "oom", micro_batch="1", max_length="1024"))[0].changes == (
        ("training.max_length", 512),
    )
    assert not any(one.changes for one in choices(failed("oom", "oom", micro_batch="1", max_length="128")))


def test_a_tenth_of_the_rate_after_a_loss_that_was_no_number() -> None:
    first = choices(failed("nonfinite", learning_rate="0.002"))[0]
    assert first.changes[0][0] == "training.learning_rate"
    assert first.changes[0][1] == pytest.approx(2e-4)


def test_what_ended_by_chance_is_tried_again_first() -> None:
    assert [one.action for one in choices(failed("", "crashed"))] == ["resume", "fork", "log"]
    assert choices(failed("download"))[0].action == "resume"
    assert choices(failed("data"))[0].action != "resume"


def test_a_note_is_no_remedy_for_a_failure() -> None:
    assert not any(one.changes for one in choices(replace(failed("download"), health=RUNNING.health)))


# texts


def test_the_answer_before_training_stays_when_there_is_no_room_for_all() -> None:
    many = tuple(Sample(step, "p", f"answer {step}") for step in range(0, 1000, 50))
    rows = said(samples_pane(state(replace(RUNNING, samples=many)), Look(90, 5))).splitlines()
    assert [row.split("answer")[1].strip() for row in rows[1:]] == ["0", "850", "900", "950"]


def test_checkpoints_say_which_is_best_and_which_is_gone() -> None:
    kept = replace(RUNNING, spec={"saving.keep": "2"}, checkpoints=(
        Checkpoint(1, NOW - 900, 0.5, 1.2, False), Checkpoint(2, NOW - 600, 0.5, 1.1), Checkpoint(3, NOW - 300, 0.5, 1.3)))  # fmt: skip
    rows = said(checkpoints_pane(state(kept), Look(60, 6))).splitlines()
    assert rows[2].startswith(" *      2   best, 10 min ago")
    assert "removed, keep is 2" in rows[3]


def test_a_line_is_found_whatever_its_case() -> None:
    assert matches(("Loss 1", "nothing", "LOSS 2"), "loss") == [0, 2]
    assert matches(("a",), "") == []


def test_how_many_lines_came() -> None:
    assert _grown(("a", "b", "c"), ("a", "b", "c", "d", "e")) == 2
    assert _grown(("a", "b", "c", "d"), ("b", "c", "d", "e")) == 1
    assert _grown((), ("a",)) == 0


def test_words_find_a_run_in_any_order() -> None:
    options = (Option("1", "dolly-qlora", "x"), Option("2", "dolly-lora", "y"))
    assert [one.value for one in matching(options, "qlora DOLLY")] == ["1"]
    assert len(matching(options, "")) == 2


def test_a_run_is_compared_with_others_that_have_a_curve() -> None:
    found = [one.value for one in baselines(runs(), "mbx3q7", "mbx1z0")]
    assert found[0] == ""
    assert "mbx3q7" not in found
    assert "mbx4aa" not in found


# very little room


@given(st.integers(1, 60), st.integers(1, 12))
def test_the_narrow_form_always_fits(width: int, height: int) -> None:
    rows = narrow_live(state(), GPU_BOX, width, height)
    assert 1 <= len(rows) <= height
    assert {row.cell_length for row in rows} == {width}


def test_one_line_has_the_share_the_memory_and_the_end() -> None:
    assert narrow_live(state(), GPU_BOX, 23, 2)[0].plain.startswith("● 63 %  19.3 GiB  ")
    text = narrow_live(state(), GPU_BOX, 20, 5)[0].plain
    assert text.startswith("● 63 %  19.3  ")


def test_the_narrow_form_counts_its_troubles() -> None:
    assert "health   1 note: 4.7 GiB unused" in said(narrow_live(state(), GPU_BOX, 60, 10))
    worse = replace(RUNNING, health=(WARNING, *RUNNING.health))
    assert "health   1 warning: loss rises" in said(narrow_live(state(worse), GPU_BOX, 60, 10))


# what is sent


def test_only_the_cells_that_differ_are_sent() -> None:
    before = line(("abc", "$dim"), ("defgh", "$train"))
    assert _changed(before, line(("abc", "$dim"), ("dXfgh", "$train")), 3, 8) == Region(4, 3, 1, 1)
    assert _changed(before, line(("abcd", "$dim"), ("efgh", "$train")), 3, 8) == Region(3, 3, 1, 1)
    assert _changed(before, line(("abc", "$dim"), ("defgX", "$eval")), 0, 8) == Region(3, 0, 5, 1)
    assert _changed(before, line("longer than before"), 2, 18) == Region(0, 2, 18, 1)
    assert _changed(None, before, 1, 8) == Region(0, 1, 8, 1)
