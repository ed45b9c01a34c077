"""The plan page: over the real planner, so that what stands on the screen is what the engine says."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cards import parse_gpu
from engine.errors import TuneDeckError
from engine.hardware import Gpu
from engine.methods import METHODS as ALL_METHODS
from engine.planner.ask import NO_DATA, prepare_request
from engine.planner.calibrate import PastRun
from engine.planner.costs import changed, what_if
from engine.planner.plan import Plan
from engine.planner.recommend import recommend
from engine.spec import parse
from tests.engine.planning import plan_spec
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import RTX_4090, FakeServices, Planner
from tuiapp import planning
from tuiapp.plan_layout import plan_places
from tuiapp.plan_values import METHODS, Draft, beside, different, options, planned, rows_a_step, settled
from tuiapp.services import _spec as services_spec
from tuiapp.snapshot import MemoryPart, NewRun, PlanChoice, PlanPage, PlanValues, Traced
from tuiapp.widgets.fields import Field
from tuiapp.widgets.memory_bar import bar, cells, waterfall

Size = tuple[int, int]
LLAMA = "meta-llama/Llama-3.1-8B"
FORM = NewRun(LLAMA, "", "")


@pytest.fixture(scope="module")
def engine() -> Plan:
    """What the engine recommends for an RTX 4090, asked without the app."""
    spec = parse({"model": {"path": LLAMA}, "data": {"path": NO_DATA}})
    return recommend(prepare_request(spec, "rtx4090", data=False))


def desk_of(plan: Plan) -> planning.Desk:
    return planning.Desk(FORM, "rtx4090", plan, Planner()._hardware)


def gib(value: float | None) -> str:
    assert value is not None
    return f"{value:.1f} of 24.0 GiB"


async def fill(deck: Driver, key: str, model: str, data: str = "") -> None:
    """Open the screen of a key and put the two fields' text there at once, as pasting does."""
    await deck.press(key)
    await deck.until(lambda: deck.app.focused is not None and deck.app.focused.id == "model")
    for name, text in (("model", model), ("data", data)):
        field = deck.widget(f"#{name}")
        assert isinstance(field, Field)
        field.value = text


async def open_page(deck: Driver, model: str = LLAMA, data: str = "") -> None:
    """From Home, with the model named."""
    await fill(deck, "f2", model, data)
    await deck.press("f2")
    await deck.until(lambda: deck.place == "PlanScreen")


async def test_the_number_is_the_engines(size: Size, engine: Plan) -> None:
    async with running(size=size) as deck:
        await open_page(deck)
        await deck.shows(gib(engine.choice.device_gib), "on RTX 4090, not here", "‹ LoRA ›", "weights, bf16")
        assert "█" in deck.text("#verdict")
        assert deck.text("#verdict").splitlines()[1].endswith("│")
        reason = next(r.why for r in engine.choice.reasons if r.field == "method.kind")
        assert reason.split(";")[0] in deck.text("#why")


async def test_a_key_redraws_the_bar(size: Size, engine: Plan) -> None:
    async with running(size=size) as deck:
        await open_page(deck)
        await deck.shows(gib(engine.choice.device_gib))
        before = deck.text("#verdict").splitlines()[1]
        await deck.press("j", "l", "l")
        spec = changed(engine.choice.spec, {"method": {"rank": 64, "alpha": 128.0}})
        larger = what_if(engine.request, spec).device_gib
        await deck.shows(gib(larger), "‹ 64 ›", "1 field changed")
        after = deck.text("#verdict").splitlines()[1]
        assert after.count("▓") > before.count("▓")
        assert len(after) == len(before)
        await deck.press("h")
        await deck.shows("‹ 32 ›")
        await deck.press("equals_sign")
        await deck.shows(gib(engine.choice.device_gib), "as recommended")
        await deck.press("u", "u")
        await deck.shows(gib(larger), "‹ 64 ›")


async def test_what_does_not_fit_names_the_nearest_that_does(size: Size, engine: Plan) -> None:
    async with running(size=size) as deck:
        await open_page(deck)
        await deck.shows("‹ LoRA ›")
        await deck.press("j", "l", "l", "j", "j", "j", "l", "l")
        await deck.shows("Does not fit", "In the way", "Space takes the nearest that fits", "LoRA r64")
        drawn = deck.text("#verdict").splitlines()[1]
        assert not drawn.endswith("│")
        assert re.search("│[▒░]+$", drawn)
        spec = changed(engine.choice.spec, {"method": {"rank": 64, "alpha": 128.0}})
        await deck.press("enter")
        await deck.shows("It does not fit.")
        assert deck.place == "PlanScreen"
        await deck.press("space")
        await deck.shows("Fits", gib(what_if(engine.request, spec).device_gib), "u takes it back")
        await deck.press("u")
        await deck.shows("Does not fit")


