"""What the trainer does, told as events; the request to stop, obeyed; checkpoints, announced once complete."""

import contextlib
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl.trainer.utils import compute_flops_per_token, compute_mfu, get_peak_flops

from engine.events import Checkpoint, Memory, Metric, Notice
from engine.hardware import GIB, ram_total
from engine.health import best_evaluation, better_before
from engine.worker.guards import any_rank, evaluations, random_state, state_tensors
from engine.worker.reporter import Reporter
from engine.worker.watch import Watch

SKIPPED = ("epoch", "eval_epoch", "total_flos")


class ReportingCallback(TrainerCallback):
    """Reports to the reporter. `stop` says whether somebody asked to stop.

    A file CHECKPOINT in the run directory asks for a checkpoint at the end of the step, a file EVALUATE for an evaluation;
    the run goes on, with the steps that would have come without it: only a schedule that follows the evaluations
    (reduce_lr_on_plateau, greedy) heeds it like any other. `evaluates` says whether there are rows for that.
    """

    def __init__(self, reporter: Reporter, keep: int, stop: Callable[[], bool], evaluates: bool = False) -> None:
        self._reporter = reporter
        self._keep = keep
        self._stop = stop
        self._evaluates = evaluates
        self._wanted = {name: reporter.run_dir / name for name in ("CHECKPOINT", "EVALUATE")}
        self._saved: list[Checkpoint] = []
        self._eval_loss: tuple[int, float] | None = None
        self._began = 0.0
        self._trained_seconds = 0.0
        self._tokens = 0.0
        self._measured = False
        self.stopped = False
        self.evaluated_now = -1
        """The last step at which somebody asked for an evaluation."""
        self._put_back: Callable[[], None] | None = None
        self.watch: Watch | None = None
        """What it measures besides, if anything: it needs the trainer, which this must be there for."""
        self._flops: tuple[int, float] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._flops = flops(args, model)
        if self.watch:
            self.watch.begin(model, state.global_step)
        if state.global_step == 0:
            self._reporter.phase("train")
        else:
            self._reporter.phase("resume", f"from step {state.global_step}: the data goes on where it stopped")
        self._reporter.progress(state.global_step, state.max_steps, state.epoch or 0.0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._reporter.phase("train")
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trained_seconds += time.perf_counter() - self._began
        self._reporter.progress(state.global_step, state.max_steps, state.epoch or 0.0)
        stop, save, evaluate = any_rank(self._stop(), self._asked("CHECKPOINT"), self._asked("EVALUATE"))
        if save:
            control.should_save = True
        if evaluate and not self._evaluates:
            self._reporter.say(Notice("warning", "asked for an evaluation, but no rows are held out"))
        elif evaluate:
            self.evaluated_now = state.global_step
            self._put_back = None if control.should_evaluate else random_state()
            control.should_evaluate = True
        if stop:
            self.stopped = True
            control.should_training_stop = control.should_save = True
            control.should_evaluate = False
        if control.should_evaluate:
            self._reporter.phase("evaluate")

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._put_back and self.evaluated_now == state.global_step:
            self._put_back()
            self._put_back = None

    def _asked(self, name: str) -> bool:
        """Whether somebody left that file, which is taken away: it asks once. Rank 0 looks for all."""
        if self._reporter.rank != 0 or not os.path.exists(self._wanted[name]):
            return False
        self._wanted[name].unlink(missing_ok=True)
        return True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kept: Any) -> None:
        values = {k: float(v) for k, v in (logs or {}).items() if k not in SKIPPED and isinstance(v, int | float)}
        if "loss" in values and self.watch:
            values |= self.watch.values(kept.get("model"), state.global_step, self._trained_seconds)
        if "loss" in values and self._trained_seconds:
            tokens = values.get("num_tokens", self._tokens)
            if self._tokens and tokens > self._tokens:
                values["tokens_per_second"] = speed = (tokens - self._tokens) / self._trained_seconds
                if self._flops:
                    values["mfu"] = compute_mfu(self._flops[0], speed, args.world_size, self._flops[1])
            self._tokens, self._trained_seconds = tokens, 0.0
        if "eval_loss" in values:
            self._eval_loss = state.global_step, values["eval_loss"]
        self._reporter.say(Metric(state.global_step, values))
        if self._reporter.rank == 0:
            with contextlib.suppress(OSError):  # a full disk: the log has less, training goes on
                _print(state.global_step, values)
        if "loss" in values:
            parts = {} if self._measured else components(kept.get("model"), kept.get("optimizer"))
            self._measured = True
            self._reporter.say(memory(state.global_step, parts))

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
        self._saved = [c for c in self._saved if c.step != saved.step] + [saved]
        self._rotate()

    def _rotate(self) -> None:
        """Delete what is beyond `keep`, the best one excepted, only now that a newer one is announced."""
        scored = best_evaluation([(c.step, c.eval_loss) for c in self._saved if c.eval_loss is not None])
        for old in self._saved[: -self._keep]:
            if not scored or old.step != scored[0]:
                shutil.rmtree(old.path, ignore_errors=True)
                self._saved.remove(old)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        better = better_before(evaluations(state)) if not self.stopped else None
        if better and not args.metric_for_best_model:  # early stopping goes back to the best one
            step, loss = better
            kept = (
                f"checkpoint-{step} is kept" if step in [c.step for c in self._saved] else "no checkpoint of it is kept"
            )
            self._reporter.say(Notice("warning", f"the last evaluation is worse than the best one, {loss:.4g} at step {step}: "
                                      f"{kept}", "The model that is saved is the last one. Fewer epochs, or early stopping, "
                                      "would have ended there."))  # fmt: skip

    @property
    def last_path(self) -> str:
        return self._saved[-1].path if self._saved else ""

    def remember(self, announced: list[Checkpoint]) -> None:
        """Take over the checkpoints of earlier attempts, so that they count and are rotated."""
        self._saved = [c for c in {c.step: c for c in announced}.values() if Path(c.path).is_dir()]


