"""Greedy answers of many prompts at once: batches padded on the left, with a KV cache."""

import contextlib
import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from engine.spec import RunSpec

PLACES = {"cpu": 8_192, "cuda": 131_072}
"""Places (rows times the tokens of prompt and answer) of a batch at most: what bounds the KV cache."""
ROWS = {"cpu": 8, "cuda": 64}


@dataclass(frozen=True)
class Answer:
    """`tokens` were generated in `seconds`, the row's share of its batch; `stopped`: it ended by itself, not at the limit."""

    text: str
    tokens: int
    stopped: bool
    seconds: float


def precision(spec: RunSpec, device: str) -> contextlib.AbstractContextManager[Any]:
    """The numbers that training computed in."""
    return torch.autocast(device, torch.bfloat16, enabled=spec.training.precision != "fp32")


def batches(lengths: list[int], most: int, device: str, rows: int | None = None) -> list[list[int]]:
    """Places of the prompts in batches of like length, the longest first; `most` tokens are generated for each."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    kind, found = "cuda" if device.startswith("cuda") else "cpu", list[list[int]]()
    rows = rows or ROWS[kind]
    for i in order:
        longest = lengths[found[-1][0]] + most if found else 0
        if found and len(found[-1]) < rows and (len(found[-1]) + 1) * longest <= PLACES[kind]:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the model's, and the tokenizer's end token."""
    known = model.generation_config.eos_token_id
    known = known if isinstance(known, list) else [] if known is None else [known]
    own = tokenizer.eos_token_id
    return [*known, *([own] if own is not None and own not in known else [])]


def answers(model: Any, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int) -> list[Answer]:
    """What the model answers to prompts of token ids. Raises torch.OutOfMemoryError if the batch is too large."""
    stops = ends(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (stops or [0])[0]
    inputs, mask = _padded(prompts, pad, model.device)
    # What is named here does not come from the model's own settings: both are asked in the same plain way
    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0, no_repeat_ngram_size=0,
        eos_token_id=stops or None, pad_token_id=pad, use_cache=True,
    )  # fmt: skip
    began = time.perf_counter()
    with torch.no_grad():
        made = model.generate(input_ids=inputs, attention_mask=mask, generation_config=greedy)
    seconds = (time.perf_counter() - began) / len(prompts)
    found = [_until_end(ids.tolist(), stops) for ids in made[:, inputs.shape[1] :]]
    texts = tokenizer.batch_decode([ids for ids, _ in found], skip_special_tokens=True)
    return [Answer(text.strip(), len(ids) + stopped, stopped, seconds)
            for text, (ids, stopped) in zip(texts, found, strict=True)]  # fmt: skip


def _padded(prompts: list[list[int]], pad: int, device: Any) -> tuple[Any, Any]:
    width = max(map(len, prompts))
    rows = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(rows, device=device), torch.tensor(mask, device=device)


def _until_end(ids: list[int], stops: list[int]) -> tuple[list[int], bool]:
    """The ids before the first that ends the answer, and whether there was one."""
    end = next((i for i, token in enumerate(ids) if token in stops), None)
    return (ids, False) if end is None else (ids[:end], True)
