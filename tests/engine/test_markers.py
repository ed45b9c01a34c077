"""Generation markers are added to templates that have none, and change nothing of what is rendered."""

import random
from pathlib import Path
from typing import Any

import pytest
import trl
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.markers import CALL, PROBES, TOOL, marked
from engine.data.template import Template, is_marked
from engine.data.tokens import BUILT_IN
from engine.data.turns import Turn

SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
KEY = tuple(SPECIALS.items())
BUNDLED = sorted(p for p in Path(str(trl.__file__)).parent.glob("chat_templates/*.jinja") if "training" not in p.name)
PICTURES = {"idefics3", "llava_next", "smolvlm"}
"""Templates of vision models, which take no plain text."""
TOOLS_IN_ANSWERS = {"diffusion_gemma", "gemma4", "gemma4_v3", "gemma4_v4", "gemma4_v5"}
"""These write a tool's result into the assistant's turn, so that it cannot be told apart from outside."""
TEXT = [p for p in BUNDLED if p.stem not in PICTURES]


def said(template: Template, messages: list[Turn], tools: Any = None) -> list[str]:
    text, spans = template.render(messages, tools)
    return [text[start:end] for start, end in spans]


def test_there_are_templates_to_test() -> None:
    assert len(TEXT) > 30


@pytest.mark.parametrize("path", TEXT, ids=lambda p: p.stem)
def test_real_templates_render_the_same_with_markers(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    made = marked(source, KEY)
    assert made is not None
    assert is_marked(made)
    original, candidate = Template(source, SPECIALS), Template(made, SPECIALS)
    conversation = [
        {"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "Four, <b>surely</b>."},
        {"role": "user", "content": "And {{ 3 }}?\n"}, {"role": "assistant", "content": "Nine {% if %}"},
    ]  # fmt: skip
    assert candidate.render(conversation).text == original.render(conversation).text
    first, second = said(candidate, conversation)
    assert "Four, <b>surely</b>." in first
    assert "Nine {% if %}" in second
    assert "2 + 2" not in first + second
    assert "And {{ 3 }}" not in first + second


@pytest.mark.parametrize("path", [p for p in TEXT if p.stem not in TOOLS_IN_ANSWERS], ids=lambda p: p.stem)
def test_markers_hold_with_tools(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    made = marked(source, KEY, tools=True)
    assert made is not None
    messages, tools = PROBES[-1]
    try:
        wanted = Template(source, SPECIALS).render(messages, tools).text
    except ValueError:
        return  # this template has no tools
    text, spans = Template(made, SPECIALS).render(messages, tools)
    assert text == wanted
    assert all("wolf" not in text[start:end] for start, end in spans)
    if "quexvalue" in wanted:
        assert any("quexvalue" in text[start:end] for start, end in spans)


@pytest.mark.parametrize("name", sorted(TOOLS_IN_ANSWERS))
def test_a_tools_result_inside_an_answer_is_noticed(name: str) -> None:
    source = (BUNDLED[0].parent / f"{name}.jinja").read_text(encoding="utf-8")
    assert marked(source, KEY, tools=True) is None
    assert marked(source, KEY, tools=False) is not None


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_a_template_that_takes_no_text_gets_no_markers(name: str) -> None:
    assert marked((BUNDLED[0].parent / f"{name}.jinja").read_text(encoding="utf-8"), KEY) is None


@pytest.mark.parametrize("name", ["chatml", "alpaca"])
def test_the_built_in_templates_take_markers(name: str) -> None:
    source = (BUILT_IN / f"{name}.jinja").read_text(encoding="utf-8")
    assert not is_marked(source)
    made = marked(source, KEY)
    assert made is not None
    ends = {"chatml": "<|im_end|>", "alpaca": "</s>"}
    assert said(Template(made, SPECIALS), PROBES[1][0]) == [f"lamb one.{ends[name]}", f"lamb two!{ends[name]}"]


def test_chatml_writes_tools_calls_and_results() -> None:
    template = Template((BUILT_IN / "chatml.jinja").read_text(encoding="utf-8"), SPECIALS)
    messages: list[Turn] = [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Find it"},
        {"role": "assistant", "content": "Yes.", "tool_calls": [CALL, CALL]}, {"role": "tool", "content": "found"},
        {"role": "assistant", "content": "Here."},
    ]  # fmt: skip
    text = template.render(messages, [TOOL]).text
    call = '<tool_call>\n{"name": "quexfind", "arguments": {"quexkey": "quexvalue"}}\n</tool_call>'
    assert text.startswith("<s><|im_start|>system\nBe kind.\n\n# Tools\n")
    assert '<tools>\n{"type": "function", "function": {"name": "quexfind"' in text
    assert f"<|im_start|>assistant\nYes.\n{call}\n{call}<|im_end|>\n" in text
    assert (
        "<|im_start|>user\n<tool_response>\nfound\n</tool_response><|im_end|>\n<|im_start|>assistant\nHere.<|im_end|>\n"
        in text
    )


@pytest.mark.parametrize("source", [
    "{% for m in messages %}{{ m.content }}{% endfor", "no loop at all", "{{ messages }}", "{{ raise_exception('never') }}",
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}{{ messages[0].content }}{% endif %}{% endfor %}",
    "", "{% for m in messages %}{% generation %}{{ m.content }}",
], ids=["broken", "constant", "whole", "refuses", "no-answers", "echoes-the-user", "empty", "half-marked"])  # fmt: skip
def test_what_cannot_be_marked_is_not(source: str) -> None:
    made = marked(source, KEY)
    assert made is None or made == source


def test_markers_that_are_there_stay_as_they_are() -> None:
    source = "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}"
    assert marked(source, KEY) == source
    assert said(Template(source), PROBES[1][0]) == ["lamb one.", "lamb two!"]


WORDS = st.text(st.characters(codec="utf-8"), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=2, max_size=6), st.sampled_from(TEXT), st.integers(0, 9))
def test_any_conversation_renders_the_same(texts: list[str], path: Path, seed: int) -> None:
    source = path.read_text(encoding="utf-8")
    made = marked(source, KEY)
    assert made is not None
    messages: list[Turn] = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    if random.Random(seed).random() < 0.3:
        messages.insert(0, {"role": "system", "content": "Be kind."})
    try:
        wanted = Template(source, SPECIALS).render(messages).text
    except ValueError:
        with pytest.raises(ValueError, match="refuses"):
            Template(made, SPECIALS).render(messages)
        return
    assert Template(made, SPECIALS).render(messages).text == wanted


def test_a_text_cannot_forge_a_marker() -> None:
    from engine.data.template import OPEN

    source = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
    made = marked(source, KEY)
    assert made is not None
    assert len(OPEN) > 12
    forged: list[Turn] = [
        {"role": "user", "content": "{% generation %}x{% endgeneration %}"},
        {"role": "assistant", "content": "yes"},
    ]
    assert said(Template(made, SPECIALS), forged) == ["assistant:yes"]
