"""The loss from plain logits in place of TRL's fused head, which computes them a second time going backward.

Where memory allows it this is faster (`bench.train`). Only positions that are trained are scored. TRL's metrics stay.
"""

from typing import Any

import torch
from torch.nn import functional
from trl.trainer import utils

_FUSED, _COMPACT = utils._ChunkedLogProbFunction, utils._use_triton


class PlainLogProb:
    """In the place of trl.trainer.utils._ChunkedLogProbFunction: the same arguments, the same five results."""

    @staticmethod
    def apply(hidden: Any, weight: Any, bias: Any, labels: Any, temperature: float, _chunk: int, softcap: float | None,
              scale: float, outputs: tuple[str, ...]) -> tuple[Any, Any, Any, Any, Any]:  # fmt: skip
        logits = functional.linear(hidden, weight.to(hidden.dtype), bias) * (scale / temperature)
        if softcap:
            logits = torch.tanh(logits / softcap) * softcap
        log_probs = -functional.cross_entropy(logits.float(), labels, reduction="none")
        with torch.no_grad():
            top = logits.argmax(-1) == labels if "is_top1" in outputs else None
            mean = logits.float().mean(-1) if "mean_logits" in outputs else None
            entropy, squares = _spread(logits, outputs)
        return log_probs, entropy, squares, mean, top


def _spread(logits: Any, outputs: tuple[str, ...]) -> tuple[Any, Any]:
    """Entropy in nats and the log of the sum of squared probabilities, per position; None where it was not asked for."""
    if not {"entropy", "log_sum_sq_probs"} & set(outputs):
        return None, None
    log_p = functional.log_softmax(logits.float(), -1)
    entropy = -(log_p.exp() * log_p).sum(-1) if "entropy" in outputs else None
    return entropy, torch.logsumexp(2 * log_p, -1) if "log_sum_sq_probs" in outputs else None


def use_head(plain: bool) -> None:
    """Which of the two computes the loss from now on, in this process."""
    utils._ChunkedLogProbFunction = PlainLogProb if plain else _FUSED
    utils._use_triton = (lambda device: True) if plain else _COMPACT  # score only the positions that have a label