async def test_an_alternative_is_taken_from_the_table(engine: Plan) -> None:
    async with running() as deck:
        await open_page(deck)
        await deck.shows("‹ LoRA ›", "v: the table")
        await deck.press("v")
        await deck.shows("Else, best first", "▸ LoRA r16", "recommended")
        assert "Choice" not in deck.screen()
        await deck.press("j", "space")
        taken = engine.alternatives[0]
        await deck.shows(gib(taken.device_gib), "▸ QLoRA r16")
        await deck.press("escape")
        await deck.shows("Choice", "QLoRA", f"{taken.spec.training.micro_batch} x {taken.spec.training.accumulation}")
        assert deck.place == "PlanScreen"


async def test_wide_shows_how_it_adds_up_and_other_cards(engine: Plan) -> None:
    async with running(size=(160, 48)) as deck:
        await open_page(deck)
        await deck.shows(
            "At the peak", "allocator peak", "device total", "Else, best first", "On other cards", "LoRA r16, DDP"
        )
        assert engine.choice.memory is not None
        assert f"{engine.choice.memory.peak / 2**30:.2f}" in deck.text("#peak")
        assert "learning rate" in deck.text("#choice")
        await deck.press("tab", "j")
        await deck.shows("Space takes one", "▸ QLoRA r16")


async def test_where_the_model_cannot_be_found_a_sentence_says_so(size: Size, tmp_path: Path) -> None:
    async with running(size=size) as deck:
        await open_page(deck, str(tmp_path / "absent"))
        await deck.shows("There is no plan", "The model was not found", "Esc goes back")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "PlanModelScreen")
        assert deck.widget("#model").value == str(tmp_path / "absent")  # type: ignore[attr-defined]
        await deck.press("escape")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_a_family_that_the_closed_form_does_not_know(tmp_path: Path) -> None:
    config = (
        '{"model_type": "weird", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,'
        ' "vocab_size": 100, "intermediate_size": 128}'
    )
    (tmp_path / "config.json").write_text(config)
    async with running() as deck:
        await open_page(deck, str(tmp_path))
        await deck.shows("Not known", "– of 24.0 GiB", "The closed form does not know weird")


async def test_a_model_is_typed_and_completed() -> None:
    async with running() as deck:
        await deck.press("f2")
        await deck.until(lambda: deck.app.focused is not None and deck.app.focused.id == "model")
        field = deck.widget("#model")
        assert isinstance(field, Field)
        await deck.press(*"microsoft/phi-2")
        await deck.press("backspace")
        await deck.until(lambda: field._suggestion == "microsoft/phi-2" or "match" in deck.screen())
        await deck.press("2", "enter", "enter", "enter")
        await deck.shows("Plan › phi-2", "Fits")


async def test_no_model_no_plan() -> None:
    async with running() as deck:
        await deck.press("f2")
        await deck.until(lambda: deck.place == "PlanModelScreen")
        await deck.press("f2")
        await deck.shows("Type a model: a directory or a name.")


async def test_the_run_starts_as_planned(rows: Path) -> None:
    services = FakeServices(planner=Planner(RTX_4090))
    async with running(services) as deck:
        await open_page(deck, data=str(rows))
        await deck.shows("64 rows", "few for instructions")
        await deck.press("g", "j", "j", "l", "enter")
        await deck.shows("Start LoRA r16?", "64 rows")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "PlanScreen")
        assert not any(call[0] == "start" for call in services.calls)
        await deck.press("enter")
        await deck.shows("Start LoRA r16?")
        await deck.press("s")
        await deck.until(lambda: deck.place == "LiveScreen")
        (form,) = [call[1] for call in services.calls if call[0] == "start"]
        assert isinstance(form, NewRun)
        chosen = dict(form.chosen)
        assert (form.model, form.data, form.method) == (LLAMA, str(rows), "lora")
        recommended = services.planner.plan(NewRun(LLAMA, str(rows), "")).recommended
        assert chosen == dict(recommended.settings) | {"method.rank": 16, "method.alpha": 32.0}


