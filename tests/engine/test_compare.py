"""Comparing runs: what differs, what can be compared, what is best, and what is said of it; rows of real databases."""

import json
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compare import ALL_ANSWERS, compare, in_order, letter
from engine.compare_curves import MOST, along, curve, known_axes, ticks
from engine.compare_hints import ranks, spearman
from engine.compare_settings import written
from engine.compared import Cell, Comparison, Setting
from engine.errors import RunError
from engine.spec import parse
from engine.store import metrics, runs
from engine.store.connection import open_database
from tests.engine.real_runs import copied

BEGAN = 1_790_000_000.0
MACHINE = {"host": "gpubox", "cpu": "Ryzen 9", "driver": "580.65", "cards": [{"name": "RTX 4090"}]}


@pytest.fixture
def db(tmp_path: Path) -> sqlite3.Connection:
    return open_database(tmp_path / "experiments.db")


def make(
    db: sqlite3.Connection,
    run_id: str,
    evals: Sequence[float] = (),
    *,
    status: str = "finished",
    sha: str | None = "aaaa",
    environment: dict[str, Any] | None = None,
    minutes: float = 10,
    step: int = 100,
    losses: Sequence[float] = (),
    rows: tuple[int, int] | None = None,
    tokens: int = 1000,
    **sets: Any,
) -> str:
    """A run with an evaluation each ten steps, a minute apart; `sets` are fields of the specification with `__` for dots."""
    raw: dict[str, Any] = {
        "model": {"path": "org/Tiny"}, "data": {"path": "rows.jsonl", "validation": 8}, "objective": "sft",
        "method": {"kind": "lora", "rank": 8, "alpha": 16},
        "training": {"learning_rate": 2e-4, "epochs": 3, "micro_batch": 4}, "run": {"name": f"run-{run_id}"},
    }  # fmt: skip
    for path, value in sets.items():
        section, name = path.split("__")
        raw.setdefault(section, {})[name] = value
    runs.insert(db, run_id, parse(raw), None, "gpubox", BEGAN)
    found = {"device": "cuda", "memory_total_gib": 24.0, "gpus": ["RTX 4090"], "machine": MACHINE, "seed": raw["training"].get("seed", 42),
             "versions": {"torch": "2.13.0", "trl": "1.16.0"}, "git": {"commit": "c0ffee" * 6, "dirty": False, "diff": ""}}  # fmt: skip
    found |= {"data_sha256": sha} if sha else {}
    ended = None if status in ("running", "queued") else BEGAN + 60 * minutes
    runs.set_fields(db, run_id, status=status, started_at=None if status == "queued" else BEGAN, ended_at=ended,
                    environment={**found, **(environment or {})})  # fmt: skip
    if status != "queued":
        db.execute(
            "INSERT INTO progress VALUES (?, 1, 'train', ?, 100, ?, ?)", (run_id, step, step / 50, BEGAN + 60 * minutes)
        )
    points = [(10 * i, 1, BEGAN + 60 * i, value) for i, value in enumerate(evals, 1)]
    if points:
        metrics.add(db, run_id, "eval_loss", points)
        metrics.add(db, run_id, "num_tokens", [(at, 1, time, 160.0 * at) for at, _, time, _ in points])
    if losses:
        metrics.add(db, run_id, "loss", [(i, 1, BEGAN + i, value) for i, value in enumerate(losses, 1)])
    if rows:
        data = {"sha256": sha, "train": rows[0], "validation": rows[1], "tokens": tokens}
        db.execute(
            "INSERT INTO events VALUES (?, 'worker', 5, 1, ?, 'data', 'note', '', ?)", (run_id, BEGAN, json.dumps(data))
        )
    return run_id


def setting(c: Comparison, path: str) -> Setting:
    return next(one for one in c.settings if one.path == path)


def cells(c: Comparison, key: str) -> tuple[Cell, ...]:
    row = c.measure(key)
    assert row is not None, [one.key for one in c.measures]
    return row.cells


def texts(c: Comparison, path: str) -> list[str]:
    return ["=" if cell.same else cell.text for cell in setting(c, path).cells]


