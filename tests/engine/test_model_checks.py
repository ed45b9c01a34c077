"""What becomes of rows in front of a model: findings against small tokenizers that are built here."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.findings import KINDS
from engine.data.model_checks import ALL, EVERY, Measured, contains, fate, leaves, parts
from engine.data.prepare import Dropped
from engine.data.scan import Report, as_json, at_length, packing, scan
from engine.data.tokens import Tokens, load_tokens
from engine.spec import DataSpec
from tests.engine.datafiles import CLEAN, MODEL_KINDS, Json, answer, kinds, presentable, rows, write
from tests.engine.wordy import BEGIN, CHATML, END, FULL, NOTHING, begins_with, tokenizer

PROMPT = "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"


def loop(body: str, prompt: str = PROMPT) -> str:
    """A template that writes this of every message."""
    return "{%- for m in messages %}" + body + "{%- endfor %}" + prompt


SAYS = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
NO_SYSTEM = loop(
    "{%- if m['role'] == 'system' %}{{ raise_exception('No \x1b[31msystem here: leave it out') }}{%- endif %}" + SAYS
)
WITHOUT_SYSTEM = loop("{%- if m['role'] != 'system' %}" + SAYS + "{%- endif %}")
SHORTENED = loop("{{ '<|im_start|>' + m['role'] + '\n' + m['content'][:30] + '<|im_end|>\n' }}")
FORGETFUL = loop(
    "{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] if loop.last else m['content'].split('</think>')[-1].strip()) + '<|im_end|>\n' }}"
)
ENDLESS = loop(
    "{{ m['role'] + ': ' + m['content'] + '\n' }}", "{%- if add_generation_prompt %}{{ 'assistant: ' }}{%- endif %}"
)
ANOTHER_END = loop("{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|the_end|>\n' }}")
TWO_ENDS = loop("{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '</answer> <|pad|>\n' }}")
ALL_AT_ONCE = "{{ messages | map(attribute='content') | join('<|im_end|>') }}"
SECOND_ONLY = loop(
    "{{ '<|im_start|>' + m['role'] + '\n' }}{%- if m['role'] == 'assistant' and loop.index > 2 %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{%- else %}{{ m['content'] + '<|im_end|>' }}{%- endif %}{{ '\n' }}"
)


def turns(*texts: str, **more: Any) -> Json:
    """A question, its answer and so on."""
    return {
        "messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)],
        **more,
    }


def model(folder: Path, template: str | None, words: str = "", **specials: str | None) -> Tokens:
    return load_tokens(tokenizer(folder / "model", template, words, **specials), None)


def report_on(folder: Path, tokens: Tokens, rows_: list[Json], **options: Any) -> Report:
    report = scan(DataSpec(path=str(write(folder, "a.jsonl", rows_)), **options), tokens)
    for finding in report.findings:
        presentable(finding)
    assert report.rows == report.kept + sum(one.count for one in report.dropped.values())
    json.dumps(as_json(report)).encode()
    return report


# nothing to find


@pytest.mark.parametrize("form", CLEAN)
def test_a_good_template_and_good_rows_have_no_finding(form: str, tmp_path: Path) -> None:
    tokens = model(tmp_path, FULL, bos_token=BEGIN)
    report = report_on(tmp_path, tokens, rows(form, 40))
    assert report.findings == []
    assert (report.kept, report.tokenized, len(report.measured)) == (40, 40, 40)
    for how in ("drop", "cut", "split"):
        longer, found = at_length(report, 100_000, how)
        assert (longer, found.too_long, found.lost_tokens) == (report, [], 0)
        assert found.tokens == sum(sum(m.packs) for m in report.measured)
        assert found.trained == sum(m.trained for m in report.measured)


@pytest.mark.parametrize("template", ["chatml", "alpaca"])
def test_the_built_in_templates_write_everything(template: str, tmp_path: Path) -> None:
    tokens = load_tokens(tokenizer(tmp_path / "model", None), template)
    chats = [row for row in rows("messages", 40) if template == "chatml" or "tools" not in row]
    for rows_ in (chats, rows("alpaca", 10), rows("preference", 10)):
        assert report_on(tmp_path, tokens, rows_).findings == []


# what the template makes of rows


CALL = {"type": "function", "function": {"name": "seek", "arguments": {"herd": ["ninety", {"deep": 3.5}]}}}
SEEK = {"type": "function", "function": {"name": "seek", "description": "Finds", "parameters": {}}}
CALLING = turns("Where are they?", "", "Thanks!", "You are welcome.")
CALLING["messages"][1]["tool_calls"] = [CALL]
EVERYDAY = json.loads(
    json.dumps(CALLING)
    .replace("seek", "are")
    .replace("herd", "you")
    .replace("ninety", "they")
    .replace("3.5", "null")
    .replace("deep", "me")
)
PAIR = {
    "prompt": [{"role": "user", "content": "Q?"}],
    "chosen": "Yes, it is short.",
    "rejected": "No, " + "and so on, " * 9,
}
THINKING = turns("One?", "<think>First hm.</think>1", "Two?", "<think>Second hm.</think>2")
REASONING = turns("Three?", "First answer.", "Four?", "Second answer.")
REASONING["messages"][1]["reasoning_content"] = "Deep thoughts."
REASONING["messages"][3]["reasoning_content"] = "Deeper thoughts."

NO_ARGUMENTS = FULL.replace("{{ c['function']['arguments'] | tojson }}", "")
NO_VALUES = FULL.replace("['arguments'] | tojson", "['arguments'] | list | tojson")
NO_TOOLS = FULL.replace("t | tojson", "''")

LOST: dict[str, tuple[str, Json, dict[str, list[int]], str]] = {
    "calls": (CHATML, CALLING, {"content_lost": [2]}, "line 2, turn 2: the tool call seek"),
    "arguments": (NO_ARGUMENTS, CALLING, {"content_lost": [2]}, "line 2, turn 2: the argument herd"),
    "values": (NO_VALUES, CALLING, {"content_lost": [2]}, "line 2, turn 2: the value ninety"),
    "calls in everyday words": (CHATML, EVERYDAY, {"content_lost": [2]}, "line 2, tool calls"),
    "values in everyday words": (NO_VALUES, EVERYDAY, {"content_lost": [2]}, "line 2, tool calls"),
    "descriptions": (CHATML, turns("Q?", "A it is.", tools=[SEEK]), {"content_lost": [2]}, "line 2, the description of the tool seek"),
    "descriptions in everyday words": (NO_TOOLS, turns("Do you seek?", "I do.", tools=[SEEK]), {"content_lost": [2]},
                                       "line 2, the descriptions of tools"),
    "system": (WITHOUT_SYSTEM, {"messages": [{"role": "system", "content": "Be\nbrief"}, *turns("Q?", "A it is.")["messages"]]},
               {"content_lost": [2]}, "line 2, turn 1: the system's text Be brief"),
    "the end of an answer": (SHORTENED, turns("Q?", answer(3)), {"content_lost": [2]}, f"line 2, turn 2: the assistant's text {answer(3)[:40]}"),
    "thoughts of earlier answers": (FORGETFUL, THINKING, {"thoughts_lost": [2]}, ""),
    "thoughts aside": (CHATML, REASONING, {"thoughts_lost": [2]}, ""),
    "thoughts and content": (SHORTENED, turns("Q?", "<think>" + answer(3) + "</think>" + answer(4)), {"content_lost": [2]},
                             f"line 2, turn 2: the assistant's text {('<think>' + answer(3))[:40]}"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_what_the_template_does_not_write(name: str, tmp_path: Path) -> None:
    template, row, found, text = LOST[name]
    report = report_on(tmp_path, model(tmp_path, template), [turns("Short?", "Yes, short."), row])
    assert kinds(report) == found
    [finding] = report.findings
    assert (finding.count, finding.text) == (1, text)
    assert report.kept == 2


def test_what_the_template_does_not_write_of_a_rejected_answer(tmp_path: Path) -> None:
    report = report_on(tmp_path, model(tmp_path, SHORTENED), [PAIR])
    assert kinds(report) == {"content_lost": [1]}
    assert report.findings[0].text == "line 1, turn 2: the assistant's text No, and so on, and so on, and so on, and"


def test_a_template_that_writes_everything_keeps_thoughts(tmp_path: Path) -> None:
    assert report_on(tmp_path, model(tmp_path, FULL), [THINKING, REASONING]).findings == []


def test_a_template_that_refuses(tmp_path: Path) -> None:
    tokens = model(tmp_path, NO_SYSTEM)
    with_system = [turns(f"Q{i}?", f"A{i} it is.") for i in range(3)]
    with_system[1]["messages"].insert(0, {"role": "system", "content": "S"})
    report = report_on(tmp_path, tokens, with_system)
    [finding] = report.findings
    assert (finding.kind, finding.lines, finding.count) == ("template_refuses", [2], 1)
    assert finding.message == "1 row is refused by the chat template (No system here: leave it out)"
    assert report.dropped == {"template_refuses": Dropped(1, [2])}
    assert (report.kept, report.tokenized) == (2, 2)
    report = report_on(tmp_path, tokens, with_system[1:2] * 3)
    assert kinds(report) == {"template_refuses": [1, 2, 3], "duplicates": [2, 3], "no_rows": []}


def test_a_template_that_is_broken(tmp_path: Path) -> None:
    report = report_on(
        tmp_path,
        model(tmp_path, "{% for m in messages %}{{ m['content'] + 3 }}{% endfor %}"),
        [turns("Q?", "A it is.")],
    )
    assert kinds(report) == {"template_refuses": [1], "no_rows": []}


def test_rows_without_anything_to_train_on(tmp_path: Path) -> None:
    rows_ = [
        turns("Q?", "A it is.", "R?", "B it is."),
        turns("S?", "C it is."),
        turns("T?", "D it is.", "U?", "E it is."),
    ]
    report = report_on(tmp_path, model(tmp_path, SECOND_ONLY), rows_)
    assert report.dropped == {"nothing_trained": Dropped(1, [2])}
    assert [m.line for m in report.measured] == [1, 3]
    assert kinds(report)["nothing_trained"] == [2]
    assert KINDS["nothing_trained"].dropped


def test_a_template_without_room_for_markers_trains_the_last_answer(tmp_path: Path) -> None:
    tokens = model(tmp_path, ALL_AT_ONCE)
    rows_ = [turns("Q?", "A it is."), turns("R?", "B it is.", "S?", "C it is."), turns("T?", "D.", "U?", "E.", "V?")]
    report = report_on(tmp_path, tokens, rows_)
    assert kinds(report) == {"last_answer_only": [2, 3], "unanswered": [3]}
    assert report.findings[0].message.startswith("2 rows train on the last answer only: ")
    assert [m.trained for m in report.measured] == [len("<|A it is."[2:]) + 1, len("C it is.") + 1, len("E.") + 1]
    assert report_on(tmp_path, tokens, rows_[:1]).findings == []


def test_a_model_without_a_template(tmp_path: Path) -> None:
    tokens = model(tmp_path, None)
    report = report_on(tmp_path, tokens, [turns("Q?", "A it is."), turns("R?", "B it is.")])
    assert kinds(report) == {"no_template": []}
    assert report.findings[0].message == "the model has no chat template"
    assert (report.kept, report.measured, report.lengths is not None and report.lengths.measured) == (2, [], False)
    assert "chatml" in report.findings[0].hint
    for form in ("text", "kto"):  # need no template
        assert report_on(tmp_path, tokens, rows(form, 8)).findings == []


# ends and beginnings


def test_a_template_that_writes_nothing_behind_an_answer(tmp_path: Path) -> None:
    report = report_on(tmp_path, model(tmp_path, ENDLESS), [turns("Q?", "A it is.")])
    assert kinds(report) == {"stop_untrained": []}
    assert report_on(tmp_path, model(tmp_path, ENDLESS), rows("text", 3)).findings == []


def test_an_end_that_is_no_token_of_the_model(tmp_path: Path) -> None:
    report = report_on(tmp_path, model(tmp_path, ANOTHER_END), [turns("Q?", "A it is.")])
    assert kinds(report) == {"stop_split": []}
    assert report.findings[0].message == "the template's end of a turn is no token of this model (<|the_end|>)"
    tokens = model(tmp_path, TWO_ENDS)
    assert tokens.id_of(NOTHING) == 0
    assert report_on(tmp_path, tokens, [turns("Q?", "A it is.")]).findings == []


def test_two_start_tokens(tmp_path: Path) -> None:
    directory = begins_with(tokenizer(tmp_path / "model", FULL, bos_token=BEGIN), BEGIN)
    tokens = load_tokens(directory, None)
    texts = [{"text": "Once upon a time."}, {"text": "<s>Once more it was."}, {"text": "Then <s><s> in the middle."}]
    assert kinds(report_on(tmp_path, tokens, texts)) == {"double_bos": [2]}
    pairs = [{"prompt": f"{start}Question {i}?", "completion": "An answer."} for i, start in enumerate(["", BEGIN, ""])]
    assert kinds(report_on(tmp_path, tokens, pairs)) == {"double_bos": [2]}
    assert report_on(tmp_path, tokens, rows("messages", 9)).findings == []  # the template's business
    twice = load_tokens(tokenizer(tmp_path / "twice", "{{ bos_token + bos_token }}" + CHATML, bos_token=BEGIN), None)
    assert kinds(report_on(tmp_path, twice, [turns("Q?", "A it is.")])) == {"double_bos": [1]}


def test_padding_that_is_the_end(tmp_path: Path) -> None:
    report = report_on(tmp_path, model(tmp_path, CHATML, pad_token=END), [turns("Q?", "A it is.")])
    assert kinds(report) == {"pad_is_end": []}
    assert report.findings[0].message == "the padding token is the end token (<|im_end|>)"
    assert report_on(tmp_path, model(tmp_path, CHATML, pad_token=None), [turns("Q?", "A it is.")]).findings == []


WORDS = "user assistant where is it here"
SPACED = loop(
    "{{ '<|im_start|>' + m['role'] + ' ' + m['content'] + ' <|im_end|> ' }}",
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{%- endif %}",
)


def test_characters_that_the_tokenizer_does_not_know(tmp_path: Path) -> None:
    tokens = model(tmp_path, SPACED, WORDS)
    report = report_on(tmp_path, tokens, [turns("where is it", "it is here"), turns("where is Godot", "here is Godot")])
    assert kinds(report) == {"unknown_tokens": [2]}
    assert report.findings[0].text == "the first has 2 of 12 tokens"


def test_a_prompt_that_ends_in_other_tokens(tmp_path: Path) -> None:
    tokens = model(tmp_path, SPACED, WORDS + " whereis")
    pairs = [{"prompt": "where ", "completion": "is it"}, {"prompt": "it is where", "completion": "is"}]
    assert kinds(report_on(tmp_path, tokens, pairs))["prompt_differs"] == [2]


def test_one_token_for_everything_means_nothing_unknown(tmp_path: Path) -> None:
    """GPT-2's <|endoftext|> is its beginning, its end and what it does not know."""
    tokens = model(tmp_path, CHATML, unk_token=END, bos_token=END)
    assert report_on(tmp_path, tokens, rows("text", 5)).findings == []
    assert report_on(tmp_path, tokens, rows("alpaca", 5)).findings == []


