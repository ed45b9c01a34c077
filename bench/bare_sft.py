"""`python -m bench.bare_sft SPEC.yaml DIR`: the script that one would write without TuneDeck, with the same arguments.

Same model, rows, token ids, trainer and arguments as the run of the same specification; no events, no database, no
memory figures, no samples. Prints one JSON line: tokens and seconds of training.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from engine.models import inspect_model
from engine.spec import parse
from engine.worker.adapters import peft_config
from engine.worker.dataset import datasets_for
from engine.worker.load import load_model, load_tokenizer
from engine.worker.sft import trainer_arguments


def main() -> None:
    spec = parse(yaml.safe_load(Path(sys.argv[1]).read_text()))
    facts = inspect_model(spec.model.path)
    tokenizer = load_tokenizer(spec, facts)
    silent: Any = SimpleNamespace(say=lambda event: None)
    train, held_out = datasets_for(spec, tokenizer, silent)
    arguments = trainer_arguments(spec, Path(sys.argv[2]), len(train), evaluate=held_out is not None)
    trainer = SFTTrainer(
        model=load_model(spec, facts), args=SFTConfig(**arguments), train_dataset=train, eval_dataset=held_out,
        processing_class=tokenizer, peft_config=peft_config(spec, facts.config),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    result = trainer.train()
    trainer.save_model(sys.argv[2] + "/model")
    print(json.dumps({"seconds": result.metrics["train_runtime"], "tokens": trainer._total_train_tokens}))


if __name__ == "__main__":
    main()
