"""A reward model with TRL's RewardTrainer: one score a row, higher for the chosen answer than for the rejected."""

from pathlib import Path
from typing import Any

from trl import RewardConfig, RewardTrainer

from engine.spec import RunSpec
from engine.worker.arguments import checked, configured, training_arguments


def trainer_arguments(spec: RunSpec, checkpoints: Path, rows: int, evaluate: bool) -> dict[str, Any]:
    """The arguments of RewardConfig, checked."""
    arguments = training_arguments(spec, checkpoints, rows, evaluate)
    arguments["max_length"] = spec.training.max_length
    return checked(arguments, RewardConfig, spec)


def make_trainer(spec: RunSpec, checkpoints: Path, train: Any, held_out: Any) -> Any:
    """What builds the trainer once the model is there; the arguments are checked now. Raises SpecError."""
    config = configured(RewardConfig, trainer_arguments(spec, checkpoints, len(train), evaluate=held_out is not None))
    most = {"max_length": spec.training.max_length}
    sets = [rows and rows.map(_whole, remove_columns="prompt_ids", fn_kwargs=most) for rows in (train, held_out)]
    return lambda **given: RewardTrainer(args=config, train_dataset=sets[0], eval_dataset=sets[1], **given)


def _whole(row: dict[str, Any], max_length: int | None) -> dict[str, Any]:
    """A reward model reads the whole conversation: the prompt is part of both. TRL's collator does not cut them."""
    return {name: (row["prompt_ids"] + row[name])[:max_length] for name in ("chosen_ids", "rejected_ids")}