# length

FRAME = len("<>user\n<>\n<>assistant\n".replace("<>", "x"))
"""Tokens of ChatML before an answer, where each byte is one."""


def chat_of(asked: int, said: int) -> Json:
    return turns("q" * asked, "a" * said)


@pytest.fixture
def three(tmp_path: Path) -> Report:
    """A short row, one with a long answer, one with a long question."""
    rows_ = [chat_of(10, 20), chat_of(11, 99), chat_of(90, 20)]
    report = report_on(tmp_path, model(tmp_path, CHATML), rows_)
    assert FRAME == 19
    assert report.measured == [
        Measured(1, 51, 29, 21, (51,)),
        Measured(2, 131, 30, 100, (131,)),
        Measured(3, 131, 109, 21, (131,)),
    ]
    assert report.findings == []
    return report


def test_rows_that_are_too_long_are_dropped(three: Report) -> None:
    report, found = at_length(three, 100, "drop")
    assert found == ([2, 3], [], 262, 51, 21)
    assert kinds(report) == {"cut": [2, 3]}
    assert report.findings[0].message == "2 rows are longer than max_length (100 tokens; dropped, 262 tokens are lost)"
    assert report.dropped == {"longer than 100 tokens": Dropped(2, [2, 3])}
    assert (report.kept, three.kept, three.dropped) == (1, 3, {})


