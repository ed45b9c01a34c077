"""Event files into the database: once, whatever is cut where."""

import itertools
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import events as ev
from engine.events import Record, encode
from engine.ingest import describe, ingest
from engine.spec import parse
from engine.store import metrics, records, runs
from engine.store.connection import open_database

COUNTER = itertools.count()
TABLES = [
    *(
        "runs",
        "progress",
        "metrics",
        "latest",
        "gpu_samples",
        "events",
        "checkpoints",
        "evaluations",
        "samples",
        "artifacts",
    ),
    "ingested",
]
SPEC = parse({"model": {"path": "m"}, "data": {"path": "d"}, "run": {"name": "n"}})
A_RUN: list[ev.Event] = [
    ev.Started(11, 5.0, "gpubox", ["GPU-aa"], {"torch": "2.13.0"}),
    ev.Phase("load", "Tiny"),
    ev.Phase("train"),
    ev.Progress(1, 30, 0.1),
    ev.Metric(1, {"loss": 2.5, "grad_norm": math.inf}),
    ev.Memory(1, 6.25, 7.5, 24.0, "cuda"),
    ev.Metric(2, {"loss": math.nan, "grad_norm": 1.0}),
    ev.Metric(2, {"eval_loss": 2.25}),
    ev.Sample(2, "Capital?", "Paris.\u2028\n"),
    ev.Checkpoint(2, "/c/2", 3 << 20, {"a": 1}, 2.25),
    ev.Notice("warning", "slow", "hint"),
    ev.Unknown("from_2031", {"x": [1, "ü"]}),
    ev.Finished(30, "/m", 99),
]
WATCHED: list[ev.Event] = [
    ev.Waiting("waits for 1 of 1 GPUs"),
    ev.Attempt(11, 5.0),
    ev.GpuSamples([{"gpu": 0, "memory_used": 19.5, "utilization": 98.0, "power": None, "temperature": 71.0}]),
    ev.Stopping(),
    ev.Exit("finished", "finished at step 30", 0),
]


def lines(events: list[ev.Event], attempt: int = 1, first: int = 1) -> bytes:
    numbered = enumerate(events, first)
    return "".join(encode(Record(seq, 1000.0 * attempt + seq, attempt, event)) for seq, event in numbered).encode()


class Case:
    """A run in the database with its directory."""

    def __init__(self, db: sqlite3.Connection, root: Path) -> None:
        self.db, self.id = db, f"run{next(COUNTER)}"
        self.directory = root / self.id
        self.directory.mkdir()
        runs.insert(db, self.id, SPEC, None, "here", 1.0)

    def say(self, *events: ev.Event, attempt: int = 1, first: int = 1, file: str = "events.jsonl") -> "Case":
        return self.append(lines(list(events), attempt, first), file)

    def append(self, content: bytes, file: str = "events.jsonl") -> "Case":
        with (self.directory / file).open("ab") as stream:
            stream.write(content)
        return self

    def ingest(self) -> int:
        return ingest(self.db, self.id, self.directory)

    @property
    def run(self) -> dict[str, Any]:
        return runs.one(self.db, self.id)

    def dump(self) -> dict[str, list[Any]]:
        """All that the database says of the run, without its id."""
        found = {}
        for table in TABLES:
            key = "id" if table == "runs" else "run_id"
            rows = [dict(r) for r in self.db.execute(f"SELECT * FROM {table} WHERE {key} = ?", (self.id,))]
            found[table] = sorted(repr({k: v for k, v in row.items() if k != key}) for row in rows)
        return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[sqlite3.Connection, Path]]:
    root = tmp_path_factory.mktemp("ingest")
    db = open_database(root / "experiments.db")
    yield db, root
    db.close()


@pytest.fixture
def case(home: tuple[sqlite3.Connection, Path]) -> Case:
    return Case(*home)


def test_nothing_there_is_nothing_done(case: Case) -> None:
    assert case.ingest() == 0
    case.append(b"")
    assert case.ingest() == 0


