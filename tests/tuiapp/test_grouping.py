"""Groups of the list: what stands where, what they share, folding; pure, and in the app."""

from dataclasses import replace

import pytest

from tests.tuiapp.conftest import running
from tests.tuiapp.fakes import NOW, FakeServices, run, runs
from tuiapp.field_values import of_line
from tuiapp.grouping import FLAT, SEVERAL, SWEEPS, Group, Item, arranged, group_of
from tuiapp.list_snapshot import Listing
from tuiapp.run_list import Facts
from tuiapp.snapshot import RunLine
from tuiapp.widgets.group_preview import group_preview
from tuiapp.widgets.pane import Look
from tuiapp.widgets.run_columns import column_of, columns_for, group_cell
from tuiapp.widgets.runs_table import RunsTable, Signs, row_content

Size = tuple[int, int]


def swept(number: int, **values: object) -> RunLine:
    """A point of a sweep."""
    line = run(f"sw{number}", f"point-{number}", hours=number + 1, rank=2**number, best_eval=1.5 - number / 10)
    return replace(line, sweep="s1", sweep_name="rank", **values)  # type: ignore[arg-type]


def by(runs: tuple[RunLine, ...], name: str, *opened: str) -> tuple[Item, ...]:
    """Arranged by a field of the row."""
    value = of_line(name if name not in (SWEEPS, FLAT) else "name")
    return arranged(runs, name, name, lambda one: value(one, NOW), frozenset(opened))


def shape(items: tuple[Item, ...]) -> list[str]:
    """Groups by title, runs by id."""
    return [item.title if isinstance(item, Group) else item.id for item in items]


ALONE = run("a", "alone", hours=0.5)
LAST = run("z", "last", hours=9)
SWEEP = (ALONE, swept(1), swept(2), LAST, swept(3))


def test_the_runs_of_a_sweep_are_one_row_where_the_first_would_stand() -> None:
    assert shape(by(SWEEP, SWEEPS)) == ["a", "sweep: rank", "z"]
    assert shape(by(SWEEP, SWEEPS, "group sweep s1")) == ["a", "sweep: rank", "sw1", "sw2", "sw3", "z"]
    assert shape(by(SWEEP, FLAT)) == ["a", "sw1", "sw2", "z", "sw3"]


def test_one_run_of_a_sweep_is_a_run() -> None:
    assert shape(by((ALONE, swept(1), LAST), SWEEPS)) == ["a", "sw1", "z"]


def test_by_a_field_every_run_is_in_a_group_and_in_the_order_of_the_list() -> None:
    lines = (replace(ALONE, model="x/B"), LAST, replace(LAST, id="y", model="x/B"), replace(LAST, id="w", model=""))
    found = by(lines, "model", "group model x/B")
    assert shape(found) == ["model: x/B", "a", "y", "model: meta-llama/Llama-3.1-8B", "model: –"]
    assert group_of(found, "z") is found[3]
    assert group_of(found, "nobody") is None


def test_tags_are_a_group_together_and_runs_without_are_one() -> None:
    lines = (replace(ALONE, tags=("keep", "paper")), LAST, replace(LAST, id="y", tags=("keep", "paper")))
    assert [len(item.runs) for item in by(lines, "tag") if isinstance(item, Group)] == [2, 1]


def test_the_summary_is_the_best_what_is_shared_and_what_was_taken_together() -> None:
    (group,) = (item for item in by(SWEEP, SWEEPS) if isinstance(item, Group))
    summary = group.summary
    assert (summary.id, summary.best_eval, summary.rank) == ("sw3", 1.2, None)
    assert (summary.model, summary.method) == ("meta-llama/Llama-3.1-8B", "lora")
    assert summary.peak_gib == 19.8
    assert summary.started_at is not None
    assert summary.ended_at is not None
    assert summary.ended_at - summary.started_at == pytest.approx(3 * 54 * 60)
    other = replace(group, runs=(*group.runs, swept(4, model="Qwen", ended_at=None, best_eval=None, peak_gib=30.0)))
    assert (other.summary.model, other.summary.ended_at, other.summary.peak_gib) == (SEVERAL, None, 30.0)


