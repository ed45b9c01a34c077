"""Home: the rows, the keys, the filter, and what is shown when there is little or nothing."""

from dataclasses import replace

import pytest

from engine.errors import StoreError
from tests.tuiapp.conftest import running
from tests.tuiapp.fakes import LAPTOP, FakeServices, run, runs
from tuiapp.glyphs import STATES
from tuiapp.widgets.runs_table import RunsTable

Size = tuple[int, int]


async def test_every_state_is_a_glyph_and_a_word(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.shows(*(f"{STATES[one.status]} {one.status}" for one in runs()))


async def test_a_row_has_its_numbers_with_dashes_for_the_unknown(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.shows("support-lora-r16")
        rows = deck.text("#table").splitlines()
        running_row = next(row for row in rows if "support-lora-r16" in row)
        queued_row = next(row for row in rows if "support-lora-r64" in row)
        assert "1.142" in running_row
        assert "19.3" in running_row
        assert "33 min" in running_row
        assert queued_row.count("–") >= 3
        assert " 0 " not in queued_row


async def test_header_machine_counts_and_keys(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.shows("TuneDeck   Runs", "gpubox", "experiments.db", "RTX 4090", "19.3 of 24.0 GiB", "98 %")
        await deck.shows("9 runs   1 running, 1 queued", "newest first", "of 9", "Enter open", "? help", "q quit")


async def test_wide_shows_more_than_narrow() -> None:
    async with running(size=(160, 48)) as deck:
        await deck.shows("Model", "Method", "tok/s", "│", "Last sample")
    async with running(size=(80, 24)) as deck:
        await deck.shows("Best eval")
        assert "Method" not in deck.screen()


async def test_the_preview_follows_the_cursor(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.until(lambda: "step 262 of 414" in deck.text("#preview"))
        await deck.press("j")
        await deck.until(lambda: "mbx4aa" in deck.text("#preview"))
        await deck.press("G")
        await deck.until(lambda: "dolly-lora-r16" in deck.text("#preview"))
        await deck.press("g")
        await deck.until(lambda: "1.106" in deck.text("#preview"))


async def test_a_failed_run_says_why_in_the_preview(size: Size) -> None:
    async with running(size=size) as deck:
        deck.widget("#table").select("mbx1b2")  # type: ignore[attr-defined]
        await deck.press("k", "j")
        await deck.until(lambda: "The model could not be downloaded" in deck.text("#preview"))


async def test_enter_opens_the_run_and_q_comes_back(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.press("j", "j", "enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.shows("Runs › support-lora-r32")
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")
        assert deck.app.screen.query_one(RunsTable).selected == "mbx2k1"


async def test_filter_keeps_matching_rows_and_is_named(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.press("slash", *"qlora")
        await deck.until(lambda: len(deck.text("#table").splitlines()) == 3)
        await deck.press("enter")
        await deck.shows("filter qlora", "1–2 of 2")
        await deck.press("escape")
        await deck.shows("no filter", "of 9")


async def test_letters_in_the_filter_are_text_and_not_keys() -> None:
    async with running() as deck:
        await deck.press("slash", *"qn")
        await deck.until(lambda: deck.widget("#filter").value == "qn")  # type: ignore[attr-defined]
        assert deck.place == "HomeScreen"


async def test_a_filter_without_matches_is_not_the_empty_state() -> None:
    async with running() as deck:
        await deck.press("slash", *"zzz", "enter")
        await deck.shows("0–0 of 0", "filter zzz")
        assert "No runs yet" not in deck.screen()


async def test_order_and_reverse() -> None:
    async with running() as deck:
        await deck.shows("newest first")
        table = deck.app.screen.query_one(RunsTable)
        await deck.press("o")
        await deck.shows("best eval first")
        assert table.order[0] == "mbx2k1"
        await deck.press("O")
        await deck.shows("turned round")
        assert table.order.index("mbx2k1") == 6, "the last of those that have one"
        assert table.order[7:] == ["mbx4aa", "mbx1a1"], "the unknown stand last either way round"


async def test_the_cursor_stays_on_its_run_when_rows_arrive() -> None:
    async with running() as deck:
        table = deck.app.screen.query_one(RunsTable)
        await deck.press("j", "j")
        assert table.selected == "mbx2k1"
        deck.services.lines = (run("new", "newest", "starting", 0.01), *deck.services.lines)
        await deck.shows("newest")
        assert table.selected == "mbx2k1"
        assert table.has_focus


async def test_stop_asks_and_resume_does_not() -> None:
    async with running() as deck:
        await deck.press("s")
        await deck.until(lambda: deck.place == "AskScreen")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "HomeScreen")
        assert deck.services.calls == []
        await deck.press("G", "r")
        await deck.until(lambda: ("resume", "mbw8d4") in deck.services.calls)


async def test_keys_that_would_do_nothing_are_not_offered() -> None:
    async with running() as deck:
        await deck.press("j", "j")
        await deck.until(lambda: "s stop" not in deck.text("#keys"))
        assert "r resume" not in deck.text("#keys")
        await deck.press("s")
        assert deck.place == "HomeScreen"


async def test_no_runs_yet(size: Size) -> None:
    services = FakeServices(lines=(), machine=LAPTOP)
    async with running(services, size) as deck:
        await deck.shows("No runs yet", "New run", "tunedeck demo", "No GPU  CPU i7-1260P", "9.8 of 15.4 GiB")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "GoalStep")


async def test_the_first_run_replaces_the_empty_state() -> None:
    services = FakeServices(lines=(), machine=LAPTOP)
    async with running(services) as deck:
        await deck.shows("No runs yet")
        services.lines = runs()
        await deck.shows("support-lora-r16")
        await deck.until(lambda: deck.app.screen.query_one(RunsTable).has_focus)


async def test_a_failing_database_is_a_sentence_and_the_runs_stay() -> None:
    async with running() as deck:
        await deck.shows("support-lora-r16")
        deck.services.fail = StoreError("The database is locked", "somebody else writes", "Wait a moment.")
        await deck.shows("The database is locked: somebody else writes Wait a moment.")
        assert "support-lora-r16" in deck.screen()


async def test_an_unexpected_failure_at_the_start_is_a_sentence() -> None:
    async with running(FakeServices(fail=ValueError("no such table: runs"))) as deck:
        await deck.shows("ValueError: no such table: runs")


async def test_a_problem_in_the_snapshot_keeps_the_runs() -> None:
    async with running() as deck:
        await deck.shows("support-lora-r16")
        deck.services.problem, deck.services.lines = "The file was moved.", ()
        await deck.shows("The file was moved.", "support-lora-r16")


async def test_control_characters_and_markup_in_names_are_harmless(size: Size) -> None:
    evil = run("evil", "\x1b]0;owned\x07\x1b[2J[bold]hi[/][$x]\x9b31m\u202e", hours=1)
    async with running(FakeServices(lines=(evil,)), size) as deck:
        await deck.shows("[bold]hi[/]")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.shows("[bold]hi[/]")
        shown = deck.screen()
        assert all(character.isprintable() or character == "\n" for character in shown)


@pytest.mark.parametrize("small", [(59, 24), (40, 12), (24, 6), (20, 5), (8, 2), (1, 1)])
async def test_any_size_works(small: Size) -> None:
    async with running(size=small) as deck:
        await deck.until(lambda: len(deck.screen().splitlines()) <= small[1])
        await deck.press("j", "enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.press("q", "n")
        await deck.until(lambda: deck.place == "GoalStep")
        await deck.press("escape", "question_mark")
        await deck.until(lambda: deck.place == "HelpScreen")


async def test_40x12_has_the_short_form() -> None:
    async with running(size=(40, 12)) as deck:
        await deck.shows("● support-lora-r16", "63 %", "queued", "1.131", "newest first")


async def test_resizing_rearranges() -> None:
    async with running(size=(80, 24)) as deck:
        await deck.pilot.resize_terminal(160, 48)
        await deck.shows("Method", "Last sample")
        await deck.pilot.resize_terminal(40, 12)
        await deck.shows("● support-lora-r16")


async def test_ascii_is_ascii(size: Size) -> None:
    lines = (*runs(), replace(runs()[2], id="cn", name="模型…"))
    async with running(FakeServices(lines=lines), size, ascii=True) as deck:
        await deck.shows("* running", "v finished", "x failed", "M oom")
        assert deck.screen().isascii()
        await deck.press("enter")
        await deck.shows("step 262 of 414", "Loss")
        await deck.press("s")
        await deck.until(lambda: deck.place == "AskScreen")
        assert deck.screen().isascii()


async def test_no_color_sends_no_colours(monkeypatch: pytest.MonkeyPatch, size: Size) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with running(size=size) as deck:
        await deck.shows("● running", "▸")
        segments = [segment for strip in deck.app.screen._compositor.render_strips() for segment in strip]
        background = deck.app.screen.styles.background
        for one in deck.app._filters:
            if one.enabled:
                segments = one.apply(segments, background)
        colours = [one.style.color for one in segments if one.style is not None and one.style.color is not None]
        assert colours
        assert all(colour.is_default for colour in colours)
        assert any(one.style is not None and one.style.reverse for one in segments)


async def test_many_runs_scroll() -> None:
    lines = tuple(run(f"id{i:04}", f"run-{i:04}", hours=i + 1) for i in range(1000))
    async with running(FakeServices(lines=lines)) as deck:
        await deck.shows("run-0000", "of 1,000")
        await deck.press("G")
        await deck.shows("run-0999", "1,000 of 1,000")
        await deck.press("pageup", "k")
        await deck.until(lambda: deck.app.screen.query_one(RunsTable).selected != "id0999")


async def test_a_click_chooses_and_opens() -> None:
    async with running() as deck:
        await deck.shows("support-lora-r32")
        await deck.pilot.click("#table", offset=(20, 3))
        table = deck.app.screen.query_one(RunsTable)
        await deck.until(lambda: table.selected == "mbx2k1")
        await deck.pilot.click("#table", offset=(20, 3))
        await deck.until(lambda: deck.place == "LiveScreen")


async def test_the_same_snapshot_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as deck:
        await deck.shows("support-lora-r16", "1.106")
        drawn: list[object] = []
        table = deck.app.screen.query_one(RunsTable)
        monkeypatch.setattr(table, "refresh", lambda *regions, **_: drawn.append(regions))
        before = deck.app.last
        await deck.until(lambda: deck.app.last is not before)
        await deck.pilot.pause()
        assert drawn == []
