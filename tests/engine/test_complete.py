"""What the planner fills in by its rules, and what it leaves alone."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.compatibility import why_not
from engine.data.lengths import Lengths
from engine.errors import SpecError
from engine.methods import METHODS
from engine.models import ModelFacts
from engine.planner import rules
from engine.planner.plan import Request
from engine.planner.recommend import recommend
from engine.planner.rules import Reason
from engine.planner.shape import ia3_names, shape
from engine.planner.steps import steps_for, validation_rows
from engine.spec import RunSpec, flatten, parse
from tests.engine.planning import LLAMA_8B, SMOLLM2, card, facts
from tests.traced import FAMILIES

# Where None itself says something: no limit of steps, no early stopping, the tokenizer's own template, ...
MAY_BE_NONE = {"data.format", "data.template", "data.max_rows", "method.variant", "training.max_steps"}
MAY_BE_NONE |= {"evaluation.prompts", "evaluation.early_stopping"}  # prompts: launch.prepare, which has the rows
MAY_BE_NONE |= {
    "data.system",
    "data.split_by",
    "data.filters.duplicates",
    "data.filters.min_characters",
    "data.filters.max_characters",
    "method.quantization",  # not every base is quantised
}
SETTINGS = ("rank", "alpha", "dropout", "targets", "virtual_tokens")
OPTIONS = {
    "grpo": ("beta", "generations", "completion_length"),
    **dict.fromkeys(("dpo", "kto", "orpo", "cpo"), ("beta",)),
}
OBJECTIVES = ("sft", "text", "dpo", "kto", "reward", "orpo", "cpo", "grpo")


def spec(**sections: Any) -> RunSpec:
    return parse({"model": {"path": "m"}, "data": {"path": "d"}} | sections)


def filled(
    given_spec: RunSpec, config: dict[str, Any], rows: int, gpu: bool, lengths: Lengths | None = None
) -> tuple[RunSpec, list[Reason]]:
    model: ModelFacts = facts(config)
    cards = card("a100-80gb") if gpu else None
    choice = recommend(Request(given_spec, model, shape(config), cards, rows=rows, lengths=lengths)).choice
    return choice.spec, [r for r in choice.reasons if r.why]


def check_whole(open_spec: RunSpec, config: dict[str, Any], rows: int, gpu: bool) -> RunSpec:
    """What was open is filled, but for what the method and the objective do not have; each value has one reason."""
    made, reasons = filled(open_spec, config, rows, gpu)
    before, after = flatten(open_spec.model_dump()), flatten(made.model_dump())
    sections = ("data.", "method.", "training.", "evaluation.", "saving.", "objective_options.")
    unset = {p for p, v in after.items() if v is None and p.startswith(sections)} - MAY_BE_NONE
    kind, objective = made.method.kind or "", open_spec.objective or ""
    has_not = {f"method.{name}" for name in SETTINGS if name not in METHODS[kind].fields}
    options = {"beta", "generations", "completion_length"} - {*OPTIONS.get(objective, ())}
    assert unset == has_not | {f"objective_options.{name}" for name in options}
    changed = {p: v for p, v in after.items() if v != before.get(p) and not p.startswith("method.quantization")}
    if made.method.quantization != open_spec.method.quantization:
        changed["method.quantization"] = made.method.model_dump()["quantization"]
    assert {r.field: r.value for r in reasons} == changed
    assert len(reasons) == len(changed)
    json.dumps([vars(reason) for reason in reasons])  # they are stored
    assert parse(made.model_dump()) == made
    assert not [c for c in ("packing", "checkpointing") if getattr(made.training, c) and why_not(kind, None, c)]
    return made


@pytest.mark.parametrize("kind", ["lora", "qlora", "full"])
@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("config", [SMOLLM2, LLAMA_8B])
@pytest.mark.parametrize("rows", [1, 19, 20, 500, 50_000])
def test_nothing_stays_open_and_every_choice_has_its_reason(
    kind: str, gpu: bool, config: dict[str, Any], rows: int
) -> None:
    check_whole(spec(method={"kind": kind}), config, rows, gpu)


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_gets_what_it_has_and_nothing_else(kind: str) -> None:
    made = check_whole(spec(method={"kind": kind}), LLAMA_8B, 5000, True)
    assert made.method.kind == kind
    check_whole(spec(method={"kind": kind}), SMOLLM2, 50, False)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("gpu", [True, False])
def test_every_objective_gets_what_it_has(objective: str, kind: str, gpu: bool) -> None:
    made = check_whole(spec(objective=objective, method={"kind": kind}), SMOLLM2, 3000, gpu)
    options, t = made.objective_options, made.training
    assert options.beta == {"dpo": 0.1, "kto": 0.1, "orpo": 0.1, "cpo": 0.1, "grpo": 0.0}.get(objective)
    assert not (t.packing or t.group_by_length) or objective in ("sft", "text")
    assert (t.epochs == 1) == (objective not in ("sft", "text"))
    assert (made.evaluation.sample_every == 0) == (objective == "reward")
    rates = {name: rules.objective_learning_rate(name, kind, 10**9, 3000).value for name in ("sft", objective)}
    assert rates[objective] < rates["sft"] or objective in ("sft", "text")


@pytest.mark.parametrize(
    ("given", "gpu"),
    [({}, True), ({}, False), ({"micro_batch": 3}, True), ({"accumulation": 5}, True), ({"micro_batch": 2, "accumulation": 3}, False),
     ({"micro_batch": 12}, False)],
)  # fmt: skip
def test_grpo_answers_each_prompt_as_often(given: dict[str, Any], gpu: bool) -> None:
    """TRL wants the answers of a step to be a multiple of those to a prompt."""
    made, _ = filled(spec(objective="grpo", training=given), SMOLLM2, 3000, gpu)
    t, groups = made.training, made.objective_options.generations or 0
    assert groups >= 2
    assert (t.micro_batch or 0) * (t.accumulation or 0) % groups == 0
    kept = {"micro_batch": t.micro_batch, "accumulation": t.accumulation}
    assert kept | given == kept


def test_grpo_keeps_the_groups_that_were_given() -> None:
    for groups, accumulation, gpu in ((8, 2, True), (6, 2, True), (6, 2, False), (5, 1, False)):
        options, training = {"generations": groups}, {"accumulation": accumulation}
        made, _ = filled(spec(objective="grpo", objective_options=options, training=training), SMOLLM2, 3000, gpu)
        assert made.objective_options.generations == groups
        assert (made.training.micro_batch or 0) * accumulation % groups == 0


def test_kto_never_has_one_row_a_micro_batch() -> None:
    for gpu, rows in ((True, 3000), (True, 10), (False, 10)):
        made, _ = filled(spec(objective="kto", method={"kind": "lora"}), LLAMA_8B, rows, gpu)
        assert (made.training.micro_batch or 0) >= 2
    plan = recommend(Request(spec(objective="kto", training={"micro_batch": 1}), facts(SMOLLM2), shape(SMOLLM2), None))
    assert any("KTO" in text for text in plan.problems)


def test_the_head_is_chosen_by_device_and_size() -> None:
    def head(gpu: bool, longest: int, **sections: Any) -> tuple[bool | None, str]:
        lengths = Lengths(500, (longest,) * 500, True)
        made, reasons = filled(spec(**sections), SMOLLM2, 500, gpu, lengths)
        return made.training.fused_head, next(r.why for r in reasons if r.field == "training.fused_head")

    assert head(True, 200)[0] is True
    assert head(False, 200)[0] is False
    fused, why = head(False, 4000)
    assert fused is True
    t = filled(spec(), SMOLLM2, 500, False, Lengths(500, (4000,) * 500, True))[0].training
    assert f"{(t.micro_batch or 0) * 4000 * 49152 * 18 / 2**30:.1f} GiB" in why
    for objective in ("orpo", "cpo", "reward"):
        assert head(True, 200, objective=objective)[0] is False


def test_rows_are_grouped_where_their_lengths_differ() -> None:
    uneven, even = tuple([50] * 400 + [200] * 100), (100,) * 500
    for lengths, objective, expected in ((uneven, "sft", True), (even, "sft", False), (uneven, "dpo", False)):
        made, _ = filled(spec(objective=objective), SMOLLM2, 500, False, Lengths(500, lengths, True))
        assert made.training.group_by_length is expected
    alone, _ = filled(spec(training={"micro_batch": 1}), SMOLLM2, 500, False, Lengths(500, uneven, True))
    packed, _ = filled(spec(training={"packing": True}), SMOLLM2, 500, True, Lengths(500, uneven, True))
    assert alone.training.group_by_length is packed.training.group_by_length is False


def test_a_prefix_is_neither_packed_nor_checkpointed() -> None:
    lengths = Lengths(50_000, (100,) * 500, True)
    made, _ = filled(spec(method={"kind": "prefix"}, training={"max_length": 1024}), LLAMA_8B, 50_000, True, lengths)
    assert (made.training.packing, made.training.checkpointing) == (False, False)
    usual, _ = filled(spec(method={"kind": "lora"}, training={"max_length": 1024}), LLAMA_8B, 50_000, True, lengths)
    assert usual.training.packing is True


def test_ia3_names_what_it_scales() -> None:
    made, _ = filled(spec(method={"kind": "ia3"}), LLAMA_8B, 500, True)
    assert made.method.targets == ["k_proj", "v_proj", "down_proj"]
    assert ia3_names(FAMILIES["gpt_neox"]) == ["query_key_value", "dense_4h_to_h"]
    assert ia3_names(FAMILIES["gpt2"]) == ["c_attn", "mlp.c_proj"]
    assert ia3_names(FAMILIES["mixtral"]) == ["k_proj", "v_proj"]
    with pytest.raises(SpecError, match=r"method\.targets|mamba"):
        ia3_names({"model_type": "mamba"})


def test_what_was_given_is_kept() -> None:
    chosen: dict[str, Any] = {
        "data": {"path": "d", "validation": 0.0},
        "objective": "dpo", "objective_options": {"beta": 0.5},
        "method": {"kind": "lora", "rank": 8, "alpha": 3.0, "dropout": 0.0, "targets": "attention"},
        "training": {"learning_rate": 1e-5, "epochs": 0.5, "micro_batch": 3, "accumulation": 5, "max_length": 99, "long_rows": "cut",
                     "precision": "fp32", "packing": True, "checkpointing": False, "optimizer": "sgd", "attention": "eager",
                     "warmup": 7.0, "weight_decay": 0.3, "max_grad_norm": 9.0, "fused_head": False, "group_by_length": True,
                     "compile": True, "kernels": "hub"},
        "evaluation": {"every": 0.0, "sample_every": 3, "general": False}, "saving": {"every": 0.0},
    }  # fmt: skip
    given_spec = spec(**chosen)
    assert filled(given_spec, SMOLLM2, 100, True) == (given_spec, [])


def test_the_scale_follows_the_rank_that_was_given() -> None:
    assert filled(spec(method={"rank": 64}), LLAMA_8B, 100, True)[0].method.alpha == 128


def test_values_that_depend_on_the_case() -> None:
    assert filled(spec(), LLAMA_8B | {"max_position_embeddings": 512}, 100, True)[0].training.max_length == 512
    assert filled(spec(), SMOLLM2, 100, True)[0].training.max_length == 1024
    assert filled(spec(), LLAMA_8B, 100, False)[0].training.checkpointing is True
    assert filled(spec(), SMOLLM2, 100, False)[0].training.checkpointing is False


def test_few_rows_hold_none_out_and_are_not_evaluated() -> None:
    made, _ = filled(spec(), SMOLLM2, 19, False)
    assert (made.data.validation, made.evaluation.every) == (0.0, 0)
    assert (made.saving.every or 0) >= 1


def test_a_validation_file_is_evaluated() -> None:
    made, _ = filled(spec(data={"path": "d", "validation": "held.jsonl"}), SMOLLM2, 19, False)
    assert (made.evaluation.every or 0) >= 1


@pytest.mark.parametrize(
    ("validation", "rows", "expected"),
    [(None, 10, 0), ("held.jsonl", 10, 0), (0.0, 10, 0), (0.1, 10, 1), (0.25, 1000, 250), (1, 10, 1), (7.0, 10, 7),
     (10, 10, 9), (500, 10, 9), (0.99, 10, 9), (1, 1, 0), (0.9, 1, 0)],
)  # fmt: skip
def test_rows_held_out(validation: Any, rows: int, expected: int) -> None:
    assert validation_rows(validation, rows) == expected


@given(st.none() | st.text() | st.floats(0, 1e9), st.integers(1, 10**6))
def test_a_row_is_always_left_to_train_on(validation: Any, rows: int) -> None:
    assert 0 <= validation_rows(validation, rows) < rows


@pytest.mark.parametrize(
    ("training", "processes", "rows", "expected"),
    [
        ({"micro_batch": 4, "accumulation": 4, "epochs": 3}, 1, 64, 12),
        ({"micro_batch": 4, "accumulation": 4, "epochs": 3}, 1, 65, 15),
        ({"micro_batch": 4, "accumulation": 4, "epochs": 3}, 2, 64, 6),
        ({"micro_batch": 4, "epochs": 0.5}, 1, 64, 8),
        ({"micro_batch": 4, "epochs": 0.01}, 1, 8, 1),
        ({"max_steps": 7, "epochs": 3}, 1, 64, 7),
        ({}, 1, 5, 5),
    ],
)
def test_steps(training: dict[str, Any], processes: int, rows: int, expected: int) -> None:
    assert steps_for(spec(training=training, compute={"processes": processes}), rows) == expected


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 10**5), st.booleans())
def test_it_is_evaluated_and_saved_about_five_times(rows: int, gpu: bool) -> None:
    made, _ = filled(spec(), SMOLLM2, rows, gpu)
    steps = steps_for(made, rows - validation_rows(made.data.validation, rows))
    every = made.saving.every or 0
    assert 1 <= every <= steps
    assert steps < 5 or 3 <= steps // every <= 9