def test_everything_lands_in_its_table(case: Case) -> None:
    case.say(*A_RUN).say(*WATCHED, file="supervisor.jsonl")
    assert case.ingest() == len(A_RUN) + len(WATCHED)
    run = case.run
    assert (run["status"], run["exit_code"], run["exit_reason"], run["host"], run["pid"]) == (
        "finished",
        0,
        "finished at step 30",
        "gpubox",
        11,
    )
    assert (run["started_at"], run["ended_at"]) == (1001.0, 1005.0)
    assert run["environment"] == {
        "versions": {"torch": "2.13.0"}, "gpus": ["GPU-aa"], "device": "cuda", "memory_total_gib": 24.0,
    }  # fmt: skip
    assert (run["progress"]["phase"], run["progress"]["step"], run["progress"]["total"]) == ("train", 1, 30)
    assert run["latest"]["memory_allocated_gib"]["max"] == 6.25
    curves = metrics.curves(case.db, case.id, ["loss", "eval_loss", "grad_norm"])
    assert repr([value for _, _, value in curves["loss"]]) == "[2.5, nan]"
    assert [value for _, _, value in curves["grad_norm"]] == [math.inf, 1.0]
    assert curves["eval_loss"] == [(2, 1008.0, 2.25)]
    assert [(s["step"], s["prompt"], s["text"]) for s in records.samples(case.db, case.id)] == [
        (2, "Capital?", "Paris.\u2028\n")
    ]
    [checkpoint] = records.checkpoints(case.db, case.id)
    assert (checkpoint["path"], checkpoint["bytes"], checkpoint["eval_loss"]) == ("/c/2", 3 << 20, 2.25)
    assert [(a["kind"], a["path"], a["bytes"]) for a in records.artifacts(case.db, case.id)] == [("model", "/m", 99)]
    [(_, used, *_)] = records.gpu_moments(case.db, case.id)
    assert used == 19.5
    [sample] = case.db.execute("SELECT gpu, memory_used, power FROM gpu_samples").fetchall()
    assert tuple(sample) == (0, 19.5, None)
    assert case.dump()["evaluations"] == ["{'step': 2, 'attempt': 1, 'time': 1008.0, 'data': '{\"eval_loss\": 2.25}'}"]


def test_an_event_of_an_unknown_type_is_kept(case: Case) -> None:
    case.say(ev.Unknown("from_2031", {"x": [1, "ü"]})).ingest()
    [event] = records.events(case.db, case.id)
    assert (event["type"], event["data"], event["text"]) == ("from_2031", {"x": [1, "ü"]}, "from_2031")


def test_twice_changes_nothing(case: Case) -> None:
    case.say(*A_RUN).say(*WATCHED, file="supervisor.jsonl").ingest()
    before = case.dump()
    assert case.ingest() == 0
    assert case.dump() == before
    records.set_offset(case.db, case.id, "worker", 0)  # as if the database came from a copy of before
    records.set_offset(case.db, case.id, "supervisor", 0)
    case.ingest()
    assert case.dump() == before


def test_a_half_line_is_left_and_read_once_it_is_whole(case: Case) -> None:
    whole = lines([ev.Phase("load"), ev.Phase("train")])
    case.append(whole[:-9])
    assert (case.ingest(), case.run["progress"]["phase"]) == (1, "load")
    assert case.ingest() == 0
    case.append(whole[-9:])
    assert (case.ingest(), case.run["progress"]["phase"]) == (1, "train")


def test_a_line_that_was_never_finished_is_passed_over(case: Case) -> None:
    case.append(lines([ev.Phase("load")])).append(b'{"v": 1, "seq": 2, "t": 3.0, "type": "met\n\x00\x00\n').say(
        ev.Phase("train"), first=2
    )
    case.ingest()
    assert [e["text"] for e in records.events(case.db, case.id)] == ["load", "train"]


def test_a_line_that_cannot_be_understood_does_not_stop_the_rest(case: Case) -> None:
    case.append(b'{"v": 1, "seq": 1, "t": 3.0, "type": "metric", "step": 1, "values": {"loss": null}}\n')
    case.say(ev.Phase("train"), first=2).ingest()
    assert case.run["progress"]["phase"] == "train"


def test_a_checkpoint_with_a_nan_loss_is_in_the_history(case: Case) -> None:
    case.say(ev.Checkpoint(5, "/c", 1, {}, math.nan)).ingest()
    assert [e["type"] for e in records.events(case.db, case.id)] == ["checkpoint"]


def status_after(case: Case, *steps: tuple[str, ev.Event, int]) -> list[str]:
    """The run's status after each event, all ingested one by one."""
    found = []
    for i, (file, event, attempt) in enumerate(steps, 1):
        case.say(event, attempt=attempt, first=i, file=file).ingest()
        found.append(case.run["status"])
    return found


WORKER, SUPERVISOR = "events.jsonl", "supervisor.jsonl"


def test_the_status_follows_attempt_started_stopping_exit(case: Case) -> None:
    assert case.run["status"] == "queued"
    assert status_after(
        case,
        (SUPERVISOR, ev.Waiting("waits"), 1),
        (SUPERVISOR, ev.Attempt(11, 5.0), 1),
        (WORKER, ev.Started(11, 5.0, "h"), 1),
        (WORKER, ev.Phase("train"), 1),
        (SUPERVISOR, ev.Stopping(), 1),
        (WORKER, ev.Stopped(7, "/c"), 1),
        (SUPERVISOR, ev.Exit("stopped", "stopped at step 7", 0), 1),
    ) == ["queued", "starting", "running", "running", "stopping", "stopping", "stopped"]
    assert case.run["ended_at"] == 1007.0