def test_only_what_differs_in_the_order_of_the_specification(db: sqlite3.Connection) -> None:
    make(db, "b", run__tags=["x"], run__note="one")
    make(db, "c", training__learning_rate=1e-4, method__rank=16, run__tags=["y"], run__note="two", run__project="other")
    make(db, "d", method__rank=32, method__alpha=64)
    c = compare(db, ["b", "c", "d"])
    assert [one.path for one in c.differing] == ["method.rank", "method.alpha", "training.learning_rate"]
    assert texts(c, "method.rank") == ["8", "16", "32"]
    assert texts(c, "method.alpha") == ["16", "=", "64"]
    assert texts(c, "training.learning_rate") == ["2e-4", "1e-4", "="]
    assert c.same == len([one for one in c.settings if one.kind == "setting"]) - 3 > 40
    assert c.unknown == 0
    assert not any(one.path.startswith("run.") for one in c.settings)


def test_letters_are_as_many_as_runs_and_the_baseline_is_b() -> None:
    found = [letter(i) for i in range(3000)]
    assert found[:3] == ["B", "C", "D"]
    assert len(set(found)) == 3000
    assert found[24:27] == ["Z", "b", "c"]
    assert found[50] == "BB"


def test_another_baseline_changes_places_with_the_first(db: sqlite3.Connection) -> None:
    for run_id in "bcd":
        make(db, run_id)
    assert [run.id for run in compare(db, ["b", "c", "d"], "d").runs] == ["d", "c", "b"]
    assert in_order(["b", "c"], "e") == ["e", "b", "c"]
    assert in_order(["b", "c", "b"], None) == ["b", "c"]


def test_the_best_and_how_far_the_others_are_from_the_baseline(db: sqlite3.Connection) -> None:
    make(db, "b", [1.3, 1.187, 1.191])
    make(db, "c", [1.2, 1.164], method__rank=16)
    make(db, "d", [1.131], method__rank=32)
    c = compare(db, ["b", "c", "d"])
    best = cells(c, "eval_loss.best")
    assert [(cell.text, cell.difference_text, cell.best) for cell in best] == [
        ("1.187", "", False), ("1.164", "–0.023", False), ("1.131", "–0.056", True),
    ]  # fmt: skip
    assert [cell.text for cell in cells(c, "eval_loss.step")] == ["20", "20", "10"]
    assert [cell.text for cell in cells(c, "eval_loss")] == ["1.191", "1.164", "1.131"]
    assert c.sentence.startswith("D is best, 0.033 below C and 0.056 below B.")
    assert "Seeds were not repeated" in c.sentence


@pytest.mark.parametrize(
    ("changed", "path", "why"),
    [
        ({"sha": "bbbb"}, "data.sha256", "other data"),
        ({"data__validation": 16}, "data.validation", "other rows"),
        ({"data__split": "group", "data__split_by": "user"}, "data.split", "other rows"),
        ({"data__max_rows": 100}, "data.max_rows", "other rows"),
        ({"training__seed": 7}, "training.seed", "seed"),
        ({"objective": "dpo"}, "objective", "objective"),
        ({"data__template": "chatml"}, "data.template", "another way"),
        ({"model__path": "org/Other", "rows": (100, 8), "tokens": 1234}, "model.path", "count tokens"),
        ({"rows": (100, 7)}, "data.validation", "7 rows, not 8"),
    ],
)
def test_other_validation_rows_are_not_compared(
    db: sqlite3.Connection, changed: dict[str, Any], path: str, why: str
) -> None:
    make(db, "b", [1.2], rows=(100, 8))
    make(db, "c", [1.1], rows=(100, 8))
    objective = changed.pop("objective", None)
    make(db, "d", [0.5], **{"rows": (100, 8), **changed})
    if objective:
        db.execute("UPDATE runs SET spec = json_set(spec, '$.objective', ?) WHERE id = 'd'", (objective,))
    c = compare(db, ["b", "c", "d"])
    assert why in c.runs[2].unlike
    cell = cells(c, "eval_loss.best")[2]
    assert (cell.text, cell.like, cell.best, cell.difference) == ("0.500", False, False, None)
    assert cells(c, "eval_loss.best")[1].best
    assert c.sentence.startswith("C is best")
    assert "D was not evaluated like B" in c.sentence
    assert any(note.startswith("D: ") and why in note for note in c.notes)
    if path != "data.validation" or "rows" not in changed:
        assert why in setting(c, path).warning


