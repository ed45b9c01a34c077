"""Columns, orders and saved views: what fits, what is remembered, and that a broken file breaks nothing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import NOW, FakeServices, runs
from tuiapp.field_values import greatest_first, order_words, text_of, title
from tuiapp.list_snapshot import FieldNames, Listing
from tuiapp.run_list import Facts, ordered
from tuiapp.screens.columns import Chosen, all_fields, moved, ordered_by, ticked
from tuiapp.screens.looks import next_order
from tuiapp.views import Keeper, View, Views, load, save, with_saved, without
from tuiapp.widgets.run_columns import columns_for, usual_fields
from tuiapp.widgets.runs_table import RunsTable, Signs, header, row_content

Size = tuple[int, int]
VIEW = View(("status", "name", "method.rank"), "grad_norm.smooth", True, "data", frozenset(["group data x"]), "lr<1e-3")
LISTING = Listing(
    fields=("method.rank", "training.optimizer", "grad_norm.smooth"),
    values={"mbx2k1": (32, "adamw_torch_fused", 0.41), "mbx2f9": (16, "adamw_8bit", 0.39), "mbx1z0": (8, None, float("nan"))},
    widths={"method.rank": 2, "training.optimizer": 17},
)  # fmt: skip


def test_what_is_saved_is_read_back_and_other_databases_keep_theirs(tmp_path: Path) -> None:
    file = tmp_path / "views.json"
    one, other = Views(VIEW, {"mine": VIEW, "bare": View()}, "mbx1z0"), Views(View(filter="x"))
    save(file, "a.db", one)
    save(file, "b.db", other)
    assert (load(file, "a.db"), load(file, "b.db"), load(file, "c.db")) == (one, other, Views())
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"a.db": 3}', '{"a.db": {"now": [], "saved": {"x": 1, "": {}}, "baseline": {}}}', "[" * 10**5,
     '{"a.db": {"now": {"columns": [1, "a", "a", null], "order": 3, "turned": 1, "opened": "x", "filter": {}}}}'],
)  # fmt: skip
def test_what_is_wrong_in_the_file_is_passed_over(tmp_path: Path, text: str) -> None:
    file = tmp_path / "views.json"
    file.write_text(text)
    found = load(file, "a.db")
    assert found.now == View(columns=("a",) if "columns" in text else ())
    assert found.baseline is None
    assert set(found.saved) <= {"x"}
    save(file, "a.db", Views(VIEW))
    assert load(file, "a.db").now == VIEW


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["now", "saved", "columns", "x"]), inner)
    ),
)


@given(_json)
def test_whatever_the_file_says_it_is_a_view(tmp_path_factory: pytest.TempPathFactory, raw: object) -> None:
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_text(json.dumps({"a.db": raw}))
    assert isinstance(load(file, "a.db").now, View)


def test_the_newest_is_kept_last_and_a_place_that_cannot_be_written_is_no_problem(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "views.json", "a.db")
    for number in range(50):
        keeper.keep(Views(View(filter=str(number))))
    for _ in range(1000):
        if load(tmp_path / "views.json", "a.db").now.filter == "49":
            break
        import time

        time.sleep(0.01)
    assert load(tmp_path / "views.json", "a.db").now.filter == "49"
    Keeper(tmp_path / "absent" / "views.json", "a.db").keep(Views(VIEW))


def test_saved_views_are_replaced_and_forgotten() -> None:
    views = with_saved(with_saved(Views(), "a", View()), "b", VIEW)
    assert list(with_saved(views, "a", VIEW).saved) == ["b", "a"]
    assert list(without(views, "a").saved) == ["b"]


def test_the_usual_columns_are_those_that_fit() -> None:
    assert usual_fields(80) == ("status", "name", "curve", "best_eval", "peak_gib", "time", "age")
    assert "lr" in usual_fields(124)
    assert columns_for(80).name_width >= 14


@pytest.mark.parametrize("width", [60, 80, 118, 200])
def test_rows_and_headings_of_any_columns_are_as_wide_as_the_table(width: int) -> None:
    facts = Facts(NOW, LISTING, frozenset(["mbx2k1"]))
    for order, turned in (("age", False), ("method.rank", True), ("best_eval", False), ("name", True)):
        columns = columns_for(
            width, ("status", "method.rank", "training.optimizer", "grad_norm.smooth", "best_eval"), order, LISTING
        )
        assert header(columns, width, order, turned).cell_length == width
        for line in runs():
            assert row_content(line, facts, columns, width, Signs(True, True, True, True)).cell_length == width


def test_columns_that_find_no_room_are_counted_and_can_be_moved_to() -> None:
    names = ("status", "name", *(f"x.param_{i}" for i in range(12)))
    columns = columns_for(80, names, "age", LISTING)
    shown = [column.field for column in columns.shown]
    assert shown[:3] == ["status", "name", "x.param_0"]
    assert shown[-1] == "age", "what is ordered by is always there"
    assert columns.hidden == names[len(shown) - 1 :]
    later = columns_for(80, names, "age", LISTING, first=3)
    assert [column.field for column in later.shown][:3] == ["status", "name", "x.param_3"]


def test_numbers_stand_right_and_texts_left_and_the_unknown_is_a_dash() -> None:
    facts, columns = (
        Facts(NOW, LISTING),
        columns_for(100, ("name", "method.rank", "training.optimizer", "grad_norm.smooth"), "", LISTING),
    )
    rows = [
        row_content(one, facts, columns, 100, Signs()).plain
        for one in runs()
        if one.id in ("mbx2k1", "mbx2f9", "mbx1z0", "mbx3q7")
    ]
    heads = header(columns, 100).plain
    at, end = heads.index("optimizer"), heads.index("rank") + 4
    assert [row[at : at + 17].rstrip() for row in rows] == ["–", "adamw_torch_fused", "adamw_8bit", "–"]
    assert [row[end - 2 : end] for row in rows] == [" –", "32", "16", " 8"]


def test_values_are_written_as_people_write_them() -> None:
    assert text_of("training.learning_rate", 0.0002) == "2e-4"
    assert text_of("training.epochs", 3.0) == "3"
    assert text_of("tag", ("a", "b")) == "a, b"
    assert text_of("grad_norm.smooth", 0.4123) == "0.412"
    assert text_of("memory_reserved_gib.max", 19.34) == "19.3"
    assert text_of("starred", True) == "yes"
    assert text_of("note", "\x1b[2Jhi") == "hi"
    assert text_of("eval_loss", float("nan")) == "NaN"
    assert [text_of("x", nothing) for nothing in (None, "", ())] == ["–"] * 3
    assert (title("eval_loss.smooth"), title("training.optimizer"), title("grad_norm")) == (
        "eval_loss smooth",
        "optimizer",
        "grad_norm",
    )


def test_orders_have_the_best_first_and_say_so() -> None:
    assert greatest_first("mean_token_accuracy.best")
    assert greatest_first("created")
    assert not greatest_first("eval_loss.best")
    assert not greatest_first("mean_token_accuracy.min")
    assert order_words("age", True) == "newest first, turned round"
    assert order_words("grad_norm.smooth", False) == "grad_norm smooth, least first"
    assert order_words("training.optimizer", True) == "by optimizer, turned round"
    assert order_words("host", False) == "by Host"
    assert order_words("mfu", False) == "mfu, greatest first"


def test_the_unknown_stands_last_either_way_round_and_equals_stay() -> None:
    facts = Facts(NOW, LISTING)
    for turned, first in ((False, ["mbx2f9", "mbx2k1"]), (True, ["mbx2k1", "mbx2f9"])):
        found = [
            one.id for one in ordered(runs(), "grad_norm.smooth", turned, lambda one: facts.of(one, "grad_norm.smooth"))
        ]
        assert found[:2] == first
        assert found[2:] == [one.id for one in runs() if one.id not in first]


def test_the_next_order_goes_through_what_is_shown() -> None:
    view, seen = View(), []
    shown = ["status", "name", "best_eval", "method.rank", "age"]
    for _ in range(5):
        view = next_order(view, shown)
        seen.append(view.order)
    assert seen == ["best_eval", "name", "status", "method.rank", "age"]


def test_what_is_chosen_is_ticked_moved_and_ordered_by() -> None:
    chosen = Chosen(("status", "name", "age"))
    assert ticked(chosen, "name") == chosen, "the name is always there"
    assert ticked(chosen, "age").columns == ("status", "name")
    assert ticked(ticked(chosen, "data"), "note").columns == ("status", "name", "data", "note", "age")
    assert moved(chosen, "age", -1).columns == ("status", "age", "name")
    assert moved(chosen, "age", 5).columns == chosen.columns
    assert moved(chosen, "data", -1) == chosen
    assert ordered_by(chosen, "data") == replace(chosen, order="data")
    assert ordered_by(ordered_by(chosen, "data"), "data") == replace(chosen, order="data", turned=True)


def test_every_field_is_there_once_by_the_name_of_the_table() -> None:
    names = FieldNames(("status", "lr", "best_eval"), ("eval_loss", "loss"), ("training.learning_rate", "method.rank"))
    found = all_fields(names, Chosen(("status", "name")), ("status", "name", "age"))
    assert len(found) == len(set(found))
    assert {"lr", "best_eval", "eval_loss.smooth", "method.rank", "curve"} <= set(found)
    assert "training.learning_rate" not in found


@contextmanager
def fields(services: FakeServices) -> Iterator[FakeServices]:
    """With some to choose from."""
    services.records.names_here = FieldNames(
        ("status", "name", "data", "note"),
        ("eval_loss", "grad_norm"),
        ("method.rank", "training.optimizer"),
        {"data": "support.json"},
    )
    yield services


async def chooser(deck: Driver) -> None:
    await deck.shows("support-lora-r16")
    await deck.press("v")
    await deck.until(lambda: deck.place == "ColumnsScreen")


async def test_columns_are_chosen_and_remembered(size: Size) -> None:
    with fields(FakeServices()) as services:
        async with running(services, size) as deck:
            await chooser(deck)
            await deck.shows("Columns", "✓", "best_eval", "ticked")
            await deck.press(*"note")
            await deck.press("space", "enter")
            await deck.until(lambda: deck.place == "HomeScreen" and "Note" in deck.text("#table"))
            columns = deck.app.views.now.columns
            assert columns[:3] == ("status", "name", "note"), "what is new stands where it is seen"
        async with running(services, size) as again:
            await again.shows("support-lora-r16")
            assert again.app.views.now.columns == columns
            await chooser(again)
            await again.press("equals_sign", "enter")
            await again.until(lambda: again.place == "HomeScreen" and "Note" not in again.text("#table"))
            assert again.app.views.now.columns == ()


async def test_in_the_chooser_capitals_act_and_esc_changes_nothing() -> None:
    with fields(FakeServices()) as services:
        async with running(services) as deck:
            await chooser(deck)
            await deck.press("end", "home", "down", "down", "J", "O")
            await deck.press("escape")
            await deck.until(lambda: deck.place == "HomeScreen")
            assert deck.app.views.now == View()
            await chooser(deck)
            await deck.press(*"peak")
            await deck.press("O", "K", "enter")
            await deck.shows("least memory first", "↑GiB")
            assert deck.app.views.now.columns.index("peak_gib") == 3


async def test_ordered_by_any_field_it_is_shown_and_asked_for() -> None:
    with fields(FakeServices()) as services:
        async with running(services) as deck:
            await chooser(deck)
            await deck.press(*"grad_norm.smooth")
            await deck.press("O", "enter")
            await deck.shows("grad_norm smooth, least first")
            await deck.until(lambda: deck.services.asked.fields == ("grad_norm.smooth",))
            await deck.shows("grad_norm smooth")


async def test_a_search_without_a_field_says_so() -> None:
    with fields(FakeServices()) as services:
        async with running(services) as deck:
            await chooser(deck)
            await deck.press(*"zzz")
            await deck.shows("no field has these words")
            await deck.press("space", "J", "O", "backspace", "backspace", "backspace")
            await deck.shows("best_eval")


async def test_a_view_is_saved_taken_and_forgotten(size: Size) -> None:
    services = FakeServices()
    async with running(services, size) as deck:
        await deck.press("slash", *"qlora", "enter")
        await deck.shows("filter qlora")
        await deck.press("o", "V")
        await deck.until(lambda: deck.place == "ViewsScreen")
        await deck.shows("All runs", "Save this view as …", "qlora, best eval first")
        await deck.press(*"save", "enter")
        await deck.shows("save this view as")
        await deck.press(*"small", "enter")
        await deck.shows("saved as small")
        await deck.press("V", "enter")
        await deck.shows("no filter", "newest first", "of 9")
    async with running(services, size) as deck:
        await deck.shows("of 9")
        await deck.press("V", *"small", "enter")
        await deck.shows("filter qlora", "best eval first", "1–2 of 2")
        await deck.press("V", *"small", "delete")
        await deck.shows("the view small is forgotten")
        assert deck.app.views.saved == {}


async def test_order_filter_groups_and_baseline_are_there_the_next_time() -> None:
    services = FakeServices()
    async with running(services) as deck:
        await deck.shows("support-lora-r16")
        await deck.press("p", "o", "O", "slash", *"qlora", "enter")
        await deck.shows("filter qlora", "turned round")
    async with running(services) as deck:
        await deck.shows("filter qlora", "best eval first, turned round", "of 2")
        assert deck.app.baseline == "mbx3q7"
        await deck.until(lambda: deck.app.last is not None and deck.app.last.baseline is not None)


async def test_the_sorted_column_says_so_and_columns_move_aside() -> None:
    async with running() as deck:
        await deck.shows("↑Age")
        await deck.press("o")
        await deck.shows("↑Best eval")
        await deck.press("O")
        await deck.shows("↓Best eval")
        table = deck.app.screen.query_one(RunsTable)
        before = [column.field for column in table.columns.shown]
        await deck.press("right")
        assert [column.field for column in table.columns.shown] == before, "all of them fit"


async def test_the_palette_orders_by_any_field() -> None:
    with fields(FakeServices()) as services:
        async with running(services) as deck:
            await deck.shows("support-lora-r16")
            await deck.press("ctrl+p")
            await deck.until(lambda: deck.place == "CommandPalette")
            await deck.press(*("space" if one == " " else one for one in "order by training.opt"))
            await deck.shows("Order by training.optimizer")
            await deck.press("enter")
            await deck.shows("by optimizer")
            assert deck.services.asked.fields == ("training.optimizer",)
