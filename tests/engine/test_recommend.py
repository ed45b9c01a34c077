"""The usual cases of the field come out right, what cannot fit says what would, and what was given is kept."""

import dataclasses
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import catalog, launch
from engine.cards import parse_gpu
from engine.data.lengths import Lengths
from engine.errors import NoFit
from engine.methods import METHODS
from engine.planner import rules
from engine.planner.adapters import CHECKED
from engine.planner.decide import known_of, rows_a_step
from engine.planner.memory import GIB
from engine.planner.plan import HEADROOM, Plan, Request, method_name, nearest_hint, verdict
from engine.planner.recommend import recommend, what_if
from engine.planner.rules import Goal
from engine.planner.shape import shape
from engine.spec import RunSpec, flatten, parse
from tests import traced
from tests.engine.planning import LLAMA_8B, SMOLLM2, facts, plan_spec

LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
}  # fmt: skip
MIXTRAL = catalog.models()["mistralai/Mixtral-8x7B-v0.1"].config
GEMMA2 = catalog.models()["google/gemma-2-9b"].config
GPT_OSS = catalog.models()["openai/gpt-oss-20b"].config


def request(
    config: dict[str, Any],
    gpu: str | None,
    *sets: str,
    rows: int | None = None,
    goal: Goal = "instructions",
    **flags: Any,
) -> Request:
    spec = plan_spec("m", None, flags, list(sets))
    return Request(spec, facts(config), shape(config), parse_gpu(gpu) if gpu else None, rows=rows, goal=goal)


def plan(config: dict[str, Any], gpu: str | None, *sets: str, **more: Any) -> Plan:
    return recommend(request(config, gpu, *sets, **more))


def why(made: Plan, field: str) -> str:
    return next(reason.why for reason in made.choice.reasons if reason.field == field)


@pytest.mark.parametrize(
    ("config", "gpu", "kind", "least", "most"),
    [
        (LLAMA_8B, "8GiB", "qlora", 6, 7.2),
        (LLAMA_8B, "12GiB", "qlora", 7, 10.8),
        (LLAMA_8B, "16GiB", "qlora", 7, 14.4),
        (LLAMA_8B, "rtx4090", "lora", 16, 21.6),
        (LLAMA_70B, "48GiB", "qlora", 36, 43.2),
        (LLAMA_70B, "a100-80gb", "qlora", 40, 72),
        (SMOLLM2, "rtx4090", "full", 2, 21.6),
    ],
)
def test_the_usual_cases(config: dict[str, Any], gpu: str, kind: str, least: float, most: float) -> None:
    made = plan(config, gpu)
    assert made.choice.fits == "yes"
    assert made.choice.spec.method.kind == kind
    assert made.choice.device_gib is not None
    assert least < made.choice.device_gib <= most
    assert made.nearest is None
    assert why(made, "method.kind")


def test_full_on_80_gb_is_in_bf16_and_says_why_not_mixed() -> None:
    made = plan(LLAMA_8B, "a100-80gb", method="full")
    assert made.choice.fits == "yes"
    assert made.choice.spec.training.precision == "bf16"
    assert made.choice.spec.training.checkpointing is True
    assert "swallow" in why(made, "training.precision")
    spec = made.choice.spec
    mixed = spec.model_copy(update={"training": spec.training.model_copy(update={"precision": "mixed"})})
    assert what_if(made.request, mixed).fits == "no"
    assert plan(LLAMA_8B, "a100-80gb", "training.precision=mixed", method="full").choice.fits == "no"


def test_70b_on_two_small_cards_is_sharded_with_shorter_rows() -> None:
    made = plan(LLAMA_70B, "2xrtx4090")
    spec = made.choice.spec
    assert made.choice.fits in ("yes", "close")
    assert (spec.method.kind, spec.compute.processes, spec.compute.sharding) == ("qlora", 2, "fsdp")
    assert spec.training.max_length is not None
    assert spec.training.max_length < 1024
    said = " ".join(made.problems)
    assert str(spec.training.max_length) in said
    assert "quant_storage" in said
    assert plan(LLAMA_70B, "rtx4090").choice.fits == "no"


