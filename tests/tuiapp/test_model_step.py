"""The second step: over the real engine and real files, so that what stands on the screen is what the engine says."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from rich.cells import cell_len
from textual import events

from engine import catalog, demo
from engine.cards import parse_gpu
from engine.errors import ModelError
from engine.hardware import Gpu, Hardware
from engine.models import inspect_model
from engine.planner.ask import NO_DATA, known_shape
from engine.planner.complete import complete
from engine.planner.costs import changed, what_if
from engine.planner.decide import Tier, decided, known_of
from engine.planner.memory import GIB
from engine.planner.plan import Request
from engine.spec import parse
from tests.gguf_file import write_gguf
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import LAPTOP, RTX_4090, FakeServices, Planner
from tests.tuiapp.wizard import at_step, draft_of, kept, until_kept
from tuiapp import model_values as values
from tuiapp import modeling
from tuiapp.draft import DATA, GOAL, MODEL, PLAN, REVIEW, RunDraft
from tuiapp.model_values import CardColumn, Fit, ModelLine, ModelPage
from tuiapp.screens import model_step
from tuiapp.screens.model_step import ModelField, ModelStep
from tuiapp.widgets.model_list import ModelState, list_pane
from tuiapp.widgets.model_panes import about_pane, status_words
from tuiapp.widgets.pane import Look

Size = tuple[int, int]
SMALL = "HuggingFaceTB/SmolLM2-360M-Instruct"
LLAMA = "meta-llama/Llama-3.1-8B"
LARGE = "meta-llama/Llama-3.1-70B"
COMMIT = "d04e592bb4f6aa9cfee91e2e20afa771667e1d4b"


def write_model(folder: Path, like: str = SMALL, *, weights: str = "model.safetensors", **config: Any) -> Path:
    """A directory with the config of a model of the catalog, and weights with nothing in them."""
    known = catalog.models()[like]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(known.config | config))
    header = json.dumps({"w": {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}}).encode()
    (folder / weights).write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"} if known.template else {}))
    return folder


def write_cached(hub: Path, name: str, like: str = "") -> Path:
    """A model in the hub's cache."""
    folder = hub / f"models--{name.replace('/', '--')}"
    snapshot = write_model(folder / "snapshots" / COMMIT, like or name)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return snapshot


@pytest.fixture(autouse=True)
def _away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory and a hub cache of its own, and no model in a package; nobody types on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(demo, "demo_model", _no_package)
    monkeypatch.setattr(model_step, "PAUSE", 0.0)