def test_rows_that_are_too_long_are_cut(three: Report) -> None:
    report, found = at_length(three, 100, "cut")
    assert found == ([2, 3], [3], 31 + 131, 51 + 100, 21 + 100 - 31)
    assert kinds(report) == {"cut": [2, 3], "long_prompt": [3], "lost_end": [2]}
    assert [one.message for one in report.findings] == [
        "2 rows are longer than max_length (100 tokens; cut, 162 tokens are lost)",
        "1 row has a prompt that alone fills max_length: nothing of the answer is left",
        "1 row is cut before the end token: the model would not learn to stop",
    ]
    assert report.dropped == {"the prompt alone fills max_length": Dropped(1, [3])}
    assert report.kept == 2


def test_rows_that_are_too_long_are_split(three: Report) -> None:
    report, found = at_length(three, 100, "split")
    assert found == ([2, 3], [], 0, 51 + 131 + 131, 21 + 100 + 21)
    assert kinds(report) == {"split": [2, 3]}
    assert report.findings[0].severity == "note"
    assert (report.dropped, report.kept) == ({}, 3)


def test_a_length_that_fits_exactly(three: Report) -> None:
    for how in ("drop", "cut", "split"):
        report, found = at_length(three, 131, how)
        assert (report, found) == (three, ([], [], 0, 313, 142))
    assert at_length(three, 130, "drop")[1].too_long == [2, 3]
    assert at_length(three, 109, "cut")[1].no_answer == [3]
    assert at_length(three, 110, "cut")[1].no_answer == []


