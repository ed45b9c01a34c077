"""The data page: over the real look at real files, so that what stands on the screen is what the engine says."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.data.findings import ALONE, KINDS
from engine.errors import ModelError
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import FakeServices, Looker, Planner
from tests.tuiapp.wizard import kept
from tuiapp import data_values as values
from tuiapp.app import TuneDeckApp
from tuiapp.data_layout import data_places
from tuiapp.data_snapshot import DataCounts, DataPage, FindingLine, RowsSeen, TokenSequence
from tuiapp.data_values import DUPLICATES, LEAKS, LONG_ROWS, MAX_LENGTH, REFUSALS, DataDraft
from tuiapp.screens import data as data_screen
from tuiapp.services import Services
from tuiapp.services import _spec as services_spec
from tuiapp.snapshot import NewRun
from tuiapp.widgets.fields import Field
from tuiapp.widgets.length_chart import axis, bars
from tuiapp.widgets.token_view import marked, wrapped

Size = tuple[int, int]
MODEL = "SmolLM2-135M"


@pytest.fixture(autouse=True)
def _quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody types on: the trainer is asked at once."""
    monkeypatch.setattr(data_screen, "PAUSE", 0.02)


def row(i: int, answer: str = "") -> dict[str, str]:
    """A question, and an answer of about 6 * i words."""
    return {
        "instruction": f"Count to {i}",
        "input": "",
        "output": answer or " ".join(f"n{i}w{n}" for n in range(6 * i)),
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """40 rows of 9 to 244 words; two are there twice, three refuse, one has no answer."""
    rows = [row(i) for i in range(1, 41)] + [row(2), row(3)]
    rows += [row(50 + i, f"I'm sorry, but I can't help you with number {i}.") for i in range(3)]
    rows.append({"instruction": "Say nothing", "input": "", "output": ""})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


async def open_page(deck: Driver, data: Path, model: str = MODEL) -> None:
    """From Home, with the file named."""
    await deck.press("f3")
    await deck.until(lambda: deck.app.focused is not None and deck.app.focused.id == "data")
    fill(deck, data=str(data), model=model)
    await deck.press("f3")
    await deck.until(lambda: deck.place == "DataScreen")


def fill(deck: Driver, **texts: str) -> None:
    """Put text into fields at once, as pasting does."""
    for name, text in texts.items():
        field = deck.widget(f"#{name}")
        assert isinstance(field, Field)
        field.value = text


async def to_finding(deck: Driver, words: str) -> None:
    """The cursor on a finding."""
    await deck.press("g")
    for _ in range(12):
        if re.search(f"▸ .*{words}", deck.text("#findings")):
            return
        await deck.press("j")
    raise AssertionError(f"no finding {words}:\n{deck.screen()}")


def long_rows(limit: int) -> int:
    """Rows of the file with more words than that: 3 of the question, 6 * i, and the end."""
    return sum(6 * i + 4 > limit for i in [*range(1, 41), 2, 3])


async def test_what_is_found_is_listed(size: Size, data: Path) -> None:
    async with running(size=size) as deck:
        await open_page(deck, data)
        await deck.shows("46 rows", "alpaca   instruction, output in every one of 46 rows", "checked in 1.9 s")
        dropped = long_rows(192)
        await deck.shows(f"{45 - dropped} kept", f"–{dropped}", "‹ 192 ›", "‹ drop ›", "[ ] drop")
        assert "3 warnings, none stops you." in deck.text("#status")
        assert "2 rows repeat an earlier row exactly" not in deck.text("#about")
        await to_finding(deck, "duplicates" if size[0] < 120 else "repeat an earlier")
        assert "2 rows repeat an earlier row exactly (line 41 is line 2)" in deck.text("#about")
        assert "lines 41, 42   i: see them" in deck.text("#about")
        assert "Space drops them." in deck.text("#about")


async def test_a_remedy_changes_the_counts(size: Size, data: Path) -> None:
    async with running(size=size) as deck:
        await open_page(deck, data)
        dropped = long_rows(192)
        await deck.shows(f"{45 - dropped} kept")
        await to_finding(deck, "duplicates" if size[0] < 120 else "repeat an earlier")
        await deck.press("space")
        await deck.shows("[x] drop", f"{43 - dropped} kept", "row 1 of 43", "Dropped; Space keeps them.")
        await deck.press("left")
        shorter = long_rows(128)
        await deck.shows("‹ 128 ›", f"{43 - shorter} kept")
        await to_finding(deck, "over 128" if size[0] < 120 else "longer than")
        await deck.press("space")
        await deck.shows("‹ cut ›", "43 kept", "cut, 1,180 tokens are lost")


async def test_the_length_moves_and_everything_follows(size: Size, data: Path) -> None:
    async with running(size=size) as deck:
        await open_page(deck, data)
        await deck.shows("‹ 192 ›")
        for limit in (128, 64):
            await deck.press("h")
            await deck.shows(f"‹ {limit} ›", f"{45 - long_rows(limit)} kept")
            tokens = sum(6 * i + 4 for i in [*range(1, 41), 2, 3] if 6 * i + 4 <= limit) + 3 * 14
            assert f"{tokens:,}" in deck.screen()
        await deck.press("h")
        await deck.shows("‹ 64 ›")
        await deck.press(*["l"] * 3)
        await deck.shows("‹ 256 ›", "45 kept")
        assert "over" not in deck.text("#findings")
        assert "longer" not in deck.text("#findings")


async def test_trained_tokens_are_marked(size: Size, data: Path) -> None:
    async with running(size=size) as deck:
        await open_page(deck, data)
        await deck.shows("row 1 of 45", "10 tokens", "7 trained")
        lines = [line.strip() for line in deck.text("#sees").splitlines()[1:3]]
        assert lines[0].startswith("·")
        assert "Count" in lines[0]
        assert lines[1].startswith("┃")
        assert "n1w5" in lines[1]
        styles = {span.style for span in deck.widget("#sees")._lines[2].spans}  # type: ignore[attr-defined]
        assert "bold" in styles
        await deck.press("right_square_bracket")
        await deck.shows("row 2 of 45", "n2w11")
        assert "n1w5" not in deck.screen()
        modes = {"tokens": "Count ┊to ┊2", "ids": "100┊101┊102", "text": "Count to 2"}
        for _ in range(3):
            await deck.press("v")
            mode = deck.text("#status").rpartition(" ")[2]
            await deck.shows(modes.pop(mode))
        assert not modes
        asked = [call for call in deck.services.calls if call[0] == "see"]
        assert asked == [("see", 192, "drop", 0)]
        await deck.press(*["right_square_bracket"] * 9)
        await deck.shows("row 11 of 45", "n11w")
        await deck.press("left_square_bracket")
        await deck.shows("row 10 of 45", "n10w")
        assert [call[3] for call in deck.services.calls if call[0] == "see"] == [0, 10]


async def test_a_row_that_is_cut_shows_where(size: Size, data: Path) -> None:
    async with running(size=size) as deck:
        await open_page(deck, data)
        await deck.shows("row 1 of 45")
        await deck.press(*["right_square_bracket"] * 34)
        await deck.shows("row 35 of 45")
        await deck.press("z", "G")
        await deck.shows("cut here: max_length 192")
        assert "Findings" not in deck.screen()
        await deck.press("escape")
        await deck.shows("Findings")
        if size[0] < 120:
            await deck.press("tab", "pagedown")
            await deck.until(lambda: any(line.startswith("↑") for line in deck.text("#sees").splitlines()))


async def test_packed_neighbours_stand_below(data: Path) -> None:
    async with running(FakeServices(looker=Looker(packing=True)), size=(160, 48)) as deck:
        await open_page(deck, data)
        await deck.shows("In the same packed row   20 of 192 tokens", "from token 1   row 1, the one above")
        await deck.shows("from token 11   10 tokens", "Packing saves")


async def test_a_fatal_finding_stops(size: Size, tmp_path: Path) -> None:
    data = tmp_path / "broken.jsonl"
    data.write_text(json.dumps(row(3)) + "\n{not json\n")
    async with running(size=size) as deck:
        await open_page(deck, data)
        await deck.shows("✗ It cannot start: 1 row cannot be parsed", "line 2", "1 kept")
        await deck.press("enter")
        assert deck.place == "DataScreen"
        assert "cannot be parsed" in deck.text("#status")
        await deck.press("q")
        await deck.until(lambda: deck.place == "DataFileScreen")


async def test_what_is_in_the_way_is_said_in_full_where_no_row_is_left(size: Size, tmp_path: Path) -> None:
    data = tmp_path / "other.jsonl"
    data.write_text('{"foo": 1, "bar": 2}\n')
    async with running(size=size) as deck:
        await open_page(deck, data)
        await deck.shows("0 kept", "no known format", "prompt_completion (prompt, completion)", "Map them:")
        assert "What the model sees" not in deck.screen()


async def test_a_file_that_cannot_be_read_is_a_sentence(size: Size, tmp_path: Path) -> None:
    data = tmp_path / "late.jsonl"
    async with running(size=size) as deck:
        await open_page(deck, data)
        await deck.shows("This data cannot be shown", "does not exist", "Esc goes back")
        data.write_text(json.dumps(row(3)) + "\n")
        await deck.press("e")
        await deck.shows("1 kept", "row 1 of 1")


async def test_checking_again_sees_what_changed(data: Path) -> None:
    async with running() as deck:
        await open_page(deck, data)
        await deck.shows("46 rows", "row 1 of 45")
        await deck.press("e")
        await deck.shows("Nothing has changed since.")
        data.write_text("".join(data.read_text().splitlines(keepends=True)[:10]))
        await deck.press("e")
        await deck.shows("10 rows", "10 kept", "row 1 of 10", "No warnings.")


async def test_without_a_model_lengths_are_characters(size: Size, data: Path) -> None:
    async with running(size=size) as deck:
        await open_page(deck, data, model="")
        await deck.shows(
            "Characters per row", "45 kept", "cannot be shown token by token: no model is named", "Count to 1"
        )
        assert "Tokens are not counted: no model is named." in deck.screen()
        before = deck.screen()
        await deck.press("l", "right_square_bracket", "v", "z")
        assert deck.screen() == before
        assert not [call for call in deck.services.calls if call[0] == "see"]


async def test_tokens_that_cannot_be_made_are_a_sentence(data: Path) -> None:
    class Failing(FakeServices):
        def see(self, page: DataPage, max_length: int | None, long_rows: str, first: int) -> RowsSeen:
            super().see(page, max_length, long_rows, first)
            raise ModelError("The tokenizer cannot be loaded", "it is of another kind.", "Name another model.")

    services = Failing()
    async with running(services) as deck:
        await open_page(deck, data)
        await deck.shows("The tokenizer cannot be loaded: it is of another kind. Name another model.", "46 rows")
        await deck.pilot.pause(0.7)
        assert len([call for call in services.calls if call[0] == "see"]) == 1


async def test_the_rows_of_a_finding_are_listed(size: Size, data: Path) -> None:
    async with running(size=size) as deck:
        await open_page(deck, data)
        await deck.shows("46 rows")
        await to_finding(deck, "duplicates" if size[0] < 120 else "repeat an earlier")
        await deck.press("i")
        await deck.shows("line 41   Count to 2 → n2w0 n2w1", "line 42   Count to 3")
        await deck.press("escape")
        await to_finding(deck, "empty field" if size[0] < 120 else "have nothing in a field")
        await deck.press("i")
        await deck.shows("line 46   –", "the first 200 are remembered")


async def test_the_plan_knows_what_was_ticked(data: Path) -> None:
    services = kept(FakeServices(planner=Planner()), model="meta-llama/Llama-3.1-8B", data=str(data), step=2)
    async with running(services) as deck:
        await deck.press("n")
        await deck.shows("duplicates", "[x] drop", "‹ 192 ›")
        await deck.press("left")
        await deck.shows("‹ 128 ›")
        await deck.press("4")
        await deck.until(lambda: deck.place == "PlanStep")
        await deck.until(lambda: re.search(r"max length +128", deck.text("#choice")))
        await deck.shows("this CPU")
        await deck.press("g", "j", "j", "j", "j", "l")
        await deck.shows("‹ 256 ›")
        await deck.press("3")
        await deck.until(lambda: deck.place == "DataStep")
        await deck.shows("[x] drop", "‹ 256 ›")


async def test_it_works_at_every_size(data: Path) -> None:
    async with running() as deck:
        await open_page(deck, data)
        await deck.shows("row 1 of 45")
        for shape in [(8, 3), (23, 5), (40, 12), (60, 20), (80, 20), (100, 40), (120, 29), (120, 30), (300, 80)]:
            await deck.pilot.resize_terminal(*shape)
            await deck.until(lambda shape=shape: deck.app.screen.size == shape)  # type: ignore[misc]
            await deck.press("j", "l", "h", "v", "G", "k")
            assert deck.place == "DataScreen"
            if shape[0] > 20:
                assert re.search(r"\d+ kept", deck.screen()), shape


async def test_the_small_form_has_findings_and_remedies(data: Path) -> None:
    async with running(size=(40, 12)) as deck:
        await open_page(deck, data)
        await deck.shows("kept of 46 rows", "max length ‹ 192 ›", "over 192 tokens", "‹ drop ›", "Space tick")


async def test_ascii_only(data: Path) -> None:
    async with running(ascii=True) as deck:
        await open_page(deck, data)
        await deck.shows("< 192 >", "row 1 of 45", "Findings")
        await deck.press("v")
        await deck.shows("Count |to |1")
        assert deck.screen().isascii()


async def test_help_and_palette_name_it(data: Path) -> None:
    async with running(size=(100, 60)) as deck:
        await deck.press("ctrl+p", *"look at a file")
        await deck.shows("Data: look at a file")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "DataFileScreen")
        await deck.press("f3")
        await deck.shows("Type a data file.")
        fill(deck, data=str(data))
        await deck.press("f3")
        await deck.shows("46 rows")
        await deck.press("question_mark")
        await deck.shows("Help: Data", "✗ stops the run", "Enter F3", "check again")


