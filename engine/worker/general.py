"""What the model forgets: its loss on general texts, before the first step and with each evaluation."""

from typing import Any

import torch
from torch.nn import functional
from transformers import TrainerCallback

from engine.data.general import read_general
from engine.errors import DataError
from engine.events import Metric, Notice
from engine.planner.steps import general_size
from engine.spec import RunSpec
from engine.worker.reporter import Reporter


class General(TrainerCallback):
    """Says `general_loss`. It goes past the trainer: nothing is drawn from the random state, no row is read, and what is
    known of eval_loss stays as it is.

    Every rank computes it, as sharded weights are gathered by all of them; rank 0 says it.
    """

    def __init__(self, reporter: Reporter, which: bool | str, trainer: Any, tokenizer: Any) -> None:
        self._reporter, self._trainer = reporter, trainer
        texts, tokens = general_size(trainer.accelerator.device.type != "cpu")
        self._rows = token_rows(tokenizer, read_general(which, texts), tokens)
        read = sum(map(len, self._rows))
        reporter.say(Notice("note", f"general_loss is of {len(self._rows)} general texts, {read:,} tokens"))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self._reporter.phase("evaluate", "general texts")
            self._say(0)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._say(state.global_step)

    def _say(self, step: int) -> None:
        model = self._trainer.accelerator.unwrap_model(self._trainer.model, keep_torch_compile=False)
        device, bf16 = self._trainer.accelerator.device.type, self._trainer.args.bf16
        with torch.autocast(device, torch.bfloat16, enabled=bf16):  # as training has it
            loss = mean_loss(model, self._rows)
        self._reporter.say(Metric(step, {"general_loss": loss}))


def general(spec: RunSpec, reporter: Reporter, trainer: Any, tokenizer: Any) -> list[TrainerCallback]:
    """The callback of a run that wants it. Raises DataError."""
    which = spec.evaluation.general
    return [General(reporter, which, trainer, tokenizer)] if which else []


def token_rows(tokenizer: Any, texts: list[str], most: int) -> list[list[int]]:
    """The ids of each text as the tokenizer makes them by itself, the first `most`. Raises DataError if no text has two
    tokens: a single one predicts nothing."""
    rows = [tokenizer(text)["input_ids"][:most] for text in texts]
    if not (found := [row for row in rows if len(row) > 1]):
        raise DataError(
            "The general texts cannot be used", "No text has two tokens.", "Name longer ones in evaluation.general."
        )
    return found


def mean_loss(model: Any, rows: list[list[int]]) -> float:
    """Mean cross-entropy of the next token, nats, over all tokens of all rows.

    A row at a time: the logits of several would take memory that a run may not have.
    """
    training, total = model.training, torch.zeros((), dtype=torch.float64)
    model.eval()
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row], device=model.device)
            made = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
            logits = made.logits[0, -len(row) : -1].float()  # learned prompts stand before the text
            total += functional.cross_entropy(logits, ids[0, 1:].to(logits.device), reduction="sum").cpu()
    model.train(training)
    return float(total) / sum(len(row) - 1 for row in rows)
