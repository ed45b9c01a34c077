"""What the planner fills in, and what it leaves alone."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models import ModelFacts
from engine.planner.recommend import fill, steps_for, validation_rows
from engine.spec import RunSpec, flatten, parse

SMALL = ModelFacts(
    "m", "directory", "m", "Llama", 135_000_000, 576, 30, 1536, 9, 3, 49152, 8192, "bfloat16", 270_000_000, True
)
LARGE = ModelFacts(
    "m", "directory", "m", "Llama", 8_000_000_000, 4096, 32, 14336, 32, 8, 128256, 512, "bfloat16", 16 << 30, True
)
# Where None itself says something: no limit of steps, no early stopping, the tokenizer's own template, ...
MAY_BE_NONE = {"data.format", "data.template", "data.max_rows", "method.variant", "training.max_steps"}
MAY_BE_NONE |= {"evaluation.prompts", "evaluation.early_stopping"}  # prompts: launch.prepare, which has the rows
ADAPTERS_ONLY = {"method.rank", "method.alpha", "method.dropout"}


def spec(**sections: Any) -> RunSpec:
    return parse({"model": {"path": "m"}, "data": {"path": "d"}} | sections)


@pytest.mark.parametrize("kind", ["lora", "qlora", "full"])
@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("model", [SMALL, LARGE])
@pytest.mark.parametrize("rows", [1, 19, 20, 500, 50_000])
def test_nothing_stays_open_and_every_choice_has_its_reason(kind: str, gpu: bool, model: ModelFacts, rows: int) -> None:
    open_spec = spec(method={"kind": kind})
    filled, reasons = fill(open_spec, model, rows, gpu)
    before, after = flatten(open_spec.model_dump()), flatten(filled.model_dump())
    sections = ("data.", "method.", "training.", "evaluation.", "saving.")
    unset = {p for p, v in after.items() if v is None and p.startswith(sections)} - MAY_BE_NONE
    assert unset == (ADAPTERS_ONLY if kind == "full" else set())
    changed = {p: v for p, v in after.items() if v != before[p]}
    assert {r.field: r.value for r in reasons} == changed
    assert len(reasons) == len(changed)
    assert all(r.why for r in reasons)
    assert parse(filled.model_dump()) == filled


def test_what_was_given_is_kept() -> None:
    chosen: dict[str, Any] = {
        "data": {"path": "d", "validation": 0.0},
        "method": {"kind": "lora", "rank": 8, "alpha": 3.0, "dropout": 0.0},
        "training": {"learning_rate": 1e-5, "epochs": 0.5, "micro_batch": 3, "accumulation": 5, "max_length": 99,
                     "precision": "fp32", "packing": True, "checkpointing": False},
        "evaluation": {"every": 0.0}, "saving": {"every": 0.0},
    }  # fmt: skip
    given_spec = spec(**chosen)
    assert fill(given_spec, SMALL, 100, True) == (given_spec, [])


def test_the_scale_follows_the_rank_that_was_given() -> None:
    assert fill(spec(method={"rank": 64}), SMALL, 100, True)[0].method.alpha == 128


def test_values_that_depend_on_the_case() -> None:
    assert fill(spec(), LARGE, 100, True)[0].training.max_length == 512
    assert fill(spec(), SMALL, 100, True)[0].training.max_length == 1024
    assert fill(spec(), LARGE, 100, False)[0].training.checkpointing is True
    assert fill(spec(), SMALL, 100, False)[0].training.checkpointing is False
    lora, full = (fill(spec(method={"kind": k}), SMALL, 100, True)[0].training.learning_rate for k in ("lora", "full"))
    assert (lora, full) == (2e-4, 2e-5)


def test_few_rows_hold_none_out_and_are_not_evaluated() -> None:
    filled, _ = fill(spec(), SMALL, 19, False)
    assert (filled.data.validation, filled.evaluation.every) == (0.0, 0)
    assert (filled.saving.every or 0) >= 1


def test_a_validation_file_is_evaluated() -> None:
    filled, _ = fill(spec(data={"path": "d", "validation": "held.jsonl"}), SMALL, 19, False)
    assert (filled.evaluation.every or 0) >= 1


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


@settings(deadline=None)
@given(st.integers(1, 10**5), st.booleans())
def test_it_is_evaluated_and_saved_about_five_times(rows: int, gpu: bool) -> None:
    filled, _ = fill(spec(), SMALL, rows, gpu)
    steps = steps_for(filled, rows - validation_rows(filled.data.validation, rows))
    every = filled.saving.every or 0
    assert 1 <= every <= steps
    assert steps < 5 or 3 <= steps // every <= 9
