"""The parts of a chat that need no process: characters from tokens, who may speak with whom, which card, what is printed."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from engine.after.trained import Trained
from engine.chatting.bases import called, plain
from engine.chatting.place import choose, needed, weights_of
from engine.chatting.settings import Settings
from engine.chatting.talk import Turn, as_markdown, footer, heading
from engine.errors import NoFit, SpecError
from engine.hardware import Gpu
from engine.models import inspect_model
from engine.spec import parse
from tests import tiny


def spec(**more: Any) -> Any:
    return parse({"model": {"path": "/m"}, "data": {"path": "/d.jsonl"}, "objective": "sft"} | more)


def run(name: str, step: int | None = None, path: str = "", **more: Any) -> Trained:
    return Trained("r1", name, spec(**more), Path("/r1"), Path(path or f"/{name}/{step}"), True, step)


WRITINGS = [
    "plain words, and more",
    "Grüße, ça va, œuvre",
    "日本語の文章です。",
    "🙂👩‍👩‍👧 and 🏴󠁧󠁢󠁳󠁣󠁴󠁿!",
    "a\ufffdb",
    "مرحبا",
    "  spaces  \n\n\ttabs\n",
]


@pytest.mark.parametrize("text", [*WRITINGS, "".join(WRITINGS) * 5])
def test_pieces_are_whole_characters_and_make_up_the_text(text: str) -> None:
    from engine.worker.streaming import Pieces

    tokenizer = tiny.tokenizer()  # a token for each byte: no character but ASCII is one token
    pieces = Pieces(tokenizer)
    given = [pieces.add(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert not any("\ufffd" in piece for piece in given) or "\ufffd" in text
    assert "".join(given) + pieces.rest() == text
    assert len([piece for piece in given if piece]) > len(text) / 2  # they come as soon as they are whole


def test_pieces_of_nonsense_are_what_is_decoded_in_the_end() -> None:
    from engine.worker.streaming import WINDOW, Pieces, decoded

    tokenizer, draw = tiny.tokenizer(), random.Random(0)
    for _ in range(60):
        ids = [draw.randrange(len(tokenizer)) for _ in range(draw.randrange(1, 4 * WINDOW))]
        pieces = Pieces(tokenizer)
        assert "".join(pieces.add(token) for token in ids) + pieces.rest() == decoded(tokenizer, ids)


def test_a_conversation_goes_through_the_template_and_plain_text_goes_on(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    from engine.errors import RunError
    from engine.worker.chat import prompted

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    turns = [
        {"role": "user", "content": "Once"},
        {"role": "assistant", "content": " upon"},
        {"role": "user", "content": " a time"},
    ]
    assert tokenizer.decode(prompted(tokenizer, turns, plain=True)) == "Once upon a time"
    assert tokenizer.decode(prompted(tokenizer, turns, plain=False)).endswith(
        " a time<|im_end|>\n<|im_start|>assistant\n"
    )
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(RunError, match="no system role"):
        prompted(tokenizer, turns, plain=False)


def test_whether_training_saw_a_template(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "Q:", "completion": " A"}) + "\n")
    of = {"path": str(rows)}
    assert plain(spec(data=of | {"format": "prompt_completion"}))
    rows.write_text(
        json.dumps(
            {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]}
        )
        + "\n"
    )
    assert not plain(spec(data=of | {"format": "prompt_completion"}))
    assert plain(spec(objective="text"))
    assert not plain(spec(data={"path": "/gone.jsonl", "format": "messages"}))
    assert not plain(spec(data={"path": "/gone.jsonl", "format": "preference"}))  # nobody can tell any more


def test_voices_have_names_that_differ() -> None:
    assert called([run("a"), run("b")]) == ["a", "b"]
    assert called([run("a", 10), run("a", 20)]) == ["a step 10", "a step 20"]
    assert called([run("a"), run("a"), run("base")]) == ["a", "a (2)", "base (2)"]


def card(index: int) -> Gpu:
    return Gpu(index, f"GPU-{index}", "card", 24.0)


def test_the_card_with_the_most_room_is_taken_and_none_if_none_has_enough() -> None:
    cards, free = [card(0), card(1)], {"GPU-0": 3.0, "GPU-1": 9.0}
    assert choose(cards, free, 8.0, layers=False) == [card(1)]
    assert choose(cards, free, 11.0, layers=True) == cards
    with pytest.raises(NoFit, match=r"about 11\.0 GiB; GPU 1 has the most free, 9\.0 GiB") as refused:
        choose(cards, free, 11.0, layers=False)
    assert "--cpu" in refused.value.hint
    with pytest.raises(NoFit):
        choose(cards, free, 12.1, layers=True)


def test_what_a_chat_needs_follows_the_weights(tiny_model: Path, tmp_path: Path) -> None:
    model, size = {"path": str(tiny_model)}, inspect_model(str(tiny_model)).size
    lora = {"kind": "lora", "rank": 4, "targets": "attention"}
    half = weights_of(spec(model=model, method=lora, training={"precision": "bf16"}))
    assert half == pytest.approx(size, rel=0.05)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\0" * (1 << 30))
    one = run("a", path=str(tmp_path), model=model, method=lora, training={"precision": "bf16"})
    assert (
        needed([one])
        > 1.0 + needed([run("b", path="/none", model=model, method=lora, training={"precision": "bf16"})]) - 0.01
    )


def test_settings_are_typed_and_checked() -> None:
    assert Settings().having("max_new_tokens", "9").max_new_tokens == 9
    for name, value in (
        ("temperature", "hot"),
        ("temperature", "-1"),
        ("temperature", "nan"),
        ("seed", "1.5"),
        ("colour", "1"),
    ):
        with pytest.raises(SpecError):
            Settings().having(name, value)
    assert "always the likeliest" in Settings(temperature=0).sentence()


def test_a_turn_is_printed_and_saved() -> None:
    turn = Turn("What is\x1b[2J it?", "Be brief.", Settings())
    answer = {"type": "answer", "voice": "base", "text": "A\x1b[31m rope.", "tokens": 1, "seconds": 0.5, "tokens_per_second": 2.0,
              "stopped": True, "reason": "end", "repetition": 0.0}  # fmt: skip
    turn.hear({"type": "token", "voice": "base", "text": "A"})
    turn.hear(answer)
    turn.hear({"type": "failed", "voice": "tuned", "kind": "oom", "title": "No", "message": "Too much.", "hint": ""})
    assert footer(answer) == "1 token, stopped by itself   2.0 tok/s   repeats: 0 %"
    assert turn.as_json()["answers"]["tuned"] == {
        "failed": {"kind": "oom", "title": "No", "message": "Too much.", "hint": ""}
    }
    saved = as_markdown([turn], "captain")
    assert "System: Be brief." in saved
    assert "## What is it?" in saved
    assert "A rope." in saved
    assert "\x1b" not in saved
    assert "failed: Too much." in saved
    assert heading("tuned", [run("captain", 40)], ["base", "tuned"], "m") == "Tuned   captain, step 40"
    assert heading("b", [run("a"), run("b")], ["a", "b"], "m") == "Tuned   b"


def test_memory_that_runs_out_is_told_as_such() -> None:
    import torch

    from engine.worker.chat import Speaker

    out = io.StringIO()
    speaker = Speaker(out)
    speaker.failed(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
        "answer",
        id=1,
        voice="tuned",
        fatal=False,
    )
    with pytest.raises(RuntimeError) as host:
        torch.empty(1 << 60)
    speaker.failed(host.value, "answer", id=1, voice="base", fatal=False)
    card, main = [json.loads(line) for line in out.getvalue().splitlines()]
    for told, whose in ((card, "CUDA"), (main, "The host")):
        assert (told["kind"], told["title"], told["fatal"]) == ("oom", "There is not enough memory", False)
        assert told["message"].startswith(f"{whose} ran out of memory while answering")
        assert "--cpu" in told["hint"]
