"""One answer, token by token: whole characters as they come, and how it ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from engine.chatting.settings import Settings

WINDOW, KEPT = 64, 16
"""Tokens that are decoded anew with each that comes, and those of them that stay as context when there are too many."""
HALF = "\ufffd"
"""What a tokenizer decodes part of a character to; three of them at most are one that is on its way."""


@dataclass(frozen=True)
class Said:
    """`tokens` of the answer came in `seconds`, without the one that ends it. `reason`: end (it ended itself), limit
    (max_new_tokens), context (the model takes no more) or asked (somebody wanted no more of it)."""

    text: str
    tokens: int
    seconds: float
    reason: str


class Pieces:
    """Token ids to text, piece by piece: what has been given is never taken back, and never half a character."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0

    def add(self, token: int) -> str:
        """The characters that this token completes, often one word, sometimes none."""
        self._ids.append(token)
        return self._new(held=True)

    def rest(self) -> str:
        """What was held back, as there is nothing to wait for any more."""
        return self._new(held=False)

    def _new(self, held: bool) -> str:
        text = decoded(self._tokenizer, self._ids)
        whole = without_half(text) if held else text
        piece = whole[self._shown :]
        self._shown = max(self._shown, len(whole))
        if len(self._ids) > WINDOW and whole == text:
            self._ids = self._ids[-KEPT:]
            self._shown = len(decoded(self._tokenizer, self._ids))
        return piece


def without_half(text: str) -> str:
    """The text without the part of a character at its end."""
    held = len(text) - len(text.rstrip(HALF))
    return text[: len(text) - min(3, held)]


def decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


class _Stream:
    """What transformers calls with the prompt and then with each token."""

    def __init__(self, tokenizer: Any, stops: list[int], emit: Callable[[str], None]) -> None:
        self.ids: list[int] = []
        self.ended, self._begun = False, False
        self._pieces, self._stops, self._emit = Pieces(tokenizer), stops, emit

    def put(self, value: Any) -> None:
        if not self._begun:  # the prompt
            self._begun = True
            return
        for token in value.flatten().tolist():
            self.ended = token in self._stops
            if not self.ended:
                self.ids.append(token)
                self._say(self._pieces.add(token))

    def end(self) -> None:
        self._say(self._pieces.rest())

    def _say(self, piece: str) -> None:
        if piece:
            self._emit(piece)


class _Halt(StoppingCriteria):
    """Stops where somebody asks for it, after the token that is being made."""

    def __init__(self, halted: Callable[[], bool]) -> None:
        self._halted = halted

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((len(input_ids),), self._halted(), device=input_ids.device, dtype=torch.bool)


def answer(
    model: Any, tokenizer: Any, prompt: list[int], sampling: Settings, stops: list[int], room: int | None,
    emit: Callable[[str], None], halted: Callable[[], bool],
) -> Said:  # fmt: skip
    """Generate one answer to a prompt of token ids, `emit` hearing it as it comes; `room` is how many tokens may follow the
    prompt (None: nobody knows). Raises what torch raises, its OutOfMemoryError among it."""
    most = sampling.max_new_tokens if room is None else min(sampling.max_new_tokens, room)
    # What is named here does not come from the model's own settings: all are asked in the same plain way
    plain = {"num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "use_cache": True}
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if sampling.temperature else {}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (stops or [0])[0]
    config = GenerationConfig(
        max_new_tokens=most, do_sample=bool(drawn), eos_token_id=stops or None, pad_token_id=pad, **plain, **drawn
    )
    stream = _Stream(tokenizer, stops, emit)
    ids = torch.tensor([prompt], device=model.device)
    torch.manual_seed(sampling.seed)
    began = time.perf_counter()
    with torch.no_grad():
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config, streamer=stream,
            stopping_criteria=StoppingCriteriaList([_Halt(halted)]),
        )  # fmt: skip
    seconds = time.perf_counter() - began
    cut = "limit" if most == sampling.max_new_tokens else "context"
    reason = "end" if stream.ended else cut if len(stream.ids) >= most else "asked"
    return Said(decoded(tokenizer, stream.ids), len(stream.ids), seconds, reason)