def test_no_row_is_short_enough(three: Report) -> None:
    report, _ = at_length(three, 8, "drop")
    assert kinds(report) == {"none_short": [], "cut": [1, 2, 3]}
    assert report.fatal[0].message == "no row is short enough to train on (max_length is 8)"
    assert at_length(three, 8, "split")[0].fatal == []


def test_findings_about_length_are_ranked_among_the_others(tmp_path: Path) -> None:
    tokens = model(tmp_path, CHATML, pad_token=END)
    report, _ = at_length(report_on(tmp_path, tokens, [chat_of(5, 5), chat_of(6, 500), {"messages": []}]), 100, "drop")
    assert [one.kind for one in report.findings] == ["empty_field", "cut", "pad_is_end"]
    assert report.dropped == {"empty_field": Dropped(1, [3]), "longer than 100 tokens": Dropped(1, [2])}


def test_pairs_count_both_sequences(tmp_path: Path) -> None:
    pair = {"prompt": [{"role": "user", "content": "q" * 10}], "chosen": "a" * 20, "rejected": "b" * 50}
    report = report_on(tmp_path, model(tmp_path, CHATML), [pair])
    assert report.measured == [
        Measured(1, 81, 29, 22 + 52, (51, 81))
    ]  # "\n" behind the end is learned here, as TRL has it
    assert at_length(report, 60, "cut")[1] == ([1], [], 21, 111, 53)
    assert at_length(report, 60, "drop")[1] == ([1], [], 132, 0, 0)


