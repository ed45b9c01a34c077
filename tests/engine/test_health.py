"""What the metric streams tell of a run."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.health import ENOUGH, best_evaluation, better_before, spike, without_improvement


def noisy(steps: int, seed: int = 0) -> list[float]:
    """A loss that falls from 3 to 1, with the noise of small batches."""
    dice = random.Random(seed)
    return [1 + 2 * math.exp(-step / 100) + dice.gauss(0, 0.1) for step in range(steps)]


class TestSpike:
    def test_a_jump_is_one(self) -> None:
        assert spike(noisy(60), 4.0) is not None
        assert spike([2.0] * 30, 2.5) is not None

    def test_noise_is_none(self) -> None:
        for seed in range(20):
            losses = noisy(300, seed)
            assert [i for i in range(300) if spike(losses[:i], losses[i])] == []

    def test_a_fall_is_none(self) -> None:
        assert spike(noisy(60), 0.0) is None

    def test_a_hair_over_a_flat_line_is_none(self) -> None:
        assert spike([2.0] * 30, 2.1) is None

    def test_it_needs_history(self) -> None:
        assert spike(noisy(ENOUGH - 1), 100.0) is None
        assert spike(noisy(ENOUGH), 100.0) is not None

    def test_earlier_spikes_hide_no_later_one(self) -> None:
        assert spike([*noisy(40), *[20.0] * 8], 20.0) is not None

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_is_another_matter(self, value: float) -> None:
        assert spike(noisy(60), value) is None
        assert spike([*noisy(60), value], 4.0) is not None

    @given(st.lists(st.floats(), max_size=80), st.floats())
    def test_of_anything(self, history: list[float], value: float) -> None:
        found = spike(history, value)
        assert found is None or found > 0


NAN = math.nan


@pytest.mark.parametrize(
    ("losses", "best", "waited", "better"),
    [
        ([], None, 0, None),
        ([2.0], 0, 0, None),
        ([2.0, 1.0], 1, 0, None),
        ([1.0, 1.005], 0, 1, None),
        ([1.0, 1.02], 0, 1, 0),
        ([1.0, 1.0, 1.0], 0, 2, None),
        ([2.0, 1.0, 1.5, 1.4], 1, 2, 1),
        ([2.0, NAN], 0, 1, 0),
        ([NAN, 2.0], 1, 0, None),
        ([NAN, NAN], None, 2, None),
    ],
)
def test_evaluations(losses: list[float], best: int | None, waited: int, better: int | None) -> None:
    known = [(10 * i, loss) for i, loss in enumerate(losses)]
    assert best_evaluation(known) == (None if best is None else known[best])
    assert without_improvement(known) == waited
    assert better_before(known) == (None if better is None else known[better])
