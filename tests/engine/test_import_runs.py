"""Old runs of other tools, on files that those tools made: what is in them is in the database, once, and nothing else is."""

import json
import math
import os
import shutil
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import cli, launch
from engine.cli_fork import forked
from engine.errors import RunError, SourceError
from engine.imports import bring, find, trainer_state
from engine.store import imported, metrics, records, runs
from engine.store.connection import Connection, open_database


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Connection]:
    connection = open_database(tmp_path / "home" / "experiments.db")
    yield connection
    connection.close()


def bring_all(db: Connection, path: Path) -> dict[str, bring.Brought]:
    """Everything beneath a path, by name."""
    found = find.sources(path)
    assert found.failed == []
    known = imported.known(db)
    return {one.name: one for one in (bring.bring(db, source, known) for source in found.sources)}


def values(db: Connection, run_id: str) -> dict[tuple[str, int], float]:
    """What is shown of each step."""
    rows = db.execute("SELECT key, step, value FROM metrics WHERE run_id = ?", (run_id,))
    return {(key, step): float(value) for key, step, value in rows}


def params(db: Connection, run_id: str) -> dict[str, str | None]:
    return dict(runs.params(db, run_id))


def dump(db: Connection) -> list[str]:
    return list(db.iterdump())


def read_by_tensorboard(directory: Path) -> dict[str, list[tuple[int, float, float]]]:
    """(step, unix seconds, value) by tag, as TensorBoard itself reads them; of a step that came twice all."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found: dict[str, list[tuple[int, float, float]]] = {}
    for file in sorted(directory.glob("*tfevents*")):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, event.wall_time, value.simple_value))
    return found


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


# What is found


def test_everything_beneath_a_directory_is_imported(old_runs: Path, db: Connection) -> None:
    found = bring_all(db, old_runs)
    assert {name: (one.kind, one.status) for name, one in found.items()} == {
        "trl": ("output_dir", "finished"),
        "support": ("trackio", "finished"),
        "by hand": ("trackio", "stopped"),
        "tb/plain": ("tensorboard", "finished"),
        "tb/sweep/try0": ("tensorboard", "finished"),
        "tb/sweep/try1": ("tensorboard", "finished"),
        "tb/sweep/try2": ("tensorboard", "finished"),
    }
    for row in runs.listing(db):
        assert row["source"] == f"{found[row['name']].kind} {found[row['name']].place}"
        assert (row["spec"], row["tags"], len(row["id"])) == ({}, ["imported"], 8)
        assert row["started_at"] <= row["ended_at"]
    assert runs.active(db) == []


def test_importing_again_changes_nothing(old_runs: Path, db: Connection) -> None:
    bring_all(db, old_runs)
    before = dump(db)
    assert {one.what for one in bring_all(db, old_runs).values()} == {"unchanged"}
    assert dump(db) == before


# Output directories of transformers and TRL


def test_an_output_directory_has_every_value_that_the_trainer_logged(old_runs: Path, db: Connection) -> None:
    run = bring_all(db, old_runs / "trl")["trl"]
    stored = values(db, run.id)
    logged = json.loads((old_runs / "history.json").read_text())
    expected = {(key, entry["step"]): value for entry in logged for key, value in entry.items()
                if key not in ("step", "epoch") and isinstance(value, int | float)}  # fmt: skip
    assert len(expected) > 60
    assert {place: stored[place] for place in expected if not place[0].startswith(("train_", "total_"))} == {
        place: value for place, value in expected.items() if not place[0].startswith(("train_", "total_"))
    }
    # the last words come after the last checkpoint: they are in the event files alone, in single precision
    runtime = next(value for (key, step), value in expected.items() if key == "train_runtime" and step == 8)
    assert stored["train_runtime", 8] == pytest.approx(runtime, rel=1e-6)
    assert not {key for key, _ in stored} & {"epoch", "train/epoch", "step"}


def test_an_output_directory_has_the_times_of_its_event_files(old_runs: Path, db: Connection) -> None:
    run = bring_all(db, old_runs / "trl")["trl"]
    told = {}
    for directory in sorted((old_runs / "trl" / "runs").iterdir()):
        told |= {step: time for step, time, _ in read_by_tensorboard(directory)["train/loss"]}
    assert [(step, time) for step, time, _ in metrics.curves(db, run.id, ["loss"])["loss"]] == sorted(told.items())
    row = runs.find(db, run.id)
    assert row["started_at"] < told[1]
    assert row["ended_at"] >= told[8]


def test_an_output_directory_says_what_was_trained(old_runs: Path, tiny_model: Path, db: Connection) -> None:
    run = bring_all(db, old_runs / "trl")["trl"]
    row, told = runs.one(db, run.id), params(db, run.id)
    assert (row["method"], row["model"], row["status"]) == ("lora", tiny_model.name, "finished")
    assert (row["progress"]["step"], row["progress"]["total"]) == (8, 8)
    assert {path: told[path] for path in ("method.rank", "method.alpha", "method.targets", "training.learning_rate",
            "training.micro_batch", "training.max_steps", "training.schedule", "training.seed", "objective", "model.path")} == {
        "method.rank": "4", "method.alpha": "8.0", "method.targets": '["q_proj", "v_proj"]', "training.learning_rate": "0.0002",
        "training.micro_batch": "2", "training.max_steps": "8", "training.schedule": "constant", "training.seed": "7",
        "objective": "sft", "model.path": str(tiny_model),
    }  # fmt: skip
    assert "config.max_steps" not in told
    points = records.checkpoints(db, run.id)
    evaluated = values(db, run.id)
    assert [(p["step"], p["path"], p["eval_loss"]) for p in points] == [
        (step, str(old_runs / "trl" / f"checkpoint-{step}"), evaluated["eval_loss", step]) for step in (4, 8)
    ]
    assert [a["path"] for a in records.artifacts(db, run.id)] == [str(old_runs / "trl")]
    assert any("training_args.bin was not opened" in note for note in run.notes)


def test_event_files_of_another_training_into_the_same_directory_are_a_run_of_their_own(
    old_runs: Path, db: Connection, tmp_path: Path
) -> None:
    place = tmp_path / "reused"
    shutil.copytree(old_runs / "trl", place)
    other = place / "runs" / "Jan01_00-00-00_box"
    other.mkdir()
    shutil.copy(sorted((old_runs / "tb" / "plain").glob("*tfevents*"))[0], other)
    found = bring_all(db, place)
    assert set(found) == {"reused", "reused/runs/Jan01_00-00-00_box"}
    assert found["reused"].points == bring_all(db, old_runs / "trl")["trl"].points
    assert "val/acc" in metrics.keys(db, found["reused/runs/Jan01_00-00-00_box"].id)


def test_without_event_files_the_times_are_reckoned_and_that_is_said(
    old_runs: Path, db: Connection, tmp_path: Path
) -> None:
    place = tmp_path / "bare"
    shutil.copytree(old_runs / "trl", place, ignore=shutil.ignore_patterns("runs", "*.bin", "*.safetensors"))
    for step, moment in ((4, 1_700_000_100), (8, 1_700_000_200)):
        os.utime(place / f"checkpoint-{step}" / "trainer_state.json", (moment, moment))
    run = bring_all(db, place)["bare"]
    assert any("no times" in note for note in run.notes)
    times = {step: time for step, time, _ in metrics.curves(db, run.id, ["loss"])["loss"]}
    assert (times[4], times[6], times[8]) == (1_700_000_100, 1_700_000_150, 1_700_000_200)
    assert runs.find(db, run.id)["status"] == "finished"


def test_a_training_that_was_broken_off_is_stopped(old_runs: Path, db: Connection, tmp_path: Path) -> None:
    place = tmp_path / "half"
    shutil.copytree(old_runs / "trl", place, ignore=shutil.ignore_patterns("runs", "checkpoint-8"))
    state = place / "checkpoint-4" / "trainer_state.json"
    state.write_text(state.read_text().replace('"max_steps": 4', '"max_steps": 100'))
    row = runs.find(db, bring_all(db, place)["half"].id)
    assert (row["status"], row["exit_reason"]) == ("stopped", "the record ends at step 4 of 100")


def test_a_state_alone_is_a_run(old_runs: Path, db: Connection) -> None:
    run = bring_all(db, old_runs / "trl" / "checkpoint-8" / "trainer_state.json")["trl/checkpoint-8"]
    assert run.kind == "trainer_state"
    assert [step for step, _, _ in metrics.curves(db, run.id, ["loss"])["loss"]] == list(range(1, 9))


# TensorBoard


def test_tensorboard_reads_the_same(old_runs: Path, db: Connection) -> None:
    run = bring_all(db, old_runs / "tb")["plain"]
    told = read_by_tensorboard(old_runs / "tb" / "plain")
    stored = values(db, run.id)
    names = {"train/loss": "loss", "val/acc": "val/acc"}
    for tag, key in names.items():
        last = {step: value for step, _, value in told[tag]}
        assert len(last) >= 20
        assert all(same(stored[key, step], value) for step, value in last.items())
    assert math.isnan(stored["val/acc", 3])
    assert stored["new style", 3] == 7.5
    rows = db.execute("SELECT step, attempt, time, value FROM points JOIN series ON series.id = series"
                      " WHERE run_id = ? AND key = 'loss' ORDER BY attempt, step", (run.id,)).fetchall()  # fmt: skip
    assert [(step, time, value) for step, _, time, value in rows] == told["train/loss"], (
        "every point, also the superseded"
    )
    assert [attempt for _, attempt, _, _ in rows] == [1] * 20 + [2] * 15
    assert metrics.curves(db, run.id, ["loss"])["loss"][10][2] == told["train/loss"][20][2]


def test_hparams_are_parameters(old_runs: Path, db: Connection) -> None:
    found = bring_all(db, old_runs / "tb")
    told = params(db, found["plain"].id)
    assert (told["config.lr"], told["config.opt"]) == ("0.1", "adam")
    assert values(db, found["plain"].id)["hparam/acc", 0] == pytest.approx(0.95)
    assert [params(db, found[f"sweep/try{i}"].id)["config.lr"] for i in range(3)] == [
        "0.1",
        "0.2",
        "0.30000000000000004",
    ]
    assert any("histograms" in note for note in found["plain"].notes)


def plain_file(old_runs: Path) -> Path:
    return sorted((old_runs / "tb" / "plain").glob("*tfevents*"))[0]


def test_a_source_that_went_on_brings_its_new_points(old_runs: Path, db: Connection, tmp_path: Path) -> None:
    whole = plain_file(old_runs).read_bytes()
    place = tmp_path / "going"
    place.mkdir()
    file = place / plain_file(old_runs).name
    file.write_bytes(whole[: len(whole) // 2])  # in the middle of a record: still being written
    first = bring_all(db, place)["going"]
    assert (first.what, first.status, first.notes) == ("new", "stopped", ())
    runs.set_fields(db, first.id, name="mine", note="look at this", tags=["imported", "keep"])
    file.write_bytes(whole)
    second = bring_all(db, place)["mine"]
    assert (second.what, second.id) == ("grown", first.id)
    assert second.points > first.points > 5
    row = runs.find(db, first.id)
    assert (row["name"], row["note"], row["tags"]) == ("mine", "look at this", ["imported", "keep"])
    fresh = open_database(tmp_path / "fresh" / "experiments.db")
    straight = bring_all(fresh, place)["going"]
    assert values(fresh, straight.id) == pytest.approx(values(db, first.id), nan_ok=True)
    fresh.close()


def test_damaged_records_are_left_out_and_counted(old_runs: Path, db: Connection, tmp_path: Path) -> None:
    whole = bytearray(plain_file(old_runs).read_bytes())
    good = bring_all(db, plain_file(old_runs).parent)["plain"]
    lone = bring.count(find.sources(plain_file(old_runs)).sources[0])[0]
    place = tmp_path / "damaged"
    place.mkdir()
    at = whole.index(b"train/loss")
    whole[at + 2] ^= 1
    (place / "events.out.tfevents.1.a").write_bytes(whole)
    run = bring_all(db, place)["damaged"]
    assert run.read == lone - 1
    assert "damaged records, left out: 1" in run.notes
    assert ("loss", 0) not in values(db, run.id)
    assert ("loss", 0) in values(db, good.id)


def test_where_a_length_is_wrong_the_rest_is_lost_and_that_is_said(
    old_runs: Path, db: Connection, tmp_path: Path
) -> None:
    whole = bytearray(plain_file(old_runs).read_bytes())
    place = tmp_path / "lost"
    place.mkdir()
    from engine.imports.wire import Records

    lengths = [len(record) for record in Records(plain_file(old_runs))]
    at = sum(length + 16 for length in lengths[:11])
    whole[at] ^= 1
    (place / "events.out.tfevents.1.a").write_bytes(whole)
    run = bring_all(db, place)["lost"]
    assert run.read == 10
    assert any(f"from byte {at:,} on is broken" in note for note in run.notes)


# Trackio


def test_trackio_of_transformers_has_the_trainers_steps(old_runs: Path, tiny_model: Path, db: Connection) -> None:
    run = bring_all(db, old_runs / "trackio" / "old.db")["support"]
    stored, row, told = values(db, run.id), runs.one(db, run.id), params(db, run.id)
    logged = json.loads((old_runs / "history.json").read_text())
    for key in ("loss", "eval_loss", "grad_norm", "learning_rate"):
        expected = {(key, entry["step"]): entry[key] for entry in logged if key in entry}
        assert expected
        assert {place: value for place, value in stored.items() if place[0] == key} == expected
    assert (row["project"], row["method"], row["model"], row["status"]) == ("old", "lora", tiny_model.name, "finished")
    assert (told["method.rank"], told["training.learning_rate"], told["training.max_length"]) == ("4", "0.0002", "1024")
    assert "config.hidden_size" not in told, "the model's own config is no setting of the run"


def test_trackio_by_hand(old_runs: Path, db: Connection) -> None:
    run = bring_all(db, old_runs / "trackio" / "own.db")["by hand"]
    stored = [value for _, _, value in metrics.curves(db, run.id, ["loss"])["loss"]]
    assert [str(value) for value in stored] == ["3.0", "nan", "inf", "-inf", "0.5"]
    told, row = params(db, run.id), runs.one(db, run.id)
    assert (told["config.lr"], told["config.layers"], told["config.api_key"]) == ("0.1", "[1, 2]", "[redacted]")
    assert (row["project"], row["status"], row["latest"]["loss"]["max"]) == ("own", "stopped", 3.0)
    assert row["latest"]["loss"]["min"] == 0.5
    assert run.read == run.points + 1
    assert any("no numbers" in note for note in run.notes)


def test_trackio_before_it_had_run_ids(old_runs: Path, db: Connection, tmp_path: Path) -> None:
    """The layout of 0.2 to 0.23, as its migration in trackio.sqlite_storage describes it."""
    path = tmp_path / "ancient.db"
    shutil.copy(old_runs / "trackio" / "old.db", path)
    raw = sqlite3.connect(path)
    for table in ("metrics", "configs", "system_metrics", "alerts"):
        raw.execute(f"CREATE TABLE old_{table} AS SELECT * FROM {table}")
        raw.execute(f"DROP TABLE {table}")
        raw.execute(f"ALTER TABLE old_{table} DROP COLUMN run_id")
        raw.execute(f"ALTER TABLE old_{table} RENAME TO {table}")
    raw.commit()
    raw.close()
    run, now = bring_all(db, path)["support"], bring_all(db, old_runs / "trackio" / "old.db")
    assert values(db, run.id) == values(db, next(iter(now.values())).id)
    assert runs.find(db, run.id)["method"] == "lora"


def test_a_foreign_database_is_left_as_it_is(old_runs: Path, db: Connection, tmp_path: Path) -> None:
    shutil.copy(old_runs / "trackio" / "own.db", tmp_path / "own.db")
    before = (tmp_path / "own.db").read_bytes()
    bring_all(db, tmp_path / "own.db")
    assert (tmp_path / "own.db").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "own.db"]


# What is wrong, hostile or large


def test_in_a_directory_the_broken_ones_are_named_and_the_good_ones_imported(
    old_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "mixed"
    shutil.copytree(old_runs / "tb" / "plain", place / "good")
    (place / "bad").mkdir()
    (place / "bad" / "trainer_state.json").write_text('{"log_history": [{"loss": 1, "step": 1}, {"loss')
    (place / "junk.db").write_bytes(b"no database")
    (place / "torn.db").write_bytes((old_runs / "trackio" / "own.db").read_bytes()[:6000])
    (place / "own").mkdir()
    for name in ("spec.yaml", "events.jsonl"):
        (place / "own" / name).write_text("")
    shutil.copy(plain_file(old_runs), place / "own")
    code = cli.main(["--db", str(tmp_path / "e.db"), "import", str(place), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 1
    assert [(one["name"], one["what"]) for one in told["runs"]] == [("good", "new")]
    assert {Path(one["path"]).name for one in told["failed"]} == {"bad", "junk.db", "torn.db"}
    assert [(Path(one["path"]).name, one["why"]) for one in told["skipped"]] == [
        ("own", "it is a run of TuneDeck's own")
    ]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("trainer_state.json", b"[1, 2]", "not sound JSON"),
        ("trainer_state.json", b'{"log_history": [{"loss": 1, "step": 1}', "ends in the middle"),
        ("trainer_state.json", b'{"other": 1}', "no log_history"),
        ("trainer_state.json", b'{"log_history": ' + b"[" * 100_000, "nested too deeply"),
        ("trainer_state.json", b"\xff\xfe{", "is no text"),
        ("some.db", b"SQLite format 3\0" + b"\1" * 200, "cannot be read|not a database|malformed|file is"),
        ("events.out.tfevents.1.a", b"", "without any value"),
    ],
)
def test_a_file_that_is_broken_is_a_clear_error(
    db: Connection, tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=why):
        bring_all(db, tmp_path / name)


def test_an_import_that_breaks_off_says_so_and_is_made_good_by_the_next(db: Connection, tmp_path: Path) -> None:
    state = tmp_path / "out" / "trainer_state.json"
    state.parent.mkdir()
    entries = ",".join(json.dumps({"step": i, "loss": i / 7}) for i in range(30_000))
    state.write_text('{"global_step": 30000, "max_steps": 30000, "log_history": [' + entries + ', {"step"')
    (source,) = find.sources(tmp_path / "out").sources
    with pytest.raises(SourceError, match="ends in the middle"):
        bring.bring(db, source, imported.known(db))
    (row,) = runs.listing(db)
    assert (row["status"], row["exit_reason"]) == ("stopped", bring.BROKEN_OFF)
    state.write_text('{"global_step": 30000, "max_steps": 30000, "log_history": [' + entries + "]}")
    run = bring_all(db, tmp_path / "out")["out"]
    assert (run.id, run.what, run.points, run.status) == (row["id"], "grown", 30_000, "finished")


def test_a_database_of_ours_is_no_old_run(db: Connection, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="needs no import"):
        find.sources(tmp_path / "home" / "experiments.db")


def test_foreign_names_are_cleaned(old_runs: Path, db: Connection, tmp_path: Path) -> None:
    raw = sqlite3.connect(shutil.copy(old_runs / "trackio" / "own.db", tmp_path / "own.db"))
    for table in ("metrics", "configs"):
        raw.execute(f"UPDATE {table} SET run_name = ?", ("evil\x1b]0;title\x07\nname " + "x" * 500,))
    raw.execute("UPDATE metrics SET metrics = ? WHERE step = 0", ('{"a\\u001b[31mb\\n": 1.0}',))
    raw.commit()
    raw.close()
    (run,) = bring_all(db, tmp_path / "own.db").values()
    assert run.name == "evil name " + "x" * 70
    assert "ab" in metrics.keys(db, run.id)


def test_what_is_in_the_bin_stays_there(old_runs: Path, db: Connection) -> None:
    run = bring_all(db, old_runs / "tb" / "plain")["plain"]
    runs.set_fields(db, run.id, deleted_at=1.0)
    before = dump(db)
    assert bring_all(db, old_runs / "tb" / "plain")["plain"].what == "binned"
    assert dump(db) == before


def test_event_files_of_a_directory_that_is_here_are_not_imported_twice(old_runs: Path, db: Connection) -> None:
    run = bring_all(db, old_runs / "trl")["trl"]
    found = bring_all(db, old_runs / "trl" / "runs")
    assert {(one.id, one.what) for one in found.values()} == {(run.id, "part")}
    assert len(runs.listing(db)) == 1


def test_two_runs_of_one_name_are_told_apart(old_runs: Path, db: Connection, tmp_path: Path) -> None:
    shutil.copytree(old_runs / "tb" / "plain", tmp_path / "a" / "plain")
    bring_all(db, old_runs / "tb" / "plain")
    assert list(bring_all(db, tmp_path / "a" / "plain")) == ["plain-2"]


def test_a_long_state_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    with path.open("w") as file:
        file.write('{"global_step": 100000, "log_history": [')
        file.writelines(
            f'{{"step": {i}, "loss": {i / 7}, "grad_norm": 1.5, "epoch": 0.1}}, ' for i in range(1, 100_000)
        )
        file.write('{"step": 100000, "loss": NaN}], "max_steps": 100000}')
    tracemalloc.start()
    told = trainer_state.Told()
    count = sum(1 for _ in trainer_state.history(path, told))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, told.step, told.total) == (199_999, 100_000, 100_000)
    assert peak < path.stat().st_size


# A run without a specification


def test_nothing_is_done_with_a_run_that_was_not_trained_here(old_runs: Path, db: Connection, tmp_path: Path) -> None:
    run = runs.find(db, bring_all(db, old_runs / "trackio" / "own.db")["by hand"].id)
    database = tmp_path / "home" / "experiments.db"
    with pytest.raises(RunError, match="cannot be continued"):
        launch.resume(database, run)
    with pytest.raises(RunError, match="cannot be forked"):
        forked(run, [])
    for ask in (launch.stop, launch.checkpoint, launch.evaluate):
        with pytest.raises(RunError, match="is stopped"):
            ask(database, run)


def test_the_verbs_take_it(old_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> tuple[int, str]:
        code = cli.main(["--db", str(tmp_path / "e.db"), *words])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    code, said = run("import", str(old_runs / "trl"), str(old_runs / "tb"), "--project", "past", "--dry-run")
    assert (code, (tmp_path / "e.db").exists()) == (0, False)
    assert "5 runs: 5 would be imported" in said
    assert "trl  would be imported: 72 points  finished" in said
    code, said = run("import", str(old_runs / "trl"), str(old_runs / "tb" / "plain"), "--project", "past")
    assert (code, "2 runs: 2 imported" in said) == (0, True)
    assert json.loads(run("show", "trl", "--json")[1])["project"] == "past"
    assert "imported from output_dir" in run("show", "trl")[1]
    assert "plain" in run("runs")[1]
    assert run("health", "plain")[0] == 0
    for words in (
        ("resume", "trl"),
        ("fork", "trl"),
        ("logs", "trl"),
        ("export", "trl", "--to", "trl", str(tmp_path / "x")),
    ):
        code, said = run(*words)
        assert (code, "was not trained by TuneDeck" in said, "Traceback" in said) == (2, True, False), said
    code, said = run("import", str(old_runs / "tb"), "--name", "one")
    assert (code, "--name is for one run" in said) == (2, True)
    code, said = run("import", str(old_runs / "tb" / "plain"), "--name", "other")
    assert (code, "unchanged" in said) == (0, True)
    assert run("import", str(tmp_path / "nothing-here"))[0] == 2
    (tmp_path / "empty").mkdir()
    code, said = run("import", str(tmp_path / "empty"))
    assert (code, "Nothing could be imported" in said) == (2, True)


def test_names_and_settings() -> None:
    from engine.imports import names

    told: dict[str, Any] = names.settings({
        "learning_rate": 2e-4, "per_device_train_batch_size": 4, "num_train_epochs": 3, "max_steps": -1, "eval_strategy": "epoch",
        "save_strategy": "no", "save_steps": 500, "warmup_ratio": 0.03, "hub_token": "abc", "seed": None, "nested": {"a": [1]},
    })  # fmt: skip
    assert told == {
        "training.learning_rate": "0.0002", "training.micro_batch": "4", "training.epochs": "3.0", "evaluation.every": "0.99999",
        "saving.every": "0", "training.warmup": "0.03", "config.hub_token": "[redacted]", "config.nested.a": "[1]",
    }  # fmt: skip
    keys = names.Keys()
    assert [keys.of(tag) for tag in ("train/loss", "loss", "eval/loss", "train/loss", "eval_loss", "")] == [
        "loss", "loss 2", "eval_loss", "loss", "eval_loss 2", "unnamed",
    ]  # fmt: skip