def test_a_validation_file_is_the_same_rows_whatever_seed_and_data(db: sqlite3.Connection) -> None:
    make(db, "b", [1.2], data__validation="held.jsonl")
    make(db, "c", [1.1], data__validation="held.jsonl", training__seed=7, sha="bbbb")
    make(db, "d", [1.0], data__validation="others.jsonl")
    c = compare(db, ["b", "c", "d"])
    assert [bool(run.unlike) for run in c.runs] == [False, False, True]
    assert setting(c, "training.seed").warning == ""


def test_the_same_data_under_another_name_is_the_same_data(db: sqlite3.Connection) -> None:
    make(db, "b", [1.2])
    make(db, "c", [1.1], data__path="/elsewhere/copy.jsonl")
    c = compare(db, ["b", "c"])
    assert [one.path for one in c.differing] == ["data.path"]
    assert not c.runs[1].unlike


def test_memory_time_and_speed_only_on_the_same_kind_of_machine(db: sqlite3.Connection) -> None:
    make(db, "b", [1.2], minutes=50)
    make(db, "c", [1.1], minutes=54)
    make(db, "d", [1.0], minutes=9, environment={"gpus": ["H100"]})
    for run_id, peak in (("b", 18.9), ("c", 9.7), ("d", 4.0)):
        metrics.add(db, run_id, "memory_allocated_gib", [(1, 1, BEGAN, peak)])
    c = compare(db, ["b", "c", "d"])
    assert [(cell.text, cell.best, cell.difference_text) for cell in cells(c, "memory")] == [
        ("18.9", False, ""), ("9.7", True, "–9.2"), ("4.0", False, ""),
    ]  # fmt: skip
    assert [cell.best for cell in cells(c, "time")] == [True, False, False]
    assert "H100" in c.runs[2].other_machine
    assert cells(c, "eval_loss.best")[2].best


def test_a_run_of_fewer_steps_is_not_the_fastest(db: sqlite3.Connection) -> None:
    make(db, "b", [1.2], minutes=50)
    make(db, "c", [1.1], minutes=20, step=40)
    assert not any(cell.best for cell in cells(compare(db, ["b", "c"]), "time"))


def test_environment_and_code(db: sqlite3.Connection) -> None:
    diff = "+++ b/x\n+one\n-two\n"
    make(db, "b")
    make(db, "c", environment={"versions": {"torch": "2.12.0", "trl": "1.16.0"}, "git": {"commit": "d00d" * 10, "dirty": True, "diff": diff},
                               "machine": {**MACHINE, "driver": "570.1"}})  # fmt: skip
    c = compare(db, ["b", "c"])
    assert [one.path for one in c.differing] == ["driver", "versions.torch", "git.commit", "git.diff"]
    assert texts(c, "versions.torch") == ["2.13.0", "2.12.0"]
    assert texts(c, "git.commit") == ["c0ffeec0ffee", "d00dd00dd00d"]
    assert texts(c, "git.diff")[0] == "none"
    assert texts(c, "git.diff")[1].startswith("2 lines, ")
    assert {one.kind for one in c.differing} == {"environment", "code"}
    assert c.same == sum(1 for one in c.settings if one.kind == "setting")


def test_two_unlike_diffs_of_as_many_lines_are_told_apart(db: sqlite3.Connection) -> None:
    for run_id, diff in (("b", "+one\n"), ("c", "+two\n")):
        make(db, run_id, environment={"git": {"commit": "1", "dirty": True, "diff": diff}})
    assert len(set(texts(compare(db, ["b", "c"]), "git.diff"))) == 2


