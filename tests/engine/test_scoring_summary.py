"""Rows as an evaluation leaves them: finished, reckoned together, and said in a sentence."""

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.scoring import finish, forgetting, kind_of, summarise
from engine.scoring.kinds import KINDS
from engine.scoring.rows import BROKEN
from engine.scoring.wording import shown, signed

Row = dict[str, Any]


def side(answer: str | None = None, loss: Any = None, trained: int | None = 10, **more: Any) -> Row:
    return {"answer": answer, "loss": loss, "trained": trained} | more


def row(number: int, reference: str | None, base: Row, tuned: Row, kind: str = "text", **more: Any) -> Row:
    return finish({"row": number, "reference": reference, "base": base, "tuned": tuned} | more, kind)


def losses(pairs: list[tuple[Any, Any]], **more: Any) -> list[Row]:
    return [row(n, None, side(loss=a), side(loss=b), **more) for n, (a, b) in enumerate(pairs, 1)]


class TestFinish:
    def test_worse_is_worse_and_better_a_gain(self) -> None:
        rows = losses([(3.0, 1.0), (3.0, 2.0), (1.0, 3.0)])
        assert [one["badness"] for one in rows] == [1, 2, 3]
        assert [one["gain"] for one in rows] == [2, 1, -2]

    def test_a_wrong_label_is_worst_and_among_those_the_less_expected(self) -> None:
        answers = [("yes", 0.1), ("no", 0.1), ("no", 2.0), ("yes", 5.0)]
        rows = [row(n, "yes", side("no", 1.0), side(said, loss), "labels") for n, (said, loss) in enumerate(answers)]
        worst = sorted(range(4), key=lambda i: -rows[i]["badness"])
        assert worst == [2, 1, 3, 0]
        assert [one["gain"] for one in rows] == [1, 0, 0, 1]

    def test_tokens_say_how_long_it_is_where_they_are_known(self) -> None:
        one = row(1, "two words", side("two words", trained=4, tokens=8), side("two words", trained=4))
        assert (one["base"]["scores"]["length"], one["tuned"]["scores"]["length"]) == (2, 1)

    def test_whether_it_ended_by_itself_counts(self) -> None:
        rows = [row(n, "a", side("a b", stopped=False), side("a", stopped=True)) for n in range(8)]
        found = summarise(rows, "text")["scores"]["stopped"]
        assert (found["base"], found["tuned"], found["verdict"]) == (0, 1, "better")

    def test_a_row_without_loss_or_without_answer_is_taken_as_far_as_it_goes(self) -> None:
        said = row(1, "the cat", side("the dog"), side("the cat"))
        assert said["badness"] == pytest.approx(0)
        assert said["gain"] > 0
        asked_only = row(2, None, side("hm"), side("ha"))
        assert "badness" not in asked_only
        assert "gain" not in asked_only
        half = finish({"row": 3, "reference": "a", "tuned": side("b", 2.0)}, "text")
        assert half["badness"] == 2
        assert "gain" not in half
        assert finish({"row": 4}, "text") == {"row": 4}

    def test_a_loss_that_is_no_number_is_the_worst_there_is(self) -> None:
        for loss in (math.nan, math.inf, "nan", "inf"):
            one = losses([(2.0, loss)])[0]
            assert one["badness"] == BROKEN
            assert one["gain"] < -BROKEN / 2

    def test_scores_that_are_there_stay(self) -> None:
        one = row(1, "a", side("a", scores={"bertscore": 0.9}), side("a", scores={"bertscore": 0.95}))
        assert one["base"]["scores"]["bertscore"] == 0.9
        assert one["base"]["scores"]["exact_match"] == 1

    def test_what_a_run_was_rewarded_for_decides_where_there_is_no_loss(self) -> None:
        rows = [
            row(n, None, side("x", scores={"reward short": 0.2}), side("y", scores={"reward short": 0.7 + n / 100}))
            for n in range(8)
        ]
        found = summarise(rows, "text")
        assert found["main"] == "reward short"
        assert found["verdict"].startswith("Better than the base: reward short 0.735 against 0.200")
        assert rows[0]["badness"] > rows[7]["badness"]


