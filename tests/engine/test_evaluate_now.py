"""An evaluation that somebody asks for: one more, with samples, and every step after it as it would have been."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RunError
from engine.events import Finished, Metric, Notice
from engine.files import read_records
from tests.helpers import Deck, Run, wait_for
from tests.runs import complete, tiny
from tests.train import Trained, trained
from tuiapp.services import Services

SETS = {"data__validation": 1, "evaluation__prompts": ["Say 3"], "evaluation__general": True, "method__dropout": 0.2,
        "training__max_steps": 8}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("place"))


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import torch

    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def asked_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leaves the file while these steps, counted from 1, are at work."""
    from trl import SFTTrainer

    compute = SFTTrainer.compute_loss

    def install(directory: Path, *steps: int) -> None:
        def compute_loss(self: Any, model: Any, *given: Any, **named: Any) -> Any:
            if model.training and self.state.global_step + 1 in steps:
                (directory / "EVALUATE").touch()
            return compute(self, model, *given, **named)

        monkeypatch.setattr(SFTTrainer, "compute_loss", compute_loss)

    return install


def evaluated(done: Trained, name: str = "eval_loss") -> list[int]:
    return [e.step for e in done.events() if isinstance(e, Metric) and name in e.values]


def test_one_more_and_nothing_else_changes(place: Path, tmp_path: Path, asked_at: Callable[..., None]) -> None:
    spec = complete("lora", "sft", place, evaluation__every=4, evaluation__sample_every=0, **SETS)
    calm = trained(spec, tmp_path / "calm")
    asked_at(tmp_path / "asked", 2, 4)
    asked = trained(spec, tmp_path / "asked")
    assert (evaluated(calm), evaluated(asked)) == ([4, 8], [2, 4, 8])
    assert evaluated(asked, "general_loss") == [0, 2, 4, 8]
    assert [one.step for one in asked.samples()] == [0, 2, 4, 8]
    assert asked.series("loss") == calm.series("loss"), "dropout too draws what it would have drawn"
    assert asked.series("eval_loss")[1:] == calm.series("eval_loss")
    assert not (tmp_path / "asked" / "EVALUATE").exists()


def test_it_does_not_count_for_early_stopping(place: Path, tmp_path: Path, asked_at: Callable[..., None]) -> None:
    """It gets worse and worse, so that each evaluation is one more without improvement."""
    sets = SETS | {"training__learning_rate": 0.5, "training__max_steps": 30}
    spec = complete("lora", "sft", place, evaluation__every=3, evaluation__early_stopping=2, **sets)
    calm = trained(spec, tmp_path / "calm")
    last = evaluated(calm)[-1]
    assert last < 30
    asked_at(tmp_path / "asked", *(step for step in range(1, last) if step % 3))
    asked = trained(spec, tmp_path / "asked")
    assert evaluated(asked) == list(range(1, last + 1)), "one after every step, and the same end"
    assert asked.series("loss") == calm.series("loss")


def test_without_rows_that_are_held_out_it_is_said(place: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "EVALUATE").touch()
    spec = complete("lora", "sft", place, **(SETS | {"data__validation": 0, "evaluation__general": False}))
    done = trained(spec, tmp_path / "run")
    assert [e.text for e in done.events() if isinstance(e, Notice) and e.level == "warning"] == [
        "asked for an evaluation, but no rows are held out"
    ]
    assert evaluated(done) == []
    assert len(done.series("loss")) == 8


WORKER = ("training.max_steps=600", "training.learning_rate=1e-3", "training.micro_batch=4", "training.accumulation=1",
          "training.epochs=50", "saving.every=0", "evaluation.every=0", "evaluation.general=true", "data.validation=8",
          "evaluation.prompts=[Say 3]", "evaluation.sample_every=0", "method.kind=lora", "method.dropout=0.1",
          "compute.devices=cpu")  # fmt: skip


def test_a_real_run_evaluates_when_it_is_asked_and_goes_on(
    deck: Deck, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    run, calm = (deck.start(tiny_model, rows, *WORKER) for _ in range(2))
    wait_for(lambda: run.step() >= 3)
    assert deck.json("evaluate", run.id)["asked"] == "evaluate"
    wait_for(lambda: at(run, "eval_loss"), what="an evaluation")
    Services(deck.database).evaluate(run.id)
    for one in (run, calm):
        one.wait("finished")
    first, second = at(run, "eval_loss")
    assert at(run, "general_loss") == [0, first, second]
    assert at(calm, "general_loss") == [0]
    assert 3 <= first < second < 600
    losses = run.losses()
    assert losses == calm.losses()
    assert set(losses) == set(range(1, 601))
    assert isinstance([r.event for r in read_records(run.directory / "events.jsonl")][-1], Finished)
    late = deck("evaluate", run.id)
    assert (late.returncode, "is not running" in late.stderr) == (1, True)
    for ask in (Services(deck.database).evaluate, Services(deck.database).checkpoint):
        with pytest.raises(RunError, match="is not running"):
            ask(run.id)


def at(run: Run, name: str) -> list[int]:
    return [step for _, key, step in run.reported() if key == name]


def test_where_nothing_is_held_out_it_is_refused(deck: Deck, tiny_model: Path, rows: Path) -> None:
    run = deck.start(
        tiny_model, rows, *WORKER, "data.validation=0", "evaluation.general=false", "training.max_steps=5000"
    )
    refused = deck("evaluate", run.id)
    assert refused.returncode == 1
    assert "Nothing is held out" in refused.stderr
    assert "data.validation" in refused.stderr
    assert not (run.directory / "EVALUATE").exists()
    wait_for(lambda: run.step() >= 1)
    (run.directory / "EVALUATE").touch()
    deck.json("stop", run.id)
    run.wait("stopped")
    (run.directory / "EVALUATE").touch()
    assert deck("resume", run.id, "--detach").returncode == 0
    assert not (run.directory / "EVALUATE").exists(), "what was asked of the last attempt is over"
    deck.json("stop", run.id, "--now")
    run.wait("stopped")
