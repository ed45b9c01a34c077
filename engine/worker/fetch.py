"""`python -m engine.worker.fetch ...`: a tokenizer or a data set, made into files that need no transformers to be read."""

import argparse
import sys
from pathlib import Path
from typing import Any

from engine.errors import DataError
from engine.text import clean
from engine.worker.child import say


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine.worker.fetch")
    kinds = parser.add_subparsers(required=True)
    one = kinds.add_parser("tokenizer")
    one.add_argument("model")
    one.add_argument("directory", type=Path)
    one.add_argument("--revision")
    one.add_argument("--trust-remote-code", action="store_true")
    one.set_defaults(what="Reading the tokenizer", make=tokenizer)
    one = kinds.add_parser("dataset")
    one.add_argument("name")
    one.add_argument("file", type=Path)
    one.add_argument("--config")
    one.add_argument("--split", default="train")
    one.set_defaults(what="Fetching the data set", make=dataset)
    options = parser.parse_args()
    return say(options.what, lambda: options.make(options))


def tokenizer(options: argparse.Namespace) -> dict[str, Any]:
    """The tokenizer of a model (directory, GGUF file or hub id) as tokenizer.json with its settings and chat template."""
    from transformers import AutoTokenizer

    path = Path(options.model)
    if path.suffix == ".gguf":
        made = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    else:
        made = AutoTokenizer.from_pretrained(
            options.model, revision=options.revision, trust_remote_code=options.trust_remote_code
        )
    made.save_pretrained(options.directory)
    return {"directory": str(options.directory)}


def dataset(options: argparse.Namespace) -> dict[str, Any]:
    """A data set of the hub, or in a directory that `datasets` knows, as one Parquet file. Raises DataError."""
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    try:
        rows = load_dataset(options.name, options.config, split=options.split)
        rows.to_parquet(str(options.file))
    except Exception as error:  # the hub's errors, httpx's, datasets' own
        reason = clean(str(error).strip().split("\n")[0], False)[:200]
        raise DataError(
            "The data set cannot be fetched", f"{clean(options.name, False)}, split {options.split}: {reason}",
            "Check the name and the network; for a gated one: hf auth login. Or download it and name the file.",
        ) from None  # fmt: skip
    return {"rows": rows.num_rows}


if __name__ == "__main__":
    sys.exit(main())
