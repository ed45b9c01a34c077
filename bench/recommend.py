"""`python -m bench.recommend --data FILE...`: the run that TuneDeck recommends against TRL's defaults and the tutorials' LoRA.

Held-out loss (mean nll of an assistant's token, the same rows for all) after the same number of token positions, padding
counted: what the hardware computes. Each setting keeps its own schedule, stretched over that budget; of its own epochs
only the budget's share is trained. The seed decides the split, the rows, their order and the adapter's first weights.
Aim: never worse, better on most.
"""

import argparse
import functools
import gc
import itertools
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import torch
import transformers
from peft import LoraConfig
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from bench.table import median, publish, spread
from engine import demo
from engine.data import rows as data_rows
from engine.data.tokens import IGNORED, Tokens, load_tokens
from engine.models import ModelFacts
from engine.planner.ask import prepare_request
from engine.planner.recommend import recommend
from engine.spec import DataSpec, RunSpec, parse
from engine.worker.adapters import peft_config
from engine.worker.dataset import datasets_for
from engine.worker.load import load_model, load_tokenizer, ready_model
from engine.worker.sft import trainer_arguments

SEEDS = (1, 2, 3)
ROWS, HELD_OUT, MAX_LENGTH = 48, 40, 384
POSITIONS = 16_000
SILENT: Any = SimpleNamespace(say=lambda event: None, phase=lambda *words: None)
Row = dict[str, list[int]]


@dataclass(frozen=True)
class Setting:
    """`spec` says how the model is loaded, `arguments` are SFTConfig's where they are not its defaults."""

    spec: RunSpec
    arguments: dict[str, Any]
    adapter: LoraConfig | None


@dataclass(frozen=True)
class Task:
    """One data set under one seed: the same token ids, labels and held-out rows for every setting."""

    spec: RunSpec
    facts: ModelFacts
    tokenizer: Any
    train: datasets.Dataset
    held_out: list[Row]


def task(file: Path, model: str, seed: int, directory: Path) -> Task:
    """HELD_OUT rows to evaluate and up to ROWS others to train on, drawn from those of at most MAX_LENGTH tokens.

    They are written into `directory`, so that the planner sees a file of so many rows, as it would a user's.
    """
    path = directory / f"{file.stem}-{seed}.jsonl"
    spec = parse({
        "model": {"path": model}, "data": {"path": str(path), "format": "messages", "validation": HELD_OUT},
        "training": {"seed": seed, "max_length": MAX_LENGTH},
    })  # fmt: skip
    facts = ready_model(spec, SILENT)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"path": facts.path})})
    tokenizer = load_tokenizer(spec, facts)
    data, tokens = DataSpec(path=str(file)), load_tokens(Path(facts.path), None)
    rows = [row for row in data_rows.rows_of(data_rows.sources(data), data) if isinstance(row, data_rows.Row)]
    short = [row.value["messages"] for row in rows if _fits(row, tokens)]
    drawn = random.Random(seed).sample(short, min(ROWS + HELD_OUT, len(short)))
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in drawn), encoding="utf-8")
    train, held_out = datasets_for(spec, tokenizer, SILENT)
    return Task(spec, facts, tokenizer, train, list(held_out or []))


def _fits(row: data_rows.Row, tokens: Tokens) -> bool:
    try:
        (one,) = tokens.encode(row.value)
        return one.trained > 0 and len(one.input_ids) <= MAX_LENGTH
    except ValueError:  # the template refuses it
        return False


def trl_defaults(of: Task) -> Setting:
    """SFTConfig() as it is. A model given by its name is loaded in fp32 and trained under bfloat16 autocast."""
    return Setting(_with_precision(of.spec, "mixed"), {}, None)


def tutorials(of: Task) -> Setting:
    """The LoRA of the tutorials, in its stronger form: bfloat16, and every linear layer rather than q and v alone."""
    adapter = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM")
    arguments = {"learning_rate": 2e-4, "per_device_train_batch_size": 4}
    return Setting(_with_precision(of.spec, "bf16"), arguments, adapter)


