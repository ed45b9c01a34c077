"""What is decided about a merge before anything loads: whether it can be, in which type, how, and how much room it takes."""

from pathlib import Path

from engine.after.trained import Trained
from engine.errors import ModelError, RunError
from engine.hardware import GIB
from engine.methods import METHODS, VIRTUAL
from engine.models import ModelFacts
from engine.text import clean

DTYPES = ("bfloat16", "float16")
KEPT = 0.9
"""Where a merge keeps less of what the adapter changes, that is said."""
OTHERS = 64 << 20
"""Tokenizer, configuration, notes: bytes."""
PROCESS = 1.5
"""GiB that Python and torch take beside the weights."""


def refuse(trained: Trained) -> None:
    """Raises RunError for what cannot be merged."""
    if not trained.adapter:
        raise RunError(
            "There is nothing to merge",
            f"{trained.name} is fully fine-tuned: {trained.path} holds a whole model.",
            "Use or copy that directory as it is, or take it away in another format: tunedeck export",
        )
    kind = trained.spec.method.kind or "lora"
    if kind in VIRTUAL:
        raise RunError(
            f"{kind} cannot be merged",
            f"{METHODS[kind].title[0].upper()}{METHODS[kind].title[1:]} stand before the text, in no weight of the model.",
            f"Take the adapter away as it is, to be loaded beside the base: tunedeck export {trained.run_id} --to adapter DIR",
        )


def check_plain(facts: ModelFacts) -> None:
    """Raises ModelError for a base that was stored quantised."""
    stored = facts.config.get("quantization_config")
    if stored:
        how = clean(str(stored.get("quant_method", "quantised") if isinstance(stored, dict) else "quantised"), False)
        raise ModelError(
            "The base model is stored quantised",
            f"{facts.path} holds {how} weights: what is merged into them would be rounded away.",
            "Merge into the 16-bit model that it was made from: --base PATH --anyway",
        )


def own_type(facts: ModelFacts) -> str:
    """The base's own type if it has 16 bits, else bfloat16."""
    return "float16" if facts.dtype in ("float16", "torch.float16", "half") else "bfloat16"


def room(facts: ModelFacts) -> float:
    """Bytes of a merged model: two for each parameter."""
    return 2.0 * _parameters(facts) + OTHERS


def memory(facts: ModelFacts, width: int = 2) -> float:
    """GiB of RAM that a merge in memory takes: the base with `width` bytes to a number, changed where it is, and the largest
    weight's change in 32 bits, twice over (the product and the sum)."""
    largest = max(facts.vocab, facts.intermediate) * facts.hidden
    return PROCESS + 1.1 * width * _parameters(facts) / GIB + 2 * 4 * largest / GIB


def _parameters(facts: ModelFacts) -> float:
    """As counted, or by the size of the files if they are not all of the model's own kind."""
    return float(facts.parameters or facts.size / 2)


def way(facts: ModelFacts, free: float, forced: bool) -> tuple[str, str]:
    """("memory" or "shards", why in a sentence); `free` is GiB of RAM."""
    needed = memory(facts)
    numbers = f"the model in 16 bits takes about {needed:.1f} GiB of memory, {free:.1f} GiB are free"
    if forced:
        return "shards", f"by shards, as asked ({numbers})"
    return ("memory", f"in memory: {numbers}") if needed <= free else ("shards", f"by shards: {numbers}")


def adapter_files(path: Path) -> list[Path]:
    """What makes an adapter: its configuration and its weights."""
    return [
        file
        for file in (path / "adapter_config.json", *sorted(path.glob("adapter_model*.safetensors")))
        if file.is_file()
    ]
