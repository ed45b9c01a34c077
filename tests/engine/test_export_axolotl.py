"""Runs as Axolotl files. Axolotl is not installed: its field names are in axolotl_fields.txt, and its files come back by import."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.errors import DataError, SpaceError, SpecError
from engine.exchange import from_axolotl
from engine.exchange.imported import read_foreign
from engine.exchange.place import Exported
from engine.exchange.to_axolotl import to_axolotl
from engine.spec import RunSpec, apply_sets, parse
from tests.helpers import Run

LINES = Path(__file__).with_name("axolotl_fields.txt").read_text().split("# ")
TOP, INNER = (set(part.split("\n", 1)[1].split()) for part in LINES[1:])
TALK = [
    {"messages": [{"role": "user", "content": f"ask {i}"}, {"role": "assistant", "content": f"say {i}"}]}
    for i in range(6)
]
CHOICE = [{"prompt": [{"role": "system", "content": "be"}, {"role": "user", "content": f"ask {i}"}],
           "chosen": [{"role": "assistant", "content": "yes"}], "rejected": [{"role": "assistant", "content": "no"}]}
          for i in range(4)]  # fmt: skip
COMPLETE = ["method.kind=lora", "method.rank=8", "method.alpha=16", "training.micro_batch=2", "training.accumulation=4",
            "training.learning_rate=1e-3", "training.max_length=64", "training.long_rows=drop", "training.packing=false",
            "training.optimizer=adamw_torch_fused", "training.precision=bf16", "training.attention=sdpa", "training.epochs=2",
            "training.warmup=0.1", "training.weight_decay=0.05", "training.max_grad_norm=0.3", "training.checkpointing=true",
            "evaluation.every=0.5", "saving.every=5", "objective=sft"]  # fmt: skip


def complete(rows: Path, *sets: str) -> RunSpec:
    return parse(apply_sets({"model": {"path": "m"}, "data": {"path": str(rows)}}, [*COMPLETE, *sets]))


def exported(
    tmp_path: Path, rows: list[dict[str, Any]], *sets: str
) -> tuple[Exported, dict[str, Any], list[dict[str, Any]]]:
    """What was said, the settings and the training rows of a run with these rows."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = {"id": "abc", "name": "mine", "plan": None, "spec": complete(file, *sets).model_dump(mode="json")}
    made = to_axolotl(tmp_path / "e.db", run, tmp_path / "out")
    settings = yaml.safe_load((tmp_path / "out" / "axolotl.yml").read_text())
    train = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    return made, settings, train


def test_conversations_come_back_as_they_went(tmp_path: Path) -> None:
    made, settings, train = exported(tmp_path, TALK, "data.validation=2", "data.system=be brief", "method.variant=dora")
    assert made.files == ["axolotl.yml", "train.jsonl", "validation.jsonl"]
    assert (made.rows, len(train)) == (4, 4)
    assert train[0]["messages"][0] == {"role": "system", "content": "be brief"}
    assert (settings["lora_r"], settings["lora_alpha"], settings["peft_use_dora"]) == (8, 16, True)
    assert (settings["evals_per_epoch"], settings["save_steps"], settings["warmup_ratio"]) == (2, 5, 0.1)
    assert settings["datasets"][0]["type"] == "chat_template"
    text = (tmp_path / "out" / "axolotl.yml").read_text()
    assert text.startswith("# The run mine (abc)")
    assert "&id" not in text
    back = read_foreign(tmp_path / "out" / "axolotl.yml")
    was, now = complete(tmp_path / "rows.jsonl", "method.variant=dora", "method.targets=all-linear"), parse(back.raw)
    assert now.training == was.training.model_copy(update={"fused_head": None, "compile": None})
    assert now.method == was.method.model_copy(update={"dropout": 0.0})
    assert (now.evaluation.every, now.saving) == (0.5, was.saving)
    assert now.data.validation == str(tmp_path / "out" / "validation.jsonl")
    assert [one.key for one in back.left] == ["output_dir"]


