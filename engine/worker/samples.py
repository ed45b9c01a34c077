"""What the model answers to a few fixed prompts as it learns: one can watch it change."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from engine.events import Sample
from engine.spec import RunSpec
from engine.worker.arguments import steps_of
from engine.worker.reporter import Reporter

TOKENS = 48
"""Of an answer, at most."""


class Samples(TrainerCallback):
    """Says samples before the first step and as often as the specification wants; `rows` is what an epoch has.
    `evaluated_now` is the last step at which somebody asked for an evaluation, to which samples belong.

    Every rank generates, as sharded weights are gathered by all of them; rank 0 says it.
    """

    def __init__(self, reporter: Reporter, spec: RunSpec, rows: int, trainer: Any, tokenizer: Any,
                 evaluated_now: Callable[[], int] = lambda: -1) -> None:  # fmt: skip
        self._evaluated_now = evaluated_now
        self._reporter, self._trainer, self._tokenizer = reporter, trainer, tokenizer
        self._prompts = spec.evaluation.prompts or []
        self._every = steps_of(spec.evaluation.sample_every, rows, spec)
        self._with_evaluations = spec.evaluation.sample_every is None
        self._said = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.say(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._every and state.global_step % self._every == 0:
            self.say(state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._with_evaluations or self._evaluated_now() == state.global_step:
            self.say(state.global_step)

    def say(self, step: int) -> None:
        """Once a step, however often it is asked for."""
        if not self._prompts or step == self._said:
            return
        self._said = step
        device, bf16 = self._trainer.accelerator.device.type, self._trainer.args.bf16
        with torch.autocast(device, torch.bfloat16, enabled=bf16):  # as training has it
            for one in generate(self._trainer.model, self._tokenizer, self._prompts, step):
                self._reporter.say(one)


def asked(tokenizer: Any, prompt: str) -> Any:
    """The prompt as the model gets it: through the chat template, where there is one."""
    if not tokenizer.chat_template:
        return tokenizer(prompt, return_tensors="pt")
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )


def generate(model: Any, tokenizer: Any, prompts: list[str], step: int, max_new_tokens: int = TOKENS) -> list[Sample]:
    """Greedy answers of the model as it is now, through its chat template."""
    answers = []
    training = model.training
    model.eval()
    with torch.no_grad():
        for prompt in prompts:
            inputs = asked(tokenizer, prompt).to(model.device)
            output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, use_cache=True)
            text = tokenizer.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            answers.append(Sample(step, prompt, text.strip()))
    model.train(training)
    return answers
