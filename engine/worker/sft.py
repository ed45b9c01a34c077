"""Supervised fine-tuning and continued pre-training with TRL's SFTTrainer, on rows that are token ids already."""

from pathlib import Path
from typing import Any

from trl import SFTConfig, SFTTrainer

from engine.spec import RunSpec
from engine.worker.arguments import checked, configured, training_arguments


def trainer_arguments(spec: RunSpec, checkpoints: Path, rows: int, evaluate: bool) -> dict[str, Any]:
    """The arguments of SFTConfig, checked."""
    arguments = training_arguments(spec, checkpoints, rows, evaluate) | {
        "max_length": spec.training.max_length,
        "packing": spec.training.packing,
        "packing_strategy": "bfd_split",
        "eval_packing": False,
    }  # fmt: skip
    return checked(arguments, SFTConfig, spec)


def make_trainer(spec: RunSpec, checkpoints: Path, train: Any, held_out: Any) -> Any:
    """What builds the trainer once the model is there; the arguments are checked now. Raises SpecError."""
    config = configured(SFTConfig, trainer_arguments(spec, checkpoints, len(train), evaluate=held_out is not None))
    return lambda **given: SFTTrainer(args=config, train_dataset=train, eval_dataset=held_out, **given)
