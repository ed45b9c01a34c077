"""Services without an engine: a machine, some runs, and a record of what was asked."""

import math
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.data.formats import split_text
from engine.data.lengths import Lengths
from engine.data.model_checks import Measured
from engine.data.rows import Row
from engine.data.scan import Report, scan
from engine.hardware import Gpu, Hardware
from engine.health import Finding
from engine.lineage import Node
from engine.planner.calibrate import PastRun
from tests.tuiapp import reviewed
from tests.tuiapp.fake_chat import FakeChat
from tests.tuiapp.fake_records import FakeRecords, listing
from tuiapp import dataview
from tuiapp.after_values import AfterQuestion
from tuiapp.browse import browse
from tuiapp.data_snapshot import Browsed, DataCounts, DataPage, RowsSeen
from tuiapp.data_values import PAGE
from tuiapp.draft import RunDraft
from tuiapp.list_snapshot import Asked
from tuiapp.model_values import FitRow, ModelLine, ModelPage
from tuiapp.review_values import ReviewPage
from tuiapp.reviewing import save
from tuiapp.services import Services
from tuiapp.services import _spec as spec_of
from tuiapp.snapshot import (
    CardPlan,
    Checkpoint,
    EventLine,
    GpuLine,
    Machine,
    NewRun,
    PlanChoice,
    PlanPage,
    PlanValues,
    RunDetail,
    RunLine,
    Sample,
    Snapshot,
    Traced,
)
from tuiapp.training_snapshot import TrainingPage

NOW = 1_790_000_000.0
GPU = GpuLine(0, "NVIDIA GeForce RTX 4090", 19.3, 24.0, 98, 402, 71)
GPU_BOX = Machine("gpubox", (GPU,), None, "AMD Ryzen 9 7950X 16-Core Processor", 11, 18.2, 62.7)
LAPTOP = Machine("laptop", (), None, "12th Gen Intel(R) Core(TM) i7-1260P", 12, 9.8, 15.4)


def spark(count: int = 12) -> tuple[float, ...]:
    """A loss that falls."""
    return tuple(0.95 + 1.3 * math.exp(-i / 3) for i in range(count))


def run(run_id: str, name: str, status: str = "finished", hours: float = 2, **values: object) -> RunLine:
    """A run that began some hours ago and took 54 minutes."""
    started = NOW - hours * 3600
    ended = None if status in ("queued", "running", "starting", "stopping") else started + 54 * 60
    line = RunLine(
        run_id,
        name,
        status,
        "lora",
        "meta-llama/Llama-3.1-8B",
        "support_alpaca.json",
        started,
        started,
        ended,
    )
    usual = {
        "loss": 1.083,
        "best_eval": 1.131,
        "peak_gib": 19.8,
        "spark": spark(),
        "step": 414,
        "total_steps": 414,
    }
    usual |= {"held": "support_alpaca.json, 480 rows", "tokens_per_second": 2188.0, "learning_rate": 2e-4}
    return replace(line, **(usual | values))  # type: ignore[arg-type]


def runs() -> tuple[RunLine, ...]:
    """One of each state."""
    nothing = {
        "loss": None,
        "best_eval": None,
        "peak_gib": None,
        "spark": (),
        "step": None,
        "tokens_per_second": None,
    }
    return (
        run("mbx3q7", "support-lora-r16", "running", 0.55, step=262, best_eval=1.142, peak_gib=19.3),
        run("mbx4aa", "support-lora-r64", "queued", 0.07, **nothing, started_at=None),
        run("mbx2k1", "support-lora-r32", hours=2),
        run("mbx2f9", "support-qlora-r16", hours=4, best_eval=1.164, peak_gib=9.7, method="qlora"),
        run("mbx1z0", "support-lora-r8", hours=5, best_eval=1.187, peak_gib=18.9),
        run("mbx1b2", "support-lr2e-3", "failed", 6, best_eval=2.911, step=61, spark=(2.2, 2.0, 1.9, 2.4, 3.0)),
        run("mbx1a1", "support-full", "oom", 7, **{**nothing, "peak_gib": 23.9}, method="full"),
        run("mbw9c3", "dolly-qlora-r16", "crashed", 26, best_eval=1.402, step=300, peak_gib=9.6),
        run("mbw8d4", "dolly-lora-r16", "stopped", 28, best_eval=1.455, step=170, peak_gib=19.1),
    )


HEALTH = (
    Finding("memory", "note", "4.7 GiB unused: micro-batch 8 fits (21.8 GiB), 4 % faster",
            "The card showed at most 19.3 of 24.0 GiB.", "A micro-batch of 8 and an accumulation of 2 train the same in less time.",
            (("training.micro_batch", 8), ("training.accumulation", 2))),
    Finding("loss", "ok", "loss falls: 2.2 to 0.93", "over 131 steps"),
    Finding("over_fitting", "ok", "eval falls with train: no over-fitting yet", "1.142 at step 230, the best so far."),
    Finding("gradient", "ok", "gradient norm 0.39 to 0.52 over 50 steps"),
    Finding("waiting", "ok", "GPU waited for data 0 % of the time"),
    Finding("forgetting", "n/a", "forgetting: no general texts are read"),
)  # fmt: skip


