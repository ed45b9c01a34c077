"""What `data show` shows and what the checks count is what the trainer gets: one truth, in the ids."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from engine.data.formats import Value, convert
from engine.data.rows import content_hash, sources, validation_source
from engine.data.tokens import BUILT_IN, Tokens
from engine.errors import DataError, RunError
from engine.spec import DataSpec, parse
from engine.worker.dataset import datasets_for, fit
from engine.worker.load import load_model, load_tokenizer, stops_at
from engine.worker.parallel import ordered
from engine.worker.peek import peek
from engine.worker.preprocess import Unusable, preprocess

TEMPLATES = Path(str(trl.__file__)).parent / "chat_templates"
CALL = '{"name": "find", "arguments": {"what": "lamb"}}'
SEARCH = {
    "name": "find",
    "description": "Finds",
    "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
}
ROWS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "alpaca": ("alpaca", {"instruction": "Greet", "input": "Ann", "output": "Hello, Ann."}, ["Hello, Ann.<|im_end|>"]),
    "messages": (
        "messages",
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
                      {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Bye"},
                      {"role": "assistant", "content": "Take care — 世界!"}]},
        ["Hello.<|im_end|>Take care — 世界!<|im_end|>"],
    ),
    "sharegpt": (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "Find me a lamb"}, {"from": "function_call", "value": CALL},
                           {"from": "observation", "value": '{"lambs": 1}'}, {"from": "gpt", "value": "One lamb."}],
         "tools": json.dumps([SEARCH])},
        ['<tool_call>\n{"name": "find", "arguments": {"what": "lamb"}}\n</tool_call><|im_end|>One lamb.<|im_end|>'],
    ),
    "prompt_completion": ("prompt_completion", {"prompt": "1 + 1 =", "completion": " 2"}, [" 2<|im_end|>"]),
    "prompt_completion_chat": (
        "prompt_completion",
        {"prompt": [{"role": "user", "content": "1 + 1?"}], "completion": [{"role": "assistant", "content": "2"}]},
        ["2<|im_end|>\n"],
    ),
    "text": ("text", {"text": "Once upon a time."}, ["Once upon a time.<|im_end|>"]),
    "preference": (
        "preference",
        {"conversations": [{"from": "human", "value": "Name a colour"}], "chosen": {"from": "gpt", "value": "Blue."},
         "rejected": {"from": "gpt", "value": "No."}},
        ["Blue.<|im_end|>\n", "No.<|im_end|>\n"],
    ),
}  # fmt: skip
"""Name: format, row, and what of it is trained, decoded (of the pair: chosen and rejected)."""


def value_of(name: str) -> Value:
    kind, row, _ = ROWS[name]
    return convert(row, kind)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(parse({"model": {"path": "x"}, "data": {"path": "y", "template": "chatml"}}), at(tiny_model))


def at(directory: Path) -> Any:
    return SimpleNamespace(path=str(directory))


def light(tokenizer: Any) -> Tokens:
    return Tokens(tokenizer.backend_tokenizer, dict(tokenizer.special_tokens_map), tokenizer.chat_template or "")


def sequences(made: Any) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of what TRL made of a row; of a pair both."""
    assert not isinstance(made, Unusable), made
    if "labels" in made:
        return [(made["input_ids"], made["labels"])]
    prompt = made["prompt_ids"]
    return [(prompt + made[n], [-100] * len(prompt) + made[n]) for n in ("chosen_ids", "rejected_ids")]


@pytest.mark.parametrize("name", ROWS)
def test_what_is_trained_is_what_should_be(name: str, tokenizer: Any) -> None:
    (made,) = preprocess([value_of(name)], tokenizer)
    trained = [[label for label in labels if label != -100] for _, labels in sequences(made)]
    assert [tokenizer.decode(ids) for ids in trained] == ROWS[name][2]


@pytest.mark.parametrize("name", ROWS)
def test_the_checks_count_the_same_ids(name: str, tokenizer: Any) -> None:
    (made,) = preprocess([value_of(name)], tokenizer)
    assert [(e.input_ids, e.labels) for e in light(tokenizer).encode(value_of(name))] == sequences(made)


