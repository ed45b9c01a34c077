"""The loss of a model on single rows: summed over the tokens that training has labels for."""

import inspect
import math
from typing import Any

import torch
from torch.nn import functional

from engine.data.tokens import IGNORED

PLACES = {"cpu": 4_096, "cuda": 16_384}
"""Tokens of a batch at most, padding included: what bounds activations and logits."""

Sequence = tuple[list[int], list[int]]
"""Token ids, and labels of the same length."""


def trained_tokens(sequence: Sequence) -> int:
    """How many tokens have a label and something before them."""
    return sum(label != IGNORED for label in sequence[1][1:])


def told(loss: float) -> float | str:
    """As JSON has it: what is not finite in words."""
    return loss if math.isfinite(loss) else str(loss)


def summed_losses(model: Any, sequences: list[Sequence], device: str) -> list[float]:
    """The cross-entropy of each sequence in nats, summed over its trained tokens; in batches of like length."""
    most = PLACES["cuda" if device.startswith("cuda") else "cpu"]
    found = [0.0] * len(sequences)
    batch: list[int] = []
    for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i][0])):
        if batch and (len(batch) + 1) * len(sequences[batch[0]][0]) > most:
            _into(found, batch, model, sequences)
            batch = []
        batch.append(i)
    if batch:
        _into(found, batch, model, sequences)
    return found


def _into(found: list[float], batch: list[int], model: Any, sequences: list[Sequence]) -> None:
    for i, loss in zip(batch, _batch(model, [sequences[i] for i in batch]), strict=True):
        found[i] = loss


def _batch(model: Any, sequences: list[Sequence]) -> list[float]:
    width = max(len(ids) for ids, _ in sequences)
    ids = torch.tensor([one + [0] * (width - len(one)) for one, _ in sequences], device=model.device)
    mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one, _ in sequences], device=model.device)
    # Only the logits from the first trained token on are made: prompts are long, and so are vocabularies
    keep = width - min(_first(labels) for _, labels in sequences) + 1
    kept = {"logits_to_keep": keep} if _can_keep(model) else {}
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits
    logits = logits[:, -min(width, keep) :]  # learned prompts stand before the text
    start, losses = width - logits.shape[1], []
    for row, (_, labels) in zip(logits, sequences, strict=True):
        wanted = torch.tensor(labels[start + 1 :], device=row.device)
        given = row[: len(wanted)]
        trained = wanted != IGNORED
        losses.append(float(functional.cross_entropy(given[trained].float(), wanted[trained], reduction="sum")))
    return losses


def _first(labels: list[int]) -> int:
    return next((i for i, label in enumerate(labels) if i and label != IGNORED), len(labels) - 1)


def _can_keep(model: Any) -> bool:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters
