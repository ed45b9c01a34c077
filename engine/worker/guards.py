"""What watches over a training and steps in: bad numbers, spikes, the order of the rows, room for checkpoints, sharding."""

import math
import random
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback

from engine.errors import SpaceError, SpecError
from engine.events import Notice
from engine.health import ENOUGH, WINDOW, best_evaluation, spike, without_improvement
from engine.spec import RunSpec
from engine.worker.reporter import Reporter

GIVE_UP = 10
"""Skipped steps in a row after which a run has gone wrong for good."""
MARGIN = 1 << 20
"""Bytes that stay free when a checkpoint is written: the events of the run need some."""
FIRST = 64 << 20
"""Bytes beside weights and optimizer in a checkpoint, before one was seen: tokenizer, scheduler, random state."""


class NonFiniteLoss(Exception):
    """The loss or the gradient became NaN or infinite."""


def guards(spec: RunSpec, reporter: Reporter, trainer: Any) -> list[TrainerCallback]:
    """The guards of a run, to be added behind the callback that reports: a bad number is recorded before it ends the run."""
    found: list[TrainerCallback] = [
        DataOrder(),
        NonFinite(reporter, trainer, spec.training.nonfinite),
        SpikeWatch(reporter),
    ]
    if spec.evaluation.early_stopping:
        found.append(EarlyStop(reporter, spec.evaluation.early_stopping))
    if spec.compute.sharding == "fsdp":
        found.append(FsdpCheck())
    return [*found, BeforeSaving(reporter)]


def any_rank(*mine: bool) -> list[bool]:
    """For each answer, whether any rank says so: all ranks must act at the same step."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(mine)
    flags = torch.tensor([int(one) for one in mine], device="cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]


def random_state() -> Callable[[], None]:
    """What puts every generator of random numbers back to where it is now: an evaluation draws from torch's."""
    python, array, cpu = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def restore() -> None:
        random.setstate(python)
        numpy.random.set_state(array)
        torch.set_rng_state(cpu)
        if cards:
            torch.cuda.set_rng_state_all(cards)

    return restore


class NonFinite(TrainerCallback):
    """A step whose gradient is not finite is not taken: weights and moments stay as they are.

    With `stop` the run then ends, once the step's numbers are recorded; with `skip` it goes on, and gives up only after
    GIVE_UP such steps in a row.
    """

    def __init__(self, reporter: Reporter, trainer: Any, mode: str) -> None:
        self._reporter, self._trainer = reporter, trainer
        self._patience = GIVE_UP if mode == "skip" else 1
        self._in_a_row = 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        gradients = [g for p in model.parameters() if p.grad is not None and (g := _local(p.grad)).numel()]
        (bad,) = any_rank(not math.isfinite(get_total_norm(gradients, math.inf)))  # of the largest one
        self._in_a_row = self._in_a_row + 1 if bad else 0
        if not bad:
            return
        for parameter in model.parameters():
            parameter.grad = None  # without one, an optimizer passes a parameter over
        if self._patience > 1:
            self._reporter.say(Notice("warning", f"step {state.global_step + 1} skipped: its gradient is not finite",
                                      "Lower training.learning_rate, or look at the data."))  # fmt: skip

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._in_a_row >= self._patience:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        values = {name: float((logs or {}).get(name, 0.0)) for name in ("loss", "grad_norm")}
        wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            # transformers subtracts the logged loss from itself, and NaN - NaN would be in every loss from here on
            self._trainer._tr_loss.zero_()
        if self._in_a_row >= self._patience or (wrong and self._patience == 1):
            self._reporter.phase("train")
            times = f", {self._in_a_row} steps in a row" if self._in_a_row > 1 else ""
            raise NonFiniteLoss(
                f"{' and '.join(wrong) or 'the gradient is not finite'} at step {state.global_step}{times}"
            )


def _local(gradient: torch.Tensor) -> torch.Tensor:
    """This rank's share of a gradient that FSDP has spread."""
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


class SpikeWatch(TrainerCallback):
    """Says when the loss jumps (engine.health.spike), at most once in ENOUGH steps."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._quiet_until = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        loss = (logs or {}).get("loss")
        if not isinstance(loss, int | float):
            return
        deviations = spike(self._losses, loss)
        self._losses.append(loss)
        if deviations is not None and state.global_step >= self._quiet_until:
            self._quiet_until = state.global_step + ENOUGH
            self._reporter.say(Notice("warning", f"the loss jumped to {loss:.4g} at step {state.global_step}: "
                                      f"{deviations:.0f} deviations above the steps before",
                                      "If it does not come back: lower training.learning_rate, look at those rows."))  # fmt: skip


def evaluations(state: Any) -> list[tuple[int, float]]:
    """(step, eval_loss) of every evaluation, those before a resume included: they are in the trainer's own history."""
    return [(entry["step"], entry["eval_loss"]) for entry in state.log_history if "eval_loss" in entry]