def sentencepiece_like() -> Any:
    """As Llama 2 has it: a BOS from the post-processor, spaces as ▁."""
    words = [
        "<unk>",
        "<s>",
        "</s>",
        "▁",
        *"abcdefghijklmnopqrstuvwxyz",
        *"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        *'0123456789.,!?+=[]<>/{}":_|\n—世界',
    ]
    inner = Tokenizer(models.BPE({w: i for i, w in enumerate(dict.fromkeys(words))}, [], unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def byte_level() -> Any:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({t: i for i, t in enumerate(specials + alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(specials)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<|begin_of_text|>", eos_token="<|endoftext|>")


TEMPLATE_NAMES = ["chatml", "alpaca", "qwen2_5", "qwen3", "llama3", "llama3_1", "gemma", "gemma3", "phi3", "deepseekv3", "gemma4", "glm4moe",
                  "gptoss", "qwen3_5_think"]  # fmt: skip


@pytest.mark.parametrize("make", [sentencepiece_like, byte_level])
@pytest.mark.parametrize("template", TEMPLATE_NAMES)
def test_the_checks_count_what_trl_makes_for_other_models(make: Any, template: str) -> None:
    tokenizer = make()
    folder = BUILT_IN if template in ("chatml", "alpaca") else TEMPLATES
    tokenizer.chat_template = (folder / f"{template}.jinja").read_text(encoding="utf-8")
    compared = 0
    for name in ROWS:
        (made,) = preprocess([value_of(name)], tokenizer)
        try:
            encoded = light(tokenizer).encode(value_of(name))
        except ValueError:
            assert isinstance(made, Unusable), name
            continue
        if isinstance(made, Unusable):
            assert not all(e.trained for e in encoded), (name, str(made))
            continue
        assert [(e.input_ids, e.labels) for e in encoded] == sequences(made), name
        compared += 1
    assert compared >= 5


def test_rows_of_several_kinds_keep_their_order(tokenizer: Any) -> None:
    names = [name for name in ROWS if name != "preference"] * 3
    made = list(preprocess([value_of(name) for name in names], tokenizer))
    for name, one in zip(names, made, strict=True):
        ((_, labels),) = sequences(one)
        assert tokenizer.decode([label for label in labels if label != -100]) == ROWS[name][2][0]


def test_a_bad_row_costs_only_itself(tokenizer: Any) -> None:
    empty: Value = {"messages": [{"role": "user", "content": "Hi"}]}
    good = value_of("alpaca")
    made = list(preprocess([good, empty, good], tokenizer))
    assert isinstance(made[1], Unusable)
    assert sequences(made[0]) == sequences(made[2])


def test_arguments_of_one_call_do_not_leak_into_another(tokenizer: Any) -> None:
    """Through Arrow each call would have all keys of all calls, the missing ones null."""

    def row(arguments: dict[str, Any]) -> Value:
        calls = [{"type": "function", "function": {"name": "f", "arguments": arguments}}]
        return {
            "messages": [{"role": "user", "content": "go"}, {"role": "assistant", "content": "", "tool_calls": calls}]
        }

    made = list(preprocess([row({"a": 1}), row({"b": [2]})], tokenizer))
    texts = [tokenizer.decode(ids) for one in made for ids, _ in sequences(one)]
    assert '"arguments": {"a": 1}' in texts[0]
    assert '"arguments": {"b": [2]}' in texts[1]
    assert "null" not in "".join(texts)


@pytest.mark.parametrize(("how", "pieces", "reason"), [
    ("drop", 0, "longer than 10 tokens"), ("cut", 1, ""), ("split", 3, ""),
])  # fmt: skip
def test_long_rows(how: str, pieces: int, reason: str) -> None:
    spec = parse({"model": {"path": "m"}, "data": {"path": "d"}, "training": {"max_length": 10, "long_rows": how}})
    ids = {"input_ids": list(range(25)), "labels": [-100] * 5 + list(range(5, 25))}
    made, why = fit(ids, spec)
    assert (len(made), why) == (pieces, reason)
    assert all(len(one["input_ids"]) == len(one["labels"]) <= 10 for one in made)
    if how == "split":
        assert [t for one in made for t in one["input_ids"]] == list(range(25))
    masked = {"input_ids": list(range(25)), "labels": [-100] * 15 + list(range(15, 25))}
    assert fit(masked, spec)[1] == {"drop": reason, "cut": "the prompt alone fills max_length", "split": ""}[how]
    assert fit({"input_ids": [1, 2], "labels": [-100, -100]}, spec) == ([], "nothing_trained")


@pytest.mark.parametrize("name", ROWS)
def test_the_first_batch_is_what_data_show_shows(
    name: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path / "cache"))
    kind, row, wanted = ROWS[name]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for _ in range(4)), encoding="utf-8")
    objective = {"text": "text", "preference": "dpo"}.get(kind, "sft")
    spec = parse({
        "model": {"path": str(tiny_model)}, "data": {"path": str(data), "template": "chatml"}, "objective": objective,
        "method": {"kind": "full"}, "compute": {"devices": "cpu"},
        "training": {"micro_batch": 2, "accumulation": 1, "max_length": 1024, "max_steps": 1, "learning_rate": 1e-3, "packing": False,
                     "checkpointing": False, "optimizer": "adamw_torch", "warmup": 0, "weight_decay": 0, "max_grad_norm": 1.0,
                     "precision": "bf16", "attention": "sdpa", "epochs": 1, "long_rows": "split" if kind == "text" else "drop"},
    })  # fmt: skip
    batch, tokenizer = first_batch(spec, tmp_path)
    shown = peek(spec, SimpleNamespace(tokenizer=str(tiny_model), first=0, n=2))  # type: ignore[arg-type]
    rows = [one for row in shown["rows"] for one in row["sequences"]]
    # TRL puts all chosen answers before all rejected ones
    order = [0, 2, 1, 3] if kind == "preference" else [0, 1]
    for ids, mask, labels, one in zip(*batch, [rows[i] for i in order], strict=True):
        length = int(mask.sum())
        assert ids[:length].tolist() == one["ids"]
        assert labels[:length].tolist() == one["labels"]
    trained = [tokenizer.decode([label for label in one["labels"] if label != -100]) for one in rows[: len(wanted)]]
    assert trained == wanted


def test_rows_that_move_into_another_file_are_other_data(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"line {i}"}) + "\n" for i in range(10)]
    digests = set()
    for cut in (8, 9):
        (tmp_path / "a.jsonl").write_text("".join(lines[:cut]))
        (tmp_path / "b.jsonl").write_text("".join(lines[cut:]))
        data = DataSpec(path=str(tmp_path / "a.jsonl"), validation=str(tmp_path / "b.jsonl"))
        digests.add(content_hash([*sources(data), *validation_source(data)]))
    assert len(digests) == 2