def test_the_mean_of_the_last_fifty_and_of_a_short_run_its_later_half(db: sqlite3.Connection) -> None:
    make(db, "b", [1.0], losses=[9.0] * 150 + [0.5] * 50)
    make(db, "c", [1.0], losses=[8.0] * 10 + [0.25] * 10)
    c = compare(db, ["b", "c"])
    assert [cell.value for cell in cells(c, "loss")] == [0.5, 0.25]
    assert [cell.value for cell in cells(c, "gap")] == [0.5, 0.75]
    assert c.measure("loss").name == "train loss, last points"  # type: ignore[union-attr]
    assert compare(db, ["b", "b"]).measure("loss").name == "train loss, last 50"  # type: ignore[union-attr]


def test_runs_at_work_and_runs_that_failed(db: sqlite3.Connection) -> None:
    make(db, "b", [1.2], minutes=52)
    make(db, "c", [1.1], status="running", minutes=33, step=63)
    make(db, "d", status="failed", minutes=1, step=0)
    make(db, "e", status="queued")
    c = compare(db, ["b", "c", "d", "e"])
    assert [cell.text for cell in cells(c, "time")] == ["52", "33 of 52", "1", "–"]
    assert not cells(c, "time")[2].best
    assert [cell.text for cell in cells(c, "eval_loss.best")] == ["1.200", "1.100", "–", "–"]
    assert c.sentence.startswith("C is best so far, 0.100 below B.")
    assert c.sentence.endswith("D failed. E has no result yet.")
    assert c.runs[1].share == 0.63


def test_runs_without_any_result(db: sqlite3.Connection) -> None:
    make(db, "b", status="failed", step=0)
    make(db, "c", status="oom", step=0)
    c = compare(db, ["b", "c"])
    assert c.sentence == "None of these runs has a result."
    assert c.target is None
    assert c.reached == (None, None)
    assert c.metrics == ()


def test_what_is_no_number_is_never_best(db: sqlite3.Connection) -> None:
    make(db, "b", [1.2, math.nan])
    make(db, "c", [math.nan])
    make(db, "d", [math.inf, 1.3])
    c = compare(db, ["b", "c", "d"])
    assert [cell.text for cell in cells(c, "eval_loss.best")] == ["1.200", "–", "1.300"]
    assert [cell.text for cell in cells(c, "eval_loss")] == ["nan", "nan", "1.300"]
    assert [cell.best for cell in cells(c, "eval_loss")] == [False, False, False]
    assert cells(c, "eval_loss")[2].difference is None


def test_when_each_run_came_to_the_baselines_best(db: sqlite3.Connection) -> None:
    make(db, "b", [1.4, 1.3, 1.2])
    make(db, "c", [1.3, 1.19, 1.1])
    make(db, "d", [1.5, 1.4])
    for seq, (minute, kind) in enumerate(((0, "attempt"), (0.5, "exit"), (1.5, "attempt"))):
        db.execute(
            "INSERT INTO events VALUES ('c', 'supervisor', ?, 1, ?, ?, '', '', '{}')", (seq, BEGAN + 60 * minute, kind)
        )
    c = compare(db, ["b", "c", "d"])
    assert c.target == 1.2
    b, other, none = c.reached
    assert b is not None
    assert other is not None
    assert (b.step, b.seconds, b.tokens) == (30, 180.0, 4800.0)
    assert (other.step, other.seconds, other.tokens) == (20, 60.0, 3200.0)  # a minute of the two nothing ran
    assert none is None


def test_runs_that_are_the_same_but_for_the_seed(db: sqlite3.Connection) -> None:
    for run_id, seed, loss in (("b", 1, 1.20), ("c", 2, 1.23), ("d", 3, 1.21)):
        make(db, run_id, [loss], training__seed=seed, data__validation="held.jsonl")
    make(db, "e", [1.19], method__rank=64, data__validation="held.jsonl", training__seed=1)
    c = compare(db, ["b", "c", "d", "e"])
    assert [one.letters for one in c.repeats] == [("B", "C", "D")]
    assert c.repeats[0].spread == pytest.approx(0.03)
    assert not c.repeats[0].other_rows
    assert "lie 0.030 apart: it may be chance" in c.sentence
    make(db, "f", [1.0], method__rank=128, data__validation="held.jsonl", training__seed=1)
    assert "lie 0.030 apart: it is more than that" in compare(db, ["b", "c", "d", "e", "f"]).sentence


