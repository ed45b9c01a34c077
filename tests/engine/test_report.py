"""What is printed for people."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hardware import GpuProcess, GpuSample, Hardware, probe
from engine.report import GLYPHS, duration, gpu_table, number, progress_line, run_page, runs_table, table
from tests.engine.fake_nvml import A100_MIG, RTX_4090, FakeNvml

ESCAPE = "\x1b[31mred\x1b]0;title\x07"


def run(**values: Any) -> dict[str, Any]:
    base = {
        "id": "3abc", "name": "tiny-lora", "status": "running", "model": "Tiny", "method": "lora", "started_at": None,
        "ended_at": None, "exit_reason": None, "latest": {}, "progress": None, "plan": None, "params": [],
    }  # fmt: skip
    return base | values


def latest(last: Any, **values: Any) -> dict[str, Any]:
    return {"step": 3, "last": last, "min": last, "max": last, "best": last} | values


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0.000"), (1.23456, "1.235"), (-1.0, "-1.000"), (12345.6, "12,345.600"), ("nan", "nan"), ("inf", "inf"),
     (float("nan"), "nan"), (float("-inf"), "-inf")],
)  # fmt: skip
def test_number(value: Any, shown: str) -> None:
    assert number(value) == shown


def test_digits() -> None:
    assert (number(142.4, 0), number(0.5, 1)) == ("142", "0.5")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "–"), (0, "0 s"), (41.4, "41 s"), (99, "99 s"), (100, "2 min"), (33 * 60, "33 min"), (5999, "100 min"), (6000, "1.7 h"),
     (2.4 * 3600, "2.4 h"), (47 * 3600, "47.0 h"), (48 * 3600, "2.0 d"), (3.1 * 86400, "3.1 d")],
)  # fmt: skip
def test_duration(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


class TestTable:
    def test_columns_are_aligned(self) -> None:
        text = table(["id", "loss"], [["a", "1.25"], ["longer", "10.5"]], right=(1,))
        assert text.split("\n") == ["id      loss", "a       1.25", "longer  10.5"]

    def test_no_rows(self) -> None:
        assert table(["id", "loss"], []) == "id  loss"

    def test_cells_are_one_line_without_control_sequences(self) -> None:
        assert table(["a", "b"], [[ESCAPE, "x\ny"]]).split("\n") == ["a    b", "red  x y"]

    @given(st.lists(st.tuples(*[st.text("abc 1–", max_size=9)] * 3), max_size=5))
    def test_every_column_begins_where_its_head_does(self, rows: list[tuple[str, str, str]]) -> None:
        head, *body = table(["one", "two", "three"], rows).split("\n")
        starts = [head.index(word) for word in ("one", "two", "three")]
        assert len(body) == len(rows)
        for line, row in zip(body, rows, strict=True):
            for start, end, cell in zip(starts, [*starts[1:], None], row, strict=True):
                assert line[start:end].rstrip() == cell.rstrip()


def test_the_list_of_runs() -> None:
    done = run(
        status="finished", started_at=1000.0, ended_at=1041.0,
        latest={"loss": latest(1.25), "eval_loss": latest(2.0, best=1.5), "memory_allocated_gib": latest(1.0, max=6.25)},
    )  # fmt: skip
    head, first, second = runs_table([done, run(status="queued", name=ESCAPE)]).split("\n")
    assert [cell.strip() for cell in first.split("  ") if cell.strip()] == [
        "3abc", "✓ finished", "tiny-lora", "Tiny", "lora", "1.250", "1.500", "6.2", "–", "41 s",
    ]  # fmt: skip
    assert second.split()[3:] == ["red", "Tiny", "lora", "–", "–", "–", "–", "–"]
    assert first.index("1.500") + 5 == head.index("best eval") + len("best eval")


@pytest.mark.parametrize(
    "status", ["queued", "starting", "running", "stopping", "finished", "stopped", "failed", "crashed", "oom"]
)
def test_every_status_is_a_glyph_of_its_own(status: str) -> None:
    assert f"{GLYPHS[status]} {status}" in runs_table([run(status=status)])
    assert len(set(GLYPHS.values())) == len(GLYPHS) == 9


def test_progress() -> None:
    assert progress_line(run()) == "running"
    assert progress_line(run(progress={"phase": "load", "total": None})) == "running  load"
    line = progress_line(run(progress={"phase": "train", "step": 12, "total": 30}, latest={"loss": latest(1.234)}))
    assert line == "step 12 of 30  40 %  loss 1.234  – tok/s  train"


def page(**values: Any) -> str:
    events = [{"time": 0.0, "type": "phase", "text": "load"}, {"time": 1.0, "type": "exit", "text": "so it ended"}]
    samples = [{"step": 2, "prompt": "Capital?", "text": values.pop("text", "Paris.")}]
    return run_page(run(**values), events, samples)


def test_the_page_of_a_run() -> None:
    text = page(
        status="crashed", exit_reason="killed by SIGKILL", latest={"loss": latest("nan", min=None, max=None)},
        plan={"reasons": [{"field": "method.rank", "value": 16, "why": "enough"}]},
        params=[("method.rank", "16"), ("run.note", ""), ("training.max_steps", None)],
    )  # fmt: skip
    lines = text.split("\n")
    assert lines[:2] == ["tiny-lora   3abc   ! crashed", "  killed by SIGKILL"]
    assert ["loss", "nan", "–", "–", "3"] in [line.split() for line in lines]
    assert ["method.rank", "16", "enough"] in [line.split() for line in lines]
    assert "run.note" not in text
    assert "max_steps" not in text
    assert "Capital?" in text
    assert "Paris." in text
    assert lines[-1].endswith("so it ended")


def test_the_page_has_no_control_sequences() -> None:
    text = page(name=ESCAPE, exit_reason=ESCAPE, text=f"{ESCAPE}\x00\x9b2J")
    assert text.startswith("red   3abc")
    assert not set(text) & set("\x1b\x07\x00\x9b")


def test_an_escape_left_open_in_a_sample_hides_nothing_else() -> None:
    assert page(text="\x1b]0;open").endswith("so it ended")


def test_gpus() -> None:
    machine = probe(FakeNvml(RTX_4090, A100_MIG))
    head, card, first, second, cpu = gpu_table(
        machine, {machine.gpus[0].uuid: GpuSample(0, 19.3, 98.0, None, 71.0)}
    ).split("\n")
    assert card.split() == ["0", "RTX", "4090", "19.3", "24.0", "98", "–", "71"]
    assert "A100-SXM4-80GB MIG 3g.40gb MIG" in first
    assert first == second
    assert len(head) == len(card) == len(first)
    assert cpu.startswith("CPU ")


def test_who_uses_a_gpu_and_what_holds_it_down() -> None:
    machine = probe(FakeNvml(RTX_4090))
    uuid = machine.gpus[0].uuid
    used = {
        uuid: (
            GpuProcess(7, 18.94, "compute", "alice", "python \x1b[31mtrain.py", time.time() - 7200),
            GpuProcess(8, None),
        )
    }
    sample = {uuid: GpuSample(0, 19.3, 98.0, None, 71.0, uuid, "thermal, power")}
    lines = gpu_table(machine, sample, used, [SimpleNamespace(name="support", cards=(uuid,))]).split("\n")
    assert lines[1].endswith("thermal, power")
    assert lines[4].split() == ["0", "python", "train.py", "7", "18.9", "alice", "2.0", "h", "support"]
    assert lines[5].split() == ["0", "–", "8", "–", "–", "–", "support"]
    nobody = gpu_table(machine, sample, {uuid: None}, [SimpleNamespace(name="support", cards=(uuid,))]).split("\n")
    assert nobody[4].split() == ["0", *"–––––", "support"]


def test_why_there_is_no_gpu() -> None:
    machine = Hardware("h", (), "No driver.", None, "A CPU", 4, 7.75)
    assert gpu_table(machine, {}) == "No GPU: No driver.\nCPU A CPU, 4 cores, 7.8 GiB RAM"
    assert gpu_table(SimpleNamespace(**vars(machine)), {}).startswith("No GPU")
