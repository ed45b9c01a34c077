"""What a run is: every choice, checked, in YAML and out.

A field that is None is recommended by `engine.planner.recommend`; what is stored with a run is complete.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from engine.errors import SpecError
from engine.methods import METHOD_NAMES, METHODS, OPTIMIZERS, SCHEDULES, with_field
from engine.nested import flatten as flatten
from engine.text import clean

Format = Literal["preference", "kto", "messages", "sharegpt", "alpaca", "prompt_completion", "text", "prompt"]
Objective = Literal["sft", "text", "dpo", "kto", "reward", "orpo", "cpo", "grpo"]
Sharding = Literal["ddp", "fsdp", "zero2", "zero3", "layers"]
Every = Annotated[int | float, Field(ge=0, description="steps; below 1 a fraction of an epoch; 0 never")]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class ModelSpec(Section):
    path: str = Field(min_length=1, description="a directory, a .gguf file or a hub id")
    revision: str | None = None
    trust_remote_code: bool = False


class SourceSpec(Section):
    path: str = Field(min_length=1)
    weight: float = Field(1.0, gt=0, le=100, description="how often each row is taken; 0.5 takes half of them")


class FiltersSpec(Section):
    """Rows to leave out, each counted with its reason."""

    duplicates: Literal["exact", "near"] | None = Field(
        None, description="exact up to case and white space; near by MinHash"
    )
    leaks: bool = Field(False, description="rows that are in the validation file too")
    refusals: bool = False
    exclude: list[str] = Field(default_factory=list, description="regular expressions: a row with a match is left out")
    min_characters: int | None = Field(None, ge=1, description="of the answer")
    max_characters: int | None = Field(None, ge=1, description="of the answer")

    @field_validator("exclude")
    @classmethod
    def _readable(cls, value: list[str]) -> list[str]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern} is no regular expression ({error})") from None
        return value


class DataSpec(Section):
    path: str | list[SourceSpec] = Field(
        min_length=1, description="a file, a directory or a data set of the hub; several as a list with weights"
    )
    format: Format | None = None
    columns: dict[str, str] = Field(default_factory=dict, description="our column name to the file's")
    template: str | None = Field(None, description="chatml, alpaca or a Jinja file; the model's own if None")
    system: str | None = Field(None, description="the system prompt of conversations that have none")
    validation: int | float | str | None = Field(None, description="a fraction, a number of rows, or a file")
    split: Literal["random", "stratified", "group"] = Field("random", description="how rows are held out, by split_by")
    split_by: str | None = Field(None, description="a column: its share of each value, or whole values, are held out")
    filters: FiltersSpec = FiltersSpec()
    max_rows: int | None = Field(None, ge=1, description="a sample of so many rows")

    @model_validator(mode="after")
    def _split_has_a_column(self) -> "DataSpec":
        if (self.split == "random") != (self.split_by is None):
            raise ValueError("split: stratified or group goes with split_by, a column; random goes without")
        return self

    @field_validator("validation")
    @classmethod
    def _not_negative(cls, value: int | float | str | None) -> int | float | str | None:
        if isinstance(value, int | float) and value < 0:
            raise ValueError("must not be negative")
        return value


class QuantizationSpec(Section):
    bits: Literal[4, 8] = 4
    type: Literal["nf4", "fp4"] = "nf4"
    double: bool = True


class MethodSpec(Section):
    kind: str | None = Field(None, description="full, lora, qlora or another of engine.methods.METHODS")
    rank: int | None = Field(None, ge=1, le=4096)
    alpha: float | None = Field(None, gt=0)
    dropout: float | None = Field(None, ge=0, lt=1)
    targets: str | list[str] | None = Field(None, description="all-linear, attention, or module names")
    variant: Literal["dora", "rslora", "pissa", "lora+"] | None = None
    modules_to_save: list[str] = Field(default_factory=list)
    virtual_tokens: int | None = Field(None, ge=1, le=1024, description="of prefix, prompt and P-tuning")
    quantization: QuantizationSpec | None = Field(None, description="of the base model; qlora has it by default")

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        value = value and METHOD_NAMES.get(value, value)
        if value is not None and value not in METHODS:
            raise ValueError(f"must be one of {', '.join(METHODS)}")
        return value

    @property
    def settings(self) -> list[str]:
        """The fields that only some methods have and that are set."""
        names = ("rank", "alpha", "dropout", "targets", "variant", "modules_to_save", "virtual_tokens")
        return [name for name in names if getattr(self, name)]

    @model_validator(mode="after")
    def _has_them(self) -> "MethodSpec":
        """A field that the method does not have would be ignored without a word. An open one will be full, lora or qlora."""
        has = METHODS[self.kind or "lora"].fields
        lacking = [name for name in self.settings if name not in has]
        if lacking and self.kind is None:
            raise ValueError(f"{', '.join(lacking)} needs a kind that has it: {', '.join(with_field(lacking[0]))}")
        if lacking:
            has_said = ", ".join(sorted(has)) or "no settings"
            raise ValueError(f"{self.kind} has no {', '.join(lacking)}; it has {has_said}")
        return self

    @property
    def base(self) -> QuantizationSpec | None:
        """How the base model is quantised, None if it is not."""
        if self.kind == "qlora":
            return self.quantization or QuantizationSpec()
        return None if self.kind in (None, "full", "lora") else self.quantization


class TrainingSpec(Section):
    learning_rate: float | None = Field(None, gt=0, lt=1)
    epochs: float | None = Field(None, gt=0)
    max_steps: int | None = Field(None, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    accumulation: int | None = Field(None, ge=1)
    max_length: int | None = Field(None, ge=8)
    long_rows: Literal["drop", "cut", "split"] | None = Field(None, description="what becomes of rows over max_length")
    packing: bool | None = None
    checkpointing: bool | None = None
    optimizer: str | None = Field(None, description="as transformers names it: adamw_torch_fused, adamw_8bit, ...")
    precision: Literal["bf16", "mixed", "fp32"] | None = None
    fused_head: bool | None = Field(None, description="the loss without ever making all logits: slower, less memory")
    group_by_length: bool | None = Field(None, description="rows of like length in a batch: less padding")
    compile: bool | None = Field(None, description="torch.compile")
    kernels: Literal["none", "liger", "hub"] | None = Field(
        None, description="fused kernels of other packages, on a GPU"
    )
    nonfinite: Literal["stop", "skip"] = Field("stop", description="what a NaN or infinite loss or gradient does")
    attention: str | None = Field(None, description="sdpa, eager, flash_attention_2, ...")
    schedule: str = "cosine"
    warmup: float | None = Field(None, ge=0, description="steps; below 1 a fraction of all steps")
    weight_decay: float | None = Field(None, ge=0)
    max_grad_norm: float | None = Field(None, ge=0)
    seed: int = Field(42, ge=0)

    @field_validator("optimizer", "schedule")
    @classmethod
    def _named_as_in_transformers(cls, value: str | None, info: ValidationInfo) -> str | None:
        names = OPTIMIZERS if info.field_name == "optimizer" else SCHEDULES
        if value is None or value in names:
            return value
        near = difflib.get_close_matches(value, names, 3, 0.3)
        raise ValueError(
            f"transformers has no such {info.field_name}" + (f"; did you mean {', '.join(near)}?" if near else "")
        )


class EvaluationSpec(Section):
    every: Every | None = None
    prompts: list[str] | None = None
    sample_every: Every | None = Field(None, description="the prompts are answered so often; with evaluations if open")
    early_stopping: int | None = Field(None, ge=1, description="evaluations without improvement before stopping")
    general: bool | Annotated[str, Field(min_length=1)] | None = Field(
        None, description="general texts whose loss shows what is forgotten: true ours, a file's first ones, false none"
    )


class SavingSpec(Section):
    every: Every | None = None
    keep: int = Field(2, ge=1)


class ObjectiveSpec(Section):
    """What an objective alone has; more of it goes through extra.trainer."""

    beta: float | None = Field(
        None, ge=0, description="how close to the reference: dpo, kto, grpo; the weight in orpo, cpo"
    )
    rewards: list[str] = Field(
        default_factory=list, description="grpo: Python files of reward functions, file.py:function"
    )
    generations: int | None = Field(None, ge=2, description="grpo: answers to each prompt that are compared")
    completion_length: int | None = Field(None, ge=1, description="grpo: tokens of an answer at most")


class ExtraSpec(Section):
    """Passed on as they are, and checked against the library's own fields before anything loads."""

    trainer: dict[str, Any] = Field(default_factory=dict)
    peft: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_secrets_and_nothing_twice(self) -> "ExtraSpec":
        """A specification is stored in several places, so it may hold no secret."""
        for name in (*flatten(self.trainer), *flatten(self.peft), *flatten(self.model)):
            if name.endswith(("token", "api_key", "password", "secret")) and name not in ("eos_token", "pad_token"):
                raise ValueError(
                    f"{name} may be secret, and a specification is stored: use the environment (hf auth login)"
                )
        for name in self.model:
            if name in ("dtype", "attn_implementation", "quantization_config", "device_map", "revision", "trust_remote_code",
                        "use_safetensors"):  # fmt: skip
                raise ValueError(f"extra.model.{name} is set by the model, method and training sections")
        return self


