"""What is said to be refused is what the installed transformers refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.methods import OPTIMIZERS, SCHEDULES
from engine.spec import RunSpec, parse
from engine.trainer_needs import evaluates, lacking, warmup_steps

ROOT = Path(__file__).parent.parent.parent
LIBRARY = """
import json, sys, torch
from transformers import Trainer, TrainingArguments, get_scheduler

def tried(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return ""

def arguments(**given):
    return TrainingArguments(output_dir=sys.argv[1], use_cpu=True, report_to="none", **given)

def schedule(name, evaluate, steps, warmup, rate, kwargs):
    made = arguments(lr_scheduler_type=name, eval_strategy="steps" if evaluate else "no", eval_steps=5 if evaluate else None)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    found = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps, scheduler_specific_kwargs=kwargs)
    for _ in range(steps):
        optimizer.step()
        found.step(*([1.0] if name in ("reduce_lr_on_plateau", "greedy") else []))

model = torch.nn.Linear(64, 64)
asked = json.load(sys.stdin)
print(json.dumps({
    "optimizers": {name: tried(lambda: Trainer.get_optimizer_cls_and_kwargs(arguments(optim=name), model))
                   for name in asked["optimizers"]},
    "schedules": [tried(lambda: schedule(*one)) for one in asked["schedules"]],
    "warmup": [arguments(warmup_steps=share).get_warmup_steps(steps) for share, steps in asked["warmup"]],
}))
"""
CASES = [
    (name, evaluate, 20, warmup, rate, kwargs)
    for name in SCHEDULES
    for evaluate in (False, True)
    for warmup, rate in ((2, 1e-4), (20, 1e-4), (2, 1e-7))
    for kwargs in ({}, {"min_lr_rate": 0.1}, {"num_decay_steps": 5})
    if not kwargs or name.endswith("min_lr") or name == "warmup_stable_decay"
]
WARMUP = [(0.03, 414), (0.1, 7), (0.0, 50), (1, 50), (12.7, 50), (0.999, 3)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the library says, in a process of its own."""
    asked = {"optimizers": OPTIMIZERS, "schedules": CASES, "warmup": WARMUP}
    command = [sys.executable, "-c", LIBRARY, str(tmp_path_factory.mktemp("out"))]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def spec_of(**sections: dict[str, Any]) -> RunSpec:
    return parse({"model": {"path": "m"}, "data": {"path": "d"}, **sections})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str, library: dict[str, Any]) -> None:
    assert bool(lacking(spec_of(training={"optimizer": name}))) == bool(library["optimizers"][name])


def test_schedules(library: dict[str, Any]) -> None:
    for (name, evaluate, steps, warmup, rate, kwargs), refused in zip(CASES, library["schedules"], strict=True):
        spec = spec_of(
            training={"schedule": name, "learning_rate": rate, "warmup": warmup},
            evaluation={"every": 5 if evaluate else 0},
            data={"path": "d", "validation": 10},
            extra={"trainer": {"lr_scheduler_kwargs": kwargs} if kwargs else {}},
        )
        found = lacking(spec, steps)
        assert bool(found) == bool(refused), (name, evaluate, warmup, rate, kwargs, refused, found)


def test_warm_up_counts_as_the_library_counts(library: dict[str, Any]) -> None:
    assert [warmup_steps(share, steps) for share, steps in WARMUP] == library["warmup"]


def test_a_projection_needs_to_know_where() -> None:
    """GaLore and APOLLO may not be installed: then that is what is said."""
    said = lacking(spec_of(training={"optimizer": "galore_adamw"}))
    assert "galore" in said[0]


def test_evaluating_needs_rows() -> None:
    assert evaluates(spec_of(evaluation={"every": 0.5}, data={"path": "d", "validation": "held.jsonl"}))
    assert not evaluates(spec_of(evaluation={"every": 0.5}, data={"path": "d", "validation": 0}))
    assert not evaluates(spec_of(data={"path": "d", "validation": 10}))