@pytest.mark.parametrize(
    ("rows", "sets", "type_", "row"),
    [
        ([{"text": "a b"}], ["objective=text"], "completion", {"text": "a b"}),
        ([{"prompt": "q", "completion": "a"}], [],
         {"field_instruction": "prompt", "field_output": "completion", "format": "{instruction}",
          "no_input_format": "{instruction}"}, {"prompt": "q", "completion": "a"}),
        ([{"prompt": [{"role": "user", "content": "q"}], "completion": "a"}], [], "chat_template",
         {"messages": [{"role": "user", "content": "q", "train": False}, {"role": "assistant", "content": "a", "train": True}]}),
        (CHOICE, ["objective=dpo"], "chat_template.default",
         {"messages": CHOICE[0]["prompt"], "chosen": CHOICE[0]["chosen"][0], "rejected": CHOICE[0]["rejected"][0]}),
        (CHOICE, ["objective=orpo"], "chat_template.argilla",
         {"system": "be", "chosen": [CHOICE[0]["prompt"][1], CHOICE[0]["chosen"][0]],
          "rejected": [CHOICE[0]["prompt"][1], CHOICE[0]["rejected"][0]]}),
        (CHOICE, ["objective=reward"], "bradley_terry.chat_template",
         {"system": "be", "input": "ask 0", "chosen": "yes", "rejected": "no"}),
        ([{"prompt": "q", "completion": "a", "label": True}], ["objective=kto"],
         {"field_prompt": "prompt", "field_completion": "completion", "field_label": "label"},
         {"prompt": "q", "completion": "a", "label": True}),
    ],
)  # fmt: skip
def test_rows_stand_in_the_columns_of_axolotls_type(
    tmp_path: Path, rows: list[dict[str, Any]], sets: list[str], type_: Any, row: dict[str, Any]
) -> None:
    _, settings, train = exported(tmp_path, rows, *sets)
    assert (settings["datasets"][0]["type"], train[0]) == (type_, row)
    objective = sets[0].partition("=")[2] if sets else "sft"
    assert settings.get("rl", "reward" if settings.get("reward_model") else None) == (
        objective if objective in ("dpo", "orpo", "kto", "reward") else None
    )
    assert set(settings) <= TOP
    entry = settings["datasets"][0]
    assert {*entry, *(entry["type"] if isinstance(entry["type"], dict) else ())} <= INNER


def test_every_setting_that_can_be_written_is_one_of_axolotls(tmp_path: Path) -> None:
    sets = ["method.kind=qlora", "method.variant=lora+", "method.targets=[q_proj]", "method.modules_to_save=[lm_head]",
            "training.packing=true", "training.compile=true", "training.group_by_length=true", "training.warmup=7",
            "training.max_steps=9", "evaluation.early_stopping=2", "data.validation=2", "report_to=[wandb,mlflow,trackio]",
            "compute.sharding=fsdp", "compute.processes=2", "model.revision=abc", "model.trust_remote_code=true",
            "data.template=chatml", "extra.trainer.neftune_noise_alpha=5", "extra.peft.bias=all"]  # fmt: skip
    made, settings, _ = exported(tmp_path, TALK, *sets)
    assert set(settings) <= TOP
    assert (settings["adapter"], settings["load_in_4bit"], settings["loraplus_lr_ratio"]) == ("qlora", True, 16)
    assert (settings["chat_template"], settings["neftune_noise_alpha"]) == ("jinja", 5)
    assert "<|im_start|>" in (tmp_path / "out" / settings["chat_template_jinja"]).read_text()
    assert made.start.endswith("--launcher torchrun -- --nproc-per-node=2")
    assert {"training.packing", "training.seed", "extra.peft.bias"} <= {one.key for one in made.left}
    assert "# Not as in the run: extra.peft.bias: all" in (tmp_path / "out" / "axolotl.yml").read_text()


def test_the_tables_of_import_name_axolotls_fields() -> None:
    tables = (from_axolotl.SAME, from_axolotl.PASSED, from_axolotl.REASONS, from_axolotl.ATTENTION)
    assert {key for table in tables for key in table} - TOP == set()


@pytest.mark.parametrize(
    ("rows", "sets", "says"),
    [
        (TALK, ["method.kind=ia3", "method.rank=null", "method.alpha=null"], "no method ia3"),
        (TALK, ["objective=grpo"], "no objective grpo"),
        (CHOICE, ["objective=cpo"], "no objective cpo"),
        ([{"prompt": "q", "chosen": "a", "rejected": "b"}], ["objective=orpo"], "these are text"),
        ([{"prompt": "q", "completion": "a"}, {"prompt": TALK[0]["messages"][:1], "completion": "a"}], [], "a data set has one type"),
    ],
)  # fmt: skip
def test_what_it_cannot_say_is_refused_and_nothing_stays(
    tmp_path: Path, rows: list[dict[str, Any]], sets: list[str], says: str
) -> None:
    with pytest.raises((SpecError, DataError), match=says) as refused:
        exported(tmp_path, rows, *sets)
    assert "--to trl" in refused.value.hint
    assert not (tmp_path / "out").exists()


def test_files_that_are_there_are_kept(tmp_path: Path) -> None:
    exported(tmp_path, TALK)
    (tmp_path / "out" / "axolotl.yml").write_text("learning_rate: 1\n")
    with pytest.raises(SpaceError, match=r"axolotl\.yml, train\.jsonl"):
        exported(tmp_path, TALK)
    assert (tmp_path / "out" / "axolotl.yml").read_text() == "learning_rate: 1\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["axolotl.yml", "train.jsonl"]


def test_the_verb_writes_it_for_a_real_run(reported_run: Run, tmp_path: Path) -> None:
    told = reported_run.deck.json("export", reported_run.id, "--to", "axolotl", str(tmp_path / "new" / "place"))
    assert (told["to"], told["rows"], told["start"]) == ("axolotl", 60, "axolotl train axolotl.yml")
    settings = yaml.safe_load((tmp_path / "new" / "place" / "axolotl.yml").read_text())
    assert settings["use_tensorboard"] is True
    assert set(settings) <= TOP
