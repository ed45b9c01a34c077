"""The paired bootstrap: how often its interval holds the truth, and what must hold for any numbers."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.scoring import compare
from engine.scoring.bootstrap import FEW, described, paired, ratio, tail
from engine.scoring.corpus import chosen, corpus_bleu, macro_f1, perplexity

VALUE = st.floats(-1e3, 1e3, allow_subnormal=False)
PAIRS = st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=30)


def both(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


class TestInterval:
    @pytest.mark.parametrize("rows", [8, 20, 60])
    def test_it_holds_the_truth_in_about_95_of_100_cases(self, rows: int) -> None:
        """Differences from a normal distribution round 0.4. Of 500 trials at 95 % between 455 and 492 hold it (99.9 %)."""
        rng = np.random.default_rng(rows)
        held = 0
        for seed in range(500):
            base = rng.normal(2.0, 1.0, rows)
            found = compare(list(base), list(base + rng.normal(0.4, 0.5, rows)), True, seed)
            held += found["low"] <= 0.4 <= found["high"]
        assert 455 <= held <= 492

    def test_it_holds_the_truth_of_a_ratio_too(self) -> None:
        """A token-weighted loss, the weights going with the losses: the mean of the rows is another number."""
        rng = np.random.default_rng(1)
        held = 0
        for seed in range(300):
            tokens = rng.integers(5, 100, 40).astype(float)
            difference = 0.01 * tokens + rng.normal(0, 0.3, 40)
            base = np.stack([2.0 * tokens, tokens], axis=1)
            tuned = np.stack([(2.0 + difference) * tokens, tokens], axis=1)
            found = paired(base, tuned, ratio, seed)
            truth = 0.01 * np.mean(np.arange(5, 100) ** 2.0) / np.mean(np.arange(5, 100))
            held += found.low <= truth <= found.high
        assert 267 <= held <= 297  # 99.9 % of binomial(300, 0.95), and a percent for 40 rows of a skewed kind

    def test_without_a_difference_it_is_noise_in_about_95_of_100_cases(self) -> None:
        rng = np.random.default_rng(5)
        called = [
            compare(list(rng.normal(0, 1, 12)), list(rng.normal(0, 1, 12)), True, seed)["verdict"]
            for seed in range(400)
        ]
        assert 360 <= called.count("noise") <= 395

    def test_few_rows_widen_it(self) -> None:
        tails = [tail(rows) for rows in (6, 8, 12, 30, 100, 10_000)]
        assert tails == sorted(tails)
        assert tails[-1] == pytest.approx(0.025, abs=1e-4)
        # Student's t with 7 degrees is 2.365
        normal_tail = 0.5 * math.erfc(math.sqrt(8 / 7) * 2.365 / math.sqrt(2))
        assert tail(8) == pytest.approx(normal_tail, rel=0.05)


class TestCompare:
    @given(PAIRS)
    @settings(max_examples=40, deadline=None)
    def test_the_other_way_round_it_is_the_same_with_the_other_sign(self, pairs: list[tuple[float, float]]) -> None:
        base, tuned = both(pairs)
        one, other = compare(base, tuned, True), compare(tuned, base, True)
        assert (one["base"], one["tuned"]) == (other["tuned"], other["base"])
        assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]), rel=1e-9, abs=1e-9)
        assert one["difference"] == -other["difference"]
        opposite = {"better": "worse", "worse": "better", "noise": "noise"}
        assert opposite[one["verdict"]] == other["verdict"] == compare(base, tuned, False)["verdict"]

    @given(st.lists(VALUE, min_size=1, max_size=30))
    @settings(max_examples=30, deadline=None)
    def test_the_same_is_no_difference(self, values: list[float]) -> None:
        found = compare(values, values, True)
        assert (found["difference"], found["low"], found["high"], found["verdict"]) == (0, 0, 0, "noise")
        assert found["base"] == pytest.approx(math.fsum(values) / len(values), rel=1e-9, abs=1e-9)

    @given(PAIRS, st.floats(0.5, 100))
    @settings(max_examples=30, deadline=None)
    def test_it_lies_in_its_interval_and_goes_with_the_unit(
        self, pairs: list[tuple[float, float]], unit: float
    ) -> None:
        base, tuned = both(pairs)
        one = compare(base, tuned, True, 3)
        scaled = compare([unit * v for v in base], [unit * v for v in tuned], True, 3)
        for key in ("base", "tuned", "difference", "low", "high"):
            assert scaled[key] == pytest.approx(unit * one[key], rel=1e-6, abs=1e-6)
        assert min(b - a for a, b in pairs) - 1e-6 <= one["low"] <= one["high"] <= max(b - a for a, b in pairs) + 1e-6

    def test_the_seed_decides(self) -> None:
        base, tuned = [float(n) for n in range(20)], [float(n * n % 7) for n in range(20)]
        assert compare(base, tuned, True, 1) == compare(base, tuned, True, 1)
        assert compare(base, tuned, True, 1)["low"] != compare(base, tuned, True, 2)["low"]

    def test_so_few_rows_say_nothing(self) -> None:
        for rows in range(1, FEW + 1):
            assert compare([3.0 + 0.01 * n for n in range(rows)], [1.0] * rows, False)["verdict"] == "noise"
        assert compare([3.0 + 0.01 * n for n in range(FEW + 1)], [1.0] * (FEW + 1), False)["verdict"] == "better"

    def test_what_is_no_number_is_left_out_in_pairs(self) -> None:
        found = compare([1.0, math.nan, None, 4.0, True], [2.0, 3.0, 3.0, math.inf, 1.0], True)
        assert (found["base"], found["tuned"], found["rows"]) == (1.0, 2.0, 1)
        nothing = compare([None], [1.0], True)
        assert (nothing["base"], nothing["low"], nothing["rows"], nothing["verdict"]) == (None, None, 0, "noise")
        with pytest.raises(ValueError, match="shorter"):
            compare([1.0, 2.0], [1.0], True)

    def test_many_rows_are_drawn_in_parts(self) -> None:
        rng = np.random.default_rng(2)
        base = rng.normal(0, 1, 5000)
        found = compare(list(base), list(base + 0.1 + rng.normal(0, 1, 5000)), True)
        width = found["high"] - found["low"]
        assert width == pytest.approx(2 * 1.96 / math.sqrt(5000), rel=0.1)
        assert found["verdict"] == "better"


def sums(rows: Any) -> Any:
    return np.asarray(rows, dtype=float).sum(axis=0)


class TestCorpus:
    @given(st.lists(st.tuples(st.text("ab c.", max_size=20), st.text("ab c.", max_size=20)), min_size=1, max_size=5))
    @settings(max_examples=150, deadline=None)
    def test_bleu_of_a_corpus_is_that_of_sacrebleu(self, pairs: list[tuple[str, str]]) -> None:
        import sacrebleu

        from engine.scoring.answers import bleu

        expected = sacrebleu.corpus_bleu([a for a, _ in pairs], [[r for _, r in pairs]]).score
        found = corpus_bleu(sums([bleu(a, r)[1] for a, r in pairs]))
        assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-9)

    def test_macro_f1_by_hand(self) -> None:
        """As scikit-learn's f1_score(average="macro", labels=the references'): a 2/3, b 1/2, c 0; `d` is none of them."""
        right, given = ["a", "a", "b", "b", "c"], ["a", "a", "a", "b", "d"]
        f1 = {"a": 2 * 2 / (2 * 2 + 1), "b": 2 * 1 / (2 * 1 + 1), "c": 0.0}
        assert float(macro_f1(sums(chosen(given, right)))) == pytest.approx(sum(f1.values()) / 3)
        assert float(macro_f1(sums(chosen(right, right)))) == 1
        assert float(macro_f1(sums(chosen(["x"] * 5, right)))) == 0

    def test_a_class_that_was_not_drawn_does_not_count(self) -> None:
        rows = chosen(["a", "b"], ["a", "b"])
        assert float(macro_f1(sums([rows[0], rows[0]]))) == 1

    def test_perplexity_is_exp_of_the_loss_of_all_tokens(self) -> None:
        assert float(perplexity(sums([[2.0 * 10, 10], [1.0 * 30, 30]]))) == pytest.approx(math.exp(50 / 40))

    def test_a_score_that_is_not_defined_is_none(self) -> None:
        found = paired(np.array([[2000.0, 1.0]] * 8), np.array([[1.0, 1.0]] * 8), perplexity)
        assert (found.base, found.difference, found.rows) == (math.inf, -math.inf, 8)
        assert math.isnan(found.low)
        assert described(found, False)["base"] is None
        assert described(found, False)["verdict"] == "noise"