def test_a_column_shows_what_all_have_or_from_the_least_to_the_greatest() -> None:
    group = Group("k", "t", (ALONE, LAST))
    assert group.value("method.rank", [8, 8]) == "8"
    assert group.value("method.rank", [8, 64, None]) == "8–64"
    assert group.value("training.optimizer", ["adamw", "sgd"]) == SEVERAL
    assert group.value("training.optimizer", [None, None]) == "–"
    facts = Facts(NOW, Listing(values={"a": (8,), "z": (32,)}, fields=("method.rank",), widths={"method.rank": 2}))
    assert group_cell(column_of("method.rank", facts.listing), group, facts, 9) == "8–32"


def test_a_row_of_a_group_is_aligned_with_the_runs(size: Size) -> None:
    width = size[0]
    group = Group("k", "sweep: rank x lr", tuple(swept(number) for number in range(8)))
    facts, columns = Facts(NOW, best=frozenset(["sw7"])), columns_for(width)
    rows = [row_content(item, facts, columns, width, Signs()).plain for item in (group, swept(1), swept(7))]
    assert [len(row) for row in rows] == [width] * 3
    assert rows[0].startswith("    + 8 runs    sweep: rank")
    assert rows[1].index("1.400") == rows[0].index("0.800") == rows[2].index("0.800")
    assert rows[2].index("0.800*") > 0


def test_the_preview_of_a_group_says_how_they_went_and_in_what_they_differ() -> None:
    group = Group("k", "sweep: rank", (swept(1), swept(2, status="failed"), swept(3)))
    differs = (("method.rank", (("8", 2), ("16", 1))), ("training.learning_rate", (("0.0002", 2), ("0.0001", 1))))
    listing = Listing(differs=differs, differs_of=group.ids)
    for height, tall in ((6, False), (40, True)):
        text = "\n".join(row.plain for row in group_preview(group, listing, Look(60, height), tall))
        assert "2 finished" in text
        assert "1 failed" in text
        assert "point-3" in text
        assert "1e-4, 2e-4" in text
    unknown = "\n".join(row.plain for row in group_preview(group, Listing(), Look(60, 40), True))
    assert "method.rank" not in unknown, "what is known of another group is not said of this one"


async def test_sweeps_are_folded_and_open_with_the_keys(size: Size) -> None:
    async with running(FakeServices(lines=SWEEP), size) as deck:
        await deck.shows("+ 3 runs", "sweep: rank", "5 runs and 1 sweep")
        assert "point-1" not in deck.text("#table")
        await deck.press("j", "enter")
        await deck.shows("- 3 runs", "point-1", "point-3")
        assert "  point-1" in deck.text("#table")
        await deck.press("j", "j", "left")
        await deck.shows("+ 3 runs")
        table = deck.app.screen.query_one(RunsTable)
        assert table.group is not None, "the cursor is on the group that was folded"
        await deck.press("right")
        await deck.shows("- 3 runs")
        await deck.press("h")
        await deck.shows("+ 3 runs")


async def test_the_preview_follows_onto_a_group(size: Size) -> None:
    async with running(FakeServices(lines=SWEEP), size) as deck:
        await deck.press("j")
        await deck.until(lambda: "3 finished" in deck.text("#preview"))
        await deck.until(lambda: deck.services.asked.group == ("sw1", "sw2", "sw3"))
        await deck.press("j")
        await deck.until(lambda: "last" in deck.text("#preview") and deck.services.asked.group == ())


async def test_grouped_by_what_is_picked_and_back(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.shows("support-lora-r16")
        await deck.press("b")
        await deck.until(lambda: deck.place == "PickScreen")
        await deck.press(*"method", "enter")
        await deck.shows("+ 7 runs", "Method: lora", "Method: qlora", "by method", "of 3")
        await deck.press("space", "down")
        await deck.shows("7 marked")
        await deck.press("b")
        await deck.until(lambda: deck.place == "PickScreen")
        await deck.press(*"as usual", "enter")
        await deck.shows("support-lora-r16", "of 9")
        assert "by method" not in deck.text("#status")


async def test_a_folded_group_keeps_the_cursor_of_its_run() -> None:
    async with running() as deck:
        await deck.press("j", "j")
        await deck.press("b")
        await deck.until(lambda: deck.place == "PickScreen")
        await deck.press(*"method", "enter")
        await deck.shows("by method")
        table = deck.app.screen.query_one(RunsTable)
        assert table.group is not None
        assert "mbx2k1" in table.group.members


async def test_in_40x12_a_group_is_a_row_too() -> None:
    async with running(FakeServices(lines=(*SWEEP, *runs())), (40, 12)) as deck:
        await deck.shows("+ sweep: rank", "3 runs")