def test_a_mixture_gets_adapters_on_its_attention() -> None:
    made = plan(MIXTRAL, "h200")
    assert made.choice.spec.method.targets == "attention"
    assert "expert" in why(made, "method.targets")
    assert made.choice.memory is not None
    everywhere = plan(MIXTRAL, "h200", method="lora", targets="all-linear")
    assert everywhere.choice.spec.method.targets == "all-linear"
    assert everywhere.choice.memory is None
    assert everywhere.choice.fits == "unknown"
    assert any("--exact" in text for text in everywhere.problems)


@pytest.mark.parametrize("config", [GEMMA2, GPT_OSS])
def test_families_that_cannot_use_sdpa(config: dict[str, Any]) -> None:
    asked = request(config, "a100-80gb")
    assert recommend(asked).choice.spec.training.attention == "eager"
    with_flash = recommend(dataclasses.replace(asked, flash=True))
    assert with_flash.choice.spec.training.attention == "flash_attention_2"


def test_a_bare_size_has_no_speed() -> None:
    made = plan(LLAMA_8B, "24GiB", rows=1000)
    assert made.choice.fits == "yes"
    assert made.choice.speed.tokens_per_second is None
    assert made.choice.speed.seconds_total is None
    assert plan(LLAMA_8B, "rtx4090", rows=1000).choice.speed.seconds_total is not None


def test_without_a_gpu_nothing_is_said_of_fitting() -> None:
    made = plan(SMOLLM2, None)
    assert made.choice.fits == "unknown"
    assert made.choice.memory is not None
    assert made.nearest is None


@pytest.mark.parametrize(
    ("gpu", "flags", "released"),
    [
        ("24GiB", {"method": "lora", "micro_batch": 64}, "training.micro_batch"),
        (
            "8GiB",
            {"method": "qlora", "no_checkpointing": True, "micro_batch": 1, "max_length": 2048},
            "training.checkpointing",
        ),
        ("rtx4090", {"method": "full"}, "method.kind"),
        ("8GiB", {"method": "qlora", "max_length": 32768}, "training.max_length"),
    ],
)
def test_what_does_not_fit_is_kept_and_the_nearest_that_fits_is_named(
    gpu: str, flags: dict[str, Any], released: str
) -> None:
    made = plan(LLAMA_8B, gpu, **flags)
    asked, got = flatten(made.request.spec.model_dump()), flatten(made.choice.spec.model_dump())
    assert made.choice.fits == "no"
    assert got[released] == asked[released]
    assert made.nearest is not None
    assert made.nearest.fits in ("yes", "close")
    assert flatten(made.nearest.spec.model_dump())[released] != asked[released]
    kept = {path for path, value in asked.items() if value is not None and path.startswith(("method.", "training."))}
    near = flatten(made.nearest.spec.model_dump())
    assert {path for path in kept if near[path] != asked[path]} == {released}
    assert "The nearest that fits" in nearest_hint(made)
    assert "does not fit" in made.problems[0]


def test_where_nothing_fits_a_card_that_would_do_is_named() -> None:
    made = plan(LLAMA_8B, "3GiB")
    assert made.choice.fits == "no"
    assert made.nearest is None
    assert "card" in nearest_hint(made)
    name = made.problems[1].partition(": ")[2].partition(" (")[0]
    card = next(one for one in catalog.cards().values() if one.name == name)
    assert plan(LLAMA_8B, card.key, method="qlora", max_length=256).choice.fits == "yes"


@pytest.mark.parametrize("goal", get_args(Goal))
def test_the_rank_follows_the_goal(goal: Goal) -> None:
    few, many = rules.RANKS[goal]
    assert plan(LLAMA_8B, "rtx4090", rows=200, goal=goal, method="lora").choice.spec.method.rank == few
    made = plan(LLAMA_8B, "rtx4090", rows=5000, goal=goal, method="lora")
    assert made.choice.spec.method.rank == many
    assert made.choice.spec.method.alpha == 2 * many


