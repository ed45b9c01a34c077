"""SIGKILL to each process, alone and together, at random moments and in the middle of a checkpoint."""

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.events import Checkpoint
from engine.files import read_records
from tests.helpers import Deck, Run, wait_for

STEPS, MANY = 240, 480
SETS = (f"training.max_steps={STEPS}", "saving.every=8", "evaluation.every=0", "evaluation.prompts=[]", "data.validation=0",
        "training.learning_rate=1e-3", "training.epochs=20", "compute.devices=cpu", "method.kind=lora",
        "training.micro_batch=4", "training.accumulation=1")  # fmt: skip
WORKER, SUPERVISOR = "engine.worker", "engine.supervisor"
VICTIMS = [(WORKER,), (SUPERVISOR,), (WORKER, SUPERVISOR), (SUPERVISOR, WORKER)]
KILLS, AT_ONCE = 20, 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_lose_nothing_and_change_no_loss(deck: Deck, tiny_model: Path, rows: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201  named when the test fails
    sets = (*SETS, f"training.max_steps={MANY}")
    calm = deck.start(tiny_model, rows, *sets)
    calm.wait("finished")

    def kill_often(dice: random.Random) -> tuple[list[Run], int]:
        """KILLS / AT_ONCE kills, after each of which nothing is lost: the killed runs, and how many kills hit a checkpoint.

        A run that reaches its end on a fast machine before it is killed often enough is followed by another.
        """
        runs, mid_checkpoint = [deck.start(tiny_model, rows, *sets)], 0
        for kill in range(KILLS // AT_ONCE):
            victims = VICTIMS[kill % len(VICTIMS)]
            steps = None if kill % 5 == 4 else dice.randrange(0, 9)
            while (caught := wait_for_moment(runs[-1], dice, steps)) is None:
                runs.append(deck.start(tiny_model, rows, *sets))
            runs[-1].kill(*victims)
            mid_checkpoint += caught == "in a checkpoint"
            check_nothing_lost(runs[-1], victims)
            if runs[-1].row()["status"] == "crashed":
                assert deck("resume", runs[-1].id, "--detach").returncode == 0
        return runs, mid_checkpoint

    with ThreadPoolExecutor(AT_ONCE) as both:  # each run waits for itself most of the time
        killed = list(both.map(kill_often, [random.Random(seed + i) for i in range(AT_ONCE)]))
    assert sum(caught for _, caught in killed) >= 2
    wanted = calm.losses()
    for run in (run for runs, _ in killed for run in runs):
        run.wait("finished", seconds=300)
        assert run.stored() == run.reported()
        losses = run.losses()
        assert losses.keys() == wanted.keys() == set(range(1, MANY + 1))
        worst = max(abs(losses[step] - loss) for step, loss in wanted.items())
        assert worst < 1e-3, worst


def wait_for_moment(run: Run, dice: random.Random, steps: int | None) -> str | None:
    """Until some steps from now, or (without a target) until a checkpoint is being written; None if the run ended."""

    def unannounced() -> bool:
        announced = {
            Path(r.event.path).name
            for r in read_records(run.directory / "events.jsonl")
            if isinstance(r.event, Checkpoint)
        }
        return any(p.name not in announced for p in (run.directory / "checkpoints").glob("checkpoint-*"))

    target = run.step() + (steps or 0)
    deadline = time.monotonic() + 120
    folder = run.directory / "checkpoints"
    leftovers = set(os.listdir(folder)) if folder.exists() else set()  # a kill may have left half a checkpoint
    while time.monotonic() < deadline:
        if run.row()["status"] == "finished":
            return None
        if steps is None:
            for _ in range(500):  # a tiny checkpoint is written in milliseconds: look closely
                fresh = set(os.listdir(folder)) - leftovers if folder.exists() else set()
                if fresh and unannounced():
                    return "in a checkpoint"
                leftovers |= fresh
                time.sleep(0.0005)
        elif run.step() >= target and run.processes(WORKER):
            time.sleep(dice.random() * 0.1)
            return "at a step"
        else:
            time.sleep(0.1)
    raise AssertionError("no such moment came")


def check_nothing_lost(run: Run, victims: tuple[str, ...]) -> None:
    """The status is true for whoever looks, and everything that the worker appended is stored."""
    if WORKER in victims:
        if SUPERVISOR in victims:
            # who looked at the other run may have started a supervisor for this one between the two kills
            wait_for(lambda: run.shown()["status"] in ("crashed", "finished"), 60, "the truth about a dead run")
        else:
            run.wait("crashed", "finished", seconds=60)
        assert run.stored() == run.reported()
        assert run.row()["exit_reason"]
    else:
        shown = run.shown()
        assert shown["status"] in ("starting", "running", "finished"), shown["exit_reason"]
        wait_for(lambda: run.processes(SUPERVISOR) or run.row()["status"] == "finished", 60, "an adopting supervisor")


@pytest.mark.slow
def test_killing_the_terminal_changes_nothing_for_the_run(deck: Deck, tiny_model: Path, rows: Path) -> None:
    options = [part for item in SETS for part in ("--set", item)]
    command = [
        sys.executable,
        "-m",
        "tuiapp",
        "--db",
        str(deck.database),
        "train",
        "--model",
        str(tiny_model),
        "--data",
        str(rows),
    ]
    terminal = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, start_new_session=True)
    wait_for(lambda: deck.database.exists() and deck.json("runs"))
    run = Run(deck, deck.json("runs")[0]["id"])
    wait_for(lambda: run.step() > 2)
    terminal.kill()
    terminal.wait()
    assert run.wait("finished")["exit_code"] == 0
    assert run.stored() == run.reported()


@pytest.mark.slow
def test_two_runs_at_once(deck: Deck, tiny_model: Path, rows: Path) -> None:
    both = [deck.start(tiny_model, rows, *SETS) for _ in range(2)]
    for run in both:
        run.wait("finished")
        assert run.stored() == run.reported()
    assert len({row["name"] for row in deck.json("runs")}) == 2
