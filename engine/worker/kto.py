"""Kahneman-Tversky optimisation with TRL's KTOTrainer, on answers with a verdict that are token ids already."""

from pathlib import Path
from typing import Any

from trl import KTOConfig, KTOTrainer

from engine.spec import RunSpec
from engine.worker.arguments import checked, configured, reference, training_arguments


class PreparedKTOTrainer(KTOTrainer):
    """TRL would tokenize again; what is left of its preparation is to pair each prompt with another row's answer."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        if not self.calculate_KL:
            return dataset
        return dataset.map(_mismatched, batched=True, batch_size=args.per_device_train_batch_size)


def _mismatched(rows: Any) -> Any:
    """The answers of a batch moved on by one, from which the KL term is estimated (as KTOTrainer does it)."""
    return rows | {"KL_completion_ids": [rows["completion_ids"][-1], *rows["completion_ids"][:-1]]}


def trainer_arguments(spec: RunSpec, checkpoints: Path, rows: int, evaluate: bool) -> dict[str, Any]:
    """The arguments of KTOConfig, checked."""
    arguments = training_arguments(spec, checkpoints, rows, evaluate) | reference(spec)
    arguments["max_length"] = spec.training.max_length
    return checked(arguments, KTOConfig, spec)


def make_trainer(spec: RunSpec, checkpoints: Path, train: Any, held_out: Any) -> Any:
    """What builds the trainer once the model is there; the arguments are checked now. Raises SpecError."""
    config = configured(KTOConfig, trainer_arguments(spec, checkpoints, len(train), evaluate=held_out is not None))
    return lambda **given: PreparedKTOTrainer(args=config, train_dataset=train, eval_dataset=held_out, **given)
