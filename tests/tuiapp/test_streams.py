"""Curves out of a real database: read once, then only where they went on; thinned without losing a spike."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.events import (
    Attempt,
    Checkpoint,
    Exit,
    Failed,
    GpuSamples,
    Memory,
    Metric,
    Phase,
    Progress,
    Record,
    Started,
)
from engine.health import Finding
from engine.ingest import _apply_all
from engine.spec import parse
from engine.store import metrics, records, runs
from engine.store.connection import Connection, open_database, transaction
from tuiapp import streams as streams_module
from tuiapp.detail import _ends_at
from tuiapp.list_snapshot import Asked
from tuiapp.reading import Reader
from tuiapp.snapshot import RunLine
from tuiapp.streams import Streams, clock, gpu_curves, thin

PLAN = {"memory": {"peak_gib": 18.24, "device_gib": 19.2}, "reasons": []}
Event = Callable[..., None]


@pytest.fixture
def db(tmp_path: Path) -> Connection:
    """One run, planned and begun."""
    found = open_database(tmp_path / "experiments.db")
    spec = parse({"model": {"path": "m"}, "data": {"path": "d.jsonl", "validation": 4}, "run": {"name": "one"}})
    with transaction(found):
        runs.insert(found, "aa", spec, PLAN, "here", 1000.0)
    return found


class Teller:
    """Puts events into the database as the ingest does."""

    def __init__(self, db: Connection) -> None:
        self.db = db
        self.seq = 0

    def __call__(self, time: float, event: object, attempt: int = 1, source: str = "worker") -> None:
        self.seq += 1
        with transaction(self.db):
            _apply_all(self.db, "aa", [(source, Record(self.seq, time, attempt, event))])  # type: ignore[arg-type]

    def losses(self, steps: range, attempt: int = 1, value: float = 1.0, start: float = 1000.0) -> None:
        with transaction(self.db):
            metrics.add(self.db, "aa", "loss", [(step, attempt, start + step, value) for step in steps])


@pytest.fixture
def tell(db: Connection) -> Teller:
    return Teller(db)


def test_a_long_curve_keeps_its_spike_its_gap_and_its_ends(db: Connection) -> None:
    values = [1.0 + math.sin(i) / 10 for i in range(30_000)]
    values[12_345], values[20_000], values[7] = 50.0, math.nan, -3.0
    with transaction(db):
        metrics.add(db, "aa", "loss", [(i, 1, 1000.0 + i, value) for i, value in enumerate(values)])
    points, stored = metrics.thinned(db, "aa", "loss", 1000)
    assert stored == 30_000
    assert len(points) < 1100
    found = {step: value for step, _, value in points}
    assert found[12_345] == 50.0
    assert found[7] == -3.0
    assert math.isnan(found[20_000])
    assert {0, 29_999} <= set(found)
    assert [step for step, _, _ in points] == sorted(found)
    assert all(found[step] == values[step] or math.isnan(found[step]) for step in found)


def test_a_thinned_curve_is_that_of_the_latest_attempt(db: Connection, tell: Teller) -> None:
    tell.losses(range(5000), value=9.0)
    tell.losses(range(2500, 5000), attempt=2, value=1.0)
    points, stored = metrics.thinned(db, "aa", "loss", 500)
    assert stored == 5000
    assert {value for step, _, value in points if step >= 2500} == {1.0}
    assert {value for step, _, value in points if step < 2500} == {9.0}


def test_a_short_curve_is_whole(db: Connection, tell: Teller) -> None:
    tell.losses(range(1, 101))
    assert [len(metrics.thinned(db, "aa", "loss", 100)[0]), metrics.thinned(db, "aa", "loss", 100)[1]] == [100, 100]
    assert metrics.thinned(db, "aa", "nothing", 100) == ([], 0)


def test_only_what_is_new_is_read(db: Connection, tell: Teller, monkeypatch: pytest.MonkeyPatch) -> None:
    tell.losses(range(1, 11))
    streams = Streams("aa")
    streams.read(db, 1)
    monkeypatch.setattr(metrics, "thinned", lambda *given: pytest.fail("everything was read again"))
    tell.losses(range(11, 14), value=0.5)
    streams.read(db, 1)
    assert [x for x, _ in streams.curves["loss"].points] == [float(step) for step in range(1, 14)]
    assert streams.curves["loss"].stored == 13
    streams.read(db, 1)
    assert streams.curves["loss"].stored == 13


def test_a_new_attempt_says_again_what_is_true_of_a_step(db: Connection, tell: Teller) -> None:
    tell.losses(range(1, 21), value=9.0)
    streams = Streams("aa")
    streams.read(db, 1)
    tell.losses(range(11, 13), attempt=2, value=1.0)
    streams.read(db, 2)
    tell.losses(range(13, 15), attempt=2, value=1.0)
    streams.read(db, 2)
    points = dict(streams.curves["loss"].points)
    assert [points[float(step)] for step in (10, 11, 14, 15)] == [9.0, 1.0, 1.0, 9.0]
    assert len(points) == streams.curves["loss"].stored == 20


def test_a_curve_that_grows_without_end_stays_small(
    db: Connection, tell: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "MOST", 100)
    tell.losses(range(1, 51))
    streams = Streams("aa")
    streams.read(db, 1)
    for start in range(51, 1051, 100):
        tell.losses(range(start, start + 100))
        streams.read(db, 1)
    curve = streams.curves["loss"]
    assert len(curve.points) <= 200
    assert curve.stored == 1050
    assert (curve.points[0][0], curve.points[-1][0]) == (1.0, 1050.0)


def test_what_there_was_no_time_for_is_read_the_next_time(
    db: Connection, tell: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell.losses(range(1, 5))
    tell(1001.0, Metric(1, {"grad_norm": 0.5}))
    moments = iter([0.0, 0.0, 9.0, 20.0, 20.0, 20.0])
    monkeypatch.setattr(streams_module.time, "monotonic", lambda: next(moments))
    streams = Streams("aa")
    streams.read(db, 1)
    assert (set(streams.curves), streams.complete) == ({"loss"}, False)
    streams.read(db, 1)
    assert (set(streams.curves), streams.complete) == ({"loss", "grad_norm"}, True)


def test_thinning_in_memory_keeps_spikes() -> None:
    rows = [(step, float(step), 1.0) for step in range(10_000)]
    rows[5001] = (5001, 5001.0, 99.0)
    rows[5002] = (5002, 5002.0, math.nan)
    kept = thin(rows, 100)
    assert len(kept) < 130
    assert rows[5001] in kept
    assert any(row[0] == 5002 for row in kept)
    assert kept == sorted(kept, key=lambda row: row[0])


def test_the_time_between_attempts_is_no_work(db: Connection, tell: Teller) -> None:
    tell(1000.0, Attempt(1, 0.0), source="supervisor")
    tell(1100.0, Exit("stopped", "stopped"), source="supervisor")
    tell(9000.0, Attempt(2, 0.0), attempt=2, source="supervisor")
    pauses = records.pauses(db, "aa")
    assert pauses == [(1100.0, 9000.0)]
    worked = clock(1000.0, pauses)
    assert [worked(moment) for moment in (1050.0, 1100.0, 5000.0, 9000.0, 9050.0)] == [50.0, 100.0, 100.0, 100.0, 150.0]


def samples(used: float, other: float, watts: float | None = 300.0) -> GpuSamples:
    base = {"utilization": 90.0, "temperature": 70.0}
    return GpuSamples(
        [
            {"gpu": 0, "memory_used": used, "power": watts, **base},
            {"gpu": 1, "memory_used": other, "power": 100.0, **base},
        ]
    )


def test_the_cards_of_a_run_taken_together(db: Connection, tell: Teller) -> None:
    tell(1001.0, samples(10.0, 20.0))
    tell(1002.0, samples(30.0, 20.0, None))
    moments = records.gpu_moments(db, "aa")
    assert moments == [(1001.0, 20.0, 90.0, 200.0, 70.0), (1002.0, 30.0, 90.0, 100.0, 70.0)]
    curves = gpu_curves(moments, clock(1000.0, []))
    assert curves["gpu_memory"] == ((1.0, 20.0), (2.0, 30.0))


def test_what_no_card_tells_has_no_curve() -> None:
    assert set(gpu_curves([(1.0, None, 5.0, None, None)], clock(0.0, []))) == {"gpu_utilization"}


def test_no_line_is_drawn_over_what_nobody_saw() -> None:
    moments = [
        *((float(i), 1.0, None, None, None) for i in range(30)),
        *((float(i), 1.0, None, None, None) for i in range(500, 530)),
    ]
    values = [value for _, value in gpu_curves(moments, clock(0.0, []))["gpu_memory"]]
    assert sum(math.isnan(value) for value in values) == 1


def test_many_samples_are_thinned_and_go_on(db: Connection) -> None:
    with transaction(db):
        for i in range(3000):
            records.add_gpu_samples(db, "aa", 1000.0 + i, [{"gpu": 0, "memory_used": float(i)}])
    streams = Streams("aa")
    streams.read(db, 1)
    assert len(streams.moments) <= 601
    before = len(streams.moments)
    with transaction(db):
        records.add_gpu_samples(db, "aa", 5000.0, [{"gpu": 0, "memory_used": 77.0}])
    streams.read(db, 1)
    assert len(streams.moments) == before + 1
    assert streams.moments[-1][:2] == (5000.0, 77.0)


def test_a_run_in_detail(db: Connection, tell: Teller, tmp_path: Path) -> None:
    tell(1000.0, Attempt(1, 0.0, gpus=[3]), source="supervisor")
    tell(1001.0, Started(1, 0.0, "here"))
    tell(1002.0, Progress(2, 10, 0.5))
    tell(1002.0, Metric(2, {"loss": 1.5, "num_tokens": 100.0, "mfu": 41.0}))
    tell(1003.0, Memory(2, 18.31, 18.9, 24.0, "cuda"))
    tell(
        1004.0, GpuSamples([{"gpu": 3, "memory_used": 19.3, "utilization": 98.0, "power": 402.0, "temperature": 71.0}])
    )
    tell(1005.0, Checkpoint(2, str(tmp_path), 1 << 30))
    detail = Reader(tmp_path / "experiments.db").read(db, "aa", None, Asked()).detail
    assert detail is not None
    assert (detail.predicted_peak, detail.allocated_peak, detail.reserved_peak) == (18.24, 18.31, 18.9)
    assert (detail.predicted_device, detail.memory_peak, detail.memory_label) == (19.2, 19.3, "GPU 3")
    assert detail.curves["mfu"] == ((2.0, 41.0),)
    assert detail.gpu["gpu_power"] == ((3.0, 402.0),)
    assert detail.worked == ((2.0, 1.0),)
    assert detail.held_out
    assert detail.checkpoints[0].kept


def test_what_happened_names_evaluations_and_leaves_out_their_rounds(
    db: Connection, tell: Teller, tmp_path: Path
) -> None:
    tell(1001.0, Phase("load", "SmolLM2"))
    for step in range(1, 4):
        tell(1000.0 + 10 * step, Phase("evaluate"))
        tell(1001.0 + 10 * step, Metric(step, {"eval_loss": 1.0 / step}))
        tell(1002.0 + 10 * step, Phase("train"))
    detail = Reader(tmp_path / "experiments.db").read(db, "aa", None, Asked()).detail
    assert detail is not None
    assert [event.text for event in detail.events] == [
        "load: SmolLM2", "evaluated at step 1: eval loss 1", "evaluated at step 2: eval loss 0.5",
        "evaluated at step 3: eval loss 0.3333",
    ]  # fmt: skip


def test_a_run_on_a_processor_has_no_prediction_of_a_card(db: Connection, tell: Teller, tmp_path: Path) -> None:
    tell(1001.0, Started(1, 0.0, "here"))
    tell(1003.0, Memory(2, 1.8, 1.8, 24.0, "cpu"))
    detail = Reader(tmp_path / "experiments.db").read(db, "aa", None, Asked()).detail
    assert detail is not None
    assert (detail.memory_label, detail.memory_peak, detail.predicted_device) == ("RAM", 1.8, None)


def test_how_it_ended(db: Connection, tell: Teller, tmp_path: Path) -> None:
    tell(1001.0, Started(1, 0.0, "here"))
    tell(1002.0, Failed("nonfinite", "The loss is NaN.", "Lower the rate."))
    tell(1003.0, Exit("failed", "exit code 1", code=1), source="supervisor")
    detail = Reader(tmp_path / "experiments.db").read(db, "aa", None, Asked()).detail
    assert detail is not None
    assert (detail.error_kind, detail.exit_code, detail.error_title) == (
        "nonfinite",
        1,
        "The loss is no longer a number",
    )


def test_nothing_is_read_where_nothing_was_written(db: Connection, tell: Teller, tmp_path: Path) -> None:
    tell.losses(range(1, 5))
    reader = Reader(tmp_path / "experiments.db")
    first = reader.read(db, "aa", "aa", Asked())
    again = reader.read(db, "aa", "aa", Asked())
    assert all(getattr(again, one) is value for one, value in vars(first).items())
    tell.losses(range(5, 6))
    later = reader.read(db, "aa", "aa", Asked())
    assert later.detail is not None
    assert len(later.detail.curves["loss"]) == 5
    assert later.baseline is not None
    assert later.baseline.curves["loss"] == later.detail.curves["loss"]
    assert later.baseline.log == ()


def test_a_run_that_is_gone_is_none(db: Connection, tmp_path: Path) -> None:
    seen = Reader(tmp_path / "experiments.db").read(db, "zz", "yy", Asked())
    assert (seen.detail, seen.baseline) == (None, None)


def line(total: int = 100, status: str = "running") -> RunLine:
    return RunLine("aa", "one", status, "lora", "m", "d", 0.0, total_steps=total)


def test_when_it_ends_counts_evaluations() -> None:
    """Ten steps of 2 s, then an evaluation of 30 s, and so on: 50 s for ten steps."""
    times = [(float(step), 2.0 * step + 30.0 * (step // 10)) for step in range(1, 61)]
    assert _ends_at(line(), times) == pytest.approx(times[-1][1] + 40 * 5, rel=0.1)


def test_when_it_ends_leaves_a_pause_out() -> None:
    times = [(float(step), 2.0 * step + (9000.0 if step > 15 else 0.0)) for step in range(1, 21)]
    assert _ends_at(line(), times) == pytest.approx(times[-1][1] + 160)


def test_when_it_ends_is_not_known_before_two_steps_or_after_the_end() -> None:
    assert _ends_at(line(), [(1.0, 5.0)]) is None
    assert _ends_at(line(), [(1.0, 5.0), (1.0, 6.0)]) is None
    assert _ends_at(line(status="finished"), [(1.0, 5.0), (2.0, 7.0)]) is None
    assert _ends_at(line(), [(1.0, 5.0), (2.0, 7.0)]) == 7.0 + 98 * 2


def test_health_is_looked_at_every_few_seconds_and_when_the_state_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(streams_module.time, "monotonic", lambda: now[0])
    looks: list[float] = []

    def look() -> tuple[Finding, ...]:
        looks.append(now[0])
        return ()

    streams = Streams("aa")
    for seconds in (0.0, 1.0, 4.9, 5.1, 6.0):
        now[0] = 100.0 + seconds
        streams.health("running", look)
    streams.health("finished", look)
    assert looks == [100.0, 105.1, 106.0]
