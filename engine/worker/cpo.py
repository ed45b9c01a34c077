"""Contrastive preference optimisation, and SimPO by extra.trainer.loss_type, with TRL's CPOTrainer."""

from pathlib import Path
from typing import Any

from trl.experimental.cpo import CPOConfig, CPOTrainer

from engine.spec import RunSpec
from engine.worker.arguments import checked, configured, training_arguments
from engine.worker.pairs import tokenized_pair


class PreparedCPOTrainer(CPOTrainer):
    """TRL would tokenize again what is token ids already (`engine.worker.preprocess`)."""

    def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, Any]:
        return tokenized_pair(feature, self.max_length)


def trainer_arguments(spec: RunSpec, checkpoints: Path, rows: int, evaluate: bool) -> dict[str, Any]:
    """The arguments of CPOConfig, checked."""
    arguments = training_arguments(spec, checkpoints, rows, evaluate)
    arguments |= {"max_length": spec.training.max_length, "remove_unused_columns": False}
    return checked(arguments, CPOConfig, spec)


def make_trainer(spec: RunSpec, checkpoints: Path, train: Any, held_out: Any) -> Any:
    """What builds the trainer once the model is there; the arguments are checked now. Raises SpecError."""
    config = configured(CPOConfig, trainer_arguments(spec, checkpoints, len(train), evaluate=held_out is not None))
    return lambda **given: PreparedCPOTrainer(args=config, train_dataset=train, eval_dataset=held_out, **given)
