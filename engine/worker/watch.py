"""What the health of a run needs to know and no trainer tells: waiting for data, padding, how far the weights have moved."""

import contextlib
import pickle
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.distributed.tensor import DTensor

from engine.worker.reporter import Reporter

EACH, ALL = 1_000, 1_000_000
"""Elements that are looked at of each trained tensor, and of all of them, at most."""
OFTEN = 10
"""The weights are looked at after each of so many steps, and from then on after every so many: it takes some milliseconds."""
BEGINNING = "beginning.pt"
"""The sample of the weights before the first step, in the run directory: what a resumed run is compared with."""


class Watch:
    """Measures what happens between two logs; `values` tells it and begins anew.

    Stands between the trainer and its data loader at `Trainer.get_batch_samples`, which fetches the batches of a step: a
    trainer that fetched them in another way would only have nothing measured.
    """

    def __init__(self, trainer: Any, reporter: Reporter) -> None:
        self._batches = _Batches(trainer)
        self._weights = _Weights(reporter)

    def begin(self, model: Any, step: int) -> None:
        """Before the first step of an attempt."""
        self._weights.begin(model, step)

    def values(self, model: Any, step: int, worked: float) -> dict[str, float]:
        """`data_wait`, `padding` and `weight_change` where they are known. `worked`: seconds in steps since the last time."""
        return self._batches.values(worked) | self._weights.values(model, step)


class _Batches:
    """The iterator that the trainer takes its batches from: the data loader's own, with a clock and a look at the masks."""

    def __init__(self, trainer: Any) -> None:
        self._loader: Iterator[Any] = iter(())
        self._waited, self._fetched = 0.0, 0
        self._read: list[Any] = []
        self._places = 0
        fetch = trainer.get_batch_samples

        def get_batch_samples(epoch_iterator: Any, *given: Any, **named: Any) -> Any:
            self._loader = epoch_iterator
            return fetch(self, *given, **named)

        trainer.get_batch_samples = get_batch_samples

    def __iter__(self) -> "_Batches":
        return self

    def __next__(self) -> Any:
        began = time.perf_counter()
        try:
            batch = next(self._loader)
        finally:
            self._waited += time.perf_counter() - began
        self._fetched += 1
        for mask in masks(batch):
            self._read.append(mask.sum())  # a number on the card: asked for once it has to wait for the card anyway
            self._places += mask.numel()
        return batch

    def values(self, worked: float) -> dict[str, float]:
        """`data_wait`: the share of the time since the last log, evaluations and checkpoints apart, that the loop waited
        for its next batch. `padding`: the share of the tokens that were padding, of the batches that have a mask."""
        found = {}
        if self._fetched and self._waited + worked:
            found["data_wait"] = self._waited / (self._waited + worked)
        if self._places:
            found["padding"] = 1 - sum(int(read) for read in self._read) / self._places
        self._waited, self._fetched, self._read, self._places = 0.0, 0, [], 0
        return found


def masks(batch: Any) -> list[torch.Tensor]:
    """The attention masks of what the model reads of a batch. Packed rows have none; the prompt alone is not read."""
    if not isinstance(batch, Mapping):
        return []
    named = [name for name in batch if str(name).endswith("attention_mask") and name != "prompt_attention_mask"]
    return [batch[name] for name in named if torch.is_tensor(batch[name])]


class _Weights:
    """How far the trained weights are from where the run began, by a sample of each tensor."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._first: Sample | None = None
        self._next = 0

    def begin(self, model: Any, step: int) -> None:
        """Take the sample before the first step and keep it in the run directory; read it there when the run goes on.

        A run of which none is there is not compared: that is better than comparing with another moment.
        """
        file = self._reporter.run_dir / BEGINNING
        if step == 0:
            self._first = sampled(model)
            if self._reporter.rank == 0 and self._first:
                _keep(self._first, file)
        elif file.is_file():
            with contextlib.suppress(OSError, RuntimeError, ValueError, TypeError, pickle.UnpicklingError, EOFError):
                self._first = Sample(*torch.load(file, weights_only=True))

    def values(self, model: Any, step: int) -> dict[str, float]:
        if step < self._next:
            return {}
        self._next = step + 1 if step < OFTEN else (step // OFTEN + 1) * OFTEN
        now = sampled(model) if self._first else None
        if self._first is None or now is None or now.layout != self._first.layout:
            return {}
        return {"weight_change": relative_change(self._first.values, now.values, _scale(now.layout))}


class Sample(NamedTuple):
    """Elements of the trained tensors: name, how many of its elements, and that every n-th was taken, for each tensor; then
    the elements one behind the other, float32 on the CPU."""

    layout: list[tuple[str, int, int]]
    values: torch.Tensor


def _keep(first: Sample, file: Path) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # no room for it: then a resumed run has nothing to compare with
        unfinished = file.with_suffix(".tmp")
        torch.save(tuple(first), unfinished)
        unfinished.rename(file)


def sampled(model: Any) -> Sample | None:
    """Some elements of every trained tensor. None where this process holds only shards (FSDP, ZeRO), or nothing."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad and p.is_floating_point()}
    if not trained or any(isinstance(p, DTensor) or hasattr(p, "ds_id") or not p.numel() for p in trained.values()):
        return None
    most = max(1, min(EACH, ALL // len(trained)))
    layout: list[tuple[str, int, int]] = []
    alike: dict[Any, list[torch.Tensor]] = {}
    for name, p in sorted(trained.items(), key=lambda item: (str(item[1].device), str(item[1].dtype))):
        every = max(1, p.numel() // most) | 1  # an odd number does not stay in one column of a matrix
        part = p.detach().flatten()[::every]
        layout.append((name, len(part), every))
        alike.setdefault((p.device, p.dtype), []).append(part)
    # one copy for all tensors of a card: each alone would make it wait
    return Sample(layout, torch.cat([torch.cat(parts).float().cpu() for parts in alike.values()]))


def _scale(layout: list[tuple[str, int, int]]) -> torch.Tensor:
    """The root of how many elements each one stands for: so scaled, their norm estimates that of the whole tensors."""
    counts = torch.tensor([count for _, count, _ in layout])
    return torch.tensor([every**0.5 for _, _, every in layout]).repeat_interleave(counts)


def relative_change(first: torch.Tensor, now: torch.Tensor, scale: torch.Tensor) -> float:
    """||w - w0|| / ||w0||. Where all began at zero it is relative to what they are now: 1 as soon as anything has changed,
    0 as long as nothing has."""
    change = float(((now - first) * scale).norm())
    size = float((first * scale).norm()) or float((now * scale).norm())
    return change / size if change else 0.0
