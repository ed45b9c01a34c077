"""How many rows are trained on, and in how many steps. Arithmetic only."""

import math

from engine.spec import RunSpec


def validation_rows(validation: float | str | None, rows: int) -> int:
    """How many of `rows` are held out: a fraction below 1, else a number; a file holds out none of them."""
    if validation is None or isinstance(validation, str):
        return 0
    return min(rows - 1, round(rows * validation) if validation < 1 else int(validation))


def steps_for(spec: RunSpec, train_rows: int) -> int:
    """Optimizer steps of the run without packing (an upper bound with it). GRPO's batches count answers, several to a row."""
    training = spec.training
    if spec.objective == "grpo":
        train_rows *= spec.objective_options.generations or 1
    batch = (training.micro_batch or 1) * (training.accumulation or 1) * spec.compute.processes
    return training.max_steps or max(1, math.ceil(math.ceil(train_rows / batch) * (training.epochs or 1)))


def general_size(gpu: bool) -> tuple[int, int]:
    """(how many general texts are read, tokens of each at most): few on a CPU, where each token counts."""
    return (24, 192) if gpu else (8, 64)