def test_what_was_planned_is_what_the_run_is_asked_to_be(rows: Path) -> None:
    planner = Planner(RTX_4090)
    page = planner.plan(NewRun(LLAMA, str(rows), "lora"))
    values = replace(page.recommended.values, method="full-bf16", optimizer="adafactor", micro_batch=2, packing=True)
    spec = services_spec(planned(replace(page.form, name="mine", max_steps=7), planner.what_if(page, values)))
    t = spec.training
    assert (spec.method.kind, spec.method.rank, spec.run.name, t.max_steps) == ("full", None, "mine", 7)
    assert (t.precision, t.optimizer, t.micro_batch, t.packing) == ("bf16", "adafactor", 2, True)
    assert t.learning_rate is None  # what the page does not settle is recommended when it starts


async def test_what_is_planned_for_elsewhere_does_not_start_here(rows: Path) -> None:
    services = FakeServices()
    async with running(services) as deck:
        await open_page(deck, data=str(rows))
        await deck.shows("not here")
        await deck.press("enter")
        await deck.shows("This plan is for RTX 4090, which is not here")
        await deck.press("g", *["h"] * 5)
        await deck.shows("‹ this CPU ›", "memory is predicted for cards only")
        await deck.press("enter")
        await deck.shows("Start LoRA")


async def test_without_data_nothing_starts() -> None:
    async with running(FakeServices(planner=Planner(RTX_4090))) as deck:
        await open_page(deck)
        await deck.shows("Fits", "no data named")
        await deck.press("enter")
        await deck.shows("A run needs data")


async def test_another_card_keeps_what_was_chosen() -> None:
    async with running() as deck:
        await open_page(deck)
        await deck.shows("‹ LoRA ›")
        await deck.press("j", "l", "l", "k", "k", "l")
        await deck.shows("‹ RTX 5090, not here ›", "of 31.8 GiB")
        assert re.search(r"rank +64", deck.text("#choice"))


async def test_the_trace_stands_beside_the_closed_form(size: Size, engine: Plan) -> None:
    services = FakeServices()
    async with running(services, size=size) as deck:
        await open_page(deck)
        await deck.shows("‹ LoRA ›")
        await deck.press("e")
        assert engine.choice.memory is not None
        peak = engine.choice.memory.peak / 2**30
        await deck.shows("raced allocator peak 18.00 GiB", f"closed form {peak:.2f} ({100 * (peak / 18 - 1):+.1f} %)")
        assert [call[0] for call in services.calls] == ["trace"]
        await deck.press("j", "l")
        await deck.until(lambda: "allocator peak 18.00" not in deck.screen())
        await deck.press("h")
        await deck.shows("allocator peak 18.00")


async def test_a_trace_that_fails_is_a_sentence() -> None:
    class Failing(FakeServices):
        def trace(self, page: PlanPage, values: PlanValues) -> Traced:
            raise TuneDeckError("The trace failed", "no torch here.", "Install it.")

    async with running(Failing()) as deck:
        await open_page(deck)
        await deck.shows("‹ LoRA ›")
        await deck.press("e")
        await deck.shows("The trace failed: no torch here. Install it.", "‹ LoRA ›")


async def test_how_good_the_numbers_were_is_shown_where_there_is_history() -> None:
    past = [PastRun("mbx2k1", RTX_4090.name, "lora", predicted_device=19.2, device=19.8)]
    services = FakeServices(planner=Planner(RTX_4090, past=past))
    async with running(services, size=(160, 48)) as deck:
        await open_page(deck)
        await deck.shows("How good these numbers were here", "support-lora-r32", "+3.1 %")
    async with running(FakeServices(planner=Planner(RTX_4090)), size=(160, 48)) as deck:
        await open_page(deck)
        await deck.shows("At the peak")
        assert "How good" not in deck.screen()


async def test_every_size_shows_the_verdict() -> None:
    async with running() as deck:
        await open_page(deck)
        await deck.shows("‹ LoRA ›")
        for shape in [(8, 3), (23, 5), (40, 12), (60, 20), (80, 20), (100, 30), (120, 29), (120, 30), (300, 80)]:
            await deck.pilot.resize_terminal(*shape)
            await deck.until(lambda shape=shape: deck.app.screen.size == shape)  # type: ignore[misc]
            await deck.press("j", "l", "v", "v")
            assert deck.place == "PlanScreen"
            assert re.match(r" (Fits|Does)", deck.text("#verdict")), shape


async def test_ascii_only() -> None:
    async with running(ascii=True) as deck:
        await open_page(deck)
        await deck.shows("#", "< LoRA >", "|")
        verdict = deck.text("#verdict") + deck.text("#peak") + deck.text("#choice")
        assert verdict.isascii()
        assert re.search(r"#+%+\++:+\.+\|", verdict)