def test_what_a_row_of_each_form_trains(tmp_path: Path) -> None:
    tokens = model(tmp_path, CHATML)
    for row, wanted in (
        ({"text": "abc"}, Measured(1, 4, 0, 4, (4,))),
        ({"prompt": "abc", "completion": "defg"}, Measured(1, 8, 3, 5, (8,))),
        ({"prompt": "abc", "chosen": "def", "rejected": "ghijk"}, Measured(1, 9, 3, 4 + 6, (7, 9))),
        ({"prompt": "abc", "completion": "defg", "label": False}, Measured(1, 8, 3, 5, (8,))),
        (turns("q", "aa", "q", "aaa"), Measured(1, 2 * FRAME + 2 + 5 + 4, FRAME + 1, 3 + 4, (2 * FRAME + 11,))),
    ):
        assert report_on(tmp_path, tokens, [row]).measured == [wanted]


def test_large_data_is_tokenized_in_part(tmp_path: Path) -> None:
    count = ALL + 20 * EVERY
    lines = "".join(f"{i} and so on {'x' * (i % 50)}\n" for i in range(count))
    report = scan(DataSpec(path=str(write(tmp_path, "a.txt", lines))), model(tmp_path, None))
    assert (report.kept, report.tokenized, len(report.measured)) == (count, ALL + 20, ALL + 20)
    assert report.scale() == pytest.approx(count / (ALL + 20))
    short, found = at_length(report, 40, "drop")
    assert short.dropped["longer than 40 tokens"].count == round(len(found.too_long) * report.scale())
    assert short.kept == count - short.dropped["longer than 40 tokens"].count
    exact = sum(len(line) <= 40 for line in lines.splitlines(keepends=True))
    assert short.kept == pytest.approx(exact, rel=0.02)
    assert as_json(short, found)["tokens"] == round(found.tokens * report.scale())
    assert as_json(short, found)["tokens"] == pytest.approx(
        sum(len(line) for line in lines.splitlines(keepends=True) if len(line) <= 40), rel=0.02
    )