def detail(line: RunLine) -> RunDetail:
    """The whole of a run, as far as it has come."""
    steps = range(2, (line.step or 0) + 1, 2)
    loss = tuple((float(i), 0.95 + 1.3 * math.exp(-i / 40) + 0.04 * math.sin(i * 1.7)) for i in steps)
    evals = tuple((float(i), 1.1 + 1.0 * math.exp(-i / 45)) for i in range(46, (line.step or 0) + 1, 46))
    rate = tuple((float(i), 2e-4 * 0.5 * (1 + math.cos(i / 414 * math.pi))) for i in steps)
    grad = tuple((float(i), 0.4 + 2.4 * math.exp(-i / 9) + 0.05 * math.sin(i)) for i in steps)
    speed = tuple((float(i), 2236.0 + 20 * math.sin(i)) for i in steps)
    curves = {
        "loss": loss,
        "eval_loss": evals,
        "learning_rate": rate,
        "grad_norm": grad,
        "tokens_per_second": speed,
        "num_tokens": tuple((float(i), i * 16_000.0) for i in steps),
        "mfu": tuple((float(i), 43.0) for i in steps),
        "data_wait": tuple((float(i), 0.001) for i in steps),
    }
    seconds = [i * 7.5 for i in range((line.step or 0) // 2)]
    cards = {
        "gpu_utilization": tuple((at, 98.0) for at in seconds),
        "gpu_power": tuple((at, 402.0 + 9 * math.sin(at)) for at in seconds),
        "gpu_temperature": tuple((at, 71 - 30 * math.exp(-at / 90)) for at in seconds),
    }
    prompt = "My kettle arrived with a cracked lid. What now?"
    samples = (
        Sample(0, prompt, "Cracked lids are common. You should contact the store."),
        Sample(0, "Where is my order?", "Your order is on its way. Your order is on its way."),
        Sample(230, "Where is my order?", "Let me look. Which number does it have?"),
        Sample(92, prompt, "I am sorry to hear that. Please contact our support team with a photo."),
        Sample(230, prompt, "I am sorry about that. Keep the kettle; a new lid ships today."),
    )
    checkpoints = tuple(
        Checkpoint(step, NOW - 3600 + step, 0.47, value, kept) for step, value, kept in (
            (138, 1.176, False), (184, 1.155, True), (230, 1.142, True)
        )
    )  # fmt: skip
    events = (
        EventLine(NOW - 1980, "started", "info", "pid 41207, torch 2.13.0, seed 42"),
        EventLine(NOW - 260, "evaluate", "info", "480 rows in 12 s, eval_loss 1.142"),
        EventLine(NOW - 240, "checkpoint", "info", "checkpoint 230 saved, 0.47 GiB, best eval loss so far"),
    )
    log = tuple(f"step {i}  loss {v:.3f}  grad_norm 0.41  learning_rate 6.3e-05" for i, v in loss)
    spec = {
        "model.path": line.model, "method.kind": "lora", "method.rank": "16", "method.alpha": "32",
        "method.targets": "all-linear", "training.learning_rate": "2e-4", "training.epochs": "3",
        "training.micro_batch": "4", "training.accumulation": "4", "training.max_length": "1024",
        "training.schedule": "cosine", "training.precision": "bf16",
    }  # fmt: skip
    whole = RunDetail(
        line, curves, "train", 1.9, 3, None, 19.3, 19.3, 24.0, "GPU 0",
        tuple((i * 10.0, min(19.3, 2.0 + i)) for i in range(200)), spec,
        {"training.learning_rate": "LoRA default"},
        samples, checkpoints, events, log=log, supervisor_pid=41199, directory="runs/" + line.id,
        worked=tuple((float(i), i * 7.5) for i in steps), gpu=cards, allocated_peak=18.31, reserved_peak=18.9,
        predicted_peak=18.24, predicted_device=19.2, held_out=True, health=HEALTH,
    )  # fmt: skip
    if line.status == "running":
        return replace(whole, ends_at=NOW + 19 * 60)
    if line.status == "failed":
        return replace(
            whole, curves={}, samples=(), log=("huggingface_hub.errors.GatedRepoError: 403 Client Error",),
            error_title="The model could not be downloaded",
            error_message="The hub answered 403: mistralai/Mistral-7B-v0.3 is gated; nobody is logged in.",
            error_hint="Log in: hf auth login, with a token that may read the model.",
        )  # fmt: skip
    return whole if line.step is not None else RunDetail(line, phase=line.status)


RTX_4090 = Gpu(0, "GPU-1", "NVIDIA GeForce RTX 4090", 23.99, (8, 9))


class Planner(Services):
    """The real planner on a machine with these cards and this history; there is no database."""

    def __init__(self, *gpus: Gpu, past: Sequence[PastRun] = ()) -> None:
        super().__init__(Path("absent") / "experiments.db")
        self._hardware = Hardware("gpubox", gpus, None, None, "AMD Ryzen 9", 16, 62.7)
        self._past = list(past)

    def _history(self) -> list[PastRun]:
        return self._past


def tokens_of(row: Row) -> tuple[list[str], list[str]]:
    """What is asked and what is answered, each word a token."""
    asked, answer = split_text(row.value)
    return re.findall(r"\S+\s*", f"{asked}\n"), [*re.findall(r"\S+\s*", answer), "<end>"]


@dataclass
class Looker:
    """The real look at real files; only the tokens are words, so that no model is needed."""

    max_length: int = 192
    packing: bool = False
    desks: dict[str, dataview.Desk] = field(default_factory=dict)

    def look(self, form: NewRun) -> DataPage:
        spec = spec_of(form)
        training = {"max_length": self.max_length, "long_rows": "drop", "packing": self.packing}
        spec = spec.model_copy(update={"training": spec.training.model_copy(update=training)})
        report = scan(spec.data)
        report = self._tokenized(report) if form.model else report
        why = "" if form.model else "no model is named"
        desk = self.desks[repr(form)] = dataview.Desk(form, spec, None, report, 1.9, why)
        return dataview.page_of(desk)

    def _tokenized(self, report: Report) -> Report:
        made = [(row.line, *map(len, tokens_of(row))) for row in report.first]
        measured = [Measured(line, asked + said, asked, said, (asked + said,)) for line, asked, said in made]
        lengths = Lengths(len(made), tuple(sorted(m.tokens for m in measured)), True)
        return replace(report, measured=measured, lengths=lengths if made else None, tokenized=len(made))

    def count(self, page: DataPage, max_length: int | None, long_rows: str) -> DataCounts:
        return dataview.counts_of(self.desks[repr(page.form)], max_length, long_rows)

    def see(self, page: DataPage, max_length: int | None, long_rows: str, first: int) -> RowsSeen:
        rows = self.desks[repr(page.form)].report.first
        shown = [self._shown(i + 1, row, max_length or 0, long_rows) for i, row in enumerate(rows)]
        return dataview.rows_seen({"total": len(rows), "rows": shown[first : first + PAGE]})

    def _shown(self, number: int, row: Row, limit: int, long_rows: str) -> dict[str, Any]:
        asked, said = tokens_of(row)
        ids = list(range(100, 100 + len(asked) + len(said)))
        labels = [-100] * len(asked) + ids[len(asked) :]
        cut = limit if len(ids) > limit and long_rows != "split" else None
        sequence = {"name": "", "ids": ids, "labels": labels, "texts": [*asked, *said], "cut": cut}
        part = {"start": len(ids), "this": False, **sequence}
        packed = {"tokens": 2 * len(ids), "size": limit, "sequences": [{**part, "start": 0, "this": True}, part]}
        shown = {"number": number, "line": row.line, "problem": "", "sequences": [sequence]}
        return {**shown, "packed": packed} if self.packing else shown


@dataclass
class FakeServices:
    """What the app is given in place of the engine."""

    lines: tuple[RunLine, ...] = field(default_factory=runs)
    machine: Machine = GPU_BOX
    calls: list[tuple[object, ...]] = field(default_factory=list)
    fail: Exception | None = None
    problem: str | None = None
    now: float = NOW
    planner: Planner = field(default_factory=Planner)
    looker: Looker = field(default_factory=Looker)
    reviewed: Callable[[NewRun], ReviewPage] = reviewed.page
    family: Callable[[str], Node] = lambda run_id: Node(run_id, "run", run_id, "finished")
    drafts: Path = field(default_factory=lambda: Path(tempfile.mkdtemp()) / "drafts")
    asked: Asked = field(default_factory=Asked)
    followed: AfterQuestion | None = None
    chats: Callable[[tuple[str, ...]], FakeChat] = FakeChat

    def __post_init__(self) -> None:
        self.database = self.drafts.parent / "experiments.db"
        self.records = FakeRecords(lambda: self.lines, lambda lines: setattr(self, "lines", lines), self.calls)

    def ask(self, asked: Asked) -> None:
        self.asked = asked

    def follow(self, asked: AfterQuestion | None) -> None:
        self.followed = asked

    def chat(self, run_ids: tuple[str, ...], cpu: bool = False) -> FakeChat:
        self.calls.append(("chat", run_ids, cpu))
        return self.chats(run_ids)

    def fork(self, run_id: str) -> RunDraft:
        self.calls.append(("fork", run_id))
        line = next(one for one in self.lines if one.id == run_id)
        given = {"training.learning_rate": 2e-4, "method.kind": "lora", "training.epochs": 3.0}
        settled = {"method.kind": "lora", "method.rank": 16, "training.micro_batch": 4}
        return RunDraft(model="SmolLM2-135M", data="data/train.jsonl", name=line.name, parent=run_id, given=given, settled=settled,
                        plan={"rank": 16, "micro_batch": 4}, step=5)  # fmt: skip

    def lineage(self, run_id: str) -> Node:
        self.calls.append(("lineage", run_id))
        return self.family(run_id)

    def browse(self, text: str) -> Browsed:
        return browse(text)

    def snapshot(self, selected: str | None, baseline: str | None = None) -> Snapshot:
        if self.fail is not None:
            raise self.fail
        chosen = next((line for line in self.lines if line.id == selected), None)
        shown = detail(chosen) if chosen is not None else None
        other = next((line for line in self.lines if line.id == baseline), None)
        pinned = detail(other) if other is not None else None
        lines = tuple(line for line in self.lines if not line.is_put_away)
        away = tuple(line for line in self.lines if line.is_put_away)
        return Snapshot(self.machine, "~/ft/experiments.db", self.now, lines, shown, pinned, problem=self.problem,
                        put_away=away, listing=listing(self.asked, lines))  # fmt: skip

    def stop(self, run_id: str, now: bool = False) -> None:
        self.calls.append(("stop", run_id, now))

    def checkpoint(self, run_id: str) -> None:
        self.calls.append(("checkpoint", run_id))

    def evaluate(self, run_id: str) -> None:
        self.calls.append(("evaluate", run_id))

    def resume(self, run_id: str) -> None:
        self.calls.append(("resume", run_id))

    def hold(self, card: str, held: bool) -> None:
        self.calls.append(("hold", card, held))

    def move(self, key: str, by: int) -> None:
        self.calls.append(("move", key, by))

    def unqueue(self, key: str) -> None:
        self.calls.append(("unqueue", key))

    def review(self, form: NewRun) -> ReviewPage:
        self.calls.append(("review", form))
        return self.reviewed(form)

    def save(self, page: ReviewPage, path: str, replace: bool = False) -> str:
        return save(page.yaml, path, replace)

    def start(self, form: NewRun, queue: bool = False) -> str:
        self.calls.append(("queue" if queue else "start", form))
        line = replace(runs()[1], id="new123", name=form.name or "smollm2-lora", created_at=NOW, status="starting")
        self.lines = (line, *self.lines)
        return "new123"

    def complete_path(self, text: str) -> list[str]:
        files = ["data/train.jsonl", "data/tiny.jsonl", "models/", "other.csv"]
        return [name for name in files if name.startswith(text)]

    def models(self) -> list[str]:
        return ["SmolLM2-135M", "Qwen2.5-0.5B"]

    def plan_models(self) -> list[str]:
        return self.planner.plan_models()

    def model_names(self) -> tuple[ModelLine, ...]:
        return self.planner.model_names()

    def model_page(self, chosen: str = "") -> ModelPage:
        return self.planner.model_page(chosen)

    def about_model(self, text: str) -> ModelLine:
        self.calls.append(("about_model", text))
        return self.planner.about_model(text)

    def model_fits(self, path: str) -> tuple[FitRow, ...]:
        return self.planner.model_fits(path)

    def plan(self, form: NewRun, card: str = "") -> PlanPage:
        return self.planner.plan(form, card)

    def what_if(self, page: PlanPage, values: PlanValues) -> PlanChoice:
        return self.planner.what_if(page, values)

    def nearest(self, page: PlanPage, values: PlanValues) -> PlanChoice | None:
        return self.planner.nearest(page, values)

    def other_cards(self, page: PlanPage) -> tuple[CardPlan, ...]:
        return self.planner.other_cards(page)

    def training(self, form: NewRun, base: NewRun, changed: tuple[str, ...] = (), card: str = "") -> TrainingPage:
        return self.planner.training(form, base, changed, card)

    def trace(self, page: PlanPage, values: PlanValues) -> Traced:
        self.calls.append(("trace", values))
        return Traced(18.0, 18.6)

    def look(self, form: NewRun) -> DataPage:
        self.calls.append(("look", form))
        return self.looker.look(form)

    def count(self, page: DataPage, max_length: int | None, long_rows: str) -> DataCounts:
        return self.looker.count(page, max_length, long_rows)

    def see(self, page: DataPage, max_length: int | None, long_rows: str, first: int) -> RowsSeen:
        self.calls.append(("see", max_length, long_rows, first))
        return self.looker.see(page, max_length, long_rows, first)