class TestSummary:
    def test_the_loss_is_that_of_all_tokens(self) -> None:
        rows = [
            row(1, None, side(loss=2.0, trained=10), side(loss=1.0, trained=10)),
            row(2, None, side(loss=4.0, trained=30), side(loss=3.0, trained=30)),
        ]
        scores = summarise(rows, "text")["scores"]
        assert (scores["loss"]["base"], scores["loss"]["tuned"]) == (3.5, 2.5)
        assert scores["perplexity"]["tuned"] == pytest.approx(math.exp(2.5))

    def test_each_kind_has_its_scores_and_the_one_that_decides(self) -> None:
        call = '{"name": "f", "arguments": {"x": 1}}'
        of_kind = {
            "labels": (["yes", "no"] * 4, "accuracy", {"f1", "exact_match"}), "json": (['{"a": 1}'] * 8, "json_fields", {"json_valid"}),
            "tools": ([call] * 8, "tool_call_valid", {"exact_match"}), "text": ([f"word {n}" for n in range(8)], "loss", {"bleu", "chrf", "rouge_l", "token_f1"}),
        }  # fmt: skip
        for kind, (references, main, more) in of_kind.items():
            assert kind_of(references) == kind
            found = summarise([row(n, r, side("??", 3.0), side(r, 1.0), kind) for n, r in enumerate(references)], kind)
            assert (found["kind"], found["main"]) == (kind, main)
            assert more | {"loss", "perplexity", "length", "repetition"} <= found["scores"].keys()
            assert found["scores"][main]["verdict"] == "better"
            assert found["verdict"].startswith("Better than the base")
            json.dumps(found, allow_nan=False)

    def test_bleu_is_that_of_the_corpus(self) -> None:
        import sacrebleu

        said = ["the cat sat on a mat", "a dog ran off", "no", "and then it rained all day"]
        right = ["the cat sat on the mat", "the dog ran away", "yes", "and then it rained all night long"]
        rows = [row(n, r, side("nothing"), side(s)) for n, (s, r) in enumerate(zip(said, right, strict=True))]
        expected = sacrebleu.corpus_bleu(said, [right]).score
        assert summarise(rows, "text")["scores"]["bleu"]["tuned"] == pytest.approx(expected)

    def test_the_nearer_to_the_reference_the_better_the_length(self) -> None:
        rows = [
            row(n, "a b c d", side("a b c d e f g h i", loss=1.0, trained=None), side("a b c", loss=1.0, trained=None))
            for n in range(8)
        ]
        length = summarise(rows, "text")["scores"]["length"]
        assert (length["base"], length["tuned"], length["verdict"], length["best"]) == (2.25, 0.75, "better", 1)

    def test_rows_that_only_one_of_both_answered_do_not_count(self) -> None:
        rows = [*losses([(3.0, 1.0)] * 6), *losses([(None, 50.0)])]
        assert summarise(rows, "text")["scores"]["loss"]["rows"] == 6

    def test_without_anything_it_says_so(self) -> None:
        for rows in ([], [finish({"row": 1}, "text")], losses([(None, None)])):
            found = summarise(rows, "text")
            assert (found["scores"], found["main"]) == ({}, None)
            assert found["verdict"].startswith("Nothing could be compared")

    @given(st.lists(st.tuples(*[st.sampled_from([None, math.nan, math.inf, "nan", 0.0, 1.5, 900.0])] * 2,
                              *[st.none() | st.text(max_size=12)] * 3), max_size=9), st.sampled_from(KINDS))  # fmt: skip
    @settings(max_examples=60, deadline=None)
    def test_whatever_the_rows_hold_it_is_json_in_the_order_of_the_table(self, found: list[Any], kind: str) -> None:
        rows = [row(n, r, side(x, a), side(y, b), kind) for n, (a, b, x, y, r) in enumerate(found)]
        for one in rows:
            assert math.isfinite(one.get("badness", 0.0))
            assert math.isfinite(one.get("gain", 0.0))
        summary = summarise(rows, kind)
        text = json.dumps(summary, allow_nan=False)
        assert summarise(rows, kind) == json.loads(text)
        for name, score in summary["scores"].items():
            assert score["rows"] > 0
            assert score["verdict"] in ("better", "worse", "noise")
            assert "None" not in shown(name, score["tuned"]) + signed(name, score["difference"])


