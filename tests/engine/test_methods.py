"""Every method trains: it learns, moves what it should and nothing else, and what is saved answers as it did in memory."""

import importlib.metadata
import json
from pathlib import Path

import pytest

from engine.compatibility import COLUMNS, TABLE, VARIANTS, refusals, table, why_not
from engine.errors import SpecError
from engine.methods import METHODS, OPTIMIZERS, SCHEDULES, VIRTUAL
from engine.runnable import check_runnable
from engine.spec import RunSpec, parse
from tests.runs import complete, tiny
from tests.train import Trained, trained

MARKS = {"full": "", "adalora": "lora_", "ia3": "ia3_l", "prefix": "prompt_encoder", "prompt": "prompt_encoder", "ptuning": "prompt_encoder",
         "vera": "vera_", "oft": "oft_", "boft": "boft_", "loha": "hada_", "lokr": "lokr_", "hra": "hra_", "randlora": "randlora_",
         "shira": "shira_", "miss": "miss_", "delora": "delora_", "road": "road_", "fourierft": "fourierft_", "ln_tuning": "norm"}  # fmt: skip
"""What is in the name of every parameter that a method trains."""
PLAIN = [name for name in METHODS if name != "qlora"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("place"))


def run(spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path / "cache"))
    return trained(spec, tmp_path / "run")


def learns(spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, changed: bool = False) -> None:
    """Its loss falls; only what bears the mark is trained; the base stays; the saved output is the model in memory."""
    from tests.verify import verdict

    done = run(spec, tmp_path, monkeypatch)
    losses = done.series("loss")
    assert len(losses) == 16
    assert sum(losses[-3:]) < sum(losses[:3]), losses
    found = verdict(done, spec)
    assert found.trainable
    assert not [name for name in found.trainable if mark not in name]
    assert bool(found.changed) == changed, found.changed
    assert found.good, found


@pytest.mark.parametrize("name", [*PLAIN, *VARIANTS])
def test_every_method_learns_and_saves_what_it_learned(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not table()[name]["sft"], "a method that cannot be trained on conversations should not be offered"
    moves_the_base = name in ("full", "pissa")
    learns(complete(name, "sft", place), tmp_path, monkeypatch, MARKS.get(name, "lora_"), moves_the_base)


@pytest.mark.parametrize("base", ["nf4", "fp4", "int8"])
@pytest.mark.parametrize("name", ["lora", "rslora", "lora+", "dora", "adalora", "ia3", "prompt"])
def test_quantised_bases_that_the_table_lets_through(
    name: str, base: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = complete(name, base, place)
    if why_not(str(spec.method.kind), spec.method.variant, base):
        with pytest.raises(SpecError, match=f"does not go with an? {'8-bit' if base == 'int8' else base} base"):
            check_runnable(spec)
        return
    learns(spec, tmp_path, monkeypatch, MARKS.get(name, "lora_"))


@pytest.mark.parametrize(
    ("targets", "trained_layers"),
    [
        ("all-linear", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        (["down_proj"], {"down_proj"}),
    ],
)
def test_targets_are_exactly_what_is_trained(
    targets: str | list[str], trained_layers: set[str], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(complete("lora", "sft", place, method__targets=targets, training__max_steps=1), tmp_path, monkeypatch)
    names = [name for name, p in done.trainer.model.named_parameters() if p.requires_grad]
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == trained_layers


def test_modules_to_save_are_trained_whole_and_saved(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import safe_open

    spec = complete("lora", "sft", place, method__modules_to_save=["embed_tokens"])
    done = run(spec, tmp_path, monkeypatch)
    with safe_open(done.model / "adapter_model.safetensors", "pt") as saved:
        assert any("embed_tokens" in name for name in saved.keys())  # noqa: SIM118 (it is no mapping)


def test_pissa_is_saved_as_a_plain_lora_of_twice_the_rank(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(complete("pissa", "sft", place, method__rank=4), tmp_path, monkeypatch)
    saved = json.loads((done.model / "adapter_config.json").read_text())
    assert (saved["r"], saved["init_lora_weights"]) == (8, True)


def test_lora_plus_lets_b_learn_faster(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(complete("lora+", "sft", place, training__max_steps=1), tmp_path, monkeypatch)
    rates = {
        round(group["lr"], 6): len(group["params"]) for group in done.trainer.optimizer.param_groups if group["params"]
    }
    assert rates == {0.005: 14, 0.08: 14}


def test_adalora_takes_ranks_away(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(complete("adalora", "sft", place, method__rank=4, training__max_steps=20), tmp_path, monkeypatch)
    pattern = done.trainer.model.peft_config["default"].rank_pattern
    assert sum(sum(kept) for kept in pattern.values()) == 4 * 14  # of the 6 that each matrix began with
    assert done.series("regularisation")


def test_a_target_that_is_not_there_is_refused_before_anything_loads(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.worker import training

    monkeypatch.setattr(training, "load_model", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(SpecError, match="not found in the base model") as caught:
        run(complete("lora", "sft", place, method__targets=["query"]), tmp_path, monkeypatch)
    assert "q_proj" in caught.value.hint


def test_the_table_is_whole_and_of_the_installed_versions() -> None:
    assert table().keys() == {*PLAIN, *VARIANTS}
    assert all(row.keys() == set(COLUMNS) for row in table().values())
    versions = json.loads(TABLE.read_text(encoding="utf-8"))["versions"]
    assert versions == {name: importlib.metadata.version(name) for name in versions}, (
        "run: python -m bench.compatibility"
    )


@pytest.mark.parametrize("name", [*PLAIN, *VARIANTS])
def test_every_cell_that_does_not_go_is_refused_with_its_reason(name: str) -> None:
    for column, why in table()[name].items():
        if why and column != "merge":
            assert any(why in one for one in refusals(specified(name, column))), (name, column)


def specified(name: str, column: str) -> RunSpec:
    kind, variant = ("lora", name) if name in VARIANTS else (name, None)
    method: dict[str, object] = {"kind": kind, "variant": variant}
    if column in ("nf4", "fp4", "int8"):
        quantization = {"bits": 8} if column == "int8" else {"type": column}
        method |= {"kind": "qlora" if kind == "lora" else kind, "quantization": quantization}
    training = {column: True} if column in ("checkpointing", "packing") else {}
    objective = column if column in COLUMNS[COLUMNS.index("sft") :] else None
    raw = {
        "model": {"path": "m"},
        "data": {"path": "d"},
        "method": method,
        "training": training,
        "objective": objective,
    }
    return parse(raw)


def test_optimizers_and_schedules_are_those_of_the_installed_transformers() -> None:
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    assert [one.value for one in OptimizerNames] == list(OPTIMIZERS)
    assert [one.value for one in SchedulerType] == list(SCHEDULES)


def test_learned_tokens_are_never_packed_or_merged() -> None:
    for name in VIRTUAL:
        assert why_not(name, None, "packing")
        assert why_not(name, None, "merge")


def test_the_fields_of_each_method_are_those_of_peft() -> None:
    import dataclasses

    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    theirs = {"rank": ("r",), "alpha": ("lora_alpha", "alpha"), "dropout": ("lora_dropout",), "targets": ("target_modules",),
              "modules_to_save": ("modules_to_save",), "virtual_tokens": ("num_virtual_tokens",)}  # fmt: skip
    for name, method in METHODS.items():
        if method.peft:
            has = {f.name for f in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.peft)])}
            lacking = [f for f in method.fields if f != "variant" and not has & set(theirs[f])]
            assert not lacking, (name, lacking)
