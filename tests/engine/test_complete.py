"""What the planner fills in by its rules, and what it leaves alone."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models import ModelFacts
from engine.planner.plan import Request
from engine.planner.recommend import recommend
from engine.planner.rules import Reason
from engine.planner.shape import shape
from engine.planner.steps import steps_for, validation_rows
from engine.spec import RunSpec, flatten, parse
from tests.engine.planning import LLAMA_8B, SMOLLM2, card, facts

# Where None itself says something: no limit of steps, no early stopping, the tokenizer's own template, ...
MAY_BE_NONE = {"data.format", "data.template", "data.max_rows", "method.variant", "training.max_steps"}
MAY_BE_NONE |= {"evaluation.prompts", "evaluation.early_stopping"}  # prompts: launch.prepare, which has the rows
MAY_BE_NONE |= {
    "data.system",
    "data.split_by",
    "data.filters.duplicates",
    "data.filters.min_characters",
    "data.filters.max_characters",
}
ADAPTERS_ONLY = {"method.rank", "method.alpha", "method.dropout", "method.targets"}


def spec(**sections: Any) -> RunSpec:
    return parse({"model": {"path": "m"}, "data": {"path": "d"}} | sections)


def filled(given_spec: RunSpec, config: dict[str, Any], rows: int, gpu: bool) -> tuple[RunSpec, list[Reason]]:
    model: ModelFacts = facts(config)
    cards = card("a100-80gb") if gpu else None
    choice = recommend(Request(given_spec, model, shape(config), cards, rows=rows)).choice
    return choice.spec, [r for r in choice.reasons if r.why]


@pytest.mark.parametrize("kind", ["lora", "qlora", "full"])
@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("config", [SMOLLM2, LLAMA_8B])
@pytest.mark.parametrize("rows", [1, 19, 20, 500, 50_000])
def test_nothing_stays_open_and_every_choice_has_its_reason(
    kind: str, gpu: bool, config: dict[str, Any], rows: int
) -> None:
    open_spec = spec(method={"kind": kind})
    made, reasons = filled(open_spec, config, rows, gpu)
    before, after = flatten(open_spec.model_dump()), flatten(made.model_dump())
    sections = ("data.", "method.", "training.", "evaluation.", "saving.")
    unset = {p for p, v in after.items() if v is None and p.startswith(sections)} - MAY_BE_NONE
    assert unset == (ADAPTERS_ONLY if kind == "full" else set())
    changed = {p: v for p, v in after.items() if v != before[p]}
    assert {r.field: r.value for r in reasons} == changed
    assert len(reasons) == len(changed)
    assert parse(made.model_dump()) == made


def test_what_was_given_is_kept() -> None:
    chosen: dict[str, Any] = {
        "data": {"path": "d", "validation": 0.0},
        "method": {"kind": "lora", "rank": 8, "alpha": 3.0, "dropout": 0.0, "targets": "attention"},
        "training": {"learning_rate": 1e-5, "epochs": 0.5, "micro_batch": 3, "accumulation": 5, "max_length": 99, "long_rows": "cut",
                     "precision": "fp32", "packing": True, "checkpointing": False, "optimizer": "sgd", "attention": "eager",
                     "warmup": 7.0, "weight_decay": 0.3, "max_grad_norm": 9.0},
        "evaluation": {"every": 0.0}, "saving": {"every": 0.0},
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
