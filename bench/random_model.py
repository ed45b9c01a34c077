"""`python -m bench.random_model NAME DIR`: a model of the catalog with random weights and a byte-level tokenizer, nothing loaded."""

import sys
from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from engine.catalog import find_model
from tests.tiny import tokenizer


def main() -> None:
    name, directory = sys.argv[1], Path(sys.argv[2])
    known = find_model(name)
    if known is None:
        raise SystemExit(f"{name} is not in the catalog")
    config = CONFIG_MAPPING[known.config["model_type"]].from_dict(dict(known.config))
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)


if __name__ == "__main__":
    main()
