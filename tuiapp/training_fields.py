"""Every field of the specification as the Training step tells it: what it does, what is usual and what ←→ goes through.

A test compares the paths with those of `engine.spec.RunSpec`, and what is usual with the planner's rules. Where something is
a rule of thumb, `source` says whose; the planner's own are in engine/planner/rules.py.
"""

from dataclasses import dataclass
from typing import Any

from tuiapp.draft import DATA, MODEL, REVIEW, TRAINING

Values = tuple[Any, ...]


@dataclass(frozen=True)
class FieldLine:
    """One field of the specification."""

    path: str
    name: str
    help: str
    values: Values = ()
    """What ←→ goes through; empty: what the type allows."""
    span: tuple[float, float] | None = None
    """What is usual, as numbers; `usual` in words where numbers do not say it."""
    usual: str = ""
    why: str = ""
    """Why it is as it is where the planner gives no reason."""
    source: str = ""
    step: int = TRAINING
    """The step that it belongs to."""


RATES = (1e-7, 2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 3e-2)
SFT_RATES = {
    ("full", False): (1e-5, 5e-5),
    ("full", True): (5e-5, 2e-4),
    ("adapter", False): (1e-4, 3e-4),
    ("adapter", True): (2e-4, 1e-3),
}
"""Usual learning rates of fine-tuning by what is trained and whether the model is below 1B. From 7B on the field's practice (the
sources of engine/planner/rules.py); below found on SmolLM2-135M (`bench.recommend`). Anything else: half to twice what its
rule says."""

