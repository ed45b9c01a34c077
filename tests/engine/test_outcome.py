"""What the files of a run tell, and what follows from it."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import Attempt, Checkpoint, Event, Exit, Failed, Finished, Phase, Started, Stopped, Waiting
from engine.files import EventFile
from engine.hardware import Gpu
from engine.outcome import (
    History,
    cards_needed,
    last_words,
    read_history,
    smaller_batch,
    usable,
    verdict,
    whole,
    worker_command,
    worker_environment,
)
from engine.spec import RunSpec, parse

CARDS = [Gpu(0, "GPU-aa", "A", 24.0), Gpu(1, "GPU-bb", "B", 24.0), Gpu(2, "GPU-lost", "lost", None)]


def spec(**sections: Any) -> RunSpec:
    return parse({"model": {"path": "m"}, "data": {"path": "d"}} | sections)


def write(path: Path, *events: tuple[int, Event]) -> None:
    for attempt, event in events:
        file = EventFile(path, attempt)
        file.append(event)
        file.close()


def worker(run_dir: Path, *events: tuple[int, Event]) -> None:
    write(run_dir / "events.jsonl", *events)


def supervisor(run_dir: Path, *events: tuple[int, Event]) -> None:
    write(run_dir / "supervisor.jsonl", *events)


def checkpoint(run_dir: Path, step: int) -> Checkpoint:
    folder = run_dir / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter.safetensors").write_bytes(b"x" * 100)
    (folder / "empty.json").touch()
    return Checkpoint(step, str(folder), 100, {"adapter.safetensors": 100, "empty.json": 0})


class TestHistory:
    def test_of_an_empty_directory(self, tmp_path: Path) -> None:
        assert read_history(tmp_path) == History(0, None, "", None, False)

    def test_of_a_run_that_runs(self, tmp_path: Path) -> None:
        supervisor(tmp_path, (1, Attempt(11, 5.0)))
        worker(tmp_path, (1, Started(11, 5.0, "h")), (1, Phase("train")), (1, saved := checkpoint(tmp_path, 10)))
        assert read_history(tmp_path) == History(1, (11, 5.0), saved.path, None, False)

    def test_of_a_finished_run(self, tmp_path: Path) -> None:
        supervisor(tmp_path, (1, Attempt(11, 5.0)), (1, Exit("finished", "", 0)))
        worker(tmp_path, (1, Started(11, 5.0, "h")), (1, Finished(30)))
        assert read_history(tmp_path) == History(1, (11, 5.0), "", Finished(30), True)

    def test_a_resumed_run_has_not_ended(self, tmp_path: Path) -> None:
        supervisor(tmp_path, (1, Attempt(11, 5.0)), (1, Exit("stopped", "", 0)), (2, Attempt(12, 6.0)))
        worker(tmp_path, (1, Started(11, 5.0, "h")), (1, saved := checkpoint(tmp_path, 7)), (1, Stopped(7, saved.path)))
        # the new worker has said nothing yet: what the last one said does not speak for it
        assert read_history(tmp_path) == History(2, (12, 6.0), saved.path, None, False)
        worker(tmp_path, (2, Started(12, 6.0, "h")))
        assert read_history(tmp_path) == History(2, (12, 6.0), saved.path, None, False)

    def test_the_supervisor_was_killed_before_it_noted_its_start(self, tmp_path: Path) -> None:
        supervisor(tmp_path, (1, Attempt(11, 5.0)), (1, Exit("oom", "", 1)))
        worker(tmp_path, (1, Started(11, 5.0, "h")), (1, Failed("oom", "m")), (2, Started(12, 6.0, "h")))
        assert read_history(tmp_path) == History(2, (12, 6.0), "", None, False)

    def test_the_newest_whole_checkpoint_counts(self, tmp_path: Path) -> None:
        first, second, third = (checkpoint(tmp_path, step) for step in (5, 10, 15))
        worker(tmp_path, *((1, event) for event in (first, second, third)))
        assert read_history(tmp_path).checkpoint == third.path
        with open(Path(third.path) / "adapter.safetensors", "wb") as file:
            file.write(b"x" * 99)
        assert read_history(tmp_path).checkpoint == second.path
        (Path(second.path) / "empty.json").unlink()
        assert read_history(tmp_path).checkpoint == first.path

    @pytest.mark.parametrize(
        ("phase", "device", "expected"),
        [
            ("load", "gpu", False),
            ("train", "gpu", True),
            ("evaluate", "gpu", True),
            ("save", "gpu", False),
            ("train", "host", False),
            ("", "", False),
        ],
    )
    def test_a_smaller_batch_helps_where_a_batch_did_not_fit(
        self, phase: str, device: str, expected: bool, tmp_path: Path
    ) -> None:
        worker(tmp_path, (1, Failed("oom", "no room", phase=phase, device=device)))
        assert read_history(tmp_path).smaller_may_fit is expected

    def test_the_rank_that_failed_first_tells_why(self, tmp_path: Path) -> None:
        """The others only see that they lost it, and a reason that is known is better than that."""
        lost, broken = Failed("other", "connection reset"), Failed("other", "ValueError: shapes")
        oom = Failed("oom", "OutOfMemoryError: rank 3")
        worker(tmp_path, (2, Started(11, 5.0, "h")))
        write(tmp_path / "failed.2.jsonl", (2, broken))
        worker(tmp_path, (2, lost))
        write(tmp_path / "failed.1.jsonl", (2, lost))
        assert read_history(tmp_path).last == broken
        write(tmp_path / "failed.3.jsonl", (2, oom))
        assert read_history(tmp_path).last == oom
        worker(tmp_path, (3, Started(12, 6.0, "h")))
        assert read_history(tmp_path).last is None, "another attempt"
        worker(tmp_path, (3, broken))
        write(tmp_path / "failed.1.jsonl", (3, lost))
        assert read_history(tmp_path).last == broken

    def test_what_was_learnt_is_kept_when_it_goes_on(self, tmp_path: Path) -> None:
        log = EventFile(tmp_path / "supervisor.jsonl", 1)
        log.append(Attempt(11, 5.0, "", {"training.micro_batch": 2}, [1], 77))
        log.append(Exit("stopped", "stopped"))
        assert read_history(tmp_path).ended
        log.append(Waiting("asked to go on"))
        history = read_history(tmp_path)
        assert not history.ended
        assert (history.overrides, history.gpus, history.log) == ({"training.micro_batch": 2}, [1], 77)


def test_whole(tmp_path: Path) -> None:
    saved = checkpoint(tmp_path, 5)
    assert whole(saved)
    assert not whole(Checkpoint(5, saved.path, 1, {"adapter.safetensors": 101}))
    assert not whole(Checkpoint(5, saved.path, 1, {"scheduler.pt": 1}))
    assert not whole(Checkpoint(5, str(tmp_path / "none"), 1, {}))


TORCHRUN = """
============================================================
engine.worker FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-22_15:00:43
  host      : localhost
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 22487)  (SIGTERM)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 22487
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_15:00:43
  host      : localhost
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 22488)  (SIGKILL)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 22488
============================================================
"""


class TestVerdict:
    @pytest.mark.parametrize(
        ("last", "code", "number", "host_oom", "killed", "status", "words"),
        [
            (Finished(30), 0, None, False, False, "finished", "finished at step 30"),
            (Finished(30), None, signal.SIGKILL, False, True, "finished", "finished at step 30"),
            (Stopped(7), 0, None, False, False, "stopped", "stopped at step 7"),
            (Failed("oom", "no room"), 1, None, False, False, "oom", "no room"),
            (Failed("data", "no rows"), 1, None, False, False, "failed", "no rows"),
            (None, None, signal.SIGKILL, False, True, "stopped", "killed on request"),
            (None, None, signal.SIGKILL, True, False, "oom", "the host ran out of memory"),
            (None, None, signal.SIGKILL, False, False, "crashed", "killed by SIGKILL"),
            (None, None, signal.SIGSEGV, True, False, "crashed", "killed by SIGSEGV"),
            (None, 3, None, False, False, "crashed", "exit code 3 and no last event"),
            (None, 0, None, False, False, "crashed", "exit code 0 and no last event"),
            (None, None, None, False, False, "crashed", "nobody saw how"),
        ],
    )
    def test_of_an_attempt(
        self,
        last: Any,
        code: int | None,
        number: int | None,
        host_oom: bool,
        killed: bool,
        status: str,
        words: str,
        tmp_path: Path,
    ) -> None:
        (tmp_path / "output.log").write_text("Traceback\n\x1b[31mValueError\n")
        ended = verdict(History(1, (11, 5.0), "", last, False), tmp_path, code, number, host_oom, killed)
        assert (ended.status, ended.code, ended.signal) == (status, code, number)
        assert words in ended.text
        assert ended.last_words == ([] if status in ("finished", "stopped") else ["Traceback", "ValueError"])

    def test_of_a_run_that_never_started(self, tmp_path: Path) -> None:
        ended = verdict(History(0, None, "", None, False), tmp_path, None, None, False, False)
        assert (ended.status, ended.text) == ("crashed", "the run never started")

    @pytest.mark.parametrize(
        ("last", "host_oom", "status", "words"),
        [
            (None, False, "crashed", "rank 1 of the worker was killed by SIGKILL"),
            (
                Failed("other", "connection reset by peer"),
                False,
                "crashed",
                "rank 1 of the worker was killed by SIGKILL",
            ),
            (Failed("oom", "no room"), False, "oom", "no room"),
            (Finished(30), False, "finished", "finished at step 30"),
            (None, True, "oom", "the kernel killed rank 1 of the worker"),
        ],
    )
    def test_of_several_processes(self, last: Any, host_oom: bool, status: str, words: str, tmp_path: Path) -> None:
        log = tmp_path / "output.log"
        log.write_text("rank      : 7 (local_rank: 7)\n  exitcode  : -11 (pid: 1) (SIGSEGV)\n")  # an earlier attempt
        history = History(2, (11, 5.0), "", last, False, log=log.stat().st_size)
        with log.open("a") as file:
            file.write(TORCHRUN)
        ended = verdict(history, tmp_path, 1, None, host_oom, False)
        assert (ended.status, ended.code) == (status, 1)
        assert words in ended.text

    @pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals here")
    def test_of_a_real_time_signal(self, tmp_path: Path) -> None:
        assert verdict(History(1, (1, 1.0), "", None, False), tmp_path, None, 40, False, False).status == "crashed"


def test_last_words(tmp_path: Path) -> None:
    assert last_words(tmp_path) == []
    (tmp_path / "output.log").write_bytes(b"x" * 20_000 + b"\n\xff\nlast\n")
    assert last_words(tmp_path, 2) == ["\ufffd", "last"]
    assert len(last_words(tmp_path, 3)[0]) < 8192


class TestUsable:
    @pytest.mark.parametrize(
        ("visible", "devices", "expected"),
        [
            (None, "auto", [0, 1]),
            (None, "cpu", []),
            (None, [1], [1]),
            (None, [2], []),
            (None, [7], []),
            ("", "auto", []),
            ("-1", "auto", []),
            ("1", "auto", [1]),
            ("GPU-bb", "auto", [1]),
            ("1,0", "auto", [0, 1]),
            ("0", [1], []),
            ("GPU-aa,GPU-bb", [1], [1]),
        ],
    )
    def test_cards(
        self, visible: str | None, devices: Any, expected: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert [g.index for g in usable(spec(compute={"devices": devices}), CARDS)] == expected

    def test_a_uuid_may_be_shortened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
        assert [g.index for g in usable(spec(), CARDS)] == [1]


class TestSmallerBatch:
    def test_down_to_one_row(self) -> None:
        overrides: dict[str, int] = {}
        seen = []
        while (smaller := smaller_batch(spec(training={"micro_batch": 12, "accumulation": 2}), overrides)) is not None:
            overrides = smaller
            seen.append((smaller["training.micro_batch"], smaller["training.accumulation"]))
        assert seen == [(6, 4), (3, 8), (1, 24)]

    @pytest.mark.parametrize(("micro", "expected"), [(8, 4), (5, None), (4, 2), (3, None), (2, None)])
    def test_kto_keeps_two_rows_in_a_batch(self, micro: int, expected: int | None) -> None:
        smaller = smaller_batch(spec(objective="kto", training={"micro_batch": micro}), {})
        assert (smaller or {}).get("training.micro_batch") == expected

    @given(st.integers(1, 4096), st.integers(1, 4096), st.booleans())
    def test_the_product_stays(self, micro: int, accumulation: int, overridden: bool) -> None:
        batch = {"micro_batch": micro, "accumulation": accumulation}
        overrides = {f"training.{name}": value for name, value in batch.items()} if overridden else {}
        smaller = smaller_batch(spec(training={} if overridden else batch), overrides)
        if micro == 1:
            assert smaller is None
        else:
            assert smaller is not None
            assert smaller["training.micro_batch"] < micro
            assert smaller["training.micro_batch"] * smaller["training.accumulation"] == micro * accumulation


@pytest.mark.parametrize(
    ("compute", "cards", "expected"),
    [
        ({}, 4, 1),
        ({"processes": 2}, 4, 2),
        ({"sharding": "layers"}, 4, 4),
        ({"sharding": "layers", "devices": [0, 2]}, 2, 2),
        ({"sharding": "layers"}, 0, 1),
    ],
)
def test_how_many_cards_a_run_takes(compute: dict[str, Any], cards: int, expected: int) -> None:
    assert cards_needed(spec(compute=compute), cards) == expected


class TestCommand:
    def test_one_process(self, tmp_path: Path) -> None:
        command = worker_command(tmp_path, spec(), 2, "ckpt", {"training.micro_batch": 1})
        assert command == [
            sys.executable, "-P", "-m", "engine.worker", str(tmp_path), "--attempt=2", "--resume-from=ckpt",
            "--set", "training.micro_batch=1",
        ]  # fmt: skip

    def test_several_processes_go_through_torchrun(self, tmp_path: Path) -> None:
        command = worker_command(tmp_path, spec(compute={"processes": 2}), 1, "", {})
        agent, ranks = command[: command.index("--no-python")], command[command.index("--no-python") + 1 :]
        assert agent[:4] == [sys.executable, "-P", "-m", "torch.distributed.run"]
        assert "--nproc-per-node=2" in agent
        assert ranks[:4] == [sys.executable, "-P", "-m", "engine.worker"]

    def test_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        monkeypatch.setenv("OMP_WAIT_POLICY", "active")
        monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
        environment = worker_environment(CARDS[:2])
        assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-aa,GPU-bb"
        assert environment["OMP_WAIT_POLICY"] == "active"  # what the user set stays
        assert environment["TOKENIZERS_PARALLELISM"] == "false"
        assert worker_environment([])["CUDA_VISIBLE_DEVICES"] == ""