def test_other_data_than_was_checked_is_not_trained_on(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(ROWS["alpaca"][1]) + "\n" for _ in range(4)))
    spec = parse({"model": {"path": "m"}, "data": {"path": str(data)}, "training": {"max_length": 500}})
    said: list[Any] = []
    reporter: Any = SimpleNamespace(say=said.append, run_dir=tmp_path)
    (tmp_path / "data.sha256").write_text(content_hash(sources(spec.data)) + "\n")
    train, held_out = datasets_for(spec, tokenizer, reporter)
    assert (len(train), held_out) == (4, None)
    data.write_text(data.read_text() + "\n")
    with pytest.raises(DataError, match="changed since it was checked"):
        datasets_for(spec, tokenizer, reporter)


def first_batch(spec: Any, folder: Path) -> tuple[tuple[Any, Any, Any], Any]:
    """(ids, attention mask, labels) of the first batch of the trainer that a run of this specification has."""
    from engine.worker import dpo, sft

    place: Any = at(Path(spec.model.path))
    tokenizer = load_tokenizer(spec, place)
    silent: Any = SimpleNamespace(say=lambda event: None)
    train, held_out = datasets_for(spec, tokenizer, silent)
    facts: Any = SimpleNamespace(path=spec.model.path, local=True)
    model = load_model(spec, facts)
    stops_at(model, tokenizer, spec)
    method = dpo if spec.objective == "dpo" else sft
    trainer = method.make_trainer(spec, folder / "out", train, held_out)(model=model, processing_class=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    if spec.objective != "dpo":
        return (batch["input_ids"], batch["attention_mask"], batch["labels"]), tokenizer
    ids, mask, answers = batch["input_ids"], batch["attention_mask"], batch["completion_mask"]
    return (ids, mask, ids.masked_fill(answers == 0, -100)), tokenizer


def test_a_killed_process_ends_the_work_instead_of_stalling_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.getpid()

    def prepared(item: int) -> int:
        if item == 7 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(RunError, match="was killed"):
        list(ordered(prepared, range(50)))


def test_an_error_of_ours_comes_whole_out_of_another_process() -> None:
    from engine.errors import DataError
    from engine.worker.parallel import ordered

    def refuse(item: int) -> None:
        raise DataError("The title", f"row {item}", "the hint")

    with pytest.raises(DataError) as caught:
        list(ordered(refuse, range(4)))
    assert (caught.value.title, caught.value.message, caught.value.hint) == ("The title", "row 0", "the hint")
