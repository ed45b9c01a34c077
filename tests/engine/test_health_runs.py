"""The health rules on real runs (`python -m bench.health_runs` recorded them): each trouble gets its name, healthy ones none.

The thresholds were set on the sick ones and on `tuning-*`; `healthy-*` were recorded afterwards.
"""

import dataclasses
from pathlib import Path

import pytest

from bench.health_runs import read
from engine.health import Finding, Streams, diagnose

RUNS = sorted((Path(__file__).parent / "health_runs").glob("*.json"))
RECORDED = {path.stem: read(path) for path in RUNS}
SICK = {name: run for name, run in RECORDED.items() if run[0]}
WELL = {name: streams for name, (trouble, streams) in RECORDED.items() if not trouble}
HEALTHY = [name for name in WELL if name.startswith("healthy-")]
TRUE_NOTES: dict[str, set[str]] = {}
"""Notes that a healthy run gets and that are true of it."""


def until(streams: Streams, step: int) -> Streams:
    """What was known of a run when it was at that step."""
    curves = {key: [point for point in curve if point[0] <= step] for key, curve in streams.curves.items()}
    return dataclasses.replace(streams, curves=curves, step=step, ended=False, failed="")


def troubles(found: list[Finding]) -> set[str]:
    return {one.kind for one in found if one.severity in ("warning", "note")}


def steps(streams: Streams) -> list[int]:
    """Every step of a short run, some fifty of a long one."""
    known = [point[0] for point in streams.points("loss")]
    return known[:: max(1, len(known) // 50)]


def test_the_troubles_are_there() -> None:
    assert {trouble for trouble, _ in SICK.values()} >= {"rate_high", "rate_low", "over_fitting", "frozen", "nonfinite"}
    assert len(HEALTHY) >= 10


@pytest.mark.parametrize("name", SICK)
def test_a_sick_run(name: str) -> None:
    """Its trouble is the first and only warning, with numbers and a remedy; whatever it says can be drawn in a line."""
    trouble, streams = SICK[name]
    found = diagnose(streams)
    assert [one.kind for one in found if one.severity == "warning"] == [trouble]
    assert any(digit in found[0].evidence for digit in "0123456789")
    assert found[0].remedy
    assert all(len(one.text) <= 64 for one in found)


@pytest.mark.parametrize("name", SICK)
def test_it_is_never_called_anything_else(name: str) -> None:
    trouble, streams = SICK[name]
    for step in steps(streams):
        assert {one.kind for one in diagnose(until(streams, step)) if one.severity == "warning"} <= {trouble}, step


@pytest.mark.parametrize("name", WELL)
def test_a_healthy_run(name: str) -> None:
    assert troubles(diagnose(WELL[name])) == TRUE_NOTES.get(name, set())


@pytest.mark.parametrize("name", WELL)
def test_a_healthy_run_while_it_runs(name: str) -> None:
    """No warning at any step, and at none a note that the whole run does not have."""
    for step in steps(WELL[name]):
        assert troubles(diagnose(until(WELL[name], step))) <= TRUE_NOTES.get(name, set()), step
