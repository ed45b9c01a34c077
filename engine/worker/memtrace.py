"""The real training step, traced without weights and without a GPU: what it would allocate there, and when.

The installed transformers class, PEFT, TRL's loss, autograd, gradient clipping and the optimizer run on tensors that
have no data (engine.worker.fake), by the operators that a GPU would use (engine.worker.cuda, engine.worker.quantized).
What cannot be seen: the CUDA context, NCCL, and workspaces inside libraries (cuDNN attention, which Hopper and B200 cards
prefer to flash attention, Triton). `python -P -m engine.worker.memtrace CONFIG.json SPEC.yaml` prints a trace as JSON.
"""

import argparse
import collections
import contextlib
import re
import sys
from dataclasses import dataclass
from typing import Any

from trl import SFTConfig

from engine.errors import TuneDeckError
from engine.spec import RunSpec
from engine.worker import cuda, dryrun
from engine.worker.allocator import replay, rounded
from engine.worker.child import answer
from engine.worker.fake import Block, Record, Recorder, TraceError, check, fake_mode, materialise
from engine.worker.quantized import cuda_paths

Alive = list[tuple[str, str, int, int]]


@dataclass(frozen=True)
class Trace:
    """Bytes. `alive` is what makes up the peak: (category, description, bytes, count), largest first.

    `peak_reserved` is what the caching allocator has taken from the driver. `paged` is optimizer state in CUDA's managed
    memory, in no other number: it is on the card as long as there is room.
    """

    peak_allocated: int
    peak_reserved: int
    peak_phase: str
    weights: int
    adapter: int
    gradients: int
    optimizer: int
    paged: int
    step_peaks: list[int]
    alive: Alive


def trace(config: dict[str, Any], spec: RunSpec, steps: int = 2, ragged: bool = False) -> Trace:
    """What `steps` optimizer steps on full batches allocate on one card, every label valid.

    `config` is the content of a config.json; `spec` has to be complete. `ragged`: rows of different lengths, the
    longest of max_length, so that attention needs a mask. Raises TraceError for what the libraries cannot build or run.
    """
    check()
    try:
        return _trace(config, spec, steps, ragged)
    except TuneDeckError:
        raise
    except Exception as error:  # the libraries' own: of any kind, and for as many reasons
        reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
        raise TraceError("This training step cannot be traced", reason, dryrun.OTHERWISE) from error


def _trace(config: dict[str, Any], spec: RunSpec, steps: int, ragged: bool) -> Trace:
    arguments = SFTConfig(**dryrun.arguments(spec))
    dryrun.refuse(config, spec, arguments)
    recorder = Recorder()
    model = dryrun.build(config, spec)
    contexts = (fake_mode(), recorder, cuda.kernels(masked=ragged or bool(spec.training.packing)), cuda_paths(),
                dryrun.named_modules(model, recorder), dryrun.loss_phase(recorder, spec.training.fused_head is False))  # fmt: skip
    with contextlib.ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        if spec.method.base:  # caching_allocator_warmup in transformers: all weights at once, given back
            recorder.close(recorder.open(sum(p.nbytes for p in model.parameters() if not p.requires_grad), "warm-up"))
        materialise(model)
        dryrun.categorise(model, recorder)
        run = dryrun.steps(dryrun.prepare(model, arguments), spec, arguments, recorder)
        marks = [next(run) for _ in range(steps)]
        result = _result(recorder.record, marks)
        run.close()
    return result


def _result(record: Record, marks: list[tuple[int, int]]) -> Trace:
    sizes = [0 if block.category == "paged" else rounded(block.nbytes) for block in record.blocks]
    now, allocated = 0, []
    for number, sign, _ in record.events:
        now += sign * sizes[number]
        allocated.append(now)
    ends = [end for _, end in marks]
    peak_at = max(range(ends[-1]), key=allocated.__getitem__)
    steady = _totals(record, ends[-1])
    events = [(number, sign) for number, sign, _ in record.events[: ends[-1]] if sizes[number]]
    return Trace(
        peak_allocated=allocated[peak_at],
        peak_reserved=replay(events, sizes, expandable=True).reserved,  # as outcome.worker_environment sets it
        peak_phase=record.events[peak_at][2],
        weights=steady["weights"],
        adapter=steady["adapter"],
        gradients=_totals(record, marks[-1][0])["gradients"],
        optimizer=steady["optimizer"],
        paged=steady["paged"],
        step_peaks=[max(allocated[i:j]) for i, j in zip([0, *ends], ends, strict=False)],
        alive=_alive(record, peak_at + 1),
    )


def _living(record: Record, end: int) -> list[Block]:
    numbers: dict[int, None] = {}
    for number, sign, _ in record.events[:end]:
        if sign > 0:
            numbers[number] = None
        else:
            del numbers[number]
    return [record.blocks[n] for n in numbers]


def _totals(record: Record, end: int) -> dict[str, int]:
    totals: dict[str, int] = collections.Counter()
    for block in _living(record, end):
        totals[block.category] += rounded(block.nbytes)
    return totals


def _alive(record: Record, end: int) -> Alive:
    totals: dict[tuple[str, str], list[int]] = {}
    for block in _living(record, end):
        where = re.sub(r"\.\d+\.", ".*.", block.module)
        text = f"{block.operator} {block.dtype} {list(block.shape)} {where} ({block.phase})"
        entry = totals.setdefault((block.category, text), [0, 0])
        entry[0] += rounded(block.nbytes)
        entry[1] += 1
    rows = [(category, text, nbytes, count) for (category, text), (nbytes, count) in totals.items()]
    return sorted(rows, key=lambda row: -row[2])


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine.worker.memtrace")
    parser.add_argument("--ragged", action="store_true")
    return answer(parser, "The trace", lambda config, spec, options: trace(config, spec, ragged=options.ragged))


if __name__ == "__main__":
    sys.exit(main())