FIELDS = (
    FieldLine("model.path", "model", "The model that is trained: a directory, a .gguf file or a hub id.", step=MODEL),
    FieldLine("model.revision", "revision", "A branch, tag or commit of the hub: for a model that must not change under you.",
              why="the one that is here, else the newest"),
    FieldLine("model.trust_remote_code", "remote code", "Runs Python that comes with the model: only where you have read it.",
              usual="off", why="code from elsewhere is not run unasked"),
    FieldLine("data.path", "data", "The file, directory or data set of the hub with the rows to learn from.", step=DATA),
    FieldLine("data.format", "format", "How the rows are to be read, where their columns are not recognised.", why="recognised by the columns"),
    FieldLine("data.columns", "columns", "Which columns of the file are ours, as {instruction: question, output: answer}.",
              why="recognised by their names"),
    FieldLine("data.template", "template", "What turns a conversation into text: chatml, alpaca or a Jinja file. It has to be the one that "
              "the model will be asked with later.", ("chatml", "alpaca"), why="the model's own"),
    FieldLine("data.system", "system prompt", "A system prompt for conversations that have none. Ask the model with the same one later.",
              why="none is added"),
    FieldLine("data.validation", "held out", "Rows that are not trained on but evaluated: a share below 1, a number of rows, or a file. "
              "Too few and eval loss is noise; without any over-fitting stays unseen.", (0, 8, 20, 50, 100, 200, 500), usual="5 % of rows",
              source="5 % is the field's practice for small data"),
    FieldLine("data.split", "split", "How rows are held out: at random, in the same share of each value of a column, or whole values "
              "of it (a customer is in one part only).", usual="random", why="rows are taken to be independent"),
    FieldLine("data.split_by", "split by", "The column that stratified or group looks at.", why="random needs none"),
    FieldLine("data.filters.duplicates", "duplicates", "Leaves out rows that are there twice.", step=DATA),
    FieldLine("data.filters.leaks", "leaks", "Leaves out rows that are in the validation file too.", step=DATA),
    FieldLine("data.filters.refusals", "refusals", "Leaves out answers that refuse.", step=DATA),
    FieldLine("data.filters.exclude", "exclude", "Regular expressions: a row with a match is left out.", why="none is given"),
    FieldLine("data.filters.min_characters", "shortest answer", "Rows with a shorter answer are left out, counted in characters.",
              (None, 1, 5, 20, 100), why="none is too short"),
    FieldLine("data.filters.max_characters", "longest answer", "Rows with a longer answer are left out, counted in characters.",
              (None, 1000, 2000, 5000, 10000), why="none is too long"),
    FieldLine("data.max_rows", "most rows", "A random sample of so many rows: to see first whether something is learned at all.",
              (None, 100, 200, 500, 1000, 2000, 5000), usual="all", why="all are used"),
    FieldLine("objective", "objective", "What is learned: sft answers, text everything, dpo and the like which of two answers is better.",
              why="what the data is for"),
    FieldLine("objective_options.beta", "beta", "How close the model stays to where it began. Higher: it changes less; in ORPO and CPO the "
              "weight of the preference.", (0.0, 0.01, 0.05, 0.1, 0.2, 0.5), span=(0.0, 0.5), why="this objective has none",
              source="Rafailov et al. 2023 (DPO) and TRL's defaults"),
    FieldLine("objective_options.rewards", "rewards", "GRPO learns from these: functions of Python files, as file.py:function.",
              why="only GRPO has them"),
    FieldLine("objective_options.generations", "generations", "GRPO: how many answers to a prompt are compared. More: a steadier signal, and "
              "slower.", (2, 4, 8, 16), span=(4, 16), why="only GRPO has them", source="TRL's default is 8"),
    FieldLine("objective_options.completion_length", "answer length", "GRPO: tokens of an answer at most. What is longer is cut and gets "
              "its reward as it is.", (32, 64, 128, 256, 512, 1024), why="only GRPO has it"),
    FieldLine("method.kind", "method", "Which weights are trained: all of them, or a small adapter of one of these kinds.",
              ("full", "lora", "qlora"), why="see step 4"),
    FieldLine("method.rank", "rank", "How much room the adapter has. Higher: it can learn more, and over-fits sooner on few rows.",
              (4, 8, 16, 32, 64, 128, 256), span=(4, 256), why="the method has none", source="Hu et al. 2021; 4 to 64 for LoRA itself"),
    FieldLine("method.alpha", "alpha", "Scales what the adapter adds: alpha / rank times. It works like a second learning rate.",
              (8.0, 16.0, 32.0, 64.0, 128.0), usual="1 to 2 x rank", why="the method has none", source="Dettmers et al. 2023; the field's practice"),
    FieldLine("method.dropout", "dropout", "The share of the adapter's inputs that is left out at random in each step: a guard against "
              "learning rows by heart. Too much: it learns slowly.", (0.0, 0.05, 0.1, 0.2), span=(0.0, 0.1), why="the method has none",
              source="Dettmers et al. 2023: 0.1 to 13B, 0.05 above"),
    FieldLine("method.targets", "targets", "Which matrices get an adapter: all-linear, attention, or names of modules with commas.",
              ("all-linear", "attention"), usual="all-linear", why="the method has none", source="Schulman et al. 2025: attention alone is worse"),
    FieldLine("method.variant", "variant", "A kind of LoRA: DoRA learns a little better and costs time, PiSSA begins nearer to the weights, "
              "rsLoRA is for high ranks, LoRA+ has two learning rates.", usual="none", why="plain LoRA"),
    FieldLine("method.modules_to_save", "whole modules", "Modules that are trained whole beside the adapter, such as embeddings for new words.",
              why="none is needed"),
    FieldLine("method.virtual_tokens", "virtual tokens", "How many learned tokens stand before the text. Each is one less for the text itself.",
              (8, 16, 20, 32, 64, 100), span=(8, 100), why="the method has none", source="peft's guide; Lester et al. 2021: 20 to 100"),
    FieldLine("method.quantization.bits", "bits", "Bits of each weight of the base model: 4 take a quarter of the memory, 8 half.",
              usual="4", why="not quantised", source="Dettmers et al. 2023"),
    FieldLine("method.quantization.type", "4-bit type", "nf4 fits how weights are spread; fp4 is only for comparison.",
              usual="nf4", why="not quantised", source="Dettmers et al. 2023"),
    FieldLine("method.quantization.double", "double", "The scales of the 4-bit weights are quantised as well: 0.4 bits a weight less.",
              usual="on", why="not quantised", source="Dettmers et al. 2023"),
    FieldLine("training.learning_rate", "learning rate", "How far each step moves what is trained. Too high: loss jumps or turns NaN. Too "
              "low: it falls slowly or not at all.", RATES, source="the rules and papers named in engine/planner/rules.py"),
    FieldLine("training.epochs", "epochs", "How often every row is seen. Too many: the model learns rows by heart, and eval loss rises while "
              "train loss falls.", (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0), span=(1, 5), source="the field's practice; engine/planner/rules.py"),
    FieldLine("training.max_steps", "max steps", "Ends the run after so many steps, whatever the epochs say.",
              (None, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000), usual="none", why="the epochs decide"),
    FieldLine("training.micro_batch", "micro-batch", "Rows that are on the card at once. More is faster as long as it fits.",
              (1, 2, 4, 8, 16, 32, 64)),
    FieldLine("training.accumulation", "accumulation", "Micro-batches that are added up to one step.", (1, 2, 4, 8, 16, 32, 64)),
    FieldLine("training.max_length", "max length", "Tokens of a row at most. Memory grows with it.",
              (128, 256, 512, 1024, 2048, 4096, 8192), usual="99 % of rows"),
    FieldLine("training.long_rows", "long rows", "What becomes of rows that are longer: left out, cut, or gone on with in another row. A row "
              "that is cut loses its end token.", usual="drop"),
    FieldLine("training.packing", "packing", "Several short rows share one long one: no padding. Attention does not reach from one to the next.",
              usual="on if short"),
    FieldLine("training.checkpointing", "checkpointing", "Computes activations again in place of keeping them: less memory, about a quarter slower.",
              usual="on if needed"),
    FieldLine("training.optimizer", "optimizer", "What turns gradients into steps. 8-bit AdamW keeps its two moments in a quarter of the memory.",
              ("adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "adafactor"), usual="AdamW", source="Loshchilov & Hutter 2019; Dettmers et al. 2022"),
    FieldLine("training.precision", "precision", "Of weights and arithmetic: bf16 both in 16 bits, mixed weights in 32, fp32 both in 32.",
              usual="bf16"),
    FieldLine("training.fused_head", "fused head", "The loss without ever making all logits: less memory, slower on a CPU.",
              usual="on, on a GPU"),
    FieldLine("training.group_by_length", "group by length", "Rows of like length share a batch: less padding.", usual="if uneven"),
    FieldLine("training.compile", "compile", "torch.compile: minutes at the start, then faster where all rows have one length.",
              usual="off"),
    FieldLine("training.kernels", "kernels", "Fused kernels of other packages, on a GPU: liger if it is installed, hub is code from elsewhere.",
              usual="none or liger"),
    FieldLine("training.nonfinite", "on NaN", "What a NaN or infinite loss or gradient does: stop the run, or skip that step.",
              usual="stop", why="such a step says that something is wrong"),
    FieldLine("training.attention", "attention", "How attention is computed: sdpa is PyTorch's own, eager the slow and plain way.",
              ("sdpa", "eager", "flash_attention_2"), usual="sdpa"),
    FieldLine("training.schedule", "schedule", "How the learning rate goes down: cosine slowly at first and at the end, linear evenly, "
              "constant not at all.", ("cosine", "linear", "constant_with_warmup", "constant", "cosine_with_restarts", "polynomial",
              "inverse_sqrt"), usual="cosine, linear", why="the usual", source="the field's practice; Loshchilov & Hutter 2017"),
    FieldLine("training.warmup", "warm-up", "Steps in which the learning rate rises from 0; below 1 a share of all steps. Without it the first "
              "steps may throw the model off.", (0.0, 0.01, 0.03, 0.05, 0.1, 0.2), span=(0.03, 0.1), source="the field's practice; Dettmers et al. 2023: 3 %"),
    FieldLine("training.weight_decay", "weight decay", "Pulls what is trained towards 0 in every step: a mild guard against over-fitting.",
              (0.0, 0.01, 0.05, 0.1), span=(0.0, 0.1), source="the field's practice"),
    FieldLine("training.max_grad_norm", "max grad norm", "Longer gradients are shortened to it: one odd batch cannot throw the model off. "
              "0 leaves them as they are.", (0.0, 0.3, 0.5, 1.0, 2.0), span=(0.3, 1.0), source="Dettmers et al. 2023: 0.3 for adapters; 1 is transformers' default"),
    FieldLine("training.seed", "seed", "Decides the order of the rows, what is held out and how an adapter begins. Another seed shows how much "
              "of a difference is chance.", (0, 1, 2, 3, 42), usual="any", why="any will do, as long as it is kept"),
    FieldLine("evaluation.every", "evaluate every", "How often the rows held out are evaluated: a number of steps, or below 1 a fraction of an "
              "epoch. Each costs a pass over them.", usual="3 to 12 a run", source="the field's practice"),
    FieldLine("evaluation.prompts", "sample prompts", "What the model is asked as it learns, so that one sees the answers change.",
              usual="1 to 5"),
    FieldLine("evaluation.sample_every", "samples every", "How often the sample prompts are answered: a number of steps, or below 1 a fraction "
              "of an epoch.", usual="3 to 12 a run"),
    FieldLine("evaluation.early_stopping", "early stopping", "Ends the run after so many evaluations without improvement, and keeps the best "
              "model. Too few: a noisy eval loss ends it too soon.", (None, 2, 3, 5, 10), usual="2 to 5, or off", why="it trains to its end",
              source="Prechelt 1998; the field's practice"),
    FieldLine("evaluation.general", "general texts", "Measures the loss on general texts too, which shows what is forgotten: on ours, or on "
              "the first rows of a file.", (False, True), usual="on if cheap"),
    FieldLine("saving.every", "save every", "How often a checkpoint is saved: a number of steps, or below 1 a fraction of an epoch. A run that "
              "ends goes on from the last one.", usual="with each eval"),
    FieldLine("saving.keep", "keep checkpoints", "How many of the last checkpoints stay on disk; the best by evaluation stays as well.",
              (1, 2, 3, 5, 10), span=(1, 5), why="the last and the one before"),
    FieldLine("extra.trainer", "for the trainer", "Arguments of TRL's trainer that have no field of their own, as {neftune_noise_alpha: 5}.",
              why="none is needed"),
    FieldLine("extra.peft", "for peft", "Arguments of peft's configuration that have no field of their own.", why="none is needed"),
    FieldLine("extra.model", "for the model", "Arguments of from_pretrained that have no field of their own.", why="none is needed"),
    FieldLine("report_to", "report to", "Other trackers besides TuneDeck's own record: tensorboard, wandb, mlflow, trackio.",
              why="TuneDeck records everything itself"),
    FieldLine("compute.devices", "devices", "Which cards may train: auto, cpu, or their numbers as [0, 1].", ("auto", "cpu"), usual="auto",
              why="whatever is here"),
    FieldLine("compute.processes", "processes", "One process for each card that trains.", (1, 2, 4, 8), why="one card is enough"),
    FieldLine("compute.sharding", "sharding", "How several cards share the work: ddp each has all, fsdp and zero3 share the weights, layers "
              "lays the layers over them.", usual="ddp", why="the simplest"),
    FieldLine("run.name", "name", "What the run is called.", step=REVIEW),
    FieldLine("run.project", "project", "Runs of one project can be shown together.", why="the usual one"),
    FieldLine("run.tags", "tags", "Words to find the run by.", why="none is given"),
    FieldLine("run.note", "note", "Whatever you want to remember.", why="none is written"),
    FieldLine("run.parent", "parent", "The run that this one is a fork of: f on a run begins a fork.", step=REVIEW, why="no fork"),
)  # fmt: skip

BY_PATH = {one.path: one for one in FIELDS}
ESSENTIAL = (
    "training.learning_rate", "training.epochs", "training.schedule", "training.warmup", "training.weight_decay",
    "training.max_grad_norm", "method.dropout", "objective_options.beta", "evaluation.every", "saving.keep",
    "evaluation.early_stopping", "evaluation.sample_every", "training.max_steps", "training.seed", "saving.every",
    "evaluation.general",
)  # fmt: skip
"""What matters, in the order of the page; a small terminal shows the first ones."""
SECTIONS = tuple(dict.fromkeys(one.path.partition(".")[0].removesuffix("_options") for one in FIELDS))
"""Headings of all fields; the options of an objective stand under it."""


def elsewhere(path: str) -> str:
    """Where a field is chosen that belongs to another step, in a sentence; empty for one of this step."""
    one = BY_PATH[path]
    if path == "run.parent":
        return "f on a run begins a fork of it."
    return f"It is chosen on step {one.step + 1}: {one.step + 1} goes there." if one.step != TRAINING else ""


def section_of(path: str) -> str:
    """The heading that a field stands under."""
    return path.partition(".")[0].removesuffix("_options")


def usual_rates(kind: str, objective: str | None, small: bool, rule: float) -> tuple[float, float]:
    """Which learning rates are usual. `small`: a model below 1B; `rule` is what the planner's rule says for this case."""
    if objective in (None, "sft", "text") and kind in ("full", "lora", "qlora"):
        return SFT_RATES["full" if kind == "full" else "adapter", small]
    return rule / 2, rule * 2