class TestSentence:
    def rows(self, shift: float, count: int = 8) -> list[Row]:
        noise = random.Random(3)
        before = [2.9 + noise.random() / 5 for _ in range(count)]
        return losses([(one, one + shift + noise.uniform(-0.1, 0.1)) for one in before])

    def test_better_worse_and_noise(self) -> None:
        better = summarise(self.rows(-1.75), "text")["verdict"]
        assert better.startswith("Better than the base: loss 1.2")
        assert "on 8 held-out rows, a difference of -1.7" in better
        assert "(95 % between -1.79" in better
        assert summarise(self.rows(1.0), "text")["verdict"].startswith("Worse than the base: loss 3.9")
        assert summarise(self.rows(0.0), "text")["verdict"].startswith("No difference that is more than noise: loss ")

    def test_so_few_rows_are_no_proof_and_have_no_interval(self) -> None:
        text = summarise(self.rows(-1.75, 5), "text")["verdict"]
        assert text.startswith("Too few rows to tell: loss 1.2")
        assert text.endswith("on 5 held-out rows.")
        assert summarise(self.rows(-1.75, 1), "text")["verdict"].endswith("on 1 held-out row.")

    def test_rows_that_were_trained_on_prove_nothing(self) -> None:
        assert summarise(self.rows(-1.75), "text", held_out=False)["verdict"].startswith(
            "This proves nothing, for it was trained on these rows: loss 1.2"
        )
        some = [one | {"seen": n < 3} for n, one in enumerate(self.rows(-1.75))]
        assert summarise(some, "text", held_out=False)["verdict"].startswith(
            "This proves little, for it was trained on 3 of these rows: loss 1.2"
        )
        unknown = summarise(self.rows(-1.75), "text", held_out=None)["verdict"]
        assert "on 8 rows," in unknown
        assert "held-out" not in unknown

    def test_broken_losses_are_said_first(self) -> None:
        found = summarise([*self.rows(-1.75), *losses([(2.0, math.nan), (2.0, "inf")])], "text")
        assert found["broken"] == {"base": 0, "tuned": 2}
        assert found["verdict"].startswith(
            "The tuned model's loss is no number on 2 of 10 rows, which are left out. Better"
        )

    def test_shares_are_given_in_percent_and_points(self) -> None:
        rows = [
            row(n, "yes" if n % 2 else "no", side("no"), side("yes" if n % 2 else "no"), "labels") for n in range(20)
        ]
        text = summarise(rows, "labels")["verdict"]
        assert text.startswith(
            "Better than the base: accuracy 100.0 % against 50.0 % on 20 held-out rows, a difference of +50.0 points (95 %"
        )

    def test_where_no_resample_can_differ_no_interval_is_claimed(self) -> None:
        rows = [row(n, "yes", side("no"), side("yes"), "labels") for n in range(8)]
        assert "a difference of +100.0 points, the same on every row." in summarise(rows, "labels")["verdict"]

    def test_where_no_answer_is_right_the_loss_still_tells_them_apart(self) -> None:
        said = [row(n, "yes", side("hm", 2.0 + n / 9), side("ha", 5.0 + n / 7), "labels") for n in range(8)]
        text = summarise(said, "labels")["verdict"]
        assert (
            "accuracy 0.0 % against 0.0 % on 8 held-out rows, alike on every row. By its loss it is worse: 5.500 against 2.389"
            in text
        )
        assert "By its loss" not in summarise(self.rows(0.0), "text")["verdict"]

    @pytest.mark.parametrize(
        ("name", "value", "text", "difference"),
        [
            ("loss", 1.2345, "1.234", "+1.234"), ("loss", None, "–", "–"), ("accuracy", 0.0, "0.0 %", "+0.0"), ("bleu", 12.345, "12.3", "+12.3"),
            ("loss", -0.00012, "-1.2e-04", "-1.2e-04"), ("perplexity", 12345.678, "12,346", "+12,346"), ("stopped", 0.125, "12.5 %", "+12.5"),
        ],
    )  # fmt: skip
    def test_numbers(self, name: str, value: float | None, text: str, difference: str) -> None:
        assert (shown(name, value), signed(name, value)) == (text, difference)


class TestForgetting:
    def texts(self, more: float, count: int = 24) -> list[Row]:
        noise = random.Random(4)
        found = []
        for n in range(count):
            before, tokens = 3.0 + noise.random(), 50 + n
            after = before + more * noise.uniform(0.5, 1.5)
            found.append(
                {
                    "kind": ("news", "code", "law")[n % 3],
                    "base": side(loss=before, trained=tokens),
                    "tuned": side(loss=after, trained=tokens),
                }
            )
        return found

    def test_what_was_lost_is_said_by_how_much(self) -> None:
        assert forgetting(self.texts(0.05))["verdict"].startswith("It has forgotten a little (perplexity +5 %): loss ")
        assert forgetting(self.texts(0.2))["verdict"].startswith("It has forgotten (perplexity +2")
        assert forgetting(self.texts(1.0))["verdict"].startswith("It has forgotten much (perplexity +1")
        assert forgetting(self.texts(-0.1))["verdict"].startswith("It lost nothing: ")
        assert forgetting(self.texts(0.05, 4))["verdict"].startswith("Too few general texts to tell")

    def test_no_difference_is_no_sign_of_it(self) -> None:
        texts = [one | {"tuned": one["base"]} for one in self.texts(0)]
        found = forgetting(texts)
        assert found["judged"] == "noise"
        assert found["verdict"].startswith("No sign of forgetting: ")

    def test_each_kind_for_itself(self) -> None:
        found = forgetting(self.texts(0.2))
        assert list(found["kinds"]) == ["news", "code", "law"]
        assert sum(one["rows"] for one in found["kinds"].values()) == found["rows"] == 24
        assert forgetting([]) == forgetting([{"kind": "news", "base": side(), "tuned": side()}]) == {}
