"""The review of real forms: a tiny model, real rows, the real planner, and the real command line reading back what it says."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import cli, launch
from engine.errors import SpaceError
from engine.hardware import Gpu, Hardware
from engine.launch import Prepared
from engine.spec import RunSpec, parse
from engine.store import runs
from tests.helpers import kill_everything
from tuiapp import forking
from tuiapp.review_values import ReviewPage
from tuiapp.services import Services
from tuiapp.snapshot import NewRun

ALL = {
    "method.kind": "lora", "method.rank": 32, "method.alpha": 64.0, "method.targets": ["q_proj", "v_proj"],
    "training.max_length": 192, "training.micro_batch": 2, "training.accumulation": 8, "training.learning_rate": 6.3e-5,
    "training.epochs": 2.5, "training.packing": False, "training.optimizer": "adafactor", "training.max_grad_norm": 0.0,
    "data.filters.duplicates": "exact", "data.filters.exclude": ["it's \\d+ \"#\""], "data.validation": 6,
    "data.system": "Be brief: no 'ifs', $HOME, {or} # more", "evaluation.prompts": ["Say \"hi\"\nnow", "1e5"],
    "evaluation.early_stopping": 3, "saving.keep": 1, "run.tags": ["a b", "null"], "run.note": "yes",
    "extra.trainer.adam_beta2": 0.95, "training.seed": 7,
}  # fmt: skip
"""What a person may have chosen; together they go on a tiny model."""


class Caught(Exception):
    """A run that would have been started."""

    def __init__(self, prepared: Prepared, queue: bool) -> None:
        super().__init__("caught")
        self.prepared, self.queue = prepared, queue


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for a database, in which nothing is yet."""
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("TUNEDECK_DB", raising=False)
    place = tmp_path / "a home"
    place.mkdir()
    yield place
    kill_everything(place)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """72 rows, of which the last eight are the first again; a name that a shell would take apart."""
    rows = [
        {"instruction": f"Say {i % 64}", "output": f"{i % 64} it is, and {i % 64 * 7} comes later."} for i in range(72)
    ]
    path = tmp_path / "my $rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tunedeck train` goes as far as to start the run."""

    def create(database: Path, prepared: Prepared, queue: bool = False) -> str:
        raise Caught(prepared, queue)

    monkeypatch.setattr(launch, "create", create)


def form_of(model: Path, data: Path, chosen: dict[str, Any], **more: Any) -> NewRun:
    return NewRun(str(model), str(data), "", chosen=tuple(chosen.items()), **more)


def trained(line: list[str]) -> RunSpec:
    """What `tunedeck` would start with these words."""
    options = cli.build_parser().parse_args(line[1:])
    with pytest.raises(Caught) as found:
        options.verb(options)
    return found.value.prepared.spec


def whole(services: Services, page: ReviewPage) -> RunSpec:
    """What the app would start for the page's form."""
    with pytest.raises(Caught) as found:
        services.start(page.form)
    return found.value.prepared.spec


def differ(page: ReviewPage) -> dict[str, tuple[str, str]]:
    return {one.path: (one.before, one.after) for one in page.changes if one.chosen}


@pytest.mark.usefixtures("caught")
def test_nothing_chosen_is_as_recommended_and_the_shortest_command(home: Path, tiny_model: Path, data: Path) -> None:
    services = Services(home / "experiments.db")
    page = services.review(form_of(tiny_model, data, {}))
    assert page.problem is None
    assert page.changes == ()
    assert page.command == ("tunedeck", "train", "--model", str(tiny_model), "--data", str(data), "--db",
                            str(home / "experiments.db"))  # fmt: skip
    assert (page.rows, page.train + page.validation, page.name) == (72, 72, "tiny-full")
    assert page.disk_needed > 0
    assert page.disk_free > page.disk_needed
    assert any("repeat an earlier row" in text for _, text in page.warnings)
    assert trained([*page.command]) == whole(services, page) == parse(yaml.safe_load(page.yaml))
    assert list(home.iterdir()) == []  # nothing was written


