"""The page of a run that could start at once: what `tuiapp.reviewing` would make on a box with an RTX 4090."""

from dataclasses import replace

from tuiapp.review_values import Change, ReviewPage, Waits
from tuiapp.snapshot import MemoryPart, NewRun, PlanChoice, PlanValues

PARTS = (
    MemoryPart("weights", "weights, bf16", 14.96), MemoryPart("adapter", "adapter", 0.16),
    MemoryPart("gradients", "gradients", 0.16), MemoryPart("optimizer", "optimizer", 0.31),
    MemoryPart("activations", "activations", 2.56), MemoryPart("logits", "logits and loss", 0.09),
    MemoryPart("slack", "allocator slack", 0.5), MemoryPart("context", "CUDA context", 0.46),
)  # fmt: skip
CHOICE = PlanChoice(
    PlanValues("lora", 16, "all-linear", 1024, 4, 4, True, True, "adamw_torch_fused"), "LoRA r16", "yes", PARTS,
    peak_gib=18.24, device_gib=19.2, phase="backward", seconds=3132.0, trained=41_943_040, parameters=8_030_000_000,
)  # fmt: skip
RATE = Change("training.learning_rate", "0.0002", "0.0001", "LoRA default")
LONG = "41 rows are longer than max_length (1,024 tokens; dropped): lines 1, 2, 3"
YAML = """# support-lora-r16-b: LoRA r16 of Llama-3.1-8B on support_alpaca.json
model:
  path: meta-llama/Llama-3.1-8B
data:
  path: support_alpaca.json
method:
  kind: lora  # 16-bit weights fit
training:
  learning_rate: 0.0001  # chosen; recommended: 0.0002
  epochs: 3.0  # 9,120 rows
"""


def page(form: NewRun, waits: Waits | None = None) -> ReviewPage:
    """A run on GPU 0, free now; the changes are those of the form beside the learning rate."""
    changes = [RATE] + [Change(path, "", str(value)) for path, value in form.chosen if path != RATE.path]
    return ReviewPage(
        form, name=form.name or "llama-3.1-8b-lora-r16", card="NVIDIA GeForce RTX 4090", card_gib=24.0, choice=CHOICE,
        band=0.02, basis="within 2 %: closed form", steps=414, rows=9846, train=9120, validation=480,
        dropped=(("duplicate", 118), ("longer than 1024 tokens", 41), ("empty", 87)), disk_needed=1_181_116_006,
        disk_free=212 << 30, keep=2, model_bytes=171_798_691, fields=67, changes=tuple(changes),
        parent="support-lora-r16" if form.parent else "", parent_changes=(RATE,) if form.parent else (),
        warnings=(("warning", LONG),), yaml=YAML, waits=waits or Waits(True, "GPU 0"),
        command=("tunedeck", "train", "--model", "meta-llama/Llama-3.1-8B", "--data", form.data,
                 "--set", "training.learning_rate=1e-4"),
    )  # fmt: skip


def on_cpu(form: NewRun, waits: Waits | None = None) -> ReviewPage:
    """The same without a card."""
    choice = replace(CHOICE, parts=(), peak_gib=None, device_gib=None, fits="unknown")
    return replace(page(form, waits or Waits(True, "CPU")), card="this CPU", card_gib=None, choice=choice)