def test_a_retry_runs_again_and_keeps_when_it_first_started(case: Case) -> None:
    assert status_after(
        case,
        (SUPERVISOR, ev.Attempt(11, 5.0), 1),
        (WORKER, ev.Started(11, 5.0, "h"), 1),
        (SUPERVISOR, ev.Exit("crashed", "killed", None, 9, ["last"]), 1),
    ) == ["starting", "running", "crashed"]
    assert (case.run["exit_code"], case.run["exit_reason"]) == (-9, "killed")
    assert status_after(case, (SUPERVISOR, ev.Attempt(12, 6.0), 2), (WORKER, ev.Started(12, 6.0, "h"), 2)) == [
        "starting",
        "running",
    ]
    run = case.run
    assert (run["pid"], run["started_at"], run["ended_at"], run["exit_code"], run["exit_reason"]) == (
        12,
        1002.0,
        None,
        None,
        None,
    )


def test_a_failure_alone_does_not_end_a_run(case: Case) -> None:
    out_of_memory = ev.Failed("oom", "no room")
    assert status_after(case, (WORKER, ev.Started(11, 5.0, "h"), 1), (WORKER, out_of_memory, 1)) == [
        "running",
        "running",
    ]
    assert records.last_event(case.db, case.id, ("failed",))["level"] == "error"  # type: ignore[index]


@pytest.mark.parametrize("status", ["finished", "stopped", "failed", "crashed", "oom"])
def test_every_way_to_end(status: str, case: Case) -> None:
    case.say(ev.Exit(status, "so", 1), file=SUPERVISOR).ingest()
    assert case.run["status"] == status
    assert [e["level"] for e in records.events(case.db, case.id)] == [
        "note" if status in ("finished", "stopped") else "error"
    ]


def test_what_a_later_attempt_did_again_is_shown_of_it(case: Case) -> None:
    first: list[ev.Event] = [ev.Metric(step, {"loss": 10.0 - step}) for step in range(1, 6)]
    again: list[ev.Event] = [ev.Metric(step, {"loss": 20.0 - step}) for step in range(4, 7)]
    case.say(*first).say(*again, attempt=2, first=6).ingest()
    assert [v for _, _, v in metrics.curves(case.db, case.id, ["loss"])["loss"]] == [9.0, 8.0, 7.0, 16.0, 15.0, 14.0]
    assert case.run["latest"]["loss"] == {"step": 6, "last": 14.0, "min": 7.0, "max": 16.0, "best": 7.0}


def test_every_event_has_a_sentence() -> None:
    for event in [
        *A_RUN,
        *WATCHED,
        ev.Failed("oom", "no room"),
        ev.Stopped(3),
        ev.Attempt(1, 1.0, "/c/checkpoint-5", {"a.b": 1}),
    ]:
        level, text = describe(event)
        assert level in ("note", "warning", "error")
        assert text
    assert "checkpoint-5, a.b=1" in describe(ev.Attempt(1, 1.0, "/c/checkpoint-5", {"a.b": 1}))[1]


numbers = st.floats() | st.just(math.nan)
one_event = st.one_of(
    st.builds(ev.Phase, st.sampled_from(["load", "train"])),
    st.builds(ev.Progress, st.integers(0, 50), st.just(50), st.floats(0, 3)),
    st.builds(ev.Sample, st.integers(0, 3), st.sampled_from("pq"), st.text(max_size=5)),
    st.builds(ev.Checkpoint, st.integers(1, 5), st.just("/c"), st.integers(0, 9)),
    st.builds(ev.GpuSamples, st.just([{"gpu": 0, "memory_used": 1.0}])),
    st.sampled_from(
        [ev.Started(1, 1.0, "h"), ev.Stopping(), ev.Exit("crashed", "x", None, 9), ev.Unknown("new", {"a": 1})]
    ),
)


metric_values = st.dictionaries(st.sampled_from(["loss", "eval_loss"]), numbers)


@st.composite
def histories(draw: st.DrawFn) -> bytes:
    """One to three attempts: any events, and metrics at rising steps that begin where an earlier attempt was."""
    content, seq = b"", 1
    for attempt in range(1, draw(st.integers(1, 3)) + 1):
        first = draw(st.integers(0, 4))
        drawn = draw(st.lists(metric_values | one_event, max_size=8))
        events = [ev.Metric(first + i, e) if isinstance(e, dict) else e for i, e in enumerate(drawn)]
        content += lines(events, attempt, seq)
        seq += len(events)
    return content


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(), st.lists(st.integers(0, 5000), max_size=6))
def test_wherever_the_file_is_cut_the_end_is_the_same(
    home: tuple[sqlite3.Connection, Path], content: bytes, cuts: list[int]
) -> None:
    at_once, piecewise = Case(*home), Case(*home)
    at_once.append(content).ingest()
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    for start, end in itertools.pairwise(edges):
        piecewise.append(content[start:end]).ingest()
    assert piecewise.dump() == at_once.dump()