def test_seeds_that_hold_out_other_rows_are_said_to(db: sqlite3.Connection) -> None:
    make(db, "b", [1.2], training__seed=1)
    make(db, "c", [1.3], training__seed=2)
    (one,) = compare(db, ["b", "c"]).repeats
    assert one.other_rows


def test_ranks_share_the_mean_of_their_places() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0]) == [3.5, 1.0, 3.5, 2.0]


def test_a_rank_correlation_known_from_elsewhere() -> None:
    iq, hours = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110], [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert spearman(iq, hours) == pytest.approx(-29 / 165)  # Wikipedia's example
    assert spearman([1, 1, 1], [1, 2, 3]) is None


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=30))
def test_a_rank_correlation_turns_round_with_one_of_the_two(pairs: list[tuple[int, int]]) -> None:
    a, b = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
    rho, other = spearman(a, b), spearman([-x for x in a], b)
    assert (rho is None) == (other is None)
    if rho is not None and other is not None:
        assert -1 <= rho <= 1
        assert rho == pytest.approx(-other)


def test_what_goes_with_a_lower_loss(db: sqlite3.Connection) -> None:
    for i, rank in enumerate((4, 8, 16, 32, 64)):
        make(db, f"r{i}", [2.0 - 0.1 * i], method__rank=rank, method__targets="attention" if i < 2 else "all-linear",
             training__learning_rate=(3e-4, 1e-4)[i % 2])  # fmt: skip
    found = {one.path: one for one in compare(db, [f"r{i}" for i in range(5)]).correlations}
    assert found["method.rank"].rho == pytest.approx(-1.0)
    assert found["method.rank"].runs == 5
    assert found["method.targets"].name == "targets attention"
    assert found["method.targets"].rho > 0.8
    assert abs(found["training.learning_rate"].rho) < 0.01
    assert "method.alpha" not in found
    assert compare(db, ["r0", "r1"]).correlations == ()


def test_a_metric_of_which_more_is_better(db: sqlite3.Connection) -> None:
    for run_id, values in (("b", [0.1, 0.4]), ("c", [0.3, 0.2])):
        make(db, run_id)
        metrics.add(db, run_id, "reward", [(i, 1, BEGAN + i, value) for i, value in enumerate(values, 1)])
    c = compare(db, ["b", "c"])
    assert (c.metric, c.better, c.target) == ("reward", "more", 0.4)
    assert [(cell.text, cell.best) for cell in cells(c, "reward.best")] == [("0.400", True), ("0.300", False)]
    assert c.sentence.startswith("B is best, 0.100 above C.")
    assert c.reached[1] is None
    with pytest.raises(RunError, match="None of these runs") as raised:
        compare(db, ["b", "c"], metric="rewards")
    assert "reward" in raised.value.hint


def test_runs_that_are_gone_are_left_out(db: sqlite3.Connection) -> None:
    make(db, "b")
    assert [run.id for run in compare(db, ["b", "gone"]).runs] == ["b"]
    with pytest.raises(RunError):
        compare(db, ["gone"])


def test_an_imported_run_is_compared_by_what_is_known_of_it(db: sqlite3.Connection) -> None:
    make(db, "b", [1.2])
    db.execute("INSERT INTO runs (id, name, project, status, created_at, spec, tags, source) VALUES"
               " ('old', 'old', 'imported', 'finished', ?, '{}', '[]', 'trackio x')", (BEGAN,))  # fmt: skip
    db.executemany(
        "INSERT INTO params VALUES ('old', ?, ?)", [("training.learning_rate", "0.001"), ("method.rank", "8")]
    )
    metrics.add(db, "old", "eval_loss", [(5, 1, BEGAN, 0.9)])
    c = compare(db, ["b", "old"])
    assert [one.path for one in c.differing if one.kind == "setting"] == ["training.learning_rate"]
    assert texts(c, "method.rank") == ["8", "="]
    assert not setting(c, "training.epochs").cells[1].known
    assert c.unknown > 30
    assert c.same == 1
    assert "not known on which rows" in c.runs[1].unlike
    assert c.runs[1].source == "trackio x"


