"""Home's keys that change records: marks, tags, notes, names, stars, the archive, the bin; and the way back."""

from dataclasses import replace

import pytest

from engine.errors import RunError
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import FakeServices, run, runs
from tuiapp.app import TuneDeckApp
from tuiapp.home_keys import KeyState, allows
from tuiapp.records import names, shared_note, shared_tags, tags_in
from tuiapp.widgets.runs_table import RunsTable

Size = tuple[int, int]
TAGGED = tuple(replace(one, tags=("keep", one.method)) for one in runs())


def rows(deck: Driver, name: str) -> str:
    """The row of a run."""
    return next((row for row in deck.text("#table").splitlines() if name in row), "")


async def test_marks_stay_while_filtering_and_sorting(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.press("j", "j", "space", "j", "space")
        await deck.shows("2 marked")
        assert rows(deck, "support-lora-r32").startswith("  ◆ ✓")
        await deck.press("o", "slash", *"full", "enter")
        await deck.shows("1–1 of 1", "2 marked")
        await deck.press("escape")
        await deck.shows("of 9")
        assert deck.app.screen.query_one(RunsTable).marks == {"mbx2k1", "mbx2f9"}
        await deck.press("escape")
        await deck.until(lambda: "marked" not in deck.text("#status"))


async def test_a_marked_run_that_is_gone_is_not_marked() -> None:
    async with running() as deck:
        await deck.press("j", "j", "space")
        await deck.shows("1 marked")
        deck.services.lines = tuple(one for one in deck.services.lines if one.id != "mbx2k1")
        await deck.until(lambda: "marked" not in deck.text("#status"))


async def test_several_signs_stand_beside_each_other(size: Size) -> None:
    lines = tuple(replace(one, starred=one.id == "mbx2k1") for one in runs())
    async with running(FakeServices(lines=lines), size) as deck:
        await deck.press("j", "j")
        await deck.until(lambda: rows(deck, "support-lora-r32").startswith(" ▸★ ✓"))
        await deck.press("p")
        await deck.until(lambda: rows(deck, "support-lora-r32").startswith("★▸B ✓"))
        await deck.press("space")
        await deck.until(lambda: rows(deck, "support-lora-r32").startswith("B▸◆★✓"))


async def test_star_and_undo(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.press("j", "j", "asterisk")
        await deck.shows("support-lora-r32: starred")
        await deck.until(lambda: "★" in rows(deck, "support-lora-r32"))
        await deck.press("u")
        await deck.until(lambda: "★" not in rows(deck, "support-lora-r32"))
        assert deck.services.calls == [("star", ["mbx2k1"], True), ("star", ["mbx2k1"], False)]
        assert deck.app.undo == []


async def test_what_is_marked_is_acted_on_and_a_star_is_for_all_or_none() -> None:
    lines = tuple(replace(one, starred=one.id == "mbx2k1") for one in runs())
    async with running(FakeServices(lines=lines)) as deck:
        await deck.press("j", "j", "space", "j", "space", "g", "asterisk")
        await deck.until(lambda: ("star", ["mbx2f9"], True) in deck.services.calls)
        await deck.shows("support-lora-r32 and support-qlora-r16: starred")
        await deck.press("asterisk")
        await deck.until(lambda: ("star", ["mbx2k1", "mbx2f9"], False) in deck.services.calls)


async def test_archive_takes_out_of_the_list_and_undo_brings_back(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.press("j", "j", "A")
        await deck.shows("support-lora-r32 archived")
        await deck.until(lambda: not rows(deck, "support-lora-r32"))
        await deck.press("u")
        await deck.until(lambda: rows(deck, "support-lora-r32"))


async def test_rename_in_the_status_line(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.press("j", "j", "R")
        await deck.shows(" name support-lora-r32", "Enter take it")
        await deck.press(*["backspace"] * 3, *"best", "enter")
        await deck.shows("renamed to support-lora-best")
        await deck.until(lambda: rows(deck, "support-lora-best"))
        await deck.press("R", *"xyz", "escape")
        await deck.until(lambda: deck.app.screen.query_one(RunsTable).has_focus)
        assert [one for one in deck.services.calls if one[0] == "rename"] == [("rename", "mbx2k1", "support-lora-best")]
        await deck.press("u")
        await deck.shows("named support-lora-r32 again")


async def test_one_run_gets_exactly_the_tags_that_are_typed() -> None:
    async with running(FakeServices(lines=TAGGED)) as deck:
        await deck.press("j", "j", "T")
        await deck.shows(" tags keep, lora")
        await deck.press(*["backspace"] * 6, *", paper,,paper ", "enter")
        await deck.until(lambda: ("set_tags", {"mbx2k1": ["keep", "paper"]}) in deck.services.calls)
        await deck.press("u")
        await deck.until(lambda: ("set_tags", {"mbx2k1": ["keep", "lora"]}) in deck.services.calls)


async def test_of_several_runs_the_tags_that_all_have_are_typed_and_the_others_stay() -> None:
    async with running(FakeServices(lines=TAGGED)) as deck:
        await deck.press("j", "j", "space", "j", "space", "T")
        await deck.shows("tags of 2 runs keep")
        await deck.press(*["backspace"] * 4, *"good", "enter")
        wanted = ("set_tags", {"mbx2k1": ["good", "lora"], "mbx2f9": ["good", "qlora"]})
        await deck.until(lambda: wanted in deck.services.calls)


async def test_a_note_is_typed_and_an_unchanged_one_changes_nothing(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.press("j", "j", "N", *"the best", "enter")
        await deck.until(lambda: ("set_notes", {"mbx2k1": "the best"}) in deck.services.calls)
        await deck.until(lambda: deck.app.last is not None and "the best" in {one.note for one in deck.app.last.runs})
        count = len(deck.services.calls)
        await deck.press("N")
        await deck.shows("note the best")
        await deck.press("enter", "j", "k")
        assert len(deck.services.calls) == count


async def test_delete_asks_puts_into_the_bin_and_undo_brings_back(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.press("j", "j", "space", "j", "space", "D")
        await deck.until(lambda: deck.place == "AskScreen")
        await deck.shows("Delete 2 runs?", "support-lora-r32, support-qlora-r16", "2.0 GiB", "u brings them", "Keep")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "HomeScreen")
        await deck.press("D")
        await deck.until(lambda: deck.place == "AskScreen")
        await deck.press("D")
        await deck.shows("in the bin")
        await deck.until(lambda: not rows(deck, "support-lora-r32") and not rows(deck, "support-qlora-r16"))
        assert ("bin", ["mbx2k1", "mbx2f9"]) in deck.services.calls
        assert deck.app.screen.query_one(RunsTable).marks == set()
        await deck.press("u")
        await deck.until(lambda: rows(deck, "support-lora-r32") and rows(deck, "support-qlora-r16"))
        assert ("unbin", ["mbx2k1", "mbx2f9"]) in deck.services.calls


async def test_a_run_at_work_is_not_deleted() -> None:
    async with running() as deck:
        await deck.press("D")
        await deck.shows("support-lora-r16: not over yet; s stops it first")
        assert deck.place == "HomeScreen"
        assert deck.services.calls == []


async def test_what_goes_wrong_is_a_dialog_and_nothing_to_undo() -> None:
    services = FakeServices()

    def refuse(run_id: str, name: str) -> str:
        raise RunError("Another run has this name", f"'{name}' is taken.", "Choose another.")

    services.records.rename = refuse  # type: ignore[method-assign]
    async with running(services) as deck:
        await deck.press("R", *"x", "enter")
        await deck.until(lambda: deck.place == "AskScreen")
        await deck.shows("Another run has this name", "Choose another.")
        assert deck.app.undo == []


async def test_a_group_under_the_cursor_is_acted_on_as_a_whole() -> None:
    lines = tuple(replace(run(f"s{i}", f"point-{i}"), sweep="s", sweep_name="rank") for i in range(3))
    async with running(FakeServices(lines=lines)) as deck:
        await deck.shows("+ 3 runs")
        await deck.press("asterisk")
        await deck.until(lambda: ("star", ["s0", "s1", "s2"], True) in deck.services.calls)
        await deck.press("space")
        await deck.shows("3 marked")
        await deck.press("space")
        await deck.until(lambda: "marked" not in deck.text("#status"))


async def test_compare_asks_for_the_marked_or_for_the_baseline_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(TuneDeckApp, "on_compare_asked", lambda _, message: asked.append(message.run_ids))
    async with running() as deck:
        await deck.press("j", "j", "c")
        assert asked == [], "nothing to compare with"
        await deck.press("space", "c")
        await deck.shows("Mark another run with Space, or pin a baseline with p.")
        await deck.press("j", "space", "c")
        await deck.until(lambda: asked == [("mbx2k1", "mbx2f9")])
        await deck.press("escape", "p", "k", "c")
        await deck.until(lambda: asked[1:] == [("mbx2f9", "mbx2k1")])


def test_keys_that_change_records_need_a_run_and_a_database_that_can_be_written() -> None:
    line = runs()[2]
    for action in ("tag", "note", "star", "archive", "delete", "rename"):
        assert allows(action, KeyState(line, writable=True))
        assert allows(action, KeyState(marked=1, writable=True))
        assert not allows(action, KeyState(line))
        assert not allows(action, KeyState(writable=True))
    assert not allows("rename", KeyState(line, marked=2, writable=True))
    assert not allows("undo", KeyState(line, writable=True))
    assert allows("undo", KeyState(writable=True, undo=True))
    assert allows("compare", KeyState(line, baseline="other"))
    assert not allows("compare", KeyState(line, baseline=line.id))


def test_runs_are_named_shortly() -> None:
    lines = runs()
    assert names(lines[:1]) == "support-lora-r16"
    assert names(lines[:3]) == "support-lora-r16, support-lora-r64 and support-lora-r32"
    assert names(lines[:4]) == "4 runs"
    assert names([run("x", "\x1b[2Ja")]) == "a"


def test_what_all_have() -> None:
    assert shared_tags(TAGGED[2:4]) == ("keep",)
    assert shared_tags(()) == ()
    assert tags_in(" a,, b c ,a") == ["a", "b c"]
    assert shared_note([run("a", "a", note="x"), run("b", "b", note="x")]) == "x"
    assert shared_note([run("a", "a", note="x"), run("b", "b")]) == ""
