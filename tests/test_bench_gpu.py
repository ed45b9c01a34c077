"""The benchmark on a card, as far as it goes without one: what it covers, what it predicts, and its arithmetic."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from bench import gpu_memory as bench
from engine.cards import Cards
from engine.catalog import cards
from engine.hardware import Gpu, Hardware
from engine.planner.memory import GIB
from tests.conftest import ROOT

H200 = Cards(1, "H200", cards()["h200"].memory, cards()["h200"])
SMALL = Cards(1, "tiny", 0.1, None)
GPU = Gpu(0, "GPU-0", "H200", 140.4)


def test_the_list_covers_what_is_asked() -> None:
    assert len(set(bench.CASES)) == len(bench.CASES) >= 30
    assert {case.method.partition("-")[0] for case in bench.CASES} == {"full", "lora", "qlora"}
    for kind in ("full", "lora", "qlora"):
        lengths = {case.length for case in bench.CASES if case.method.startswith(kind)}
        assert min(lengths) == 512
        assert max(lengths) == 8192
    assert {case.checkpointing for case in bench.CASES} == {True, False}
    assert {case.model for case in bench.CASES} == set(bench.MODELS)
    sizes = {bench.predicted(case, None)[0].parameters for case in bench.CASES}
    assert min(sizes) < 0.2e9
    assert max(sizes) > 14e9


@pytest.mark.parametrize("case", bench.CASES, ids=str)
def test_each_case_is_complete_and_predictable(case: bench.Case) -> None:
    memory, speed = bench.predicted(case, H200)
    assert memory.weights < memory.peak < 141 * GIB
    assert speed
    assert speed > 0


def test_the_list_can_be_seen_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu_memory", "--dry"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(str(case) in done.stdout for case in bench.CASES)


def test_without_a_card_it_says_so_and_predicts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    none = Hardware("host", (), "No NVIDIA driver is installed.", None, "cpu", 2, 8.0)
    monkeypatch.setattr(bench, "machine", lambda: none)
    monkeypatch.setattr(sys, "argv", ["gpu_memory"])
    assert bench.main() == 0
    said = capsys.readouterr().out
    assert said.startswith("There is no GPU to probe: No NVIDIA driver is installed.")
    assert all(str(case) in said for case in bench.CASES)


def test_errors_are_predicted_over_measured() -> None:
    documents = {}
    for case, factor in zip(bench.CASES[:3], (0.9, 1.0, 1.25), strict=True):
        memory, speed = bench.predicted(case, H200)
        assert speed
        documents[case] = {"max_memory_allocated": memory.peak / factor, "nvml": None, "tokens_per_second": speed * 2}
    peak, speed_line = bench.errors(H200, documents)  # NVML was not to be had
    assert peak.startswith("allocator's peak: error 10.0 (0.0–25.0) %, 1 of 3 within 5 %")
    assert speed_line.startswith("tokens a second: error 50.0 (50.0–50.0) %")
    assert bench.line(bench.CASES[0], H200, documents[bench.CASES[0]])[3] == "-10.0%"


def test_what_ran_before_is_not_run_again_and_what_does_not_fit_not_at_all(tmp_path: Path) -> None:
    found = {"oom": True, "message": "no room", "max_memory_allocated": 1}
    raw = tmp_path / "raw.jsonl"
    row = {"gpu": "H200", "case": asdict(bench.CASES[0]), "found": found}
    other = row | {"gpu": "A100", "case": asdict(bench.CASES[1])}
    raw.write_text(json.dumps(row) + "\n" + json.dumps(other) + "\n")
    results = bench.measure(GPU, SMALL, raw)
    assert results.pop(bench.CASES[0]) == found
    assert set(results.values()) == {None}
    assert len(raw.read_text().splitlines()) == 2
    assert bench.line(bench.CASES[0], H200, found)[2:4] == [
        "–",
        "–",
    ]  # a peak on the way to running out is no measurement
