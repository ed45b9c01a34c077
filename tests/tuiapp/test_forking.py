"""A run as the beginning of another: in the app's draft, and by the verb."""

from pathlib import Path

from engine.cli_fork import forked
from engine.spec import parse
from engine.store import runs
from engine.store.connection import open_database
from tests.helpers import Deck
from tuiapp.services import Services
from tuiapp.services import _spec as spec_of


def test_a_fork_is_its_parent_but_for_what_is_changed(deck: Deck, tiny_model: Path, rows: Path) -> None:
    settings = (
        "training.max_steps=2",
        "method.kind=lora",
        "method.rank=4",
        "training.learning_rate=1e-3",
        "method.dropout=0.2",
    )
    parent = deck.start(tiny_model, rows, *settings)
    parent.wait("finished")
    services = Services(deck.database)
    draft = services.fork(parent.id)
    draft.change("training.learning_rate", 5e-4)
    draft.change("training.micro_batch", 1)
    old, new = parse(runs.find(open_database(deck.database), parent.id)["spec"]), spec_of(draft.form())
    assert (new.training.learning_rate, new.training.micro_batch, new.run.parent) == (5e-4, 1, parent.id)
    for section in ("data", "method", "evaluation", "saving", "objective_options"):
        assert getattr(new, section) == getattr(old, section), section
    changed = old.training.model_copy(update={"learning_rate": 5e-4, "micro_batch": 1})
    assert new.training == changed

    child = services.start(draft.form())
    row = runs.find(open_database(deck.database), child)
    assert row["parent_id"] == parent.id
    assert row["name"] == f"{parent.row()['name']}-2"


def test_the_verb_forks(deck: Deck, tiny_model: Path, rows: Path) -> None:
    parent = deck.start(tiny_model, rows, "training.max_steps=2", "method.kind=lora")
    parent.wait("finished")
    done = deck("fork", parent.id, "--set", "training.max_steps=3", "--detach")
    assert done.returncode == 0, done.stderr
    newest = deck.json("runs")[0]
    assert newest["parent_id"] == parent.id
    spec = forked(runs.find(open_database(deck.database), parent.id), ["training.max_steps=3"])
    assert spec.training.max_steps == 3
    assert deck("fork", parent.id, "--set", "training.nonsense=3").returncode == 2
