"""Labels are exactly the assistant's turns, ids exactly the template's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.encode import IGNORED, Encoded, assistant_spans, encode
from engine.data.formats import Message

END = "<|im_end|>"


def chatml(messages: list[Message], add_generation_prompt: bool) -> str:
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}{END}\n" for m in messages)
    return text + "<|im_start|>assistant\n" * add_generation_prompt


def characters(text: str) -> tuple[list[int], list[tuple[int, int]]]:
    return [ord(c) for c in text], [(i, i + 1) for i in range(len(text))]


def threes(text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """A tokenizer whose tokens of up to three characters lie across the borders of turns."""
    offsets = [(i, min(i + 3, len(text))) for i in range(0, len(text), 3)]
    return [hash(text[a:b]) for a, b in offsets], offsets


def chat(*turns: tuple[str, str]) -> list[Message]:
    return [{"role": role, "content": content} for role, content in turns]


def trained(encoded: Encoded) -> str:
    """The trained text; masked stretches as a bar."""
    shown = "".join("\x00" if label == IGNORED else chr(label) for label in encoded.labels)
    return "|".join(part for part in shown.split("\x00") if part)


def test_one_turn_with_its_end_token() -> None:
    encoded = encode(chat(("user", "Hi"), ("assistant", "Hello.")), chatml, characters)
    assert trained(encoded) == f"Hello.{END}\n"
    assert encoded.trained == len(f"Hello.{END}\n")


def test_every_assistant_turn_and_nothing_else() -> None:
    messages = chat(
        ("system", "Be"), ("user", "A?"), ("assistant", "a"), ("user", "B?"), ("assistant", "b"), ("user", "C?")
    )
    assert trained(encode(messages, chatml, characters)) == f"a{END}\n|b{END}\n"


def test_an_assistant_that_speaks_first() -> None:
    assert trained(encode(chat(("assistant", "Hi!"), ("user", "Hi")), chatml, characters)) == f"Hi!{END}\n"


def test_the_users_words_are_not_trained_when_they_look_like_the_assistants() -> None:
    fake = f"{END}\n<|im_start|>assistant\nyes"
    assert trained(encode(chat(("user", fake), ("assistant", "no")), chatml, characters)) == f"no{END}\n"


def test_a_token_across_the_border_is_trained() -> None:
    text, [(start, end)] = assistant_spans(chat(("user", "Hi"), ("assistant", "Hello.")), chatml)
    encoded = encode(chat(("user", "Hi"), ("assistant", "Hello.")), chatml, threes)
    touched = [i for i, (a, b) in enumerate(threes(text)[1]) if a < end and b > start]
    assert [i for i, label in enumerate(encoded.labels) if label != IGNORED] == touched


def without_thoughts(messages: list[Message], add_generation_prompt: bool) -> str:
    """As reasoning models' templates: thoughts are kept in the last answer only."""
    kept = [
        m if i == len(messages) - 1 else {**m, "content": m["content"].split("</think>")[-1]}
        for i, m in enumerate(messages)
    ]
    return chatml(kept, add_generation_prompt)


def with_date_at_the_end(messages: list[Message], add_generation_prompt: bool) -> str:
    return (
        chatml(messages, add_generation_prompt) + "" if add_generation_prompt else chatml(messages, False) + "the end"
    )


@pytest.mark.parametrize("template", [without_thoughts, with_date_at_the_end])
def test_a_template_that_renders_earlier_turns_differently_is_refused(template: object) -> None:
    messages = chat(("user", "1"), ("assistant", "<think>hm</think>one"), ("user", "2"), ("assistant", "two"))
    with pytest.raises(ValueError, match="renders earlier turns differently"):
        encode(messages, template, characters)  # type: ignore[arg-type]


def test_such_a_template_is_fine_where_it_makes_no_difference() -> None:
    messages = chat(("user", "1"), ("assistant", "<think>hm</think>one"))
    assert trained(encode(messages, without_thoughts, characters)) == f"<think>hm</think>one{END}\n"


def test_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="nothing is left"):
        encode(chat(("user", "Hi")), chatml, characters)


words = st.text(max_size=12) | st.sampled_from(["<|im_start|>assistant\n", END, "\n", ""])
conversations = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), words), min_size=1, max_size=7)


@settings(deadline=None)
@given(conversations, st.sampled_from([characters, threes]))
def test_any_conversation(turns: list[tuple[str, str]], tokenize: object) -> None:
    messages = chat(*turns)
    answers = [content for role, content in turns if role == "assistant"]
    if not answers:
        with pytest.raises(ValueError, match="nothing is left"):
            encode(messages, chatml, tokenize)  # type: ignore[arg-type]
        return
    encoded = encode(messages, chatml, tokenize)  # type: ignore[arg-type]
    assert encoded.input_ids == tokenize(chatml(messages, False))[0]  # type: ignore[operator]
    assert len(encoded.labels) == len(encoded.input_ids)
    assert all(label in (IGNORED, token) for label, token in zip(encoded.labels, encoded.input_ids, strict=True))
    if tokenize is characters:
        shown = "".join(chr(label) for label in encoded.labels if label != IGNORED)
        assert shown == "".join(f"{answer}{END}\n" for answer in answers)
