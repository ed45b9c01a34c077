"""Files of Axolotl and TRL as specifications: what is carried over, and that nothing is lost without a word."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.cli import main
from engine.errors import SpecError
from engine.exchange import from_axolotl, from_trl
from engine.exchange.imported import Imported, read_foreign
from engine.spec import flatten, parse

SITE = Path(pytest.__file__).parent.parent
QLORA = """
base_model: NousResearch/Llama-3.2-1B
model_type: LlamaForCausalLM
load_in_8bit: false
load_in_4bit: true
strict: false
datasets:
  - path: teknium/GPT4-LLM-Cleaned
    type: alpaca
dataset_prepared_path: last_run_prepared
val_set_size: 0.1
output_dir: ./outputs/qlora-out
adapter: qlora
lora_model_dir:
sequence_len: 2048
sample_packing: true
eval_sample_packing: true
pad_to_sequence_len: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_modules: [gate_proj, down_proj]
wandb_project:
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 1
optimizer: adamw_8bit
lr_scheduler: cosine
learning_rate: 2e-4
bf16: auto
tf32: false
gradient_checkpointing: true
resume_from_checkpoint:
logging_steps: 1
flash_attention: true
loss_watchdog_threshold: 5.0
warmup_ratio: 0.1
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
special_tokens:
  pad_token: "<|end_of_text|>"
"""
"""As in Axolotl's own examples."""
SFT = """
model_name_or_path: Qwen/Qwen2.5-0.5B
model_revision: main
dtype: bfloat16
dataset_name: trl-lib/Capybara
learning_rate: 2.0e-4
num_train_epochs: 1
packing: true
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
eos_token: '<|im_end|>'
eval_strategy: steps
eval_steps: 100
use_peft: true
lora_r: 32
lora_alpha: 16
lora_target_modules: all-linear
load_in_4bit: true
hub_token: hf_abcdefghijklmnopqrstuv
neftune_noise_alpha: 5
output_dir: out
report_to: [tensorboard]
use_liger_kernel: true
"""


def imported(tmp_path: Path, text: str | dict[str, Any]) -> Imported:
    file = tmp_path / "foreign.yml"
    file.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False))
    return read_foreign(file)


def axolotl(tmp_path: Path, **more: Any) -> Imported:
    return imported(
        tmp_path,
        {"base_model": "m", "learning_rate": 1e-4, "datasets": [{"path": "d", "type": "chat_template"}]} | more,
    )


def trl(tmp_path: Path, **more: Any) -> Imported:
    return imported(tmp_path, {"model_name_or_path": "m", "dataset_name": "owner/d"} | more)


def left(made: Imported) -> list[str]:
    return [one.key for one in made.left]


def test_an_axolotl_file_is_carried_over(tmp_path: Path) -> None:
    made = imported(tmp_path, QLORA)
    assert made.tool == "axolotl"
    assert flatten(made.raw) == {
        "model.path": "NousResearch/Llama-3.2-1B",
        "data.path": "teknium/GPT4-LLM-Cleaned", "data.format": "alpaca", "data.template": "alpaca", "data.validation": 0.1,
        "method.kind": "qlora", "method.rank": 32, "method.alpha": 16, "method.dropout": 0.05,
        "method.targets": ["gate_proj", "down_proj"], "method.quantization.bits": 4, "method.quantization.type": "nf4",
        "method.quantization.double": True,
        "training.learning_rate": 0.0002, "training.epochs": 1, "training.micro_batch": 2, "training.accumulation": 4,
        "training.max_length": 2048, "training.long_rows": "drop", "training.packing": True, "training.checkpointing": True,
        "training.optimizer": "adamw_8bit", "training.precision": "bf16", "training.attention": "flash_attention_2",
        "training.schedule": "cosine", "training.warmup": 0.1, "training.weight_decay": 0.0, "training.max_grad_norm": 1.0,
        "training.seed": 42, "evaluation.every": 0.25, "saving.every": 0.99999,
    }  # fmt: skip
    assert left(made) == ["model_type", "dataset_prepared_path", "output_dir", "eval_sample_packing", "pad_to_sequence_len",
                          "logging_steps", "loss_watchdog_threshold", "special_tokens"]  # fmt: skip
    assert all(one.why for one in made.left)