def _print(step: int, values: dict[str, float]) -> None:
    """A line of output.log, for those who follow it with `tunedeck logs -f`."""
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
    print(f"{time.strftime('%H:%M:%S')}  step {step}  {numbers}")


def flops(args: Any, model: Any) -> tuple[int, float] | None:
    """FLOPs of a trained token, by TRL's estimate, and the card's peak a second; None on a CPU and for unknown cards."""
    if args.use_cpu or not torch.cuda.is_available():
        return None
    peak = get_peak_flops(torch.cuda.get_device_name(), "bfloat16" if args.bf16 else "float32")
    length = getattr(args, "max_length", None) or 1024
    try:
        return (compute_flops_per_token(model.config.get_text_config(), length), peak) if peak else None
    except AttributeError:  # a family that TRL cannot count
        return None


def memory(step: int, parts: dict[str, float] | None = None) -> Memory:
    """The allocator's peaks since the start on the fullest GPU of this process, which has several where layers are laid
    over them; the peak resident size of the process on a CPU."""
    if torch.cuda.is_available():
        cards = range(torch.cuda.device_count())
        total = torch.cuda.get_device_properties(0).total_memory
        peak = max(torch.cuda.max_memory_allocated(card) for card in cards)
        reserved = max(torch.cuda.max_memory_reserved(card) for card in cards)
        return Memory(step, peak / GIB, reserved / GIB, total / GIB, "cuda", parts or {})
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    return Memory(step, resident, resident, _RAM_TOTAL, "cpu", parts or {})


def components(model: Any, optimizer: Any) -> dict[str, float]:
    """GiB of the tensors that stay from step to step: base weights, adapter, optimizer state."""
    adapted = hasattr(model, "peft_config")
    sizes = {"weights": 0, "adapter": 0, "optimizer": 0}
    for _, parameter in model.named_parameters() if model is not None else ():
        ours = adapted and parameter.requires_grad
        state = getattr(parameter, "quant_state", None)
        scales = [t for t in state.as_dict(packed=True).values() if torch.is_tensor(t)] if state is not None else []
        sizes["adapter" if ours else "weights"] += sum(_bytes(t) for t in (parameter, *scales))
    sizes["optimizer"] = sum(_bytes(t) for t in state_tensors(optimizer))
    return {name: size / GIB for name, size in sizes.items()}


def _bytes(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())


_RAM_TOTAL = ram_total()
