"""Does a merged model say what the adapter on its base says? Their logits on fixed prompts, and how far they may be apart."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from engine.spec import RunSpec

PROMPTS = (
    "The capital of France is Paris, and the capital of Italy is",
    "def add(a, b):\n    return a + b\n",
    "Once upon a time, in a small village by the sea, there lived",
)
"""Asked of every model, whatever it was trained on."""
TOKENS, MOST = 64, 8
"""Of each prompt, and prompts at most: their logits are held in memory."""
ROUNDOFF = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""Half a step between neighbouring numbers, relative: how far rounding moves a number at most."""
OUTLIER = 16
"""How many times the typical difference the largest of a million may be: errors that add up have tails."""
LOST = 0.5
"""A merge that keeps less than this of the adapter's effect is none."""


@dataclass(frozen=True)
class Check:
    """How far the merged model's logits are from the adapter's on the base, and what is allowed (`tolerance` for the largest
    difference, `mean_tolerance` for the mean one).

    `effect`: how far the adapter itself moves the logits (mean), to measure the rest by. `kept`: how much of that the merged
    model has of it (1: all; the merged model's distance from the base, projected on the adapter's); rounding to 16 bits
    swallows small changes of the weights. None where the effect is too small to tell.
    """

    prompts: int
    tokens: int
    arithmetic: str
    max_difference: float
    mean_difference: float
    tolerance: float
    mean_tolerance: float
    same_top_token: float
    effect: float
    kept: float | None

    @property
    def close(self) -> bool:
        """Within the tolerance; NaN is not."""
        return self.max_difference <= self.tolerance and self.mean_difference <= self.mean_tolerance

    @property
    def lost(self) -> bool:
        """Whether the adapter's effect is not there, or there twice."""
        return self.kept is not None and not LOST <= self.kept <= 2 - LOST

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def prompts(spec: RunSpec, tokenizer: Any) -> list[list[int]]:
    """Token ids: the fixed texts, and the run's own questions as its template asks them."""
    texts = list(PROMPTS)
    for question in (spec.evaluation.prompts or [])[: MOST - len(PROMPTS)]:
        if tokenizer.chat_template:
            turns = [{"role": "user", "content": question}]
            question = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        texts.append(question)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"][-TOKENS:] for text in texts]
    return [one for one in ids if one]


@torch.no_grad()
def logits(model: Any, ids: list[list[int]]) -> list[torch.Tensor]:
    """(tokens, vocabulary) for each prompt, on the CPU; of a reward model its score, (1, 1)."""
    found = []
    for one in ids:
        made = model(input_ids=torch.tensor([one])).logits[0]
        found.append((made if made.dim() == 2 else made.reshape(1, -1)).cpu())
    return found


def compare(
    tuned: list[torch.Tensor], merged: list[torch.Tensor], base: list[torch.Tensor], dtype: torch.dtype, layers: int
) -> Check:
    """Logits of the adapter on the base, of the merged model, and of the base alone; `dtype` is the merged weights' type.

    The tolerance follows from the type. Rounding moves a weight by at most u of itself: 2^-8 in bfloat16, 2^-11 in float16.
    Attention and feed-forward of each layer are then off by about that much, and so is the head; such errors add up like the
    steps of a random walk, to u sqrt(2 layers + 1) of the logits' root mean square: that is allowed on the mean (measured on
    SmolLM2: a fifth of it), OUTLIER times that for the largest. Where memory is too small to compute in 32 bits, what each
    layer gives is rounded too, differently in each of the two models: then it is twice as much.
    """
    wide = tuned[0].dtype == torch.float32
    largest = total = moved = squares = along = same = 0.0
    count = rows = 0
    for one, other, plain in zip(tuned, merged, base, strict=True):
        one, other, plain = one.float(), other.float(), plain.float()
        gap, effect = (one - other).abs(), one - plain
        largest = float("nan") if gap.isnan().any() else max(largest, gap.max().item())
        total, moved, count = total + gap.sum().item(), moved + effect.abs().sum().item(), count + gap.numel()
        along += ((other - plain) * effect).sum().item()
        squares += effect.square().sum().item()
        same += (one.argmax(-1) == other.argmax(-1)).sum().item()
        rows += len(one)
    size = (sum(one.float().square().sum().item() for one in tuned) / count) ** 0.5
    allowed = (1 if wide else 2) * ROUNDOFF[dtype] * (2 * layers + 1) ** 0.5 * size
    # Without an effect there is nothing to lose; in 16 bits it has to stand out of what rounding does to both
    visible = moved / count > (1e-6 * size if wide else allowed)
    return Check(
        len(tuned), rows, "float32" if wide else str(dtype).removeprefix("torch."), largest, total / count, OUTLIER * allowed,
        allowed, same / rows, moved / count, along / squares if visible else None,
    )  # fmt: skip


@torch.no_grad()
def weight_difference(before: torch.Tensor, after: torch.Tensor) -> float:
    """How far what one merged module gives is from what it gave with the adapter beside it, relative (root mean squares)."""
    before, after = before.float(), after.float()
    return ((before - after).square().mean() / before.square().mean().clamp_min(1e-30)).sqrt().item()