class ComputeSpec(Section):
    devices: Literal["auto", "cpu"] | list[int] = "auto"
    processes: int = Field(1, ge=1)
    sharding: Sharding = Field(
        "ddp", description="how several cards share the work; layers: one process, its layers laid over the cards"
    )


class RunSection(Section):
    name: str | None = Field(None, max_length=80)
    project: str = "default"
    tags: list[str] = Field(default_factory=list)
    note: str = ""
    parent: str | None = None
    """The id of the run that this one is a fork of."""

    @field_validator("name", "project", "note", "parent")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        return clean(value, keep_lines=False).strip() if value else value


class RunSpec(Section):
    """The whole of a run. Frozen; unknown keys are refused."""

    model: ModelSpec
    data: DataSpec
    objective: Objective | None = None
    objective_options: ObjectiveSpec = ObjectiveSpec()
    method: MethodSpec = MethodSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    saving: SavingSpec = SavingSpec()
    extra: ExtraSpec = ExtraSpec()
    report_to: list[str] = Field(default_factory=list)
    compute: ComputeSpec = ComputeSpec()
    run: RunSection = RunSection()


def parse(raw: Any) -> RunSpec:
    """Validate a nested mapping; a section left empty has its defaults. Raises SpecError with every problem at once."""
    if isinstance(raw, dict):
        raw = {
            name: section for name, section in raw.items() if section is not None or name not in RunSpec.model_fields
        }
    try:
        return RunSpec.model_validate(raw)
    except ValidationError as error:
        problems = list(dict.fromkeys(_sentence(p) for p in error.errors(include_url=False)))
        title = "The run specification has a problem" if len(problems) == 1 else "The run specification has problems"
        raise SpecError(title, "; ".join(problems), _hint(error)) from None