measured = st.builds(
    lambda line, packs, prompt, trained: Measured(
        line, max(packs), prompt % (max(packs) + 1), trained % (sum(packs) + 1), packs
    ),
    st.integers(1, 10**6),
    st.lists(st.integers(1, 300), min_size=1, max_size=2).map(tuple),
    st.integers(0, 300),
    st.integers(0, 600),
)


@settings(deadline=None)
@given(st.lists(measured, max_size=30), st.integers(1, 320), st.sampled_from(["drop", "cut", "split"]))
def test_no_token_is_forgotten(rows_: list[Measured], limit: int, how: str) -> None:
    found = fate(rows_, limit, how)
    everything = sum(sum(m.packs) for m in rows_)
    assert found.tokens + found.lost_tokens == everything
    assert 0 <= found.trained <= found.tokens
    assert found.trained <= sum(m.trained for m in rows_)
    assert found.too_long == [m.line for m in rows_ if max(m.packs) > limit]
    assert set(found.no_answer) <= set(found.too_long)
    if how == "split" or not found.too_long:
        assert (found.lost_tokens, found.trained) == (0, sum(m.trained for m in rows_))
    if how == "drop":
        assert found.tokens == sum(sum(m.packs) for m in rows_ if max(m.packs) <= limit)
    if how == "cut":
        assert fate(rows_, limit, "drop").tokens <= found.tokens
        assert found.tokens <= sum(min(n, limit) for m in rows_ for n in m.packs)