async def test_help_names_the_keys() -> None:
    async with running(size=(100, 60)) as deck:
        await open_page(deck)
        await deck.shows("‹ LoRA ›")
        await deck.press("question_mark")
        await deck.shows("Help: Plan", "trace the real step", "next value")


def test_the_panes_of_a_page_do_not_overlap() -> None:
    for width, height in ((60, 20), (80, 24), (100, 30), (120, 30), (160, 48), (240, 60)):
        for past in (False, True):
            places = plan_places(width, height, past=past)
            cellsets = [
                {(x, y) for x in range(r.x, r.right) for y in range(r.y, r.bottom)} for r in places.values() if r.area
            ]
            assert sum(len(one) for one in cellsets) == len(set().union(*cellsets))
            assert all(r.right <= width and r.bottom <= height for r in places.values())


def test_values_and_specifications_are_the_same_thing(engine: Plan) -> None:
    desk = desk_of(engine)
    for one in (engine.choice, *engine.alternatives):
        spec = planning.spec_of(desk, planning.values_of(one.spec, 16))
        assert what_if(engine.request, spec).device_gib == pytest.approx(one.device_gib), one.spec
        assert (spec.method.kind, spec.training) == (
            one.spec.method.kind,
            replace_rates(one.spec.training, spec.training),
        )


def replace_rates(training: object, like: object) -> object:
    """The first, with what the page does not settle as in the second."""
    names = ("learning_rate", "epochs", "warmup", "weight_decay", "max_grad_norm")
    return training.model_copy(update={name: getattr(like, name) for name in names})  # type: ignore[attr-defined]


def test_every_method_can_be_planned(engine: Plan) -> None:
    desk = desk_of(engine)
    page = planning.page_of(desk)
    names = {}
    for method in METHODS:
        choice = planning.turned(desk, replace(page.recommended.values, method=method))
        assert choice.values.method == method
        names[method] = choice.device_gib or 0.0
    assert names["qlora"] < names["lora"] < names["full-bf16"] < names["full"]


@pytest.mark.parametrize("kind", [*ALL_METHODS, "rslora", "pissa", "lora+"])
def test_a_specification_with_any_method_has_its_page(kind: str) -> None:
    """A method that the page's own list does not have stays what it is, with what it has."""
    spec = plan_spec(LLAMA, None, {"method": kind}, [])
    plan = recommend(prepare_request(spec, "a100-80gb", data=False))
    desk = desk_of(plan)
    page = planning.page_of(desk)
    again = planning.spec_of(desk, page.recommended.values)
    assert again.method == plan.choice.spec.method
    assert parse(again.model_dump()) == again
    assert planning.turned(desk, page.recommended.values).device_gib == pytest.approx(plan.choice.device_gib)
    assert page.recommended.values.method in options(page, "method")


def test_the_nearest_fits(engine: Plan) -> None:
    desk = desk_of(engine)
    values = replace(planning.page_of(desk).recommended.values, micro_batch=32, accumulation=1, max_length=4096)
    assert planning.turned(desk, values).fits == "no"
    near = planning.nearest(desk, values)
    assert near is not None
    assert near.fits in ("yes", "close")
    assert planning.turned(desk, near.values).device_gib == pytest.approx(near.device_gib)


def test_other_cards_have_their_own_best(engine: Plan) -> None:
    found = {one.name: one.best for one in planning.other_cards(desk_of(engine))}
    small, own = found["RTX 3060"], found["RTX 4090"]
    assert small is not None
    assert own is not None
    assert small.values.method == "qlora"
    assert own.device_gib == pytest.approx(engine.choice.device_gib)


def test_on_several_cards_one_is_enough_where_it_fits() -> None:
    two = (RTX_4090, replace(RTX_4090, index=1, uuid="GPU-2"))
    page = Planner(*two).plan(FORM)
    assert (page.card_name, page.processes, page.recommended.layout) == (RTX_4090.name, 1, "")
    large = Planner(*two).plan(NewRun("Llama-3.1-70B", "", ""))
    assert (large.processes, large.recommended.layout) == (2, "FSDP")


def test_the_cpu_is_not_measured_with_cudas_rule() -> None:
    page = Planner().plan(FORM, "cpu")
    assert (page.card_gib, page.recommended.device_gib, page.recommended.parts) == (None, None, ())
    assert page.here


