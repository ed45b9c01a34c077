"""The rules of thumb at their borders, and the arithmetic of steps."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.methods import METHODS
from engine.planner import rules
from engine.planner.rules import Goal, advice, prefers_full
from engine.planner.steps import steps_for, validation_rows
from engine.spec import Objective
from tests.traced import spec_of

GOALS = get_args(Goal)
BILLION = 10**9


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_has_its_rank_and_its_least_rows(goal: Goal) -> None:
    few, many = rules.RANKS[goal]
    assert (rules.rank(goal, 999).value, rules.rank(goal, 1000).value) == (few, many)
    assert few < many
    least = rules.MINIMUM_ROWS[goal]
    assert not [note for note in advice(goal, least) if "few" in note]
    assert [note for note in advice(goal, least - 1) if "few" in note]
    assert not [note for note in advice(goal, None) if "few" in note]


def test_what_changes_more_gets_a_higher_rank() -> None:
    order: tuple[Goal, ...] = ("style", "instructions", "domain", "code")
    for rows in (500, 5000):
        ranks = [rules.rank(goal, rows).value for goal in order]
        assert ranks == sorted(set(ranks))


def test_the_table_of_the_field() -> None:
    """QLoRA under 1K rows 1e-4, 5 epochs, 0.05; LoRA 1K-10K 2e-4, 3, 0.01; full over 10K 2e-5, 2, 0.01."""
    table = (("qlora", 500, 1e-4, 5, 0.05), ("lora", 5000, 2e-4, 3, 0.01), ("full", 50_000, 2e-5, 2, 0.01))
    for kind, rows, rate, epochs, decay in table:
        assert rules.learning_rate(kind, 8 * BILLION, rows).value == rate
        assert rules.epochs(kind, rows).value == epochs
        assert rules.weight_decay(rows).value == decay
    assert rules.max_grad_norm("full").value == 1.0
    assert rules.max_grad_norm("qlora").value == rules.max_grad_norm("lora").value == 0.3
    assert (rules.warmup(500).value, rules.warmup(5000).value) == (0.1, 0.03)
    assert rules.dropout(500).value > rules.dropout(5000).value == 0.05


def test_when_full_fine_tuning_is_wanted() -> None:
    assert prefers_full(BILLION - 1, 10, "style")
    assert prefers_full(BILLION, 10_000, "domain") is None
    assert prefers_full(BILLION, 10_001, "domain")
    assert prefers_full(BILLION, 10_001, "style") is None


def test_other_methods_have_rates_of_their_own() -> None:
    def rate(kind: str, objective: str | None = "sft") -> float:
        return rules.objective_learning_rate(objective, kind, 8 * BILLION, 5000).value

    assert [rate(kind) for kind in ("adalora", "ia3", "prefix", "prompt", "ptuning")] == [1e-3, 3e-3, 1e-2, 3e-2, 1e-3]
    assert rate("vera") == 10 * rate("lora") == 10 * rate("hra") == 2e-3
    assert rules.rank("style", 10, "vera").value == 256
    for objective in ("dpo", "kto", "orpo", "cpo", "reward", "grpo"):
        assert rate("full", objective) < rate("lora", objective) < rate("lora")
        assert rate("prompt", objective) == pytest.approx(150 * rate("lora", objective), rel=0.1)


@settings(deadline=None)
@given(st.sampled_from(list(METHODS)), st.sampled_from(get_args(Objective)), st.integers(0, 10**7))
def test_every_method_and_objective_has_a_rate_with_a_reason(kind: str, objective: str, rows: int) -> None:
    made = rules.objective_learning_rate(objective, kind, 8 * BILLION, rows)
    assert 0 < made.value < 1
    assert made.why
    assert rules.objective_epochs(objective, kind, rows).value >= 1


@settings(deadline=None)
@given(
    st.sampled_from(["full", "lora", "qlora"]), st.integers(1, 10**12), st.integers(0, 10**7), st.sampled_from(GOALS)
)
def test_every_rule_has_a_value_and_a_reason(kind: str, parameters: int, rows: int, goal: Goal) -> None:
    made = (
        rules.rank(goal, rows), rules.dropout(rows), rules.learning_rate(kind, parameters, rows), rules.epochs(kind, rows),
        rules.weight_decay(rows), rules.warmup(rows), rules.max_grad_norm(kind),
    )  # fmt: skip
    assert all(rule.value > 0 and rule.why for rule in made)
    assert rules.learning_rate("full", parameters, rows).value < rules.learning_rate("lora", parameters, rows).value


@settings(deadline=None)
@given(st.integers(1, 10**6), st.floats(0, 0.999) | st.integers(1, 10**6))
def test_a_row_to_train_on_is_always_left(rows: int, validation: float) -> None:
    assert 0 <= validation_rows(validation, rows) <= rows - 1


def test_steps() -> None:
    assert validation_rows(None, 100) == validation_rows("held.jsonl", 100) == 0
    assert (validation_rows(0.05, 100), validation_rows(7, 100)) == (5, 7)
    spec = spec_of({}, {"micro_batch": 4, "accumulation": 2, "epochs": 3})
    assert (steps_for(spec, 80), steps_for(spec, 81), steps_for(spec, 1)) == (30, 33, 3)
    cards = spec.model_copy(update={"compute": spec.compute.model_copy(update={"processes": 2})})
    assert steps_for(cards, 80) == 15
    assert steps_for(spec_of({}, {"max_steps": 7}), 10**6) == 7
    answers = spec.objective_options.model_copy(update={"generations": 4})
    grpo = spec.model_copy(update={"objective": "grpo", "objective_options": answers})
    assert steps_for(grpo, 80) == 4 * 30