@settings(deadline=None)
@given(
    st.lists(measured, max_size=30), st.integers(1, 320), st.integers(0, 50), st.sampled_from(["drop", "cut", "split"])
)
def test_more_room_loses_less(rows_: list[Measured], limit: int, more: int, how: str) -> None:
    tight, wide = fate(rows_, limit, how), fate(rows_, limit + more, how)
    assert wide.lost_tokens <= tight.lost_tokens
    assert wide.trained >= tight.trained
    assert set(wide.too_long) <= set(tight.too_long)
    assert set(wide.no_answer) <= set(tight.no_answer)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60)), min_size=1, max_size=6), st.integers(20, 140))
def test_what_is_said_of_the_cut_is_what_the_cut_does(
    byte_chatml: Tokens, sizes: list[tuple[int, int]], limit: int
) -> None:
    encoded = [byte_chatml.encode(chat_of(q, a))[0] for q, a in sizes]
    rows_ = [Measured(i, len(e.input_ids), e.prompt, e.trained, (len(e.input_ids),)) for i, e in enumerate(encoded)]
    found = fate(rows_, limit, "cut")
    left = [e.labels[:limit] for e in encoded if any(label != -100 for label in e.labels[:limit])]
    assert found.tokens == sum(len(labels) for labels in left)
    exact = sum(label != -100 for labels in left for label in labels)
    assert (
        exact - len(left) <= found.trained <= exact
    )  # the line end behind <|im_end|> is not trained, but cut as if it were