def _sentence(problem: Any) -> str:
    # a field of several types has a problem for each, under a name for the type: one sentence is enough
    loc = [
        part
        for part in problem["loc"]
        if part not in ("int", "float", "bool", "str", "constrained-str", "list[str]", "list[int]", "list[SourceSpec]")
    ]
    path = ".".join(str(part) for part in loc if not str(part).startswith("literal")) or "spec"
    if problem["type"] == "extra_forbidden":
        return f"{path} is not a known key"
    if problem["type"] == "missing":
        return f"{path} is required"
    given = clean(repr(problem["input"]), False)[:60]
    if len(loc) < len(problem["loc"]):
        return f"{path} is of the wrong kind (given: {given})"
    said = f"{path}: {problem['msg'].removeprefix('Value error, ')}"
    return said if isinstance(problem["input"], dict) else f"{said} (given: {given})"


def _hint(error: ValidationError) -> str:
    unknown = [p["loc"] for p in error.errors() if p["type"] == "extra_forbidden"]
    if not unknown:
        return "Correct the value in the file, or pass another with --set."
    section: Any = RunSpec
    for part in unknown[0][:-1]:
        section = section.model_fields[part].annotation
        section = next((one for one in get_args(section) if one is not type(None)), section)  # an open section
    return f"Known keys there: {', '.join(section.model_fields)}."


def read_yaml(path: Path) -> dict[str, Any]:
    """A specification file as a mapping, unchecked. Raises SpecError."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError("The specification cannot be read", f"{path}: {error.strerror}", "Check the path.") from None
    except (yaml.YAMLError, ValueError) as error:  # PyYAML lets ValueError out for 2026-13-45
        raise SpecError(
            "The specification is not YAML", f"{path}: {clean(str(error), False)}", "Mend the line named."
        ) from None
    if not isinstance(raw, dict):
        raise SpecError("The specification is empty", f"{path} holds no mapping", "See the README for an example.")
    return raw


def apply_sets(raw: dict[str, Any], sets: list[str]) -> dict[str, Any]:
    """A copy of a nested mapping with `a.b=value` applied, values read as YAML. Raises SpecError."""
    result = dict(raw)
    for item in sets:
        path, equals, text = item.partition("=")
        if not equals or not path:
            raise SpecError("--set needs path=value", f"'{item}' is not of that form", "As in --set training.epochs=2")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:
            raise SpecError(
                "--set has an unreadable value", clean(f"{item}: {error}", False), "Quote it as YAML."
            ) from None
        # YAML 1.1 reads 2e-4 (no dot) as text, which is how people write learning rates; in quotes it is one
        if isinstance(value, str) and text.strip()[:1] not in ("'", '"'):
            value = number(value)
        result = _assign(result, path.split("."), value, path)
    return result


def number(text: str) -> str | float:
    """A text such as 2e-4, which YAML 1.1 does not read as the number that it is; any other text as it is."""
    try:
        return float(text) if "e" in text.lower() else text
    except ValueError:
        return text


def _assign(node: dict[str, Any], keys: list[str], value: Any, path: str) -> dict[str, Any]:
    if len(keys) == 1:
        return {**node, keys[0]: value}
    child = node.get(keys[0])
    if child is not None and not isinstance(child, dict):
        raise SpecError("--set goes through a value", f"{path}: {keys[0]} is not a section", "Check the path.")
    return {**node, keys[0]: _assign(child or {}, keys[1:], value, path)}


def to_yaml(spec: RunSpec) -> str:
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)


def schema() -> dict[str, Any]:
    """The JSON Schema of a specification, for editors."""
    return RunSpec.model_json_schema()