def test_a_trl_file_is_carried_over(tmp_path: Path) -> None:
    made = imported(tmp_path, SFT)
    assert made.tool == "trl"
    assert flatten(made.raw) == {
        "model.path": "Qwen/Qwen2.5-0.5B",
        "data.path": "trl-lib/Capybara:train", "data.validation": "trl-lib/Capybara:test",
        "method.kind": "qlora", "method.rank": 32, "method.alpha": 16, "method.dropout": 0.05, "method.targets": "all-linear",
        "method.quantization.bits": 4, "method.quantization.type": "nf4", "method.quantization.double": False,
        "training.learning_rate": 0.0002, "training.epochs": 1, "training.micro_batch": 2, "training.accumulation": 8,
        "training.max_length": 1024, "training.long_rows": "cut", "training.packing": True, "training.checkpointing": True,
        "training.optimizer": "adamw_torch_fused", "training.precision": "bf16", "training.schedule": "linear",
        "training.warmup": 0, "training.weight_decay": 0.0, "training.max_grad_norm": 1.0, "training.seed": 42,
        "evaluation.every": 100, "extra.trainer.neftune_noise_alpha": 5, "report_to": ["tensorboard"],
    }  # fmt: skip
    assert left(made) == ["eos_token", "hub_token", "output_dir", "use_liger_kernel"]
    assert "hf_abc" not in str(made.left)


def test_every_key_is_carried_over_or_named(tmp_path: Path) -> None:
    """Whatever stands in a file: a setting that nobody has heard of is in the list."""
    assert left(axolotl(tmp_path, some_new_setting=3, other={"a": [1]})) == ["some_new_setting", "other"]
    assert left(trl(tmp_path, some_new_setting=3, off=False, none=None)) == ["some_new_setting"]
    assert left(axolotl(tmp_path, shuffle_merged_datasets=False)) == ["shuffle_merged_datasets"]