@pytest.fixture(scope="module")
def byte_chatml(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return load_tokens(tokenizer(tmp_path_factory.mktemp("bytes"), CHATML), None)


# packing


def packed(report: Report, lengths: list[int], size: int) -> Any:
    rows_ = [Measured(i, n, 0, n, (n,)) for i, n in enumerate(lengths)]
    return packing(replace(report, measured=rows_, usable=len(rows_)), size, "cut")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return scan(DataSpec(path=str(write(tmp_path_factory.mktemp("one"), "a.txt", "one row\n"))))


def best_fit(lengths: list[int], size: int) -> int:
    """The same by the book: each into the row where it leaves the least room."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [i for i, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting, key=lambda i: rooms[i])] -= length
        else:
            rooms.append(size - length)
    return len(rooms)


def fewest(lengths: list[int], size: int) -> int:
    """The fewest rows that hold them, by trying."""
    return min(
        first_fit(order, size) for order in itertools.permutations(lengths)
    )  # some order is the best for first fit


def first_fit(lengths: Any, size: int) -> int:
    rooms: list[int] = []
    for length in lengths:
        place = next((i for i, room in enumerate(rooms) if room >= length), None)
        if place is None:
            rooms.append(size - length)
        else:
            rooms[place] -= length
    return len(rooms)


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 150))
def test_packing_is_best_fit_decreasing(empty: Report, lengths: list[int], size: int) -> None:
    cut = [min(n, size) for n in lengths]
    found = packed(empty, lengths, size)
    assert found.packed_rows == best_fit(cut, size)
    assert math.ceil(sum(cut) / size) <= found.packed_rows <= len(cut)
    assert found.packed_rows <= 2 * math.ceil(sum(cut) / size)  # no two rows would fit into one
    assert found.full == pytest.approx(sum(cut) / (size * found.packed_rows))
    assert 0 < found.full <= 1
    batches = [cut[i : i + 8] for i in range(0, len(cut), 8)]
    assert found.padding == pytest.approx(1 - sum(cut) / sum(max(batch) * len(batch) for batch in batches))
    assert 0 <= found.padding < 1


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(10, 30))
def test_packing_is_nearly_the_best_that_there_is(empty: Report, lengths: list[int], size: int) -> None:
    best = fewest([min(n, size) for n in lengths], size)
    assert best <= packed(empty, lengths, size).packed_rows <= (11 * best + 6) / 9


def test_packing_by_hand(empty: Report) -> None:
    assert packing(empty, 100, "cut") is None  # no tokenizer
    found = packed(empty, [60, 50, 40, 50, 30, 500], 100)
    assert (found.packed_rows, found.full) == (4, 330 / 400)
    assert found.padding == pytest.approx(1 - 330 / 600)
    even = packed(empty, [25] * 16, 100)
    assert (even.packed_rows, even.full, even.padding) == (4, 1, 0)
    nothing = packed(empty, [0, 0], 100)
    assert (nothing.full, nothing.padding) == (0, 0)


def test_packing_counts_what_is_left_of_long_rows(empty: Report) -> None:
    rows_ = [Measured(1, 40, 5, 9, (40,)), Measured(2, 250, 5, 9, (250,)), Measured(3, 160, 120, 9, (160,))]
    report = replace(empty, measured=rows_, usable=3)
    for how, filled, rows_wanted in (("drop", 40, 1), ("cut", 140, 2), ("split", 450, 5)):
        found = packing(report, 100, how)
        assert found is not None
        assert (found.packed_rows, found.full) == (rows_wanted, filled / (100 * rows_wanted))


def test_packing_is_scaled_to_all_rows(empty: Report) -> None:
    rows_ = [Measured(i, 25, 0, 25, (25,)) for i in range(16)]
    found = packing(replace(empty, measured=rows_, usable=160), 100, "cut")
    assert found is not None
    assert (found.packed_rows, found.full) == (40, 1)


# pieces


def test_what_a_message_says() -> None:
    call = {
        "function": {
            "name": "find",
            "arguments": {"where": ["hill", {"deep": 3.5}], "now": True, "not": None, "blank": ""},
        }
    }
    assert parts({"role": "assistant", "content": " ", "tool_calls": [call]}) == [
        ("the tool call", "find"), ("the argument", "where"), ("the value", "hill"), ("the value", "deep"), ("the value", "3.5"),
        ("the argument", "now"), ("the value", "true"), ("the argument", "not"), ("the argument", "blank"),
    ]  # fmt: skip
    assert parts({"role": "user", "content": "Hi"}) == [("the user's text", "Hi")]
    assert leaves({"a": [1, "b", None, [], {}]}) == ["a", "1", "b"]


@pytest.mark.parametrize(
    ("text", "piece", "there"),
    [
        ("say: hello.", " hello ", True),
        ('{"a": "line\\nline \\"é\\""}', 'line\nline "é"', True),
        ('{"a": "\\u00e9"}', "é", True),
        ("flag: True", "true", True),
        ("one  two\n\nthree", "one two\nthree", True),
        ("say: hell", "hello", False),
        ("one two", "one three", False),
    ],
)
def test_a_piece_is_found_as_it_is_or_as_json_has_it(text: str, piece: str, there: bool) -> None:
    assert contains(text, piece) is there


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=20).filter(str.strip), min_size=2, max_size=6), st.sampled_from(["chatml", "full"]))
def test_whatever_is_said_is_found_again_in_a_good_template(
    good: dict[str, Tokens], texts: list[str], name: Literal["chatml", "full"]
) -> None:
    from engine.data.findings import Findings
    from engine.data.model_checks import ModelChecks
    from engine.data.rows import Row

    call = {"type": "function", "function": {"name": "find", "arguments": {"what": texts[0], "list": [*texts]}}}
    row = turns(*texts)
    if name == "full":
        row["messages"][1]["tool_calls"] = [call]
    found = Findings()
    assert ModelChecks(good[name], found).row(Row(0, 1, row)) == ""
    assert found.count("content_lost") == found.count("thoughts_lost") == 0


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokens]:
    folder = tmp_path_factory.mktemp("good")
    return {
        name: load_tokens(tokenizer(folder / name, source), None)
        for name, source in (("chatml", CHATML), ("full", FULL))
    }


def test_every_kind_that_needs_a_model_is_looked_for_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [kind for kind in sorted(MODEL_KINDS) if f'"{kind}"' not in source] == []