def recommended(of: Task) -> Setting:
    """What the planner chooses for these rows on this machine. The only place that asks the planner."""
    spec = recommend(prepare_request(of.spec)).choice.spec
    return Setting(
        spec, trainer_arguments(spec, Path("."), len(of.train), evaluate=False), peft_config(spec, of.facts.config)
    )


SETTINGS = {"TRL's defaults": trl_defaults, "tutorials' LoRA": tutorials, "recommended": recommended}


def _with_precision(spec: RunSpec, precision: str) -> RunSpec:
    return spec.model_copy(update={"training": spec.training.model_copy(update={"precision": precision})})


def describe(config: SFTConfig, adapter: LoraConfig | None) -> str:
    """`LoRA r16, lr 2e-04, 4x1 rows a step, linear, warm-up 0`: what tells one setting from another."""
    method = f"LoRA r{adapter.r} alpha {adapter.lora_alpha:g}" if adapter else "full"
    batch = f"{config.per_device_train_batch_size}x{config.gradient_accumulation_steps} rows a step"
    schedule = getattr(config.lr_scheduler_type, "value", config.lr_scheduler_type)
    rest = f"weight decay {config.weight_decay:g}, grad norm {config.max_grad_norm:g}{', packed' if config.packing else ''}"
    return f"{method}, lr {config.learning_rate:.0e}, {batch}, {schedule}, warm-up {config.warmup_steps:g}, {rest}"


def config_of(setting: Setting, directory: str) -> SFTConfig:
    """The setting's arguments, and for all alike what changes no loss: devices, memory, logging."""
    cuda = torch.cuda.is_available()
    common = {
        "output_dir": directory, "seed": setting.spec.training.seed, "data_seed": setting.spec.training.seed,
        "max_length": MAX_LENGTH, "use_cpu": not cuda, "dataloader_pin_memory": cuda, "gradient_checkpointing": False,
        "save_strategy": "no", "eval_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "include_num_input_tokens_seen": "all",
    }  # fmt: skip
    return SFTConfig(**{**setting.arguments, **common})


def steps_for_budget(trainer: SFTTrainer, positions: int) -> int:
    """Optimizer steps whose padded batches, in the order in which they will be drawn, come nearest to `positions`."""
    steps, done, each = 0, 0, trainer.args.gradient_accumulation_steps
    for epoch in itertools.count():
        loader = trainer.get_train_dataloader()
        loader.set_epoch(epoch)
        sizes = [batch["input_ids"].numel() for batch in loader]
        for i in range(0, len(sizes), each):
            size = sum(sizes[i : i + each])
            if steps and done + size / 2 > positions:
                return steps
            steps, done = steps + 1, done + size
    raise AssertionError("count() has no end")