def _no_package() -> str:
    raise ModelError("The demo's model is not here", "", "")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Llama-3.1-8B and a small one in the cache, one in ./models, one that is pickled, one with code of its own."""
    write_cached(tmp_path / "hub", LLAMA)
    write_cached(tmp_path / "hub", SMALL)
    merged = write_model(tmp_path / "models" / "llama-merged", "meta-llama/Llama-3.2-3B-Instruct")
    (merged / "README.md").write_text("---\nbase: x\nlicense: llama3.2\n---\nhello")
    write_model(tmp_path / "models" / "pickled", weights="pytorch_model.bin")
    write_model(tmp_path / "models" / "odd", model_type="odd9", auto_map={"AutoModelForCausalLM": "odd.Odd"})
    return tmp_path


def box(*gpus: Gpu) -> FakeServices:
    """A machine with these cards."""
    services = FakeServices(planner=Planner(*gpus))
    if not gpus:
        services.machine = LAPTOP
        services.planner._hardware = Hardware("laptop", (), None, None, "i7-1260P", 2, 15.4)
    return services


def page_of(*gpus: Gpu) -> ModelPage:
    return box(*gpus).planner.model_page()


def line_of(page: ModelPage, name: str) -> ModelLine:
    return next(one for one in page.lines if one.name == name)


async def open_step(deck: Driver) -> ModelStep:
    """From Home, with the verdicts there."""
    await deck.press("n")
    await at_step(deck, MODEL)
    step = deck.app.screen
    assert isinstance(step, ModelStep)
    await deck.until(lambda: step._whole)
    return step


def at_model(services: FakeServices, **fields: Any) -> FakeServices:
    return kept(services, **({"step": MODEL, "passed": [GOAL]} | fields))


def names(deck: Driver) -> list[str]:
    """What the list shows."""
    return [row[3:].split()[0] for row in deck.text("#models").splitlines()[1:]]


def cursor(deck: Driver) -> str:
    """The row of the list with the cursor."""
    return next((row for row in deck.text("#models").splitlines() if "▸" in row), "")


# what there is


def test_models_are_found_where_they_lie(models: Path) -> None:
    write_model(models / "here")
    write_model(models / "models" / "maker" / "deep")
    (models / "node").mkdir()
    (models / "node" / "config.json").write_text('{"port": 80}')
    found = {one.name: one.where for one in modeling.names(models / "sub" / "experiments.db")}
    assert found["./here"] == found["./models/llama-merged"] == found["./models/maker/deep"] == "directory"
    assert found[LLAMA] == found[SMALL] == "hub cache"
    assert found[LARGE] == "download"
    assert "./node" not in found
    assert len(found) == len(catalog.models()) + 5


def test_models_near_the_database_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "project" / "mine")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = modeling.names(tmp_path / "project" / "experiments.db")
    assert [one.path for one in found if one.where == "directory"] == [str(tmp_path / "project" / "mine")]


def test_the_facts_are_those_of_the_files(models: Path) -> None:
    page = page_of(RTX_4090)
    merged, cached, pickled, odd = (
        line_of(page, name) for name in ("./models/llama-merged", LLAMA, "./models/pickled", "./models/odd")
    )
    assert (merged.licence, merged.template, merged.problem) == ("llama3.2", True, "")
    assert merged.path == str(models / "models" / "llama-merged")
    assert (cached.revision, cached.gated, cached.licence, cached.template) == (COMMIT, True, "llama3.1", False)
    assert cached.parameters == catalog.models()[LLAMA].parameters
    assert "only pickled weights" in pickled.problem
    assert str(models) not in pickled.problem
    assert odd.own_code
    assert odd.fits == ()


def test_the_package_has_a_model_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "llm_thing" / "Thing-1M.gguf")
    monkeypatch.setattr(demo, "demo_model", lambda: str(path))
    one = line_of(page_of(RTX_4090), "Thing-1M")
    assert (one.where, one.path, one.place) == ("package", str(path), "the package llm_thing")
    assert one.template
    fit = values.verdict(one)
    assert fit is not None
    assert fit.fits == "yes"


def test_a_download_that_was_cut_off_is_a_download(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path / "hub", SMALL)
    (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-00002.safetensors"}}')
    one = line_of(page_of(RTX_4090), SMALL)
    assert (one.where, one.problem) == ("download", "")


@pytest.mark.parametrize("gpus", [(RTX_4090,), ()])
def test_every_verdict_is_the_planners(gpus: tuple[Gpu, ...]) -> None:
    """Specifications are made once for many models: each must be what the planner would have made for that model."""
    services = box(*gpus)
    for one in services.planner.model_page().lines:
        facts = inspect_model(one.path, weights=False)
        cards = parse_gpu("rtx4090") if gpus else None
        for fit in one.fits[0][:3]:
            spec = parse({"model": {"path": "m"}, "data": {"path": NO_DATA}, "objective": "sft"})
            request = Request(spec, facts, known_shape(facts), replace(cards, name=RTX_4090.name) if cards else None)
            kind = {"full": "full", "LoRA": "lora", "QLoRA": "qlora"}[fit.method]
            experts = request.shape is not None and request.shape.experts
            tier = Tier(kind, None if kind != "full" else "bf16" if experts else "mixed")
            if kind != "full":
                request = replace(request, spec=changed(spec, {"method": {"rank": 16}}))
            known = known_of(request)
            whole = complete(request.spec, known, decided(request, known, tier, 1, True, 1, "ddp"))[0]
            choice = what_if(request, whole)
            assert choice.memory is not None
            if gpus:
                assert (fit.gib, fit.fits) == (choice.device_gib, choice.fits), one.name
            else:
                assert fit.gib == modeling.main_memory(choice.memory) / GIB, one.name
            assert fit.tokens_per_second == choice.speed.tokens_per_second, one.name


def test_main_memory_is_near_what_a_run_took() -> None:
    """SmolLM2-135M-Instruct on two cores, one row of 1,024 tokens: peak resident memory of the worker, GiB."""
    page = page_of()
    fits = {fit.method: fit.gib for fit in line_of(page, "HuggingFaceTB/SmolLM2-135M-Instruct").fits[0]}
    for method, measured in (("LoRA", 1.80), ("QLoRA", 1.86), ("full", 3.38)):
        assert fits[method] == pytest.approx(measured, rel=0.15)


def test_cards_that_differ_have_columns_of_their_own(models: Path) -> None:
    second = replace(RTX_4090, index=1, uuid="GPU-2")
    small = Gpu(2, "GPU-3", "RTX 3060", 12.0, (8, 6))
    page = page_of(RTX_4090, small, second)
    assert [(card.name, card.count) for card in page.cards] == [("RTX 4090", 2), ("RTX 3060", 1)]
    one = line_of(page, LLAMA)
    first, other = values.verdict(one), values.verdict(one, 1)
    assert first is not None
    assert other is not None
    assert (first.method, other.method) == ("LoRA", "QLoRA")


def test_what_fits_on_no_card_is_tried_on_all() -> None:
    two = page_of(RTX_4090, replace(RTX_4090, index=1, uuid="GPU-2"))
    fit = values.verdict(line_of(two, LARGE))
    assert fit is not None
    alone = values.verdict(line_of(page_of(RTX_4090), LARGE))
    assert alone is not None
    assert (alone.fits, alone.cards) == ("no", 1)
    assert fit.cards == 2 or fit.fits == "no"
    assert len(line_of(two, LARGE).fits[0]) == 6


# which one is meant


def made(name: str, gib: float = 5.0, **fields: Any) -> ModelLine:
    """A model that fits with LoRA."""
    usual: dict[str, Any] = {"where": "hub cache", "parameters": 10**9, "template": True}
    fits = ((Fit("LoRA", "yes" if gib < 20 else "no", gib, 1000.0),),)
    return ModelLine(name, name, **({"fits": fits} | usual | fields))


def of(*lines: ModelLine, cpu: bool = False) -> ModelPage:
    return ModelPage(lines, (CardColumn("RTX 4090", 24.0),), cpu)


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ((made("small"), made("large", parameters=2 * 10**9)), "large"),
        ((made("here"), made("there", parameters=2 * 10**9, where="download")), "here"),
        ((made("base", parameters=2 * 10**9, template=False), made("chat")), "chat"),
        ((made("base", template=False), made("other", template=False, parameters=1)), "base"),
        ((made("large", 30.0, parameters=2 * 10**9), made("fits")), "fits"),
        ((made("large", 30.0), made("free", where="download"), made("gated", where="download", gated=True, parameters=2 * 10**9)), "free"),
        ((made("broken", parameters=2 * 10**9, problem="no weights"), made("whole")), "whole"),
        ((made("code", parameters=2 * 10**9, own_code=True), made("plain")), "plain"),
        ((made("large", 30.0),), None),
    ],
)  # fmt: skip
def test_the_largest_that_fits_and_is_here_is_suggested(lines: tuple[ModelLine, ...], wanted: str | None) -> None:
    found = values.suggested(of(*lines), "instructions")
    assert (found.name if found else None) == wanted
    page = of(*reversed(lines))
    if found:
        assert values.in_order(page.lines, values.BEST, first=found)[0].name == wanted


def test_plain_text_needs_no_template() -> None:
    page = of(made("base", parameters=2 * 10**9, template=False), made("chat"))
    found = values.suggested(page, "domain")
    assert found is not None
    assert found.name == "base"


def test_on_a_cpu_what_takes_days_is_not_suggested() -> None:
    slow = made("large", parameters=8 * 10**9, fits=((Fit("LoRA", "yes", 6.0, 4.0),),))
    quick = made("small", fits=((Fit("LoRA", "yes", 2.0, 300.0),),))
    found = values.suggested(of(slow, quick, cpu=True), "instructions")
    assert found == quick
    assert values.likely(slow, cpu=True) == "LoRA, slow"
    assert values.suggested(of(slow, cpu=True), "instructions") == slow


def test_the_best_of_several_ways() -> None:
    full, lora, qlora = Fit("full", "no", 60.0), Fit("LoRA", "close", 22.5), Fit("QLoRA", "yes", 9.0)
    assert values.best((full, lora, qlora)) == qlora
    assert values.best((full, lora)) == lora
    assert values.best((full, Fit("LoRA", "no", 30.0))) == Fit("LoRA", "no", 30.0)
    shared = Fit("full", "yes", 20.0, cards=2)
    assert values.best((full, shared)) == shared
    assert values.best((shared, lora)) == lora
    assert values.best((Fit("full", "unknown"),)) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [("llama 8b", ""), ("llama", ""), ("org/name", "hub"), ("./x", "path"), ("~/m", "path"), ("/abs", "path"),
     ("a/b/c", "path"), ("m.gguf", "path"), ("", ""), ("org/na me", "")],
)  # fmt: skip
def test_what_a_text_may_be(text: str, kind: str) -> None:
    assert values.typed_kind(text) == kind


def test_words_match_anywhere_and_the_whole_name_comes_first() -> None:
    page = of(made("org/Llama-8B-Instruct"), made("org/Llama-8B"), made("org/Qwen-8B"))
    assert [one.name for one in values.shown(page, "8b llama", None, values.BEST)] == [
        "org/Llama-8B",
        "org/Llama-8B-Instruct",
    ]
    assert values.shown(page, "org/llama-8b-instruct", None, values.BEST)[0].name == "org/Llama-8B-Instruct"
    assert values.shown(page, "llama-8b", None, values.BEST)[0].name == "org/Llama-8B"
    assert values.shown(page, "gemma", None, values.BEST) == []


@pytest.mark.parametrize(
    ("order", "wanted"),
    [("largest first", ["b", "c", "a"]), ("smallest first", ["a", "c", "b"]), ("by name", ["a", "b", "c"]), ("by place", ["b", "c", "a"])],
)  # fmt: skip
def test_orders(order: str, wanted: list[str]) -> None:
    lines = [
        made("a", parameters=1, where="download"),
        made("c", parameters=2),
        made("b", parameters=3, where="directory"),
    ]
    at = values.ORDERS.index(order)
    assert [one.name for one in values.in_order(lines, at)] == wanted
    assert [one.name for one in values.in_order(lines, at, turned=True)] == wanted[::-1]


def test_a_smaller_one_and_the_other_kind_are_found() -> None:
    page = page_of(RTX_4090)
    pair = values.smaller(page, line_of(page, "meta-llama/Llama-3.1-8B-Instruct"))
    assert pair is not None
    assert pair[0].name == "meta-llama/Llama-3.2-3B-Instruct"
    assert pair[1] > 1.5
    other = values.sibling(page, line_of(page, LLAMA))
    assert other is not None
    assert other.name == "meta-llama/Llama-3.1-8B-Instruct"


# the panes


@pytest.mark.parametrize("gpus", [(RTX_4090,), ()])
def test_rows_have_the_width_of_their_pane(models: Path, gpus: tuple[Gpu, ...]) -> None:
    page = page_of(*gpus)
    state = ModelState(page, tuple(values.in_order(page.lines, values.BEST)), at=5)
    for width in (1, 8, 20, 33, 40, 59, 60, 80, 100, 119, 160, 200):
        for focused in (False, True):
            rows = list_pane(state, Look(width, 9, focused))
            assert len(rows) == 9
            assert {row.cell_length for row in rows} == {width}
        for row in about_pane(state, Look(width, 9)):
            assert row.cell_length <= max(width, 13)


def test_names_from_outside_cannot_reach_the_terminal(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "evil\x1b]0;owned\x07\u202e", architectures=["\x1b[31mA"])
    page = page_of(RTX_4090)
    one = next(one for one in page.lines if one.where == "directory")
    state = ModelState(page, (one,))
    for row in [*list_pane(state, Look(120, 5)), *about_pane(state, Look(120, 9))]:
        assert row.plain.isprintable()
    assert "\x1b" in one.path  # it is still the file's name


def test_long_names_keep_their_end() -> None:
    page = of(made("some-very-long-organisation/" + "and-a-model-name" * 4 + "-END"))
    row = list_pane(ModelState(page, page.lines), Look(80, 3))[1].plain
    assert "-END " in row
    assert "…" in row


def test_a_download_larger_than_the_disk_is_marked() -> None:
    page = replace(of(made("a", where="download", parameters=10**12)), disk_free=40.0)
    rows = about_pane(ModelState(page, page.lines), Look(80, 9))
    size = next(row for row in rows if "to download" in row.plain)
    assert "40.0 GiB are free" in size.plain
    assert any(span.style == "$warn" for span in size.spans)


def test_runs_with_the_model_are_told() -> None:
    services = FakeServices()
    page = of(made(LLAMA))
    rows = about_pane(ModelState(page, page.lines, runs=services.lines), Look(100, 12))
    assert any("9 here, best eval loss 1.131 on support_alpaca.json (support-lora-r32)" in row.plain for row in rows)


def test_the_typed_hub_id_is_told_of() -> None:
    page = of(made("org/name-one"))
    typed = ModelLine("org/name", "org/name", "hub", source="the hub is asked when it starts")
    lines = tuple(values.shown(page, "org/name", typed, values.BEST))
    assert [one.name for one in lines] == ["org/name-one", "org/name"]
    assert "org/name as it is typed" in status_words(ModelState(page, lines), typed)[0]


# the step


async def test_verdicts_for_a_card_of_24_gib(models: Path, size: Size) -> None:
    async with running(at_model(box(RTX_4090)), size=size) as deck:
        await open_step(deck)
        await deck.shows("RTX 4090, 24 GiB", "best that fits first")
        assert cursor(deck).split()[:2] == ["▸", "./models/llama-merged"]
        await deck.shows("Chosen as the largest with a template that fits with LoRA and is here.")
        page = page_of(RTX_4090)
        fit = values.verdict(line_of(page, LLAMA))
        assert fit is not None
        await deck.press(*"llama-3.1-8b")
        await deck.until(lambda: f"LoRA    {fit.gib:.1f} GiB" in cursor(deck))
        await deck.shows("hub cache", "full no, needs" if size[0] < 100 else "full, fp32 masters")
        await deck.press(*["backspace"] * 3, *"-70b")
        await deck.shows("no  needs 41 GiB")


async def test_verdicts_without_a_card(models: Path, size: Size) -> None:
    async with running(at_model(box()), size=size) as deck:
        await open_step(deck)
        await deck.shows("this CPU, 15 GiB", "tok/s", "slow", "Chosen as the largest with a template that trains fast")
        assert SMALL[-20:] in cursor(deck)
        await deck.press(*"70b")
        await deck.shows("no  needs")


async def test_enter_as_the_very_first_key(models: Path) -> None:
    services = box(RTX_4090)
    async with running(services) as deck:
        await deck.press("n", "enter", "enter")
        await at_step(deck, DATA)
        await until_kept(deck, model=str(models / "models" / "llama-merged"), passed=[GOAL, MODEL])
        await deck.shows("llama-merged   data", "LoRA likely", "✓2 Model")


class Slow(FakeServices):
    """The verdicts come when they are let go."""

    def hold(self) -> Event:
        """Let them go with its `set`."""
        self.gone = Event()
        return self.gone

    def model_page(self, chosen: str = "") -> ModelPage:
        self.gone.wait(20)
        return super().model_page(chosen)


async def test_enter_waits_for_the_verdicts(models: Path) -> None:
    services = Slow(planner=Planner(RTX_4090))
    go = services.hold()
    async with running(at_model(services)) as deck:
        await deck.press("n")
        await at_step(deck, MODEL)
        await deck.shows("looking for models", LLAMA)
        await deck.press("enter")
        await deck.shows("looking …")
        assert deck.place == "ModelStep"
        go.set()
        await at_step(deck, DATA)
        await until_kept(deck, model=str(models / "models" / "llama-merged"))


async def test_enter_does_not_wait_for_ever(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_step, "PATIENCE", 0.05)
    services = Slow(planner=Planner(RTX_4090))
    go = services.hold()
    async with running(at_model(services)) as deck:
        await deck.press("n")
        await at_step(deck, MODEL)
        await deck.shows(LLAMA)
        first = names(deck)[0]
        await deck.press("enter")
        await at_step(deck, DATA)
        await deck.until(lambda: (draft_of(services) or RunDraft()).model.endswith(Path(first).name))
        go.set()


async def test_filter_and_choose(models: Path, size: Size) -> None:
    async with running(at_model(box(RTX_4090)), size=size) as deck:
        await open_step(deck)
        await deck.press(*"qwen instruct")
        await deck.shows("match")
        assert all("Qwen" in name and "Instruct" in name for name in names(deck))
        first = names(deck)[0]
        await deck.press("down")
        await deck.until(lambda: first not in cursor(deck))
        await deck.press("tab")
        await deck.until(lambda: "▌" in deck.text("#models"))
        await deck.press("k", "j", "G")
        chosen = cursor(deck).split()[1]
        await deck.press("enter")
        await at_step(deck, DATA)
        await until_kept(deck, model=chosen)


async def test_digits_and_letters_are_text_in_the_field_and_keys_in_the_list(models: Path) -> None:
    async with running(at_model(box(RTX_4090))) as deck:
        step = await open_step(deck)
        await deck.press("3", "o")
        await deck.until(lambda: step.query_one(ModelField).value == "3o")
        await deck.shows("No model is called like that.")
        await deck.press("enter")
        await deck.shows("No such model is known: type a hub id (organisation/name) or a directory.")
        assert deck.place == "ModelStep"
        await deck.press("escape", "escape")
        await deck.until(lambda: step.query_one(ModelField).value == "")
        await deck.press("o")
        await deck.shows("largest first")
        await deck.press("O")
        await deck.shows("turned round")
        await deck.press("slash")
        await deck.until(lambda: deck.app.focused is step.query_one(ModelField))
        await deck.press("escape", "1")
        await at_step(deck, GOAL)


async def test_the_order_changes_and_the_cursor_stays_on_its_model(models: Path) -> None:
    async with running(at_model(box(RTX_4090)), size=(160, 48)) as deck:
        await open_step(deck)
        await deck.press("tab", "j", "j")
        chosen = cursor(deck).split()[1]
        for order in [*values.ORDERS[1:], values.ORDERS[0]]:
            await deck.press("o")
            await deck.shows(order)
            assert cursor(deck).split()[1] == chosen


async def test_a_directory_is_typed(models: Path, size: Size) -> None:
    path = write_model(models / "far" / "away" / "mine")
    async with running(at_model(box(RTX_4090)), size=size) as deck:
        await open_step(deck)
        await deck.press(*"./far/away/mine")
        await deck.until(lambda: "./far/away/mine" in cursor(deck) or "far/away/mine" in cursor(deck))
        await deck.shows("directory", "362 M")
        await deck.press("enter")
        await at_step(deck, DATA)
        await until_kept(deck, model=str(path))


async def test_a_path_is_completed(models: Path) -> None:
    write_model(models / "far" / "mine")
    services = at_model(box(RTX_4090))
    services.complete_path = services.planner.complete_path  # type: ignore[method-assign]
    async with running(services) as deck:
        step = await open_step(deck)
        field = step.query_one(ModelField)
        await deck.press(*"./fa")
        await deck.until(lambda: field._suggestion == "./far/")
        await deck.press("tab")
        await deck.until(lambda: field.value == "./far/")


async def test_a_hub_id_is_typed(models: Path, size: Size) -> None:
    async with running(at_model(box(RTX_4090)), size=size) as deck:
        await open_step(deck)
        await deck.press(*"acme/Rocket-7B", "enter")
        await at_step(deck, DATA)
        await until_kept(deck, model="acme/Rocket-7B")
        await deck.press("ctrl+o")
        await at_step(deck, MODEL)
        await deck.until(lambda: "acme/Rocket-7B" in cursor(deck))
        await deck.shows("the hub is asked when it starts")


async def test_a_name_of_the_catalog_is_enough(models: Path) -> None:
    async with running(at_model(box(RTX_4090))) as deck:
        await open_step(deck)
        await deck.press(*"llama-3.1-8b", "enter")
        await at_step(deck, DATA)
        await until_kept(deck, model=LLAMA)


def _no_config(root: Path) -> Path:
    (root / "bare").mkdir()
    return root / "bare"


def _gguf(root: Path) -> Path:
    (root / "torn.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    return root / "torn.gguf"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_no_config, "it has no config.json"),
        (lambda root: root / "absent", "There is no file or directory"),
        (lambda root: root / "models" / "pickled", "only pickled weights"),
        (_gguf, "The GGUF file cannot be read"),
    ],
)
async def test_wrong_directories_stop_with_the_reason(models: Path, make: Callable[[Path], Path], words: str) -> None:
    path = make(models)
    async with running(at_model(box(RTX_4090)), size=(160, 48)) as deck:
        await open_step(deck)
        deck.app.post_message(events.Paste(str(path)))
        deck.app.post_message(events.Key("enter", "\r"))
        await deck.until(lambda: words in deck.text("#status"))
        assert deck.place == "ModelStep"
        draft = draft_of(deck.services)
        assert draft is not None
        assert draft.model == ""


async def test_code_of_its_own_is_said_and_runs_only_if_one_wants_it(models: Path, size: Size) -> None:
    async with running(at_model(box(RTX_4090)), size=size) as deck:
        step = await open_step(deck)
        await deck.press(*"odd")
        await deck.shows("It brings Python code of its own: C lets it run, if you trust its authors.")
        await deck.press("tab", "C")
        await deck.shows("Its Python code runs when the model is loaded")
        assert step.flow.draft.given == {"model.trust_remote_code": True}
        assert dict(step.flow.draft.form().chosen)["model.trust_remote_code"] is True
        await deck.press("C")
        await deck.shows("Its code does not run.")
        assert step.flow.draft.given == {}
        await deck.press("C", "slash", *["backspace"] * 3, *SMALL, "enter")
        await at_step(deck, DATA)
        await until_kept(deck, model=SMALL, given={})


async def test_back_and_forth_keeps_the_choice(models: Path) -> None:
    services = at_model(box(RTX_4090))
    async with running(services) as deck:
        await open_step(deck)
        await deck.press(*"gemma-2-2b-it", "enter")
        await at_step(deck, DATA)
        await deck.press("ctrl+o")
        step = await _again(deck)
        await deck.until(lambda: "gemma-2-2b-it" in cursor(deck))
        assert step.query_one(ModelField).value == ""
        await deck.press("ctrl+o")
        await at_step(deck, GOAL)
        await deck.press("enter")
        await _again(deck)
        await deck.until(lambda: "gemma-2-2b-it" in cursor(deck))
        await deck.press("enter")
        await at_step(deck, DATA)
        await until_kept(deck, model="google/gemma-2-2b-it")


async def _again(deck: Driver) -> ModelStep:
    await at_step(deck, MODEL)
    step = deck.app.screen
    assert isinstance(step, ModelStep)
    return step


async def test_going_back_or_away_chooses_nothing(models: Path) -> None:
    services = at_model(box(RTX_4090))
    async with running(services) as deck:
        await open_step(deck)
        await deck.press("down", "ctrl+o")
        await at_step(deck, GOAL)
        await deck.press("enter")
        step = await _again(deck)
        assert step.flow.draft.model == ""


async def test_straight_to_review_takes_the_model(models: Path) -> None:
    services = at_model(box(RTX_4090))
    async with running(services) as deck:
        await open_step(deck)
        await deck.press("ctrl+r")
        await at_step(deck, REVIEW)
        await until_kept(deck, model=str(models / "models" / "llama-merged"))


async def test_what_does_not_fit_is_marked(models: Path) -> None:
    services = at_model(box(RTX_4090))
    async with running(services) as deck:
        await open_step(deck)
        await deck.press(*LARGE, "enter")
        await at_step(deck, DATA)
        await deck.shows("!2 Model", "does not fit")


async def test_another_model_forgets_what_was_planned(models: Path) -> None:
    services = at_model(box(RTX_4090), model=LLAMA, plan={"rank": 8}, settled={"method.rank": 8})
    async with running(services) as deck:
        step = await open_step(deck)
        await deck.until(lambda: LLAMA in cursor(deck))
        await deck.press("enter")
        await at_step(deck, DATA)
        assert step.flow.draft.plan == {"rank": 8}
        await deck.press("ctrl+o")
        await _again(deck)
        await deck.press(*SMALL, "enter")
        await at_step(deck, DATA)
        await until_kept(deck, model=SMALL, plan={}, settled={})


async def test_everything_known_is_one_key_away(models: Path, size: Size) -> None:
    async with running(at_model(box(RTX_4090)), size=size) as deck:
        await open_step(deck)
        await deck.press(*LLAMA, "tab", "i")
        await deck.shows("licence", 'Llama 3.1: show "Built with Llama"', "32 layers, hidden 4,096")
        await deck.press("G")
        await deck.shows("QLoRA r16, nf4", "LoRA r64, bf16")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "ModelStep")


async def test_the_wide_form_has_bars_and_hints(models: Path) -> None:
    async with running(at_model(box(RTX_4090)), size=(160, 48)) as deck:
        await open_step(deck)
        await deck.press(*LLAMA)
        await deck.shows("bf16 GiB", "Licence", "Verdict: the best method", "What fits", "LoRA r16, bf16", "+  no")
        await deck.shows("Base or instruct?", "Llama-3.1-8B-Instruct answers already.", "Not listed?")
        await deck.shows("9 here, best eval loss 1.131")


async def test_a_click_chooses(models: Path) -> None:
    async with running(at_model(box(RTX_4090))) as deck:
        await open_step(deck)
        second = names(deck)[1]
        await deck.pilot.click("#models", offset=(5, 2))
        await deck.until(lambda: second in cursor(deck))


async def test_many_models_in_the_cache(tmp_path: Path) -> None:
    for i in range(200):
        write_cached(tmp_path / "hub", f"org/model-{i:03}", SMALL)
    async with running(at_model(box(RTX_4090))) as deck:
        await open_step(deck)
        await deck.shows(f"{len(catalog.models()) + 200} models")
        await deck.press(*"model-199", "enter")
        await at_step(deck, DATA)
        await until_kept(deck, model="org/model-199")


@pytest.mark.parametrize("small", [(59, 24), (40, 12), (24, 6), (20, 5), (8, 2), (1, 1)])
async def test_small_terminals(models: Path, small: Size) -> None:
    async with running(at_model(box(RTX_4090)), size=small) as deck:
        await open_step(deck)
        await deck.press(*"llama", "down", "tab", "escape")
        screen = deck.screen().splitlines()
        assert len(screen) <= small[1]
        assert all(cell_len(row) <= small[0] for row in screen)
        assert deck.place == "ModelStep"


async def test_a_directory_that_cannot_be_listed_is_left_out(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services = at_model(box(RTX_4090))

    def broken(_: Path) -> tuple[ModelLine, ...]:
        raise PermissionError("the disk is gone")

    monkeypatch.setattr(modeling, "names", broken)
    monkeypatch.setattr(modeling, "_found", broken)
    async with running(services) as deck:
        await open_step(deck)
        await deck.shows("the disk is gone")
        await deck.press(*"acme/Rocket-7B", "enter")
        await at_step(deck, DATA)
        await until_kept(deck, model="acme/Rocket-7B")


async def test_the_step_can_be_passed_over(models: Path) -> None:
    async with running(at_model(box(RTX_4090))) as deck:
        await open_step(deck)
        await deck.press("tab", "4")
        await at_step(deck, PLAN)
        await until_kept(deck, model=str(models / "models" / "llama-merged"))