class EarlyStop(TrainerCallback):
    """Ends the run after so many evaluations without a better one; each best one is saved, whatever saving.every says.

    Unlike transformers' own it counts from the history, so a resumed run stops when the uninterrupted one would have.
    """

    def __init__(self, reporter: Reporter, patience: int) -> None:
        self._reporter, self._patience = reporter, patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        known = evaluations(state)
        best, waited = best_evaluation(known), without_improvement(known)
        if waited == 0:
            control.should_save = True
        planned = [one for one in known if one[0] % state.eval_steps == 0]  # those that somebody asked for do not count
        waited = without_improvement(planned)
        if waited >= self._patience and state.global_step % state.eval_steps == 0:
            control.should_training_stop = True
            than = f"better than {best[1]:.4g} at step {best[0]}" if best else "finite"
            self._reporter.say(Notice("note", f"stopped early at step {state.global_step}: no eval_loss in {waited} "
                                      f"evaluations was {than}"))  # fmt: skip


class TokensGoOn(TrainerCallback):
    """TRL counts the tokens of a resumed run from nothing: it goes on from what was logged last."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        logged = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
        if logged:
            self._trainer._total_train_tokens = int(logged[-1])


class DataOrder(TrainerCallback):
    """The order of rows of each epoch follows from seed and epoch alone, so that a resumed run goes on with it.

    accelerate does not reach the sampler of a resumed run of several processes, which then repeats the order of the first
    epoch; grouping by length draws from torch's global random state, which is restored too late for that; and GRPO's
    sampler draws from a generator that nobody stores.
    """

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        epoch = int(state.epoch or 0)
        sampler: Any = getattr(train_dataloader, "batch_sampler", None)
        while (inner := getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)) is not None:
            sampler = inner
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        elif hasattr(sampler, "generator"):
            seed = args.seed if args.data_seed is None else args.data_seed
            sampler.generator = torch.Generator().manual_seed(seed + epoch)


class FsdpCheck(TrainerCallback):
    """Where accelerate cannot shard it trains without a word as if nothing had been asked."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
            raise SpecError("FSDP did not shard the model", "No parameter is spread over the processes.",
                            "Use compute.sharding=ddp, and look at output.log for the reason.")  # fmt: skip


class BeforeSaving(TrainerCallback):
    """Whether there is room for the checkpoint that is about to be written. The last one to hear of each event."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if control.should_save and not control.should_evaluate:
            self._check(args, state, given)

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if control.should_save:
            self._check(args, state, given)

    def _check(self, args: Any, state: Any, given: dict[str, Any]) -> None:
        self._reporter.phase("save")
        needed = last_checkpoint_bytes(Path(args.output_dir)) or checkpoint_bytes(given["model"], given["optimizer"])
        free = shutil.disk_usage(self._reporter.run_dir).free
        (full,) = any_rank(free < needed + MARGIN)
        if full:
            raise SpaceError(
                "There is no room for the next checkpoint",
                f"At step {state.global_step} it needs {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free.",
                "Free some space, then: tunedeck resume. The checkpoints that are there are whole.",
            )


def last_checkpoint_bytes(folder: Path) -> int:
    """The size of the newest checkpoint, 0 if there is none."""
    saved = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return sum(f.stat().st_size for f in saved[-1].rglob("*") if f.is_file()) if saved else 0


def checkpoint_bytes(model: Any, optimizer: Any) -> int:
    """What a first checkpoint takes, bytes: what is saved of the model, and the optimizer's state. Shards count whole."""
    saved = [p for p in model.parameters() if p.requires_grad or not hasattr(model, "peft_config")]
    return FIRST + int(sum(t.numel() * t.element_size() for t in (*saved, *state_tensors(optimizer))))


def state_tensors(optimizer: Any) -> list[torch.Tensor]:
    """What an optimizer remembers, as tensors; accelerate wraps the optimizer."""
    state = getattr(getattr(optimizer, "optimizer", optimizer), "state", {})
    return [t for values in state.values() for t in values.values() if torch.is_tensor(t)]
