"""The Training step: over the real planner, so that what stands on the screen is what the engine says."""

import json
import math
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import launch
from engine.errors import SpecError, TuneDeckError
from engine.methods import METHODS, SCHEDULES
from engine.planner import rules
from engine.spec import parse
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import RTX_4090, FakeServices, Planner
from tests.tuiapp.wizard import LLAMA, at_step, draft_of, kept, until_kept, write_rows
from tuiapp import training
from tuiapp import training_values as values
from tuiapp.draft import PLAN, REVIEW, TRAINING, RunDraft
from tuiapp.schedule import DRAWN, curve, rate_at, warmup_steps
from tuiapp.services import Services
from tuiapp.services import _spec as spec_of
from tuiapp.training_fields import BY_PATH, ESSENTIAL, FIELDS, RATES, SECTIONS, section_of, usual_rates
from tuiapp.training_layout import room_for_fields, training_places
from tuiapp.training_snapshot import TrainingPage

Size = tuple[int, int]
RATE, EPOCHS, SCHEDULE, STOPPING = values.RATE, values.EPOCHS, "training.schedule", values.STOPPING
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data file."""
    return write_rows(tmp_path_factory.mktemp("data"), 2000)


@pytest.fixture(scope="module")
def planner() -> Planner:
    """On one RTX 4090."""
    return Planner(RTX_4090)


def page_of(services: Services, draft: RunDraft) -> TrainingPage:
    return services.training(draft.form(), draft.form(trained=False), tuple(draft.training), draft.card)


@pytest.fixture(scope="module")
def page(planner: Planner, rows: Path) -> TrainingPage:
    """With nothing changed."""
    return page_of(planner, RunDraft(model=LLAMA, data=str(rows)))


def at_training(planner: Planner, rows: Path, **fields: Any) -> FakeServices:
    services = FakeServices(planner=planner)
    return kept(services, **{"model": LLAMA, "data": str(rows), "step": TRAINING, "passed": [0, 1, 2, 3], **fields})


def draft(deck: Driver) -> RunDraft:
    found = draft_of(deck.services)
    assert found is not None
    return found


def line(deck: Driver, name: str) -> str:
    """The line of a field."""
    return next(row for row in deck.text("#fields").splitlines() if row[3:].startswith(name))


async def opened(deck: Driver) -> None:
    await deck.press("n")
    await at_step(deck, TRAINING)
    await deck.shows("learning rate", "fields shown")


# The table


def test_no_field_of_the_specification_is_missing() -> None:
    assert [one.path for one in FIELDS] == [path for path, _ in training.leaves()]
    assert set(ESSENTIAL) <= BY_PATH.keys()
    assert {section_of(one.path) for one in FIELDS} == set(SECTIONS)


def test_every_field_says_what_it_does() -> None:
    for one in FIELDS:
        assert one.help.endswith("."), one.path
        assert 20 < len(one.help) < 200, one.path
        assert one.usual or one.span or one.path not in ESSENTIAL or one.path == RATE, one.path


@pytest.mark.parametrize("path", [one.path for one in FIELDS])
def test_the_specification_takes_what_the_arrows_offer(path: str, page: TrainingPage) -> None:
    for value in values.candidates(page, path):
        training._check_alone(path, value)
    for one in BY_PATH[path].values:
        training._check_alone(path, one)


@given(st.sampled_from(sorted(METHODS)), st.integers(10**6, 10**11), st.integers(1, 10**6))
def test_what_is_usual_agrees_with_the_planners_rules(kind: str, parameters: int, count: int) -> None:
    for objective in ("sft", "text", *rules.PREFERENCE_RATES):
        rate = rules.objective_learning_rate(objective, kind, parameters, count).value
        low, high = usual_rates(kind, objective, parameters < rules.SMALL_MODEL, rate)
        assert low <= rate <= high, (kind, objective, parameters, count)
        within(EPOCHS, rules.objective_epochs(objective, kind, count).value)
    within("training.weight_decay", rules.weight_decay(count).value)
    within("training.warmup", rules.warmup(count).value)
    within("training.max_grad_norm", rules.max_grad_norm(kind).value)
    within("method.dropout", rules.dropout(count).value)
    for goal in rules.RANKS:
        within("method.rank", rules.rank(goal, count, kind).value)
    for beta, _ in rules.BETAS.values():
        within("objective_options.beta", beta)


def within(path: str, value: float) -> None:
    span = BY_PATH[path].span
    assert span is not None
    assert span[0] <= value <= span[1], (path, value)


def test_nothing_that_is_recommended_is_odd(page: TrainingPage) -> None:
    assert values.cautions(page) == []
    assert page.obstacle == ""


# The schedule

LIBRARY = """
import json, sys, torch
from transformers import get_scheduler
found = []
for name, steps, warmup, rate in json.load(sys.stdin):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    found.append(rates)
print(json.dumps(found))
"""


def test_what_is_drawn_is_what_transformers_makes() -> None:
    assert set(DRAWN) <= set(SCHEDULES)
    cases = [
        (name, steps, warmup, rate)
        for name in DRAWN
        for steps, warmup, rate in ((50, 0, 2e-4), (50, 5, 2e-4), (7, 6, 1e-5), (1, 0, 1e-3), (20, 30, 1e-4))
        if name != "polynomial" or warmup < steps  # there the library divides by nothing
    ]
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    for (name, steps, warmup, rate), expected in zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True):
        ours = [rate_at(name, step, steps, warmup, rate) for step in range(steps)]
        assert ours == pytest.approx(expected, rel=1e-9, abs=1e-15), (name, steps, warmup)


def test_the_curve_has_the_end_of_the_warm_up_however_long_the_run() -> None:
    points = curve("cosine", 100_000, 0.03, 2e-4)
    assert len(points) < 500
    assert points[0] == (1.0, 0.0)
    assert max(rate for _, rate in points) == 2e-4
    assert dict(points)[warmup_steps(0.03, 100_000) + 1.0] == 2e-4
    assert points[-1][0] == 100_000
    for name in set(SCHEDULES) - set(DRAWN):
        assert curve(name, 100, 0.03, 2e-4) == ()


# What is typed


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        (RATE, "3e-5", 3e-5),
        (RATE, "0.0001", 1e-4),
        (EPOCHS, "2", 2),
        ("training.warmup", "3 %", 0.03),
        ("training.warmup", "100", 100),
        (values.MAX_STEPS, "1,000", 1000),
        (values.EVALUATE, "0.25", 0.25),
        ("training.packing", "on", True),
        (SCHEDULE, "linear", "linear"),
        ("report_to", "tensorboard", ["tensorboard"]),
        ("report_to", "tensorboard, wandb", ["tensorboard", "wandb"]),
        ("report_to", "[wandb]", ["wandb"]),
        ("run.note", "12", "12"),
        ("run.note", "a: b", "a: b"),
        ("evaluation.prompts", "What is it, then?", ["What is it, then?"]),
        ("evaluation.general", "false", False),
        ("data.columns", "{instruction: question}", {"instruction": "question"}),
        ("data.validation", "0.1", 0.1),
        ("data.validation", "held.jsonl", "held.jsonl"),
        ("extra.trainer", "{neftune_noise_alpha: 5}", {"neftune_noise_alpha": 5}),
        ("compute.devices", "[0, 1]", [0, 1]),
        ("method.targets", "q_proj, v_proj", ["q_proj", "v_proj"]),
        ("method.virtual_tokens", "20", 20),
        ("data.split", "group", "group"),
    ],
)
def test_what_is_typed_is_read_as_it_is_meant(path: str, text: str, value: Any) -> None:
    found = training.read_value(path, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        (RATE, "2", "less than 1"),
        (RATE, "-1e-4", "greater than 0"),
        (RATE, "fast", "learning_rate"),
        (EPOCHS, "nan", "epochs"),
        (values.MAX_STEPS, "2.5", "integer"),
        (SCHEDULE, "cosin", "did you mean cosine"),
        ("training.optimizer", "adam", "did you mean"),
        ("training.precision", "fp16", "precision"),
        ("method.kind", "lor", "must be one of"),
        ("method.dropout", "1", "less than 1"),
        ("data.filters.exclude", "[", "data.filters.exclude"),
        ("extra.trainer", "{hub_token: abc}", "secret"),
        ("extra.model", "{dtype: float32}", "is set by"),
        ("run.name", "x" * 81, "80"),
    ],
)
def test_what_the_specification_refuses_is_refused_with_its_words(path: str, text: str, said: str) -> None:
    with pytest.raises(SpecError) as error:
        training.read_value(path, text)
    assert said in error.value.message


def test_a_value_can_be_typed_as_it_is_offered(page: TrainingPage) -> None:
    for one in FIELDS:
        for value in (page.values[one.path], *values.candidates(page, one.path)):
            if text := values.typed(one.path, value):
                assert training.read_value(one.path, text) == value, (one.path, text)


# What a key makes of it


def test_numbers_end_and_names_go_round(page: TrainingPage) -> None:
    assert values.beside(page, RATE, RATES[-1], 1) == RATES[-1]
    assert values.beside(page, RATE, 1.1e-4, 1) == 2e-4
    assert values.beside(page, RATE, 1.1e-4, -1) == 1e-4
    order = values.candidates(page, SCHEDULE)
    assert values.beside(page, SCHEDULE, order[-1], 1) == order[0]
    assert values.beside(page, SCHEDULE, "greedy", 1) == order[0]
    assert values.beside(page, STOPPING, None, 1) == 2
    assert values.beside(page, STOPPING, 2, -1) is None
    assert values.beside(page, "training.compile", False, 1) is True


def test_as_recommended_is_not_changed(page: TrainingPage) -> None:
    best = page.recommended[RATE]
    assert values.with_value(page, {RATE: 1e-5, EPOCHS: 9.0}, RATE, best) == {EPOCHS: 9.0}
    assert values.with_value(page, {}, EPOCHS, 9) == {EPOCHS: 9}


def test_presets_are_plain_changes(page: TrainingPage) -> None:
    found = values.presets(page, None)
    assert [one.name for one in found] == ["recommended", "quick look", "careful"]
    careful = found[2].changes
    assert careful[RATE] == pytest.approx(page.recommended[RATE] / 2)
    assert careful[EPOCHS] == 2 * page.recommended[EPOCHS]
    assert careful[STOPPING] == 3
    own = {RATE: careful[RATE], "run.note": "mine"}
    assert values.preset_of(found, own).name == "recommended"
    assert values.with_preset(found, found[2], own) == {"run.note": "mine", **careful}
    assert values.preset_of(found, {"run.note": "mine", **careful}).name == "careful"
    assert values.with_preset(found, found[0], {"run.note": "mine", **careful}) == {"run.note": "mine"}


def test_the_presets_can_be_trained(planner: Planner, rows: Path, page: TrainingPage) -> None:
    for one in values.presets(page, None):
        found = page_of(planner, RunDraft(model=LLAMA, data=str(rows), training=dict(one.changes)))
        assert found.obstacle == ""
        assert values.cautions(found) == []
        # what a preset is does not depend on whether it is on
        assert values.presets(found, None) == values.presets(page, None)
        assert values.preset_of(values.presets(found, None), one.changes).name == one.name


def test_steps_rows_and_disk_are_the_engines(planner: Planner, rows: Path, page: TrainingPage) -> None:
    from engine.planner.disk import disk_needed
    from engine.planner.steps import steps_for

    desk = planner._desk_at_hand(RunDraft(model=LLAMA, data=str(rows)).form(), "")
    spec, request = desk.plan.choice.spec, desk.plan.request
    assert page.rows is not None
    assert page.held_out == spec.data.validation
    assert page.rows + page.held_out == request.rows == 2001
    packed = page.rows
    if spec.training.packing:
        assert request.lengths is not None
        packed = math.ceil(page.rows * request.lengths.mean / (spec.training.max_length or 0))
    assert page.steps == steps_for(spec, packed)
    assert page.disk == pytest.approx(disk_needed(spec, request.facts) / 2**30)
    more = page_of(planner, RunDraft(model=LLAMA, data=str(rows), training={values.KEEP: 3}))
    assert more.disk is not None
    assert page.checkpoint is not None
    assert more.disk - page.disk == pytest.approx(page.checkpoint)


def test_what_follows_from_a_change_is_recommended_anew(planner: Planner, rows: Path, page: TrainingPage) -> None:
    found = page_of(planner, RunDraft(model=LLAMA, data=str(rows), training={EPOCHS: 9.0, values.EVALUATE: 50}))
    assert found.steps is not None
    assert page.steps is not None
    assert found.steps > page.steps
    assert found.values[values.EVALUATE] == 50
    assert found.recommended[values.EVALUATE] == round(found.steps / 5)
    assert found.recommended[EPOCHS] == page.values[EPOCHS]
    assert found.reasons[EPOCHS] == page.reasons[EPOCHS]
    assert found.choice.seconds is not None
    assert found.before.seconds == page.choice.seconds
    assert f"→ {values.f.duration(found.choice.seconds)}" in values.consequences(found)


def test_a_field_of_the_plan_changes_the_memory(planner: Planner, rows: Path, page: TrainingPage) -> None:
    more = {
        "training.max_length": 4 * page.values["training.max_length"],
        "method.kind": "lora",
        "training.micro_batch": 2,
    }
    found = page_of(planner, RunDraft(model=LLAMA, data=str(rows), training=more))
    assert found.before.device_gib == page.choice.device_gib
    assert found.choice.device_gib is not None
    assert page.choice.device_gib is not None
    assert abs(found.choice.device_gib - page.choice.device_gib) > 0.1
    assert f"Memory {page.choice.device_gib:.1f} → {found.choice.device_gib:.1f} GiB." in values.consequences(found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({STOPPING: 3, values.EVALUATE: 0}, "early stopping needs evaluations"),
        ({"training.schedule": "warmup_stable_decay"}, "num_decay_steps"),
        ({"training.schedule": "polynomial", "training.warmup": 10**6}, "no step left"),
        ({"training.optimizer": "schedule_free_adamw"}, "not installed"),
        ({"method.kind": "lora", "method.quantization.bits": 8}, "qlora"),
        ({"method.kind": "prefix", "training.checkpointing": True}, "does not go with"),
        ({"report_to": ["teletext"]}, "teletext"),
        ({"training.precision": "fp32", "training.micro_batch": 64, "training.checkpointing": False}, "does not fit"),
        ({"objective": "kto", "training.micro_batch": 1}, "KTO"),
    ],
)
def test_what_cannot_be_trained_is_an_obstacle(
    planner: Planner, rows: Path, changes: dict[str, Any], said: str
) -> None:
    found = page_of(planner, RunDraft(model=LLAMA, data=str(rows), training=changes))
    assert said.casefold() in found.obstacle.casefold()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {RATE: 1e-5, STOPPING: 2},
        {STOPPING: 2, "data.validation": 0},
        {"objective": "dpo"},
        {"data.validation": 10**6},
        {"compute.processes": 4},
        {"training.packing": True, "objective": "text"},
        {"data.template": "absent.jinja"},
    ],
)
def test_what_may_go_on_is_what_can_start(
    changes: dict[str, Any], tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    """With a model and data that are here the start itself is asked."""
    services = Planner()
    services.database = tmp_path / "experiments.db"
    made = RunDraft(model=str(tiny_model), data=str(rows), training=changes)
    try:
        launch.prepare(spec_of(made.form()))
        starts = True
    except TuneDeckError:
        starts = False
    try:
        found = page_of(services, made)
    except TuneDeckError:
        assert not starts
        return
    assert (found.obstacle == "") == starts, found.obstacle
    if starts:
        assert found.values["evaluation.prompts"] == ["What is 0 plus 0?"]


def test_a_method_of_its_own_leaves_the_planned_one_behind(planner: Planner, rows: Path) -> None:
    settled = {"method.kind": "lora", "method.rank": 64, "training.micro_batch": 2}
    made = RunDraft(model=LLAMA, data=str(rows), plan={"rank": 64}, settled=settled, training={"method.kind": "ia3"})
    found = page_of(planner, made)
    assert found.values["method.kind"] == "ia3"
    assert found.values["method.rank"] is None
    assert found.values["training.micro_batch"] == 2
    assert found.obstacle == ""


def test_what_another_step_settles_later_counts() -> None:
    made = RunDraft(model=LLAMA, training={"training.optimizer": "adafactor", "training.max_length": 512, RATE: 1e-4})
    made._give_way({"training.optimizer": "adamw_8bit", "training.max_length": 512})
    assert made.training == {"training.max_length": 512, RATE: 1e-4}
    made.rows = {"training.max_length": 256}
    assert made.data_draft().chosen == {}
    made.tick({"training.max_length": 256})
    assert made.training == {RATE: 1e-4}
    made.training["data.template"] = "chatml"
    made.choose_data("other.jsonl")
    assert made.training == {RATE: 1e-4}


# The screen


async def test_the_page_shows_what_is_recommended_and_why(
    size: Size, planner: Planner, rows: Path, page: TrainingPage
) -> None:
    async with running(at_training(planner, rows), size=size) as deck:
        await opened(deck)
        await deck.shows("‹ recommended ›", "v all", "Everything as recommended")
        rate = values.rate_words(page.recommended[RATE])
        assert f"‹ {rate} ›" in line(deck, "learning rate")
        assert "1e-4 to 3e-4" in line(deck, "learning rate")
        assert "cosine" in line(deck, "schedule")
        assert f"{page.values[values.EVALUATE]} steps" in line(deck, "evaluate every")
        assert f"{page.steps:,} steps of {page.rows_a_step} rows" in deck.text("#sofar")
        assert f"{page.choice.device_gib:.1f} of 24.0 GiB" in deck.text("#sofar")
        assert "How far each step moves" in deck.text("#about")
        assert "▸5 Training" in deck.text("#head")
        assert draft(deck).training == {}


async def test_change_reset_and_undo(size: Size, planner: Planner, rows: Path, page: TrainingPage) -> None:
    best = page.recommended[RATE]
    higher = values.beside(page, RATE, best, 1)
    async with running(at_training(planner, rows), size=size) as deck:
        await opened(deck)
        await deck.press("l")
        await until_kept(deck, training={RATE: higher})
        await deck.shows(f"‹ {values.rate_words(higher)} ›*", f"yours; was {values.rate_words(best)}")
        await deck.shows("* changed by you: 1 field.", "Nothing here changes the memory.")
        await deck.press("j", "l")
        epochs = values.beside(page, EPOCHS, page.recommended[EPOCHS], 1)
        await until_kept(deck, training={RATE: higher, EPOCHS: epochs})
        await deck.shows("* changed by you: 2 fields.", "Time ")
        await deck.press("h")
        await until_kept(deck, training={RATE: higher})
        await deck.press("k", "equals_sign")
        await until_kept(deck, training={})
        await deck.shows("as recommended; u takes it back", f"‹ {values.rate_words(best)} ›")
        await deck.press("u")
        await until_kept(deck, training={RATE: higher})
        await deck.press("u", "u", "u")
        await until_kept(deck, training={})


async def test_a_value_is_typed(size: Size, planner: Planner, rows: Path) -> None:
    async with running(at_training(planner, rows), size=size) as deck:
        await opened(deck)
        await deck.press("space", *"3e0")
        await deck.press("enter")
        await deck.shows("✗", "less than 1")
        assert deck.place == "TrainingStep"
        field = deck.widget("#value")
        assert field.display
        assert field.value == "3e0"  # type: ignore[attr-defined]
        assert draft(deck).training == {}
        await deck.press("backspace", *"-5")
        assert field.value == "3e-5"  # type: ignore[attr-defined]
        await deck.press("enter")
        await until_kept(deck, training={RATE: 3e-5})
        await deck.shows("‹ 3e-5 ›*")
        assert not field.display
        await deck.press("space", *"9", "escape")
        assert deck.place == "TrainingStep"
        assert draft(deck).training == {RATE: 3e-5}
        await deck.press("space", *"7e-5", "down")
        await deck.shows("▸ epochs")
        await until_kept(deck, training={RATE: 7e-5})


async def test_names_are_completed(planner: Planner, rows: Path) -> None:
    async with running(at_training(planner, rows)) as deck:
        await opened(deck)
        await deck.press("j", "j", "space", *"polyn")
        await deck.until(lambda: deck.widget("#value")._suggestion == "polynomial")  # type: ignore[attr-defined]
        await deck.press("tab", "enter")
        await until_kept(deck, training={SCHEDULE: "polynomial"})


async def test_presets(size: Size, planner: Planner, rows: Path, page: TrainingPage) -> None:
    found = values.presets(page, None)
    async with running(at_training(planner, rows, training={"run.note": "mine"}), size=size) as deck:
        await opened(deck)
        await deck.shows("‹ recommended ›", "and 1 of your own")
        await deck.press("k", "l")
        await until_kept(deck, training={"run.note": "mine", **found[1].changes})
        await deck.shows("‹ quick look ›", "20 steps of", "max steps")
        await deck.press("l")
        await until_kept(deck, training={"run.note": "mine", **found[2].changes})
        await deck.shows("‹ careful ›", "after 3*")
        await deck.press("equals_sign")
        await until_kept(deck, training={})
        await deck.press("u")
        await until_kept(deck, training={"run.note": "mine", **found[2].changes})


async def test_all_fields_can_be_reached(planner: Planner, rows: Path) -> None:
    async with running(at_training(planner, rows)) as deck:
        await opened(deck)
        await deck.press("v", "g", "j")
        await deck.shows("All fields", f"{len(FIELDS)} of {len(FIELDS)} fields shown", "step 2")
        for one in FIELDS:
            cursor = next(row for row in deck.text("#fields").splitlines() if row.startswith(" ▸ "))
            assert cursor[3:].split()[0] == values.label(one.path)
            assert one.path in deck.text("#about").splitlines()[0]
            await deck.press("j")
        await deck.press("g", "j", "space")
        await deck.shows("It is chosen on step 2: 2 goes there.")
        assert not deck.widget("#value").display
        await deck.press("escape")
        await deck.shows("v all")
        assert deck.place == "TrainingStep"


async def test_any_field_can_be_changed_and_is_shown_then(planner: Planner, rows: Path) -> None:
    async with running(at_training(planner, rows)) as deck:
        await opened(deck)
        await deck.press("v", "G", "k", "space", *"for the record", "enter")
        await until_kept(deck, training={"run.note": "for the record"})
        await deck.press("v")
        await deck.shows("note", "for the record ›*", "Open: none is written.")
        await deck.press("v", "g")
        await to_field(deck, "compile")
        await deck.press("space")
        await until_kept(deck, training={"run.note": "for the record", "training.compile": True})


async def test_everything_about_a_field(planner: Planner, rows: Path) -> None:
    async with running(at_training(planner, rows)) as deck:
        await opened(deck)
        await deck.press("j", "j", "i")
        await deck.shows(
            "schedule: training.schedule", "what it does", "warmup_stable_decay", "--set training.schedule=cosine"
        )
        await deck.press("escape")
        assert deck.place == "TrainingStep"


PARENT = {RATE: 2e-4, EPOCHS: 3.0, SCHEDULE: "linear", "training.seed": 7, "method.kind": "lora",
          "evaluation.prompts": ["Hello?"], "run.tags": ["old"]}  # fmt: skip


async def test_a_fork_is_compared_with_its_parent(size: Size, planner: Planner, rows: Path) -> None:
    services = at_training(planner, rows, parent="mbx3q7", name="support", given=PARENT, training={RATE: 1e-4})
    async with running(services, size=size) as deck:
        await opened(deck)
        await deck.shows("fork of support", "‹ as its parent ›", "and 1 of your own")
        assert "2e-4" in line(deck, "learning rate")
        assert "1e-4 ›*" in line(deck, "learning rate")
        assert "as its parent" in line(deck, "schedule")
        await deck.press("equals_sign")
        await until_kept(deck, training={})
        await deck.shows("‹ 2e-4 ›", "as its parent; u takes it back")
        await deck.press("k", "l")
        await deck.until(lambda: draft(deck).training.get(SCHEDULE) == "cosine")
        await deck.shows("‹ recommended ›")
        changed = draft(deck).training
        assert changed.keys() <= PARENT.keys()
        await deck.press("h")
        await until_kept(deck, training={})


async def test_back_and_forth_keeps_what_was_changed(size: Size, planner: Planner, rows: Path) -> None:
    async with running(at_training(planner, rows), size=size) as deck:
        await opened(deck)
        await deck.press("l", "space", *"5e-5")
        await deck.press("ctrl+o")  # what was typed and is a value counts
        await at_step(deck, PLAN)
        await deck.shows("of 24.0 GiB", "rank")
        await deck.press("ctrl+n")
        await at_step(deck, TRAINING)
        await deck.shows("‹ 5e-5 ›*")
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")
        await opened(deck)
        await deck.shows("‹ 5e-5 ›*")
        await deck.press("enter")
        await at_step(deck, REVIEW)
        assert dict(draft(deck).form().chosen)[RATE] == 5e-5
        assert TRAINING in draft(deck).passed


async def test_enter_stops_at_what_cannot_be_trained(size: Size, planner: Planner, rows: Path) -> None:
    async with running(at_training(planner, rows, training={SCHEDULE: "greedy"}), size=size) as deck:
        await opened(deck)
        await deck.shows("‹ 2e-4 ›", "greedy*")
        await to_field(deck, "evaluate every")
        await deck.press("space", "0", "enter")
        await deck.shows("✗ schedule greedy follows the evaluations", "never ›*")
        await deck.press("enter")
        await deck.shows("✗ schedule greedy follows the evaluations")
        assert deck.place == "TrainingStep"
        await deck.press("equals_sign")
        await deck.until(lambda: deck.app.screen.why_not() == "")  # type: ignore[attr-defined]
        await deck.press("enter")
        await at_step(deck, REVIEW)
        assert "✓5 Training" in deck.text("#head")


async def test_what_does_not_fit_any_more_is_marked_in_the_plan_too(planner: Planner, rows: Path) -> None:
    large = {"method.kind": "lora", "training.precision": "fp32"}
    async with running(at_training(planner, rows, training=large)) as deck:
        await opened(deck)
        await deck.shows("✗ It does not fit", "✗4 Plan", "precision")
        await deck.press("enter")
        assert deck.place == "TrainingStep"
        await deck.press("k", "equals_sign")
        await deck.until(lambda: deck.app.screen.why_not() == "")  # type: ignore[attr-defined]
        await deck.press("enter")
        await at_step(deck, REVIEW)


async def to_field(deck: Driver, name: str) -> None:
    """Down to a field."""
    for _ in range(100):
        if deck.text("#about").startswith(f" {name} "):
            return
        await deck.press("j")
    raise AssertionError(f"there is no {name}\n{deck.screen()}")


async def test_enter_waits_until_a_change_was_looked_at(planner: Planner, rows: Path) -> None:
    looked = Event()

    class Slow(FakeServices):
        def training(self, *asked: Any) -> TrainingPage:
            if asked[2]:
                looked.wait(60)
            return super().training(*asked)

    services = Slow(planner=planner)
    kept(services, model=LLAMA, data=str(rows), step=TRAINING)
    async with running(services) as deck:
        await opened(deck)
        await deck.press("l", "enter")
        await deck.shows("looking at what you changed")
        assert deck.place == "TrainingStep"
        looked.set()
        await deck.shows("changed by you: 1 field.  Nothing")  # and no longer that it is looking
        await deck.press("enter")
        await at_step(deck, REVIEW)


async def test_combinations_that_no_plan_can_be_made_of_are_kept_and_said(planner: Planner, rows: Path) -> None:
    """A split by a column needs two fields: the first one alone stops, and can be mended."""
    async with running(at_training(planner, rows)) as deck:
        await opened(deck)
        await deck.press("v", "g")
        await to_field(deck, "split")
        await deck.press("space", *"group", "enter")
        await deck.shows("✗ data: split: stratified or group goes with split_by, a column;", "group ›*")
        await deck.press("enter")
        assert deck.place == "TrainingStep"
        await until_kept(deck, training={"data.split": "group"})
        await deck.press("q", "q")
        await deck.until(lambda: deck.place == "HomeScreen")
        await opened(deck)  # and so does a draft that was left like that
        await deck.shows("✗ data: split: stratified or group goes with split_by", "group*")
        await to_field(deck, "split")
        await deck.press("equals_sign")
        await deck.until(lambda: deck.app.screen.why_not() == "")  # type: ignore[attr-defined]
        await deck.press("enter")
        await at_step(deck, REVIEW)


async def test_without_a_model_or_data(size: Size, planner: Planner, rows: Path) -> None:
    async with running(FakeServices(planner=planner), size=size) as deck:
        await deck.press("n", "5")
        await at_step(deck, TRAINING)
        await deck.shows("No model is chosen yet")
        await deck.press("enter", "l", "v", "space", "u", "equals_sign", "i")
        assert deck.place == "TrainingStep"
    async with running(at_training(planner, rows, data=""), size=size) as deck:
        await opened(deck)
        await deck.shows("– steps")


def test_the_panes_lie_beside_each_other_at_every_size() -> None:
    for width in range(20, 240, 7):
        for height in range(5, 80, 3):
            for lines in (9, 16, 86):
                places = training_places(width, height, lines)
                shown = [one for one in places.values() if one.area]
                for i, one in enumerate(shown):
                    assert one.right <= width
                    assert one.bottom <= height
                    assert not any(one.overlaps(other) for other in shown[i + 1 :]), (width, height, places)
                assert places["fields"].height >= 1
    assert room_for_fields(80, 24) == 9


@pytest.mark.parametrize("small", [(40, 12), (60, 20), (24, 6), (20, 5), (120, 30), (100, 30), (200, 60)])
async def test_no_size_is_too_small(small: Size, planner: Planner, rows: Path) -> None:
    async with running(at_training(planner, rows), size=small) as deck:
        await deck.press("n")
        await at_step(deck, TRAINING)
        await deck.until(lambda: "2e-4" in deck.screen())
        await deck.press("l", "j", "v", "G", "v", "g", "j", "space", "1", "enter", "k", "k", "l", "i", "escape")
        assert deck.place == "TrainingStep"
        await deck.pilot.resize_terminal(21, 5)
        await deck.pilot.resize_terminal(160, 48)
        await deck.shows("Learning rate")


async def test_ascii(planner: Planner, rows: Path) -> None:
    async with running(at_training(planner, rows, training={RATE: 1e-4}), size=(160, 48), ascii=True) as deck:
        await opened(deck)
        await deck.shows("Learning rate", "Time and disk")
        assert deck.screen().isascii()


def test_what_a_field_can_be_is_as_the_specification_says() -> None:
    spec = training.values_of(parse({"model": {"path": "m"}, "data": {"path": "d"}}))
    found = training.options(spec)
    assert spec[SCHEDULE] == "cosine"
    assert found[SCHEDULE] == SCHEDULES
    assert found["training.precision"] == ("bf16", "mixed", "fp32", None)
    assert found["training.nonfinite"] == ("stop", "skip")
    assert training.options({**spec, "training.precision": "bf16"})["training.precision"] == ("bf16", "mixed", "fp32")
    assert found["method.quantization.bits"] == (4, 8)
    assert RATE not in found
