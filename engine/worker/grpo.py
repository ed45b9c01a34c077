"""Group relative policy optimisation with TRL's GRPOTrainer: answers that the model writes, judged by functions of the user's."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trl import GRPOConfig, GRPOTrainer

from engine.errors import SpecError
from engine.spec import RunSpec
from engine.worker.arguments import checked, configured, reference, training_arguments


def trainer_arguments(spec: RunSpec, checkpoints: Path, rows: int, evaluate: bool) -> dict[str, Any]:
    """The arguments of GRPOConfig, checked."""
    options = spec.objective_options
    arguments = training_arguments(spec, checkpoints, rows, evaluate) | reference(spec) | {
        "num_generations": options.generations,
        "max_completion_length": options.completion_length,
        "per_device_eval_batch_size": options.generations,  # TRL compares whole groups of answers
    }  # fmt: skip
    return checked(arguments, GRPOConfig, spec)


def make_trainer(spec: RunSpec, checkpoints: Path, train: Any, held_out: Any) -> Any:
    """What builds the trainer once the model is there; arguments and reward functions are checked now. Raises SpecError."""
    config = configured(GRPOConfig, trainer_arguments(spec, checkpoints, len(train), evaluate=held_out is not None))
    rewards = [reward(named) for named in spec.objective_options.rewards]
    sets = [rows and rows.with_transform(_decoded) for rows in (train, held_out)]
    return lambda **given: GRPOTrainer(
        args=config, reward_funcs=rewards, train_dataset=sets[0], eval_dataset=sets[1], **given
    )


def _decoded(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Prompts are kept as JSON: Arrow would give all tool calls the same arguments."""
    values = [json.loads(text) for text in rows["row"]]
    return {name: [value.get(name) for value in values] for name in {key: None for value in values for key in value}}


def reward(named: str) -> Callable[..., Any]:
    """The function that `file.py:function` names. It runs the user's file. Raises SpecError if it is not there."""
    file, _, name = named.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"reward_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SpecError("The reward is no Python file", f"{named}.", "Name it as file.py:function.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # it may import its neighbours
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SpecError(
            "The reward file cannot be run", f"{path}: {type(error).__name__}: {error}.", "Mend it."
        ) from error
    finally:
        sys.path.remove(str(path.parent))
    found = getattr(module, name, None)
    if not callable(found):
        raise SpecError(
            "The reward function is not there", f"{path} has no function {name}.", "Correct objective_options.rewards."
        )
    function: Callable[..., Any] = found
    return function