def test_few_rows_warn_and_take_fewer_rows_a_step() -> None:
    few, many = plan(LLAMA_8B, "rtx4090", rows=50), plan(LLAMA_8B, "rtx4090", rows=8000)
    assert any("few for instructions" in note for note in few.notes)
    assert not any("few for" in note for note in many.notes)
    assert any("retrieval" in note for note in plan(LLAMA_8B, "rtx4090", goal="domain").notes)

    def batch(made: Plan) -> int:
        return (made.choice.spec.training.micro_batch or 0) * (made.choice.spec.training.accumulation or 0)

    assert batch(few) < batch(many) == rules.ROWS_A_STEP


def test_large_data_of_another_domain_is_worth_full_fine_tuning() -> None:
    made = plan(LLAMA_8B, "h200", rows=50_000, goal="code")
    assert made.choice.spec.method.kind == "full"
    assert "every weight" in why(made, "method.kind")
    assert plan(LLAMA_8B, "h200", rows=50_000).choice.spec.method.kind == "lora"


def test_the_length_is_that_of_the_rows() -> None:
    tokens = tuple(sorted([100] * 400 + [500] * 98 + [3000] * 2))
    asked = request(LLAMA_8B, "rtx4090", rows=500)
    made = recommend(dataclasses.replace(asked, lengths=Lengths(500, tokens, True)))
    length = made.choice.spec.training.max_length
    assert length is not None
    assert length % 64 == 0
    assert sum(n <= length for n in tokens) / len(tokens) >= 0.995
    short = recommend(dataclasses.replace(asked, lengths=Lengths(500, (100,) * 500, True)))
    assert short.choice.spec.training.max_length == 128
    guessed = recommend(dataclasses.replace(asked, lengths=Lengths(500, (100,) * 500, False)))
    assert (guessed.choice.spec.training.max_length or 0) > 115


def test_short_rows_are_packed_where_enough_steps_are_left() -> None:
    lengths = Lengths(20_000, tuple(sorted([100] * 490 + [1000] * 10)), True)
    asked = request(LLAMA_8B, "rtx4090", rows=20_000)
    assert recommend(dataclasses.replace(asked, lengths=lengths)).choice.spec.training.packing is True
    few = dataclasses.replace(asked, rows=300, lengths=lengths)
    assert recommend(few).choice.spec.training.packing is False
    even = Lengths(20_000, (900,) * 500, True)
    assert recommend(dataclasses.replace(asked, lengths=even)).choice.spec.training.packing is False


def test_alternatives_are_ranked_and_differ() -> None:
    made = plan(LLAMA_8B, "rtx4090")
    specs = [made.choice.spec, *(one.spec for one in made.alternatives)]
    assert all(one != other for i, one in enumerate(specs) for other in specs[:i])
    order = [("yes", "close", "unknown", "no").index(one.fits) for one in made.alternatives]
    assert order == sorted(order)
    assert {"lora", "qlora", "full"} == {spec.method.kind for spec in specs}
    for one in made.alternatives:
        assert one.fits == what_if(made.request, one.spec).fits


@pytest.mark.parametrize("kind", [kind for kind in METHODS if kind not in ("full", "lora", "qlora")])
def test_another_method_is_planned_as_it_is_given(kind: str) -> None:
    made = plan(LLAMA_8B, "a100-80gb", method=kind, rows=3000)
    specs = [made.choice.spec, *(one.spec for one in made.alternatives)]
    assert {spec.method.kind for spec in specs} == {kind}
    assert all(spec.method.base is None for spec in specs)
    assert made.choice.memory is not None
    assert 0 < made.choice.memory.trained < 0.02 * made.choice.memory.parameters
    confirmed = kind in CHECKED
    assert any("estimate" in note for note in made.notes) != confirmed
    quantised = plan(LLAMA_8B, "a100-80gb", "method.quantization.bits=4", method=kind)
    assert quantised.choice.memory is not None
    assert quantised.choice.memory.weights < 0.5 * 2 * shape(LLAMA_8B).parameters


def test_another_method_that_does_not_fit_gives_way_to_a_usual_one() -> None:
    made = plan(LLAMA_8B, "8GiB", method="prompt")
    assert made.choice.fits == "no"
    assert made.choice.spec.method.kind == "prompt"
    assert made.nearest is not None
    assert made.nearest.spec.method.kind == "qlora"
    assert parse(made.nearest.spec.model_dump()) == made.nearest.spec


