"""What the trainer does, told as events; the request to stop, obeyed; checkpoints, announced once complete."""

import math
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from engine.events import Checkpoint, Memory, Metric, Sample
from engine.hardware import GIB, ram_total
from engine.worker.reporter import Reporter

SKIPPED = ("epoch", "eval_epoch", "total_flos")


class NonFiniteLoss(Exception):
    """The loss became NaN or infinite."""


class ReportingCallback(TrainerCallback):
    """Reports to the reporter. `stop` says whether somebody asked to stop; `sample` generates answers to prompts."""

    def __init__(
        self, reporter: Reporter, keep: int, stop: Callable[[], bool], sample: Callable[[int], list[Sample]]
    ) -> None:
        self._reporter = reporter
        self._keep = keep
        self._stop = stop
        self._sample = sample
        self._saved: list[Checkpoint] = []
        self._eval_loss: tuple[int, float] | None = None
        self._began = 0.0
        self._trained_seconds = 0.0
        self._tokens = 0.0
        self._measured = False
        self.stopped = False
        self.sampled_step = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.say_samples(0)
        self._reporter.phase("train")
        self._reporter.progress(state.global_step, state.max_steps, state.epoch or 0.0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._reporter.phase("train")
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trained_seconds += time.perf_counter() - self._began
        self._reporter.progress(state.global_step, state.max_steps, state.epoch or 0.0)
        if self._agree(self._stop()):
            self.stopped = True
            control.should_training_stop = control.should_save = True
            control.should_evaluate = False
        if control.should_evaluate:
            self._reporter.phase("evaluate")

    def _agree(self, mine: bool) -> bool:
        """Whether any rank wants to stop: all ranks must do so at the same step."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return mine
        flag = torch.tensor([int(mine)], device="cuda" if torch.cuda.is_available() else "cpu")
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag.item())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kept: Any) -> None:
        values = {k: float(v) for k, v in (logs or {}).items() if k not in SKIPPED and isinstance(v, int | float)}
        if "loss" in values and self._trained_seconds:
            tokens = values.get("num_tokens", self._tokens)
            if self._tokens and tokens > self._tokens:
                values["tokens_per_second"] = (tokens - self._tokens) / self._trained_seconds
            self._tokens, self._trained_seconds = tokens, 0.0
        if "eval_loss" in values:
            self._eval_loss = state.global_step, values["eval_loss"]
        self._reporter.say(Metric(state.global_step, values))
        if self._reporter.rank == 0:
            _print(state.global_step, values)
        if "loss" in values:
            parts = {} if self._measured else components(kept.get("model"), kept.get("optimizer"))
            self._measured = True
            self._reporter.say(memory(state.global_step, parts))
            if not math.isfinite(values["loss"]):
                raise NonFiniteLoss(f"the loss is {values['loss']} at step {state.global_step}")

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.say_samples(state.global_step)

    def say_samples(self, step: int) -> None:
        self.sampled_step = step
        if self._reporter.rank == 0:
            for one in self._sample(step):
                self._reporter.say(one)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # each rank writes its own random state
        if not args.should_save:
            return
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        files = {str(f.relative_to(path)): f.stat().st_size for f in sorted(path.rglob("*")) if f.is_file()}
        measured = self._eval_loss[1] if self._eval_loss and self._eval_loss[0] == state.global_step else None
        saved = Checkpoint(state.global_step, str(path), sum(files.values()), files, measured)
        self._reporter.say(saved)
        self._saved.append(saved)
        self._rotate()

    def _rotate(self) -> None:
        """Delete what is beyond `keep`, the best one excepted, only now that a newer one is announced."""
        scored = [c for c in self._saved if c.eval_loss is not None and math.isfinite(c.eval_loss)]
        best = min(scored, key=lambda c: c.eval_loss or 0.0) if scored else None
        for old in self._saved[: -self._keep]:
            if old is not best:
                shutil.rmtree(old.path, ignore_errors=True)
                self._saved.remove(old)

    @property
    def last_path(self) -> str:
        return self._saved[-1].path if self._saved else ""

    def remember(self, announced: list[Checkpoint]) -> None:
        """Take over the checkpoints of earlier attempts, so that they count and are rotated."""
        self._saved = [c for c in announced if Path(c.path).is_dir()]


def _print(step: int, values: dict[str, float]) -> None:
    """A line of output.log, for those who follow it with `tunedeck logs -f`."""
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
    print(f"{time.strftime('%H:%M:%S')}  step {step}  {numbers}")


def memory(step: int, parts: dict[str, float] | None = None) -> Memory:
    """The allocator's peaks since the start on a GPU; the peak resident size of the process on a CPU."""
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return Memory(step, peak / GIB, reserved / GIB, total / GIB, "cuda", parts or {})
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    return Memory(step, resident, resident, _RAM_TOTAL, "cpu", parts or {})


def components(model: Any, optimizer: Any) -> dict[str, float]:
    """GiB of the tensors that stay from step to step: base weights, adapter, optimizer state."""
    adapted = hasattr(model, "peft_config")
    sizes = {"weights": 0, "adapter": 0, "optimizer": 0}
    for name, parameter in model.named_parameters() if model is not None else ():
        ours = adapted and ("lora_" in name or "modules_to_save" in name)
        state = getattr(parameter, "quant_state", None)
        scales = [t for t in state.as_dict(packed=True).values() if torch.is_tensor(t)] if state is not None else []
        sizes["adapter" if ours else "weights"] += sum(_bytes(t) for t in (parameter, *scales))
    for values in getattr(getattr(optimizer, "optimizer", optimizer), "state", {}).values():
        sizes["optimizer"] += sum(_bytes(t) for t in values.values() if torch.is_tensor(t))
    return {name: size / GIB for name, size in sizes.items()}


def _bytes(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())


_RAM_TOTAL = ram_total()


def asked(tokenizer: Any, prompt: str) -> Any:
    """The prompt as the model gets it: through the chat template, where there is one."""
    if not tokenizer.chat_template:
        return tokenizer(prompt, return_tensors="pt")
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )


def generate(model: Any, tokenizer: Any, prompts: list[str], step: int, max_new_tokens: int = 48) -> list[Sample]:
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
