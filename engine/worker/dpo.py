"""Direct preference optimisation with TRL's DPOTrainer, on pairs that are token ids already."""

from pathlib import Path
from typing import Any

from trl import DPOConfig, DPOTrainer

from engine.spec import RunSpec
from engine.worker.arguments import checked, configured, reference, training_arguments


class PreparedDPOTrainer(DPOTrainer):
    """TRL would tokenize again what the same code has tokenized before (`engine.worker.preprocess`)."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def trainer_arguments(spec: RunSpec, checkpoints: Path, rows: int, evaluate: bool) -> dict[str, Any]:
    """The arguments of DPOConfig, checked."""
    arguments = training_arguments(spec, checkpoints, rows, evaluate) | reference(spec)
    arguments["max_length"] = spec.training.max_length
    return checked(arguments, DPOConfig, spec)


def make_trainer(spec: RunSpec, checkpoints: Path, train: Any, held_out: Any) -> Any:
    """What builds the trainer once the model is there; the arguments are checked now. Raises SpecError.

    The reference model is the base under the adapter, or with full fine-tuning a second copy, which TRL loads.
    """
    config = configured(DPOConfig, trainer_arguments(spec, checkpoints, len(train), evaluate=held_out is not None))
    return lambda **given: PreparedDPOTrainer(args=config, train_dataset=train, eval_dataset=held_out, **given)