@pytest.mark.parametrize(
    ("said", "method"),
    [
        ({}, {"kind": "full"}),
        ({"adapter": "lora"}, {"kind": "lora", "rank": 8, "alpha": 8, "dropout": 0.0}),
        ({"adapter": "lora", "load_in_8bit": True, "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True},
         {"kind": "qlora", "rank": 4, "alpha": 8, "dropout": 0.0, "targets": "all-linear",
          "quantization": {"bits": 8, "type": "nf4", "double": True}}),
        ({"adapter": "lora", "peft_use_dora": True}, {"kind": "lora", "rank": 8, "alpha": 8, "dropout": 0.0, "variant": "dora"}),
        ({"adapter": "lora", "loraplus_lr_ratio": 16},
         {"kind": "lora", "rank": 8, "alpha": 8, "dropout": 0.0, "variant": "lora+"}),
    ],
)  # fmt: skip
def test_axolotls_adapters(tmp_path: Path, said: dict[str, Any], method: dict[str, Any]) -> None:
    made = axolotl(tmp_path, **said)
    assert (made.raw["method"], made.left) == (method, [])


def test_what_a_method_here_has_not_is_said(tmp_path: Path) -> None:
    assert left(axolotl(tmp_path, adapter="llama-adapter")) == ["adapter"]
    assert left(axolotl(tmp_path, adapter="lora", peft_use_dora=True, peft_use_rslora=True)) == ["peft_use_rslora"]
    assert left(axolotl(tmp_path, optimizer="muon", lr_scheduler="rex", fp16=True, bf16=False)) == [
        "fp16",
        "optimizer",
        "lr_scheduler",
    ]


@pytest.mark.parametrize(
    ("entry", "data"),
    [
        ({"type": "completion", "field": "body"}, {"format": "text", "columns": {"text": "body"}}),
        ({"type": "sharegpt", "conversation": "chatml"}, {"format": "sharegpt", "template": "chatml"}),
        ({"type": "chat_template", "field_messages": "talk"}, {"columns": {"messages": "talk"}}),
        ({"type": "chat_template", "field_messages": "conversations", "message_field_role": "from", "message_field_content": "value"}, {}),
        ({"type": {"field_instruction": "q", "field_output": "a", "format": "{instruction}"}},
         {"format": "prompt_completion", "columns": {"prompt": "q", "completion": "a"}}),
        ({"type": {"field_instruction": "q", "field_input": "context", "field_output": "a"}},
         {"format": "alpaca", "columns": {"instruction": "q", "input": "context", "output": "a"}}),
        ({"name": "main", "split": "train"}, {"path": "owner/set@main:train"}),
    ],
)  # fmt: skip
def test_axolotls_data_sets(tmp_path: Path, entry: dict[str, Any], data: dict[str, Any]) -> None:
    made = axolotl(tmp_path, datasets=[{"path": "owner/set", **entry}])
    assert made.raw["data"] == {"path": "owner/set", **data}
    assert made.left == []


def test_several_data_sets_files_beside_and_templates(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "own.jinja").write_text("x")
    made = axolotl(
        tmp_path, datasets=[{"path": "a.jsonl", "ds_type": "json", "split": "train"}, {"path": "o/b", "weight": 0.5}],
        test_datasets=[{"path": "a.jsonl"}], chat_template="jinja", chat_template_jinja="own.jinja",
    )  # fmt: skip
    assert made.raw["data"] == {
        "path": [{"path": str(tmp_path / "a.jsonl"), "weight": 1.0}, {"path": "o/b", "weight": 0.5}],
        "validation": str(tmp_path / "a.jsonl"), "template": str(tmp_path / "own.jinja"),
    }  # fmt: skip
    assert made.left == []
    inline = axolotl(
        tmp_path,
        chat_template_jinja="{{ messages }}",
        datasets=[{"path": "d", "shards": 4, "roles_to_train": ["user"]}],
    )
    assert left(inline) == ["datasets.0.shards", "datasets.0.roles_to_train", "chat_template_jinja"]


@pytest.mark.parametrize(
    ("said", "objective", "more"),
    [
        ({"rl": "dpo", "rl_beta": 0.3}, "dpo", {"objective_options.beta": 0.3}),
        ({"rl": "ipo"}, "dpo", {"extra.trainer.loss_type": "ipo"}),
        ({"rl": "simpo", "simpo_gamma": 0.5}, "cpo", {"extra.trainer.simpo_gamma": 0.5}),
        ({"rl": "orpo", "orpo_alpha": 0.1}, "orpo", {"objective_options.beta": 0.1}),
        ({"rl": "kto", "kto_desirable_weight": 0.2}, "kto", {"extra.trainer.desirable_weight": 0.2}),
        ({"reward_model": True}, "reward", {}),
        ({"rl": "grpo", "trl": {"num_generations": 4, "reward_funcs": ["judge.length"]}}, "grpo",
         {"objective_options.generations": 4}),
    ],
)  # fmt: skip
def test_axolotls_objectives(tmp_path: Path, said: dict[str, Any], objective: str, more: dict[str, Any]) -> None:
    made = axolotl(tmp_path, **said)
    assert made.raw["objective"] == objective
    assert more.items() <= flatten(made.raw).items()
    assert made.left == []


def test_axolotls_trackers_and_sharding(tmp_path: Path) -> None:
    made = axolotl(
        tmp_path,
        wandb_project="ships",
        wandb_name="one",
        use_tensorboard=True,
        deepspeed="deepspeed_configs/zero3.json",
    )
    flat = flatten(made.raw)
    assert (flat["report_to"], flat["run.project"], flat["run.name"]) == (["wandb", "tensorboard"], "ships", "one")
    assert (flat["compute.sharding"], left(made)) == ("zero3", ["deepspeed"])


@pytest.mark.parametrize(
    ("said", "objective", "rate"),
    [({}, None, 2e-5), ({"beta": 0.2}, "dpo", 1e-6), ({"desirable_weight": 2.0}, "kto", 1e-6),
     ({"num_generations": 4, "beta": 0.0}, "grpo", 1e-6), ({"center_rewards_coefficient": 0.01}, "reward", 1e-4)],
)  # fmt: skip
def test_trls_objectives_are_told_from_what_only_one_trainer_has(
    tmp_path: Path, said: dict[str, Any], objective: str | None, rate: float
) -> None:
    made = trl(tmp_path, **said)
    assert (made.raw.get("objective"), made.raw["training"]["learning_rate"]) == (objective, rate)
    assert made.left == []


def test_trls_precision_files_and_mixtures(tmp_path: Path) -> None:
    assert trl(tmp_path).raw["training"]["precision"] == "mixed"
    assert trl(tmp_path, bf16=False).raw["training"]["precision"] == "fp32"
    (tmp_path / "rows.jsonl").write_text("{}")
    made = imported(tmp_path, {"model_name_or_path": "m", "eval_strategy": "epoch", "datasets": [
        {"path": "json", "data_files": "rows.jsonl"}, {"path": "o/b", "name": "main", "split": "train[:5%]"}]})  # fmt: skip
    assert made.raw["data"]["path"] == [{"path": str(tmp_path / "rows.jsonl")}, {"path": "o/b@main:train[:5%]"}]
    assert made.raw["evaluation"]["every"] == 0.99999


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("learning_rate: 1.0", "of no tool that is known"),
        ("model: {path: m}\ndata: {path: d}", "a specification of TuneDeck's already"),
        ("base_model: m\nlearning_rate: 1.0e-4", "names no data"),
        ("base_model: m\ndatasets: [{path: d}]\nlearning_rate: 3", "problem"),
        ("base_model: m\ndatasets: [{path: d, weight: heavy}]", "another kind than expected"),
        ("model_name_or_path: [a]\ndataset_name: d", "problem"),
        ("- 1", "empty"),
        ("a: [", "not YAML"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str, title: str) -> None:
    with pytest.raises(SpecError, match=title):
        imported(tmp_path, text)


def test_the_verb_writes_a_specification_and_lists_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "qlora.yml", tmp_path / "spec.yaml"
    file.write_text(QLORA)
    assert main(["import", str(file)]) == 0
    shown = capsys.readouterr()
    assert parse(yaml.safe_load(shown.out)) == parse(read_foreign(file).raw)
    assert "loss_watchdog_threshold: 5.0  (TuneDeck has no such setting)" in shown.err
    assert main(["import", str(file), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["tool"], told["file"]) == ("axolotl", str(out))
    assert {"key": "output_dir", "value": "./outputs/qlora-out", "why": from_axolotl.PLACED} in told["not_carried"]
    assert yaml.safe_load(out.read_text()) == told["spec"]
    assert main(["import", str(file), "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "absent.yml")]) == 2


KEYS = sorted({*from_axolotl.SAME, *from_axolotl.PASSED, *from_axolotl.REASONS, *from_trl.SAME, *from_trl.PASSED, *from_trl.REASONS,
               "adapter", "load_in_4bit", "datasets", "test_datasets", "val_set_size", "rl", "trl", "eval_steps", "saves_per_epoch",
               "use_peft", "chat_template", "chat_template_jinja", "deepspeed", "lora_target_modules", "bnb_config_kwargs",
               "warmup_ratio", "report_to", "reward_funcs", "dtype", "batch_size", "optimizer", "lr_scheduler", "wandb_project"})  # fmt: skip
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-3, 5000), st.floats(-1, 10), st.sampled_from(["", "2e-4", "lora", "dpo"]),
                   st.lists(st.sampled_from(["a", {"path": "x", "type": "alpaca"}, 3]), max_size=2),
                   st.dictionaries(st.sampled_from(["path", "beta", "type"]), st.integers(), max_size=2))  # fmt: skip


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), st.sampled_from(["base_model", "model_name_or_path"])
)
def test_nonsense_is_refused_or_carried_over_but_never_breaks_it(
    tmp_path: Path, said: dict[str, Any], model: str
) -> None:
    whole = {
        model: "m",
        "datasets" if model == "base_model" else "dataset_name": [{"path": "d"}] if model == "base_model" else "d",
    }
    try:
        made = imported(tmp_path, whole | said)
    except SpecError:
        return
    parse(made.raw)
    json.dumps([vars(one) for one in made.left])


def test_what_is_passed_on_has_the_names_of_the_installed_libraries() -> None:
    """Read as text: importing TRL takes longer than all of these tests."""
    files = [SITE / "transformers" / "training_args.py", *(SITE / "trl").rglob("*_config.py")]
    fields = {name for file in files for name in re.findall(r"^    (\w+): ", file.read_text(), re.M)}
    assert len(fields) > 200
    assert set(from_trl.PASSED) - fields == set()
    assert set(from_axolotl.PASSED) - fields == set()