async def test_the_real_services_show_what_the_trainer_makes(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    app = TuneDeckApp(Services(tmp_path / "experiments.db"))
    async with app.run_test(size=(160, 48)) as pilot:
        deck = Driver(app, pilot, FakeServices())
        await deck.until(lambda: app.last is not None)
        await open_page(deck, data, model=str(tiny_model))
        await deck.shows("instruction, output in every one of 46 rows", "Tokens per row", "of them trained")
        await deck.shows("row 1 of ", "line 1 of the file", "┃", seconds=60)
        trained = "".join(line for line in deck.text("#sees").splitlines() if line.startswith(" ┃"))
        assert "n1w5" in re.sub(r"┊|┃| +\d+ ", "", trained).replace("n1w", " n1w")
        assert "Count" not in trained
        await to_finding(deck, "repeat an earlier")
        await deck.press("space")
        await deck.shows("[x] drop", "–2")


def test_what_is_ticked_becomes_the_specification(data: Path) -> None:
    chosen = ((DUPLICATES, "near"), (REFUSALS, True), (MAX_LENGTH, 512), (LONG_ROWS, "cut"))
    spec = services_spec(NewRun("m", str(data), "lora", "mine", 7, chosen))
    assert (spec.data.path, spec.data.filters.duplicates, spec.data.filters.refusals) == (str(data), "near", True)
    assert (spec.training.max_length, spec.training.long_rows, spec.training.max_steps) == (512, "cut", 7)


PAGE = DataPage(NewRun("m", "d", ""), "d", 1, 9, "alpaca", "", "sft", "tokens", (5, 90, 700), (), 9, 9, 0, 320, 1000)


def finding(kind: str, severity: str = "warning") -> FindingLine:
    return FindingLine(kind, severity, 3, (1, 2, 3), "line", "lines 1, 2, 3", "", "", "")


def test_ticks_go_on_and_off() -> None:
    exact, near = finding("duplicates"), finding("near_duplicates")
    chosen = values.ticked(near, PAGE, {})
    assert chosen == {DUPLICATES: "near"}
    assert values.remedy(exact, PAGE, chosen) == ("drop", True)
    chosen = values.ticked(near, PAGE, chosen)
    assert chosen == {DUPLICATES: "exact"}
    assert values.remedy(near, PAGE, chosen) == ("drop", False)
    assert values.ticked(exact, PAGE, chosen) == {}
    assert values.ticked(finding("refusals"), PAGE, {}) == {REFUSALS: True}
    assert values.ticked(finding("leak"), PAGE, {LEAKS: True}) == {}
    assert values.ticked(finding("mojibake"), PAGE, {}) == {}


def test_long_rows_go_round_and_what_is_usual_is_not_chosen() -> None:
    seen, chosen = [], {}
    for _ in range(3):
        chosen = values.ticked(finding("cut"), PAGE, chosen)
        seen.append(values.remedy(finding("split"), PAGE, chosen)[0])
    assert (seen, chosen) == (["cut", "split", "drop"], {})
    pairs = replace(PAGE, objective="dpo")
    assert values.ticked(finding("cut"), pairs, {LONG_ROWS: "cut"}) == {}


def test_the_length_goes_by_steps_and_ends() -> None:
    assert values.turned(PAGE, {}, 1) == {MAX_LENGTH: 384}
    assert values.turned(PAGE, {MAX_LENGTH: 384}, -1) == {}
    assert values.turned(PAGE, {MAX_LENGTH: 100}, 1) == {MAX_LENGTH: 128}
    assert values.turned(PAGE, {MAX_LENGTH: 100}, -1) == {MAX_LENGTH: 64}
    assert values.turned(PAGE, {MAX_LENGTH: 64}, -1) == {MAX_LENGTH: 64}
    assert values.turned(PAGE, {MAX_LENGTH: 980}, 1) == {MAX_LENGTH: 1000}
    assert values.turned(replace(PAGE, max_length=None), {}, 1) == {}


def test_a_draft_is_for_its_data_and_the_length_for_the_model() -> None:
    draft, first = DataDraft(), NewRun("m", "d", "lora")
    draft.open(first)
    draft.chosen = {DUPLICATES: "exact", MAX_LENGTH: 512}
    assert dict(draft.pairs(replace(first, method="full", name="x"))) == draft.chosen
    assert draft.pairs(replace(first, model="other")) == ((DUPLICATES, "exact"),)
    assert draft.pairs(replace(first, data="other")) == ()
    assert draft.filters == ((DUPLICATES, "exact"),)
    draft.open(replace(first, data="other"))
    assert draft.chosen == {}


def test_no_finding_moves_away_under_the_cursor() -> None:
    order: list[str] = []
    one, two, three = finding("duplicates"), finding("refusals", "note"), finding("cut")
    assert values.arranged((one, two), order) == (one, two)
    noted = replace(one, severity="note")
    assert values.arranged((three, two, noted), order) == (noted, two, three)
    assert values.arranged((replace(three, kind="split"), two), order) == (two, replace(three, kind="split"))
    assert values.arranged((two, finding("no_rows", "fatal")), order)[0].kind == "no_rows"


def test_every_finding_has_few_words_and_every_remedy_is_a_field() -> None:
    for kind in KINDS:
        assert len(values.words(finding(kind), 131072)) <= 20, kind
    for _, _, kinds in values.FINE:
        assert set(kinds.split()) <= KINDS.keys()
    for kind, (path, value) in values.REMEDIES.items():
        assert kind in KINDS
        services_spec(NewRun("m", "d", "", chosen=((path, value),)))
    assert KINDS.keys() >= ALONE


def test_what_is_well_is_only_said_if_it_was_looked_at() -> None:
    counts = DataCounts(None, "drop", 9, (), (finding("duplicates"),))
    said = [text for text, _ in values.fine(PAGE, counts)]
    assert "every row can be read" in said
    assert "no row is there twice" not in said
    assert len(values.fine(replace(PAGE, tokenized=0), counts)) == len(said) - 2


@given(st.lists(st.integers(1, 10**5), min_size=1, max_size=300), st.integers(64, 10**5), st.integers(1, 120))
def test_every_length_is_in_one_cell_or_beyond_the_axis(lengths: list[int], limit: int, cells: int) -> None:
    page = replace(PAGE, lengths=tuple(sorted(lengths)), max_length=limit)
    end = values.scale_end(page, limit)
    counts = values.columns(page.lengths, end, cells)
    assert len(counts) == cells
    assert sum(counts) == sum(length <= end for length in lengths)
    assert end >= limit
    drawn = bars(counts, 4)
    assert all((count > 0) == any(row[x] != " " for row in drawn) for x, count in enumerate(counts))
    assert axis(end, limit, cells + 12, max(lengths)).cell_length <= cells + 13


@given(st.text(alphabet="ab ↵日é", max_size=80), st.integers(4, 20))
def test_wrapped_text_fits_and_loses_only_spaces(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize("mode", ["text", "tokens", "ids"])
def test_a_line_is_all_trained_or_all_not(mode: str) -> None:
    texts = ("Ask", " me", "\n", "So", " be", " it", "<end>", "\n")
    trained = (False, False, False, True, True, True, True, False)
    sequence = TokenSequence(tuple(range(8)), texts, trained, cut=5)
    lines = marked(sequence, mode, 60)
    assert [state for state, _, _ in lines] == [False, True, None, True, False]
    assert lines[2][2] == "cut here: max_length 5"


def test_the_panes_of_a_page_do_not_overlap() -> None:
    for width, height in ((40, 12), (60, 20), (80, 21), (80, 24), (100, 40), (120, 30), (160, 48), (240, 60)):
        for found in (0, 3, 12):
            for options in ({}, {"empty": True}, {"zoom": True}, {"problem": True}):
                places = data_places(width, height, findings=found, reasons=2, **options)
                cellsets = [
                    {(x, y) for x in range(r.x, r.right) for y in range(r.y, r.bottom)} for r in places.values()
                ]
                assert all(cellsets), (width, height, places)
                assert sum(len(one) for one in cellsets) == len(set().union(*cellsets)), (width, height, places)
                assert all(r.right <= width and r.bottom <= height for r in places.values())