@pytest.mark.usefixtures("caught")
def test_a_run_with_everything_chosen_is_made_again_from_the_shell(home: Path, tiny_model: Path, data: Path) -> None:
    services = Services(home / "experiments.db")
    page = services.review(form_of(tiny_model, data, ALL, name="my 'run' #1", goal="domain"))
    assert page.problem is None
    spec = whole(services, page)
    line = shlex.join(page.command)
    assert "--goal domain" in line
    assert "method.alpha" not in line  # it follows from the rank
    assert shlex.split(line) == [*page.command]
    assert trained(shlex.split(line)) == spec
    assert differ(page)["training.learning_rate"] == ("5e-05", "6.3e-05")
    assert ("duplicate", 8) in page.dropped
    assert page.train + page.validation == 64


@pytest.mark.usefixtures("caught")
def test_the_goal_counts_on_both_ways(home: Path, tiny_model: Path, data: Path) -> None:
    services = Services(home / "experiments.db")
    page = services.review(form_of(tiny_model, data, {"method.kind": "lora"}, goal="reasoning"))
    spec = whole(services, page)
    assert spec.method.rank == 32
    assert trained([*page.command]) == spec
    assert "tunedeck train THIS_FILE --goal reasoning" in page.yaml


@pytest.mark.usefixtures("caught")
def test_the_saved_file_makes_the_same_run(
    home: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services(home / "experiments.db")
    page = services.review(form_of(tiny_model, data, ALL, name="mine"))
    monkeypatch.chdir(tmp_path)
    place = services.save(page, "mine.yaml")
    assert place == str(tmp_path / "mine.yaml")
    assert "learning_rate: 6.3e-05  # chosen; recommended: 5e-05" in page.yaml
    db = str(home / "experiments.db")
    assert trained(["tunedeck", "train", "mine.yaml", "--db", db]) == whole(services, page)
    assert services.save(page, "mine.yaml") == ""
    (tmp_path / "mine.yaml").write_text("old")
    assert services.save(page, "mine.yaml", replace=True) == place
    assert (tmp_path / "mine.yaml").read_text() == page.yaml
    with pytest.raises(SpaceError, match="No such file"):
        services.save(page, "no/such/place.yaml")


@pytest.mark.usefixtures("caught")
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(path for path in ALL if not path.startswith("data."))), unique=True))
def test_any_choice_is_made_again_with_as_few_fields_as_needed(
    home: Path, tiny_model: Path, data: Path, paths: list[str]
) -> None:
    services = Services(home / "experiments.db")
    page = services.review(form_of(tiny_model, data, {path: ALL[path] for path in paths}))
    if page.problem is not None:  # not everything goes without the rest
        return
    spec = whole(services, page)
    assert trained([*page.command]) == spec
    sets = [page.command[i + 1] for i, word in enumerate(page.command) if word == "--set"]
    assert len(sets) <= len(paths)
    for one in sets:
        rest = [*page.command]
        at = rest.index(one)
        del rest[at - 1 : at + 1]
        if not one.startswith("method.kind="):
            assert trained_or_none(rest) != spec


def trained_or_none(line: list[str]) -> RunSpec | None:
    """The same; None where that cannot be started."""
    options = cli.build_parser().parse_args(line[1:])
    try:
        options.verb(options)
    except Caught as found:
        return found.prepared.spec
    except Exception:
        return None
    return None