def test_what_the_engine_refuses_is_a_problem() -> None:
    made = plan(LLAMA_8B, "a100-80gb", "method.quantization.bits=4", method="lora")
    assert any("cannot be trained" in text and "16-bit" in text for text in made.problems)
    assert not any("cannot be trained" in text for text in plan(LLAMA_8B, "a100-80gb", method="lora").problems)
    grpo = plan(SMOLLM2, "rtx4090", "objective=grpo", "objective_options.generations=8", "training.accumulation=1",
                micro_batch=3)  # fmt: skip
    assert any("multiple" in text for text in grpo.problems)
    assert plan(LLAMA_8B, "rtx4090", "method.quantization.bits=8").choice.spec.method.kind == "qlora"


def test_layers_over_several_cards() -> None:
    """One process; each card takes its share of the layers, and the embedding or the head."""
    sets = ("compute.sharding=layers", "training.max_length=256")
    assert plan(LLAMA_70B, "4xl40s", *sets, method="lora").choice.fits == "yes"
    one, two, four = (plan(LLAMA_8B, f"{n}xa100-80gb", *sets, method="lora").choice for n in (1, 2, 4))
    assert [c.spec.compute.processes for c in (one, two, four)] == [1, 1, 1]
    assert {c.spec.compute.sharding for c in (one, two, four)} == {"layers"}
    weights = [c.memory.weights for c in (one, two, four) if c.memory]
    end = 2 * shape(LLAMA_8B).embedding
    assert [w - end for w in weights] == pytest.approx([(weights[0] - end) / n for n in (1, 2, 4)], abs=4)
    assert any("one after another" in note for note in plan(LLAMA_8B, "2xa100-80gb", *sets, method="lora").notes)
    for gpu in ("rtx4090", "2xrtx4090", "4xl40s"):
        assert plan(LLAMA_70B, gpu).choice.spec.compute.sharding != "layers"


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ({"kind": "full"}, "full"), ({"kind": "lora", "rank": 8}, "LoRA r8"), ({"kind": "qlora", "rank": 8}, "QLoRA r8"),
        ({"kind": "qlora", "rank": 8, "quantization": {"bits": 8}}, "QLoRA 8-bit r8"),
        ({"kind": "lora", "rank": 8, "variant": "pissa"}, "PiSSA r8"), ({"kind": "qlora", "rank": 8, "variant": "dora"}, "QDoRA r8"),
        ({"kind": "lora", "rank": 8, "variant": "lora+"}, "LoRA+ r8"), ({"kind": "ia3"}, "IA3"),
        ({"kind": "adalora", "rank": 8, "quantization": {}}, "AdaLoRA 4-bit r8"), ({"kind": "prefix", "virtual_tokens": 20}, "prefix 20"),
        ({"kind": "vera", "rank": 256}, "VeRA r256"),
    ],
)  # fmt: skip
def test_names(method: dict[str, Any], name: str) -> None:
    spec = RunSpec.model_validate({"model": {"path": "m"}, "data": {"path": "d"}, "method": method,
                                   "training": {"precision": "mixed"}})  # fmt: skip
    assert method_name(spec) == name


def test_verdicts() -> None:
    memory = plan(LLAMA_8B, "rtx4090").choice.memory
    assert memory is not None
    need = memory.device / GIB
    assert verdict(memory, need / (1 - HEADROOM) + 0.01) == "yes"
    assert verdict(memory, need / (1 - HEADROOM) - 0.01) == "close"
    assert verdict(memory, need) == "no"
    assert verdict(None, 24.0) == verdict(memory, None) == "unknown"


def test_an_unknown_family_has_no_made_up_number() -> None:
    config = LLAMA_8B | {"model_type": "mamba"}
    made = recommend(dataclasses.replace(request(LLAMA_8B, "rtx4090"), shape=None, facts=dataclasses.replace(
        facts(LLAMA_8B), config=config)))  # fmt: skip
    assert made.choice.memory is None
    assert made.choice.fits == "unknown"
    assert made.choice.speed.tokens_per_second is None
    assert any("mamba" in text and "--exact" in text for text in made.problems)