def test_what_an_older_version_did_not_write_is_not_known_and_no_difference(db: sqlite3.Connection) -> None:
    make(db, "b")
    make(db, "c", extra__trainer={"neftune_noise_alpha": 5})
    db.execute("UPDATE runs SET spec = json_remove(spec, '$.training.nonfinite') WHERE id = 'b'")
    c = compare(db, ["b", "c"])
    assert texts(c, "extra.trainer.neftune_noise_alpha") == ["–", "5"]
    assert not setting(c, "training.nonfinite").differs
    assert c.unknown == 1


def test_answers_to_the_same_prompt_stand_beside_each_other(db: sqlite3.Connection) -> None:
    ids = [make(db, f"s{i:02}") for i in range(ALL_ANSWERS + 1)]
    for run_id in ids[:3]:
        for at in (0, 10):
            db.execute("INSERT INTO samples VALUES (?, ?, 'Hello?', 1, ?, ?)", (run_id, at, BEGAN, f"{run_id} at {at}"))
    db.execute("INSERT INTO samples VALUES ('s01', 10, 'Only here?', 1, ?, 'yes')", (BEGAN,))
    first, second = compare(db, ids[:4]).prompts
    assert (first.text, second.text) == ("Hello?", "Only here?")
    assert [[answer.text for answer in answers] for answers in first.answers] == [
        ["s00 at 0", "s00 at 10"], ["s01 at 0", "s01 at 10"], ["s02 at 0", "s02 at 10"], [],
    ]  # fmt: skip
    newest = compare(db, ids).prompts[0]
    assert [[answer.step for answer in answers] for answers in newest.answers[:4]] == [[10], [10], [10], []]


def test_values_are_cleaned_and_written_as_people_do(db: sqlite3.Connection) -> None:
    assert [written(one) for one in (1e-4, 16.0, None, [], True, "a\x1b[31mb", ["q", "v"])] == [
        "1e-4", "16", "–", "–", "true", "ab", '["q", "v"]',
    ]  # fmt: skip
    make(db, "b")
    make(db, "c")
    db.execute("UPDATE runs SET name = 'a\x1b[31m\u202eb', exit_reason = 'x\x07y' WHERE id = 'c'")
    run = compare(db, ["b", "c"]).runs[1]
    assert (run.name, run.exit_reason) == ("ab", "xy")


def test_a_spike_survives_and_many_points_are_read_in_short(db: sqlite3.Connection) -> None:
    make(db, "b")
    points = [(i, 1, BEGAN + i, 50.0 if i == 7_777 else math.nan if i == 9_000 else 1.0) for i in range(1, 20_001)]
    metrics.add(db, "b", "loss", points)
    found = curve(db, "b", "loss")
    assert found.stored == 20_000
    assert len(found.points) <= 2 * MOST
    assert max(value for _, _, value in found.points if math.isfinite(value)) == 50.0
    assert [at for at, _, value in found.points if math.isnan(value)] == [9_000]
    assert found.points[-1][0] == 20_000


def test_a_curve_along_every_axis(db: sqlite3.Connection) -> None:
    make(db, "b", [1.4, 1.3, 1.2])
    for seq, (minute, kind) in enumerate(((0, "attempt"), (1.5, "exit"), (2.5, "attempt"))):
        db.execute(
            "INSERT INTO events VALUES ('b', 'supervisor', ?, 1, ?, ?, '', '', '{}')", (seq, BEGAN + 60 * minute, kind)
        )
    found, known = curve(db, "b", "eval_loss"), ticks(db, "b")
    assert known_axes([known]) == ("step", "tokens", "epoch", "time", "wall")
    assert along(found, known, "step") == ((10, 1.4), (20, 1.3), (30, 1.2))
    assert along(found, known, "tokens") == ((1600, 1.4), (3200, 1.3), (4800, 1.2))
    assert along(found, known, "epoch") == ((0.2, 1.4), (0.4, 1.3), (0.6, 1.2))
    assert along(found, known, "time") == ((60, 1.4), (90, 1.3), (120, 1.2))
    assert along(found, known, "wall") == ((BEGAN + 60, 1.4), (BEGAN + 120, 1.3), (BEGAN + 180, 1.2))
    assert curve(db, "b", "nothing").points == ()
    assert known_axes([ticks(db, "gone")]) == ("step",)