@pytest.mark.usefixtures("caught")
def test_the_users_config_is_what_is_recommended(
    home: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("defaults: {training: {learning_rate: 3e-4}, method: {kind: lora, rank: 4}}")
    monkeypatch.setenv("TUNEDECK_CONFIG", str(config))
    services = Services(home / "experiments.db")
    page = services.review(form_of(tiny_model, data, {"training.learning_rate": 1e-4}))
    spec = whole(services, page)
    assert (spec.method.rank, spec.training.learning_rate) == (4, 1e-4)
    assert differ(page) == {"training.learning_rate": ("0.0003", "0.0001")}
    assert "rank: 4  # your config" in page.yaml
    assert trained([*page.command]) == spec


@pytest.mark.usefixtures("caught")
def test_on_a_card_the_memory_is_told(
    home: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine = Hardware("box", (Gpu(0, "GPU-1", "NVIDIA GeForce RTX 4090", 23.99, (8, 9)),), None, "580", "cpu", 8, 64.0)
    monkeypatch.setattr(launch, "probe", lambda: machine)
    services = Services(home / "experiments.db")
    services._hardware = machine
    page = services.review(form_of(tiny_model, data, {"method.kind": "lora", "training.micro_batch": 2}))
    assert page.problem is None
    assert page.choice is not None
    assert page.choice.device_gib is not None
    assert page.card_gib == 23.99
    assert page.choice.device_gib < 2
    assert "RTX 4090" in page.card
    assert page.command
    assert trained([*page.command]) == whole(services, page)


def test_what_is_wrong_is_a_page(home: Path, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    services = Services(home / "experiments.db")
    (tmp_path / "empty.jsonl").write_text("")
    for form, step, words in (
        (form_of(tmp_path / "absent", data, {}), 1, "was not found"),
        (form_of(tiny_model, tmp_path / "empty.jsonl", {}), 2, ""),
        (form_of(tiny_model, data, {"training.learning_rate": "much"}), 4, "specification"),
        (form_of(tiny_model, data, {"saving.keep": 10**12}), None, "not enough disk space"),
    ):
        page = services.review(form)
        assert page.problem is not None
        assert words in page.problem.title
        assert page.problem.message
        assert page.problem.step == step
        assert page.command == ()


def test_data_that_is_read_only_as_chosen_is_compared_with_that(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps({"frage": f"Say {i}", "antwort": f"{i} it is."}) + "\n" for i in range(40)))
    services = Services(home / "experiments.db")
    assert services.review(form_of(tiny_model, path, {})).problem is not None
    page = services.review(
        form_of(tiny_model, path, {"data.columns": {"instruction": "frage", "output": "antwort"}, "training.epochs": 2})
    )
    assert page.problem is None
    assert page.recommended
    assert "data.columns.instruction=frage" in page.command


def test_coming_back_looks_at_nothing_again(
    home: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services(home / "experiments.db")
    form = form_of(tiny_model, data, {"training.epochs": 2})
    first = services.review(form)
    prepare, calls = launch.prepare, []
    monkeypatch.setattr(launch, "prepare", lambda *given, **more: calls.append(given) or prepare(*given, **more))  # type: ignore[func-returns-value]
    again = services.review(form)
    assert (again.command, again.yaml) == (first.command, first.yaml)
    assert not calls
    with data.open("a") as file:
        file.write('{"instruction": "And now?", "output": "Something else."}\n')
    assert services.review(form).rows == 73
    assert calls


def test_a_fork_is_compared_with_its_parent(
    home: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "start_supervisor", lambda *_: None)  # what is looked at is its row
    services = Services(home / "experiments.db")
    parent = services.start(form_of(tiny_model, data, {"method.kind": "lora", "data.validation": 6}, name="first"))
    draft = services.fork(parent)
    draft.change("training.learning_rate", 1e-5)
    page = services.review(draft.form())
    assert page.problem is None
    assert (page.parent, page.name) == ("first", "first-2")
    services.start(form_of(tiny_model, data, {}, name="first-2"))
    assert services.review(draft.form()).name == "first-3"
    assert [(one.path, one.after) for one in page.parent_changes] == [("training.learning_rate", "1e-05")]
    assert f"run.parent={parent}" in page.command

    def create(database: Path, prepared: Prepared, queue: bool = False) -> str:
        raise Caught(prepared, queue)

    monkeypatch.setattr(launch, "create", create)
    assert trained([*page.command]) == whole(services, page)
    assert forking.draft_of(services._find(parent)).parent == parent
    monkeypatch.setattr(services, "_find", lambda _: (_ for _ in ()).throw(SpaceError("gone", "", "")))
    again = Services(home / "experiments.db")
    lost = again.review(NewRun(str(tiny_model), str(data), "", parent="zzzzzz"))
    assert (lost.problem, lost.parent) == (None, "")


def test_a_run_put_in_the_queue_is_marked_so(home: Path, tiny_model: Path, data: Path) -> None:
    services = Services(home / "experiments.db")
    form = form_of(tiny_model, data, {"training.max_steps": 1, "method.kind": "lora"}, name="queued one")
    assert services.review(form).waits.free
    run_id = services.start(form, queue=True)
    assert (home / "runs" / run_id / "QUEUE").exists()
    row = services._find(run_id)
    assert row["name"] == "queued one"
    assert row["status"] in runs.ACTIVE