def test_a_run_that_does_not_fit_is_refused_unless_it_is_wanted_anyway() -> None:
    asked = request(LLAMA_8B, "8GiB", method="lora")
    with pytest.raises(NoFit) as error:
        launch._planned(asked, False, [])
    assert error.value.exit_code == 3
    assert "QLoRA" in error.value.hint
    made = launch._planned(asked, True, [])
    assert (made.choice.fits, made.choice.spec.method.kind) == ("no", "lora")
    assert launch._planned(request(LLAMA_8B, "rtx4090"), False, []).choice.fits == "yes"


def test_a_run_takes_all_cards_only_if_one_is_too_small() -> None:
    assert launch._planned(request(LLAMA_8B, "2xrtx4090"), False, []).choice.spec.compute.processes == 1
    both = launch._planned(request(LLAMA_70B, "2xrtx4090"), False, []).choice.spec.compute
    assert (both.processes, both.sharding) == (2, "fsdp")


def test_rows_a_step_leave_enough_steps() -> None:
    for rows, most in ((10, 2), (64, 2), (1000, 16), (100_000, 16)):
        known = known_of(request(LLAMA_8B, "rtx4090", rows=rows))
        assert 2 <= rows_a_step(known, "lora") <= most
    assert rows_a_step(known_of(request(LLAMA_8B, None, rows=100_000)), "lora") == 4


GIVEN: dict[str, st.SearchStrategy[Any]] = {
    "method.rank": st.integers(1, 256), "method.alpha": st.floats(1, 100), "method.dropout": st.floats(0, 0.5),
    "method.targets": st.sampled_from(["all-linear", "attention", ["q_proj", "v_proj"]]),
    "method.variant": st.sampled_from(["dora", "rslora"]), "training.learning_rate": st.floats(1e-6, 0.1),
    "training.epochs": st.floats(0.5, 10), "training.max_steps": st.integers(1, 1000), "training.micro_batch": st.integers(1, 64),
    "training.accumulation": st.integers(1, 64), "training.max_length": st.integers(8, 4096), "training.packing": st.booleans(),
    "training.checkpointing": st.booleans(), "training.optimizer": st.sampled_from(["adamw_8bit", "adafactor", "sgd"]),
    "training.precision": st.sampled_from(["bf16", "mixed", "fp32"]), "training.attention": st.sampled_from(["sdpa", "eager"]),
    "training.warmup": st.floats(0, 1), "evaluation.every": st.integers(0, 100), "data.validation": st.integers(0, 100),
}  # fmt: skip


def _with(sections: dict[str, Any]) -> RunSpec:
    raw: dict[str, dict[str, Any]] = {"model": {"path": "m"}, "data": {"path": "d"}}
    for path, value in sections.items():
        section, _, name = path.partition(".")
        raw.setdefault(section, {})[name] = value
    return RunSpec.model_validate(raw)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([LLAMA_8B, SMOLLM2, traced.FAMILIES["mixtral"]]), st.sampled_from([None, "8GiB", "rtx4090", "2xrtx4090"]),
       st.lists(st.sampled_from(sorted(GIVEN)), max_size=5, unique=True), st.sampled_from([None, "lora", "qlora", "full"]),
       st.sampled_from([None, 5, 3000]), st.data())  # fmt: skip
def test_every_given_field_is_kept(
    config: dict[str, Any], gpu: str | None, paths: list[str], kind: str | None, rows: int | None, data: st.DataObject
) -> None:
    if kind == "full":
        paths = [path for path in paths if not path.startswith("method.")]
    sections = {path: data.draw(GIVEN[path]) for path in paths} | ({"method.kind": kind} if kind else {})
    spec = _with(sections)
    made = recommend(Request(spec, facts(config), shape(config), parse_gpu(gpu) if gpu else None, rows=rows))
    for one in (made.choice.spec, *(choice.spec for choice in made.alternatives)):
        assert {path: flatten(one.model_dump())[path] for path in sections} == sections
    assert made.choice.spec.method.kind is not None
    assert made.choice.spec.training.micro_batch is not None
