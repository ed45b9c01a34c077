"""One attempt of a run: data, model, trainer, and what is saved in the end."""

import importlib
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import torch
import transformers
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from engine.errors import SpecError
from engine.events import Base, Checkpoint, Finished, Notice, Stopped
from engine.files import read_records
from engine.fingerprint import identity, recorded
from engine.health import best_evaluation
from engine.spec import RunSpec
from engine.text import clean
from engine.worker.adapters import attach, method_callbacks, peft_config, rehearse, save_adapter
from engine.worker.arguments import set_rhythm
from engine.worker.callback import ReportingCallback
from engine.worker.dataset import datasets_for
from engine.worker.general import general
from engine.worker.guards import TokensGoOn, evaluations, guards
from engine.worker.head import use_head
from engine.worker.load import load_model, load_tokenizer, ready_model, stops_at
from engine.worker.pairs import count_tokens
from engine.worker.reporter import Reporter
from engine.worker.samples import Samples
from engine.worker.watch import Watch


class StopRequested(Exception):
    """Asked to stop before the first step."""


def train(spec: RunSpec, reporter: Reporter, stop: Any, resume_from: str) -> None:
    """Run one attempt. Ends with a `finished` or `stopped` event; failures are exceptions.

    `stop` is a function without arguments: has somebody asked to stop? `resume_from` is a checkpoint's directory or "".
    """
    quiet()
    checkpoints = reporter.run_dir / "checkpoints"
    announced = _announced(reporter.run_dir)
    _remove_unannounced(checkpoints, announced)
    check_gpu(spec)
    facts = ready_model(spec, reporter)
    reporter.phase("tokenize")
    tokenizer = load_tokenizer(spec, facts)
    train_set, eval_set = datasets_for(spec, tokenizer, reporter)
    use_head(plain=spec.training.fused_head is False)
    make = objective_module(spec).make_trainer(spec, checkpoints, train_set, eval_set)
    adapter = peft_config(spec, facts.config)
    rehearse(spec, facts.config, adapter)
    _stop_if_asked(stop)
    reporter.phase("load", facts.label)
    model = load_model(spec, facts)
    _say_base(spec, reporter)
    stops_at(model, tokenizer, spec)
    callback = ReportingCallback(reporter, spec.saving.keep, stop, evaluates=eval_set is not None)
    callback.remember(announced)
    trainer = make(
        model=model,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[*method_callbacks(spec, resume_from), callback],
    )
    attach(trainer, spec, reporter.run_dir)
    if spec.objective in ("orpo", "cpo"):
        count_tokens(trainer)
    callback.watch = Watch(trainer, reporter)
    trainer.add_callback(TokensGoOn(trainer))
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    set_rhythm(trainer.args, spec, len(trainer.train_dataset))
    samples = Samples(reporter, spec, len(trainer.train_dataset), trainer, tokenizer, lambda: callback.evaluated_now)
    for one in (samples, *general(spec, reporter, trainer, tokenizer), *guards(spec, reporter, trainer)):
        trainer.add_callback(one)
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    reporter.say(Notice("note", f"{trainable:,} parameters are trained"))
    _stop_if_asked(stop)
    trainer.train(resume_from_checkpoint=resume_from or None)
    _end(spec, reporter, trainer, tokenizer, callback, samples)


def _say_base(spec: RunSpec, reporter: Reporter) -> None:
    """The hash of a base that was not here when the run was created: now it has been downloaded."""
    if not (reporter.run_dir / "environment.json").is_file() or recorded(reporter.run_dir):
        return
    if base := identity(spec.model.path, spec.model.revision):
        reporter.say(Base(**base))


def _end(
    spec: RunSpec, reporter: Reporter, trainer: Any, tokenizer: Any, callback: ReportingCallback, samples: Samples
) -> None:
    step = trainer.state.global_step
    if callback.stopped and step < trainer.state.max_steps:
        reporter.say_last(Stopped(step, callback.last_path))
        return
    if spec.evaluation.early_stopping:
        step = _back_to_best(trainer, reporter) or step
    samples.say(step)
    reporter.phase("save")
    target, unfinished = reporter.run_dir / "model", reporter.run_dir / "model.tmp"
    save_adapter(trainer, spec, reporter.run_dir, unfinished)
    if trainer.args.should_save:
        tokenizer.save_pretrained(unfinished)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
        size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
        reporter.say_last(Finished(step, str(target), size))


def _back_to_best(trainer: Any, reporter: Reporter) -> int | None:
    """Load the best checkpoint, which is what early stopping is for; its step, None if it is the last or cannot be loaded."""
    best = best_evaluation(evaluations(trainer.state))  # which every rank knows: loading shards takes all of them
    if best is None or best[0] == trainer.state.global_step:
        return None
    step, loss = best
    path = Path(trainer.args.output_dir) / f"checkpoint-{step}"
    if not path.is_dir():
        return None
    trainer.state.best_model_checkpoint = str(path)
    try:
        trainer._load_best_model()
    except RuntimeError as error:  # peft cannot load learned tokens over others
        text = clean(str(error).split("\n")[0], keep_lines=False)[:200]
        reporter.say(Notice("warning", f"the last model is saved, not the best one, which is {path.name}", text))
        return None
    reporter.say(Notice("note", f"the model of step {step} is saved: its eval_loss, {loss:.4g}, was the best"))
    return step


def objective_module(spec: RunSpec) -> ModuleType:
    """The file that trains the objective: only that one is imported, as each of TRL's trainers takes a while."""
    name = "sft" if spec.objective in (None, "text") else spec.objective
    return importlib.import_module(f"engine.worker.{name}")


def quiet() -> None:
    """No progress bars: in a log file they are noise, and progress is an event."""
    datasets.disable_progress_bars()
    datasets.disable_caching()  # the ids are kept by engine.worker.dataset: what TRL maps once more goes to a temporary place
    transformers.utils.logging.disable_progress_bar()


def check_gpu(spec: RunSpec) -> None:
    """Raises SpecError if the run has a GPU that torch does not see: it must not train on the CPU without a word."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") and spec.compute.devices != "cpu" and not torch.cuda.is_available():
        raise SpecError(
            "torch does not see the GPU",
            f"The run has GPU {os.environ['CUDA_VISIBLE_DEVICES']}, torch {torch.__version__} has no CUDA device.",
            "Install a CUDA build of torch that this driver supports, or set compute.devices=cpu.",
        )


def _stop_if_asked(stop: Any) -> None:
    if stop():
        raise StopRequested


def _announced(run_dir: Path) -> list[Checkpoint]:
    return [r.event for r in read_records(run_dir / "events.jsonl") if isinstance(r.event, Checkpoint)]


def _remove_unannounced(folder: Path, announced: list[Checkpoint]) -> None:
    """A checkpoint that was never announced is half written, and would be counted among the good ones."""
    whole = {Path(c.path).name for c in announced}
    for path in folder.glob("checkpoint-*"):
        if path.name not in whole and int(os.environ.get("RANK", 0)) == 0:
            shutil.rmtree(path, ignore_errors=True)
