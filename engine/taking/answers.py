"""Whether a file answers as the model does that it was made of."""

from collections.abc import Sequence
from typing import Any

from engine.errors import RunError

LEAST = 0.5
"""Share of equal first tokens below which a file in 16 bit is not the model."""

Answer = tuple[list[int], str]
"""Token ids and their text."""


def compared(
    prompts: Sequence[str], wanted: Sequence[Answer], got: Sequence[Answer], same_tokenizer: bool, exact: bool
) -> dict[str, Any]:
    """Answers, first tokens and tokens (up to the first that differs) that are equal, and what to say of them.

    `exact`: the file is in 16 bit or more, so it should be the same. Raises RunError if such a file is another model.
    """
    pairs = [(a, b) for (a, _), (b, _) in zip(wanted, got, strict=True)]
    answers = sum(a == b for a, b in pairs)
    first = sum(a[:1] == b[:1] for a, b in pairs)
    tokens = sum(_shared(a, b) for a, b in pairs) / max(1, sum(max(len(a), len(b)) for a, b in pairs))
    if exact and first < LEAST * len(pairs):
        raise RunError("The GGUF file does not answer as the model does",
                       f"{len(pairs) - first} of {len(pairs)} answers begin with another token, though the weights should be the same.",
                       "See output.log of the job; a newer converter may know this model better.")  # fmt: skip
    notes = []
    if not same_tokenizer:
        notes.append("transformers reads another tokenizer from the file than the model has; llama.cpp may not.")
    if exact and answers < len(pairs):
        notes.append(f"{len(pairs) - answers} of {len(pairs)} answers of the file are not those of the model.")
    shown = [{"prompt": p, "model": a, "file": b} for p, (_, a), (_, b) in zip(prompts, wanted, got, strict=True)]
    return {
        "prompts": len(pairs), "same_answers": answers, "same_first_token": first, "same_tokens": round(tokens, 4),
        "same_tokenizer": same_tokenizer, "answers": shown, "notes": notes,
        "said": f"{answers} of {len(pairs)} answers as the model's, {tokens:.0%} of the tokens",
    }  # fmt: skip


def _shared(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
