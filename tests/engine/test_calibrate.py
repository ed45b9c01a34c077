"""What past runs teach: the correction as arithmetic, and the runs as the database has them."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.planner.calibrate import CPU, PRIOR, PastRun, Quantity, corrected, correction
from engine.spec import parse
from engine.store import metrics, plans, records, runs
from engine.store.connection import open_database

ratios = st.floats(0.5, 2.0)
quantities = st.sampled_from(["peak", "device", "speed"])


def past(*found: float, method: str = "lora", gpu: str = "L4") -> list[PastRun]:
    """Runs that measured `found` times what was predicted, of everything."""
    return [
        PastRun(f"{gpu}-{method}-{i}", gpu, method, predicted_peak=10, peak=10 * r, predicted_device=12, device=12 * r,
                predicted_speed=900, speed=900 * r)
        for i, r in enumerate(found)
    ]  # fmt: skip


class TestCorrection:
    @given(quantities)
    def test_without_history_nothing_changes_and_it_says_so(self, quantity: Quantity) -> None:
        learned = correction([], "L4", "lora", quantity)
        assert (learned.factor, learned.band, learned.runs) == (1.0, PRIOR[quantity], 0)
        assert learned.sentence == f"no run on L4 has confirmed it here (±{PRIOR[quantity]:.0%})"
        assert corrected(7.5, learned) == 7.5

    @given(st.lists(ratios, min_size=1, max_size=30), quantities)
    def test_it_lies_between_nothing_and_what_was_seen(self, found: list[float], quantity: Quantity) -> None:
        learned = correction(past(*found), "L4", "lora", quantity)
        assert min(1.0, *found) - 1e-9 <= learned.factor <= max(1.0, *found) + 1e-9
        assert learned.runs == len(found)
        assert learned.band > 0

    @given(st.lists(st.tuples(ratios, st.floats(1.0, 1.5)), min_size=1, max_size=20))
    def test_larger_measurements_never_lower_it(self, pairs: list[tuple[float, float]]) -> None:
        low = correction(past(*[r for r, _ in pairs]), "L4", "lora", "peak")
        high = correction(past(*[r * more for r, more in pairs]), "L4", "lora", "peak")
        assert low.factor <= high.factor * (1 + 1e-12)

    @given(ratios.filter(lambda r: abs(r - 1) > 0.01), st.integers(1, 40))
    def test_it_trusts_more_runs_more(self, ratio: float, n: int) -> None:
        fewer, more = (correction(past(*[ratio] * k), "L4", "lora", "device") for k in (n, n + 1))
        assert abs(more.factor - ratio) < abs(fewer.factor - ratio)
        assert more.factor == pytest.approx(ratio ** ((n + 1) / (n + 3)))

    @given(st.lists(st.floats(0.97, 1.03), min_size=6, max_size=20), st.floats(0.1, 10.0))
    def test_one_odd_run_among_many_hardly_matters(self, found: list[float], odd: float) -> None:
        learned = correction(past(*found, odd), "L4", "lora", "peak")
        assert 0.97 <= learned.factor <= 1.03
        assert learned.band < 0.16

    def test_the_band_narrows_with_runs_that_agree_and_widens_with_a_surprise(self) -> None:
        bands = [correction(past(*[1.02] * n), "L4", "lora", "peak").band for n in (0, 1, 3, 10, 30)]
        assert sorted(bands, reverse=True) == bands
        assert bands[-1] < 0.01
        assert correction(past(1.5), "L4", "lora", "peak").band > PRIOR["peak"]

    def test_it_covers_what_it_learned_from(self) -> None:
        found = [0.90, 0.95, 0.97, 1.00, 1.02, 1.03, 1.05, 1.08, 1.10, 1.12]
        learned = correction(past(*found), "L4", "lora", "peak")
        low, high = learned.factor * (1 - learned.band), learned.factor * (1 + learned.band)
        assert sum(low <= r <= high for r in found) >= 9

    def test_the_same_method_counts_before_others_and_other_cards_never(self) -> None:
        history = past(1.2, 1.2, method="full") + past(0.8, 0.8, 0.8) + past(2.0, gpu="T4")
        assert correction(history, "L4", "lora", "peak").factor == pytest.approx(0.8 ** (3 / 5))
        other = correction(history, "L4", "qlora", "peak")
        assert other.runs == 5
        assert other.factor == pytest.approx(0.8 ** (5 / 7))
        assert other.sentence.startswith("peak memory x0.85 after 5 other runs on L4")
        assert correction(history, "A10", "lora", "peak").runs == 0

    def test_a_cpu_teaches_speed_and_no_memory(self) -> None:
        history = past(1.4, 1.4, 1.4, gpu=CPU)
        assert correction(history, CPU, "lora", "speed").factor == pytest.approx(1.4 ** (3 / 5))
        assert correction(history, CPU, "lora", "peak").runs == 0

    def test_what_was_not_measured_does_not_count(self) -> None:
        first, second = past(1.1, 1.1)
        history = [first, replace(second, peak=None), replace(second, predicted_peak=0.0)]
        assert correction(history, "L4", "lora", "peak").runs == 1


PLAN = {"memory": {"peak_gib": 10.0, "device_gib": 12.0}, "speed": {"tokens_per_second": 900.0}, "gpu": {"name": "L4"}}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(tmp_path / "experiments.db")
    yield connection
    connection.close()


def add(db: sqlite3.Connection, run_id: str, plan: Any, status: str = "finished", device: str = "cuda", overrides: Any = None) -> None:  # fmt: skip
    """A run of which the allocator, NVML and the callback told something at each of three steps."""
    spec = parse({"model": {"path": "m"}, "data": {"path": "d"}, "method": {"kind": "lora"}, "run": {"name": run_id}})
    runs.insert(db, run_id, spec, plan, "host", 1.0)
    runs.set_fields(db, run_id, status=status, environment={"device": device})
    metrics.add(db, run_id, "memory_allocated_gib", [(1, 1, 1.0, 9.0), (2, 1, 2.0, 9.9), (3, 1, 3.0, 9.9)])
    metrics.add(db, run_id, "memory_reserved_gib", [(1, 1, 1.0, 10.5)])
    metrics.add(db, run_id, "tokens_per_second", [(2, 1, 2.0, 100.0), (3, 1, 3.0, 800.0), (4, 1, 4.0, 820.0)])
    for time, used in ((1.0, 3.0), (2.0, 11.5), (3.0, 11.0)):
        records.add_gpu_samples(db, run_id, time, [{"gpu": 0, "memory_used": used}, {"gpu": 1, "memory_used": None}])
    data = json.dumps({"pid": 1, "overrides": overrides or {}})
    db.execute("INSERT INTO events VALUES (?, 'supervisor', 1, 1, 1.0, 'attempt', 'note', '', ?)", (run_id, data))


class TestHistory:
    def test_it_is_what_was_predicted_beside_what_was_measured(self, db: sqlite3.Connection) -> None:
        add(db, "a", PLAN)
        assert plans.history(db) == [PastRun(
            "a", "L4", "lora", predicted_peak=10.0, peak=9.9, reserved=10.5, predicted_device=12.0, device=11.5,
            predicted_speed=900.0, speed=800.0,
        )]  # fmt: skip

    def test_a_corrected_plan_is_judged_by_what_it_said_before(self, db: sqlite3.Connection) -> None:
        add(db, "a", PLAN | {"uncorrected": {"peak_gib": 8.0, "tokens_per_second": 600.0}})
        (run,) = plans.history(db)
        assert (run.predicted_peak, run.predicted_device, run.predicted_speed) == (8.0, 12.0, 600.0)

    def test_only_runs_that_ended_well_as_they_were_planned(self, db: sqlite3.Connection) -> None:
        add(db, "old", {"reasons": []})
        add(db, "none", None)
        add(db, "failed", PLAN, status="failed")
        add(db, "running", PLAN, status="running")
        add(db, "smaller", PLAN, overrides={"training.micro_batch": 1})
        add(db, "stopped", PLAN, status="stopped")
        assert [run.run_id for run in plans.history(db)] == ["stopped"]

    def test_a_cpu_run_has_a_speed_and_no_gpu_memory(self, db: sqlite3.Connection) -> None:
        add(db, "a", PLAN | {"gpu": None}, device="cpu")
        (run,) = plans.history(db)
        assert (run.gpu, run.peak, run.reserved, run.device, run.speed) == (CPU, None, None, None, 800.0)

    def test_a_plan_for_another_machine_teaches_nothing(self, db: sqlite3.Connection) -> None:
        add(db, "a", PLAN, device="cpu")
        (run,) = plans.history(db)
        assert (run.gpu, run.peak, run.speed) == ("L4", None, None)

    def test_a_plan_without_a_speed_still_teaches_memory(self, db: sqlite3.Connection) -> None:
        add(db, "a", PLAN | {"speed": None})
        (run,) = plans.history(db)
        assert (run.predicted_peak, run.predicted_speed) == (10.0, None)

    def test_unknown_numbers_stay_unknown(self, db: sqlite3.Connection) -> None:
        add(db, "a", {"memory": {"peak_gib": None}, "speed": {"tokens_per_second": "nan"}, "gpu": {"name": "L4"}})
        metrics.add(db, "a", "memory_allocated_gib", [(9, 1, 9.0, float("nan"))])
        (run,) = plans.history(db)
        assert (run.predicted_peak, run.predicted_speed, run.peak) == (None, None, 9.9)

    def test_it_feeds_the_correction(self, db: sqlite3.Connection) -> None:
        for name in "abc":
            add(db, name, PLAN)
        learned = correction(plans.history(db), "L4", "lora", "peak")
        assert learned.factor == pytest.approx(0.99 ** (3 / 5))
        assert corrected(20.0, learned) == pytest.approx(20.0 * learned.factor)