def run(of: Task, setting: Setting, positions: int) -> dict[str, Any]:
    """Train, evaluate: `loss` in nats per token, `positions` as computed, `steps`."""
    with tempfile.TemporaryDirectory() as directory:
        trainer = SFTTrainer(
            model=load_model(setting.spec, of.facts), args=config_of(setting, directory), train_dataset=of.train,
            processing_class=of.tokenizer, peft_config=setting.adapter,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.args.max_steps = steps_for_budget(trainer, positions)
        trainer.train()
    state, loss = trainer.state, held_out_loss(trainer.model, of.held_out)
    del trainer
    gc.collect()  # the trainer refers to itself: without this the next model would come on top of this one
    return {"loss": loss, "positions": state.num_input_tokens_seen, "steps": state.global_step}


def untrained(of: Task) -> dict[str, Any]:
    return {"loss": held_out_loss(load_model(trl_defaults(of).spec, of.facts), of.held_out)}


@torch.no_grad()
def held_out_loss(model: Any, rows: Sequence[Row], batch: int = 4) -> float:
    """Mean nll in nats over every trained token of the rows, under bfloat16 autocast."""
    model.eval()
    total, count = 0.0, 0
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    for part in (ordered[i : i + batch] for i in range(0, len(ordered), batch)):
        width = len(part[-1]["input_ids"])
        padded = [(r["input_ids"] + [0] * (width - len(r["input_ids"])), r["labels"] + [IGNORED] * (width - len(r["labels"])))
                  for r in part]  # fmt: skip
        ids, labels = (torch.tensor(column, device=model.device) for column in zip(*padded, strict=True))
        # attention is causal and the padding comes last, so no trained token sees it and no mask is needed
        with torch.autocast(model.device.type, torch.bfloat16):
            logits = model(input_ids=ids).logits[:, :-1].float()
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum").item()  # fmt: skip
        count += int((labels[:, 1:] != IGNORED).sum())
    return total / count


def measure(files: Sequence[Path], model: str, positions: int, partial: Path) -> dict[str, Any]:
    """Every result by `file setting seed`; those already in `partial` for the same setting are not measured again."""
    results: dict[str, Any] = json.loads(partial.read_text()) if partial.exists() else {}

    def keep(key: str, asked: str, measured: Callable[[], dict[str, Any]]) -> None:
        if results.get(key, {}).get("asked") != asked:
            results[key] = {"asked": asked, **measured()}
            partial.write_text(json.dumps(results, indent=1))
        print(key, results[key], flush=True)

    with tempfile.TemporaryDirectory() as directory:
        for seed, file in itertools.product(SEEDS, files):
            of = task(file, model, seed, Path(directory))
            keep(f"{file.stem} untrained {seed}", of.facts.label, functools.partial(untrained, of))
            for name, make in SETTINGS.items():
                setting = make(of)
                asked = f"{describe(config_of(setting, directory), setting.adapter)}, {positions:,} positions of {of.facts.label}"
                keep(f"{file.stem} {name} {seed}", asked, functools.partial(run, of, setting, positions))
    return results


def show(names: Sequence[str], results: dict[str, Any], positions: int) -> None:
    """`names` are the data sets'."""
    baselines = [name for name in SETTINGS if name != "recommended"]
    losses = {(name, setting): [results[f"{name} {setting} {seed}"]["loss"] for seed in SEEDS]
              for name in names for setting in ("untrained", *SETTINGS)}  # fmt: skip
    less = {(name, other): [ours - theirs for ours, theirs in zip(losses[name, "recommended"], losses[name, other], strict=True)]
            for name in names for other in baselines}  # fmt: skip
    rows = [[name, *(f"{median(losses[name, s]):.3f}" for s in ("untrained", *SETTINGS)), *(spread(less[name, o], 3) for o in baselines)]
            for name in names]  # fmt: skip
    notes = []
    for setting in SETTINGS:
        runs = [results[f"{name} {setting} {seed}"] for name in names for seed in SEEDS]
        ranges = [f"{min(r[k] for r in runs):,} to {max(r[k] for r in runs):,} {k}" for k in ("positions", "steps")]
        notes.append(f"{setting}: {'; '.join(sorted({r['asked'] for r in runs}))}. Computed: {', '.join(ranges)}.")
    for other in baselines:
        every = [d for name in names for d in less[name, other]]
        notes.append(f"Against {other}: better in {sum(d < 0 for d in every)} of {len(every)} runs, worse in {sum(d > 0 for d in every)}.")  # fmt: skip
    publish("recommend", f"Held-out loss after {positions:,} token positions: medians of {len(SEEDS)} seeds; differences median (least–most)",
            ["data set", "untrained", *SETTINGS, *(f"less {o}" for o in baselines)], rows, notes)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="Alpaca or messages rows")
    parser.add_argument("--model", default=None, help="the demo's SmolLM2-135M-Instruct if not given")
    parser.add_argument("--positions", type=int, default=POSITIONS, help="token positions that each run computes")
    parser.add_argument("--partial", type=Path, default=Path(tempfile.gettempdir()) / "bench-recommend.json",
                        help="results so far: an interrupted benchmark goes on from there")  # fmt: skip
    options = parser.parse_args()
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    results = measure(options.data, options.model or demo.demo_model(), options.positions, options.partial)
    show([file.stem for file in options.data], results, options.positions)


if __name__ == "__main__":
    main()