def test_every_card_of_the_page_is_in_the_catalog() -> None:
    names = dict(planning.card_options(Planner()._hardware))
    assert len(names) == 15
    for key in [*planning.CARDS, *planning.OTHER_CARDS]:
        assert parse_gpu(key) is not None
    own = Gpu(0, "u", "NVIDIA H100 80GB HBM3", 79.6, (9, 0))
    assert planning.card_options(Planner(own)._hardware)[0] == ("here", own.name)


def test_rows_a_step_stay() -> None:
    page = replace(Planner(RTX_4090).plan(FORM), mean_length=256.0)
    best = page.recommended.values
    assert settled(page, best) == best
    for micro in (1, 2, 4, 8, 16):
        assert rows_a_step(page, settled(page, replace(best, micro_batch=micro))) == rows_a_step(page, best)
    packed = settled(page, replace(best, packing=True, micro_batch=1, max_length=2048))
    assert packed.accumulation == 2  # each of its rows holds eight of the data's
    assert rows_a_step(page, packed) == rows_a_step(page, best)


def test_numbers_end_and_words_go_round() -> None:
    page = Planner().plan(FORM)
    values = page.recommended.values
    assert beside(page, replace(values, rank=256), "rank", 1) == 256
    assert beside(page, replace(values, rank=20), "rank", -1) == 16
    assert beside(page, replace(values, optimizer="adafactor"), "optimizer", 1) == "adamw_torch_fused"
    assert options(page, "max_length")[0] == 128
    assert options(page, "max_length")[-1] == page.context == 131072
    assert different(replace(values, rank=32), values) == {"rank": 32, "accumulation": values.accumulation}
    assert different(values, values) == {}


def test_a_draft_is_for_one_model_and_its_data() -> None:
    draft = Draft()
    draft.open(FORM)
    draft.chosen = {"rank": 64}
    draft.open(replace(FORM, name="again"))
    assert draft.chosen == {"rank": 64}
    draft.open(replace(FORM, model="Qwen/Qwen2.5-7B"))
    assert draft.chosen is None


def choice(*sizes: float) -> PlanChoice:
    keys = ("weights", "adapter", "activations", "slack")
    parts = tuple(MemoryPart(key, key, size) for key, size in zip(keys, sizes, strict=True))
    values = PlanValues("lora", 16, "all-linear", 1024, 1, 1, True, False, "adafactor")
    return PlanChoice(values, "", "yes", parts, peak_gib=sum(sizes[:3]), device_gib=sum(sizes))


SIZES = st.floats(0.0, 900.0)


@given(SIZES, SIZES, SIZES, SIZES, st.floats(4.0, 200.0), st.integers(6, 200))
def test_the_bar_is_as_wide_as_its_room(a: float, b: float, c: float, d: float, card: float, width: int) -> None:
    drawn = bar(choice(a, b, c, d), card, width, ascii_only=False).plain
    assert len(drawn) == width
    assert drawn.count("│") == 1
    assert drawn.endswith("│") == (a + b + c + d <= card)


@given(st.lists(SIZES, min_size=1, max_size=9), st.floats(0.05, 20.0))
def test_cells_add_up(sizes: list[float], per_cell: float) -> None:
    found = cells(sizes, per_cell)
    assert sum(found) == round(sum(sizes) / per_cell)
    assert all(count >= 0 for count in found)
    if sum(found) >= 2 * len(sizes):
        assert all(count > 0 for count, size in zip(found, sizes, strict=True) if size > 0)


def test_the_bar_in_proportion() -> None:
    drawn = bar(choice(12.0, 3.0, 3.0, 3.0), 24.0, 25, ascii_only=True).plain
    assert drawn == "#" * 12 + "%" * 3 + "+" * 3 + ":" * 3 + "···│"  # the app turns the rest into ASCII
    over = bar(choice(12.0, 12.0, 24.0, 0.0), 24.0, 49, ascii_only=True).plain
    assert over == "#" * 12 + "%" * 12 + "│" + "+" * 24


def test_the_waterfall_begins_where_the_last_part_ended() -> None:
    rows = [row.plain for row in waterfall(choice(8.0, 4.0, 4.0, 2.0), 24.0, 60, ascii_only=False)]
    weights, adapter, activations, peak, slack, total, card = rows
    assert weights.index("█") < adapter.index("▓") < activations.index("▒") < slack.index("░")
    assert adapter.index("▓") == weights.rindex("█") + 1
    assert "16.00" in peak
    assert "18.00" in total
    assert {row.rindex("│") for row in rows} == {card.index("│")}
