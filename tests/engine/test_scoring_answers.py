"""Scores of single answers: against the libraries and values by hand, and whatever a model may write."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.scoring import kind_of, score_answer
from engine.scoring.answers import LONGEST, bleu, repetition, rouge_l, token_f1, tool_call_valid, words
from engine.scoring.kinds import KINDS, label
from engine.scoring.parsed import DEPTH, NOTHING, calls_in, document

WORDS = st.lists(
    st.sampled_from(["a", "cat", "sat", "on", "the", "mat", "and", "ran", "far", "away"]), max_size=14
).map(" ".join)
FOREIGN = st.text(max_size=80)
"""Anything: control characters, surrogates apart, right-to-left letters, emoji."""
PERFECT = {"bleu": 100, "rouge_l": 1, "chrf": 100, "token_f1": 1, "exact_match": 1, "length": 1}
SPEECH = "The cat sat on the mat, and then it ran far away."


class TestAgainstTheLibraries:
    @given(WORDS, WORDS)
    @settings(deadline=None)
    def test_rouge_l_is_that_of_rouge_score(self, answer: str, reference: str) -> None:
        from rouge_score.rouge_scorer import RougeScorer

        expected = RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
        assert rouge_l(answer, reference) == expected

    @given(WORDS.filter(bool), WORDS.filter(bool))
    @settings(deadline=None)
    def test_bleu_and_chrf_are_those_of_sacrebleu(self, answer: str, reference: str) -> None:
        import sacrebleu

        scores = score_answer(answer, reference, "text")
        assert scores["bleu"] == sacrebleu.sentence_bleu(answer, [reference]).score
        assert scores["chrf"] == sacrebleu.sentence_chrf(answer, [reference]).score

    def test_letters_outside_ascii_count(self) -> None:
        assert words("Für Käse, 3,5 €") == ["für", "käse", "3", "5"]
        assert rouge_l("für uns", "für alle") == pytest.approx(0.5)
        assert rouge_l("猫が好き", "猫も好き") == pytest.approx(0.75)
        assert bleu("我喜欢猫和狗", "我喜欢猫和狗")[0] == pytest.approx(100)


class TestByHand:
    def test_words_right_in_any_order(self) -> None:
        assert token_f1("Paris, France", "paris") == pytest.approx(2 / 3)
        assert token_f1("the the the", "the") == pytest.approx(0.5)
        assert (token_f1("", ""), token_f1("", "a"), token_f1("…", "a")) == (1, 0, 0)

    def test_repetition_is_the_share_of_n_grams_that_were_there_before(self) -> None:
        assert repetition("one two three four five six") == 0
        assert repetition("a b c d " * 3) == pytest.approx(1 - 4 / 9)
        assert repetition("no no no no no no no") == pytest.approx(1 - 1 / 4)
        assert repetition("") == repetition("too short") == 0

    def test_the_length_is_a_ratio(self) -> None:
        assert score_answer("one two three", "one two", "text")["length"] == pytest.approx(1.5)
        assert "length" not in score_answer("one", "", "text")

    @pytest.mark.parametrize(
        ("answer", "reference", "exact", "right"),
        [
            ("positive", "positive", 1, 1),
            (" Positive.\nBecause it is.", "positive", 0, 1),
            ("\n\npositive", "positive", 1, 1),
            ("it is positive", "positive", 0, 0),
            ("not spam", "spam", 0, 0),
            ("", "positive", 0, 0),
            ("C++", "C", 0, 0),
            ("!", "?", 0, 0),
        ],
    )
    def test_labels(self, answer: str, reference: str, exact: int, right: int) -> None:
        scores = score_answer(answer, reference, "labels")
        assert (scores["exact_match"], scores["accuracy"]) == (exact, right)

    def test_letters_written_in_two_ways_are_the_same(self) -> None:
        assert score_answer("Ka\u0308se", "K\u00e4se", "text")["exact_match"] == 1


class TestJson:
    @pytest.mark.parametrize(
        ("answer", "valid", "right", "fields"),
        [
            ('{"name": "Ada", "tags": ["a", "b"]}', 1, 1, 1),
            ('{"tags": ["a", "b"],\n "name": "Ada"}', 1, 1, 1),
            ('```json\n{"name": "Ada", "tags": ["a", "b"]}\n```', 1, 1, 1),
            ('{"name": "Ada", "tags": ["b", "a"]}', 1, 0, 1 / 3),
            ('{"name": "Ada"}', 1, 0, 0.5),
            ('{"name": "Ada", "tags": []}', 1, 0, 0.4),
            ('{"name": "Ada", "tags": ["a", "b"], "more": 1}', 1, 0, 6 / 7),
            ('Here it is: {"name": "Ada"}', 0, 0, 0),
            ('{"name": "Ada", "tags": ["a"', 0, 0, 0),
            ('{"name": NaN}', 0, 0, 0),
            ("", 0, 0, 0),
            ("null", 1, 0, 0),
        ],
    )
    def test_validity_and_the_share_of_the_fields(self, answer: str, valid: int, right: int, fields: float) -> None:
        scores = score_answer(answer, '{"name": "Ada", "tags": ["a", "b"]}', "json")
        assert (scores["json_valid"], scores["exact_match"]) == (valid, right)
        assert scores["json_fields"] == pytest.approx(fields)

    def test_true_is_not_one(self) -> None:
        scores = score_answer('{"a": true}', '{"a": 1}', "json")
        assert scores["json_fields"] == scores["exact_match"] == 0
        assert score_answer('{"a": 1.0}', '{"a": 1}', "json")["json_fields"] == 1

    def test_a_reference_that_is_no_json_still_scores(self) -> None:
        scores = score_answer("[1]", "sorry", "json")
        assert (scores["json_valid"], scores["exact_match"], "json_fields" in scores) == (1, 0, False)

    def test_nested_without_end_it_is_refused(self) -> None:
        for text in ("[" * 100_000, "[" * 3000 + "]" * 3000, '{"a":' * 200 + "1" + "}" * 200):
            assert document(text) is NOTHING
        assert document("[" * DEPTH + "]" * DEPTH) is not NOTHING


CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "unit": {"type": "string"}}, "required": ["city"]}}}]  # fmt: skip


class TestToolCalls:
    @pytest.mark.parametrize(
        "text",
        [
            f"<tool_call>\n{CALL}\n</tool_call>",  # Hermes, Qwen 2.5 and 3
            f"I look it up.\n{CALL}",
            f"[TOOL_CALLS] [{CALL}]",  # Mistral 7B v0.3
            '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}',  # Mistral from v11 on
            'get_weather{"city": "Paris"}',  # the same without its special tokens
            '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}',  # Llama 3.1
            '[{"type": "function", "function": {"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}}]',  # OpenAI
            "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>",  # Qwen3 Coder
            'function<｜tool▁sep｜>get_weather\n```json\n{"city": "Paris"}\n```',  # DeepSeek V3
            'get_weather<｜tool▁sep｜>{"city": "Paris"}',  # DeepSeek V3.1
        ],
    )
    def test_they_are_read_as_templates_write_them(self, text: str) -> None:
        assert calls_in(text) == [("get_weather", {"city": "Paris"})]
        scores = score_answer(text, f"<tool_call>\n{CALL}\n</tool_call>", "tools")
        assert scores["tool_call_valid"] == scores["exact_match"] == 1

    @pytest.mark.parametrize(
        ("text", "valid"),
        [
            ('{"name": "get_weather", "arguments": {"city": "Rome", "unit": "C"}}', 1),
            ('{"name": "get_weather", "arguments": {"unit": "C"}}', 0),
            ('{"name": "get_whether", "arguments": {"city": "Rome"}}', 0),
            ('{"name": "get_weather", "arguments": {"city": "Rome"', 0),
            ('{"name": "get_weather", "arguments": ["Rome"]}', 0),
            ('{"name": "Paris"}', 0),
            ("It rains in Paris.", 0),
            ("", 0),
            ("struct get_weather{}", 0),
            (f"{CALL}\n{CALL.replace('get_weather', 'other')}", 0),
        ],
    )
    def test_a_valid_one_has_a_known_name_and_what_it_needs(self, text: str, valid: int) -> None:
        assert tool_call_valid(text, CALL) == tool_call_valid(text, CALL, TOOLS) == valid

    def test_tools_say_what_they_need_the_reference_only_where_there_are_none(self) -> None:
        fuller = CALL.replace('"Paris"', '"Paris", "unit": "C"')
        assert tool_call_valid(CALL, fuller, TOOLS) == 1
        assert tool_call_valid(CALL, fuller) == 0
        assert tool_call_valid(CALL, None, TOOLS) == 1

    def test_where_none_is_to_be_called_none_is_right(self) -> None:
        assert tool_call_valid("It rains.", "It is raining.") == 1
        assert tool_call_valid(CALL, "It is raining.") == 0

    @pytest.mark.parametrize("piece", ["<function=f>", "<parameter=a>", "{", "a{", '{"a', "x", "[1,", "<｜tool▁sep｜>"])
    def test_rubbish_is_no_call(self, piece: str) -> None:
        assert calls_in(piece * 20_000) == calls_in("<function=f>" + piece * 20_000) == []


class TestKinds:
    def test_few_short_answers_that_come_again_are_labels(self) -> None:
        assert kind_of(["positive", "negative", "Positive", "negative"]) == "labels"
        assert kind_of(["positive", "negative", "neutral"]) == "text"
        assert kind_of(["yes"] * 9) == "text"
        assert kind_of([str(n) for n in range(40)] * 2) == "text"
        assert kind_of(["a long answer of many words", "yes"] * 4) == "text"
        assert kind_of(["yes\nbecause", "no"] * 4) == "text"

    def test_json_and_tool_calls_are_read(self) -> None:
        assert kind_of(['{"a": 1}', "[1, 2]"]) == "json"
        assert kind_of(['{"a": 1}', "sorry"]) == "text"
        assert kind_of(["1", "2", "true", "null"]) == "text"
        assert kind_of([CALL, "It rains."]) == "tools"
        assert kind_of([CALL, "It rains.", "It snows."]) == "text"

    def test_nothing_is_text(self) -> None:
        assert kind_of([]) == kind_of([None, "", "  "]) == "text"
        assert kind_of(["yes", None, "no", "yes", "", "no"]) == "labels"

    def test_a_label_is_the_first_line(self) -> None:
        assert label("\n  Very  Good!\nmore") == "very good"
        assert label("C#") == "c#"
        assert label("?!") == "?!"
        assert label(" \n") == ""


@given(FOREIGN | WORDS, FOREIGN | WORDS | st.none(), st.sampled_from(KINDS))
@settings(max_examples=200, deadline=None)
def test_whatever_is_written_every_score_is_a_number_in_its_range(
    answer: str, reference: str | None, kind: str
) -> None:
    for name, value in score_answer(answer, reference, kind).items():
        assert isinstance(value, float)
        most = 100 + 1e-9 if name in ("bleu", "chrf") else math.inf if name == "length" else 1
        assert 0 <= value <= most


@given(
    st.lists(st.text(st.characters(categories=["Ll", "Lo", "Nd"]), min_size=1, max_size=3), min_size=4, max_size=6).map(
        " ".join
    )
)
@settings(deadline=None)
def test_the_reference_itself_is_the_best_answer(text: str) -> None:
    scores = score_answer(text, text, "text")
    assert {name: scores[name] for name in PERFECT} == pytest.approx(PERFECT)


def test_a_text_of_a_book_is_compared_by_its_beginning() -> None:
    text = " ".join(random.Random(0).choices("abcdefgh", k=LONGEST))
    assert rouge_l(text + " x" * 50_000, text + " y" * 50_000) == 1