def test_tokens_that_are_counted_anew_after_a_resume_go_on(db: sqlite3.Connection) -> None:
    make(db, "b")
    metrics.add(
        db, "b", "num_tokens", [(1, 1, BEGAN, 100.0), (2, 1, BEGAN, 200.0), (3, 2, BEGAN, 100.0), (4, 2, BEGAN, 200.0)]
    )
    assert ticks(db, "b").tokens == ((1, 100), (2, 200), (3, 300), (4, 400))


def test_what_cards_showed_is_known_by_time_alone(db: sqlite3.Connection) -> None:
    make(db, "b")
    make(db, "c")
    for i in range(5):
        db.execute(
            "INSERT INTO gpu_samples (run_id, time, gpu, memory_used) VALUES ('b', ?, 0, ?)", (BEGAN + i, 10.0 + i)
        )
    assert "gpu_memory" in compare(db, ["b", "c"]).metrics
    found, known = curve(db, "b", "gpu_memory"), ticks(db, "b")
    assert along(found, known, "time") == tuple((float(i), 10.0 + i) for i in range(5))
    assert along(found, known, "step") == ()


def test_real_runs(tmp_path: Path) -> None:
    _, example = copied(tmp_path)
    ids = {row["name"]: row["id"] for row in runs.lines(example, ())}
    c = compare(example, [*ids.values()], ids["captain-lora-r8"])
    letters = {run.name: run.letter for run in c.runs}
    assert letters["captain-lora-r8"] == "B"
    assert c.sentence.startswith(
        f"{letters['captain-lora-r16']} is best, 0.108 below {letters['captain-lora-attention']} and 0.730 below B."
    )
    assert f"{letters['captain-too-long']} failed." in c.sentence
    best = {run.name: cell.text for run, cell in zip(c.runs, cells(c, "eval_loss.best"), strict=True)}
    assert (best["captain-lora-r16"], best["captain-too-long"]) == ("0.189", "–")
    assert not any(run.unlike for run in c.runs)
    assert {one.path for one in c.differing} >= {"method.kind", "method.rank", "training.learning_rate"}
    assert len(c.prompts) == 2
    assert c.reached[0] is not None
    rate = next(one for one in c.correlations if one.path == "training.max_steps")
    assert rate.runs == 7


def test_what_is_written_alike_is_as_good_and_nothing_is_best_where_all_are(db: sqlite3.Connection) -> None:
    for run_id, peak, disk in (("b", 9.71, 7), ("c", 9.69, 7), ("d", 19.8, 7)):
        make(db, run_id)
        metrics.add(db, run_id, "memory_allocated_gib", [(1, 1, BEGAN, peak)])
        db.execute(
            "INSERT INTO artifacts (run_id, kind, path, bytes, time) VALUES (?, 'model', 'm', ?, ?)",
            (run_id, disk << 20, BEGAN),
        )
    c = compare(db, ["b", "c", "d"])
    assert [cell.best for cell in cells(c, "memory")] == [True, True, False]
    assert [cell.best for cell in cells(c, "size")] == [False, False, False]


def test_a_cheaper_run_is_named(db: sqlite3.Connection) -> None:
    for run_id, loss, peak in (("b", 1.187, 18.9), ("c", 1.164, 9.7), ("d", 1.131, 19.8)):
        make(db, run_id, [loss], method__rank=int(peak))
        metrics.add(db, run_id, "memory_allocated_gib", [(1, 1, BEGAN, peak)])
    assert "C halves the memory (9.7 of 19.8 GiB), for 0.033 of the loss." in compare(db, ["b", "c", "d"]).sentence
