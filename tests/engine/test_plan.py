"""`tunedeck plan` as a user has it: what it prints, its JSON, its exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.compatibility import VARIANTS
from engine.methods import METHODS
from engine.planner.ask import NO_DATA
from engine.spec import parse
from tests.engine.planning import LLAMA_8B, plan_spec
from tests.helpers import Deck
from tests.traced import LLAMA

KEYS = {"model", "gpu", "spec", "memory", "fits", "speed", "reasons", "alternatives", "problems"}
COMPONENTS = {"weights", "adapter", "gradients", "optimizer", "activations", "logits", "runtime"}
MISTRAL = {
    "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 32000,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768, "tie_word_embeddings": False,
}  # fmt: skip


def model(folder: Path, config: Any, name: str = "model") -> Path:
    """A directory that holds only a config.json."""
    directory = folder / name
    directory.mkdir()
    (directory / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return directory


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return model(tmp_path, LLAMA_8B)


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Standard error of `plan` with bad input: exit 2, nothing else. In this process, for there are many."""

    def refused(*arguments: str) -> str:
        code = cli.main(["--db", str(tmp_path / "experiments.db"), "plan", *arguments])
        said = capsys.readouterr()
        assert code == 2, said
        assert said.out == ""
        assert len(said.err.strip().splitlines()) >= 2
        return said.err

    return refused


def test_the_json_is_what_the_contract_says(deck: Deck, llama: Path, rows: Path) -> None:
    document = deck.json("plan", str(llama), "--gpu", "rtx4090", "--data", str(rows))
    assert set(document) >= KEYS
    memory = document["memory"]
    assert set(memory["components"]) == COMPONENTS
    assert sum(memory["components"].values()) == pytest.approx(memory["device_gib"], abs=0.01)
    assert memory["components"]["weights"] < memory["peak_gib"] < memory["device_gib"] < 24
    assert document["fits"] is True
    assert document["gpu"]["memory_gib"] == pytest.approx(24, abs=0.1)
    assert document["speed"]["tokens_per_second"] > 0
    assert document["speed"]["seconds_per_epoch"] > 0
    assert all(set(reason) == {"field", "value", "why"} for reason in document["reasons"])
    assert all({"spec", "memory", "fits"} <= set(one) for one in document["alternatives"])
    assert len(document["alternatives"]) >= 2
    assert parse(document["spec"]).model.path == str(llama)
    assert not deck.database.exists()
    assert sorted(path.name for path in llama.iterdir()) == ["config.json"]


def test_the_page_is_for_people(deck: Deck, llama: Path) -> None:
    result = deck("plan", str(llama), "--gpu", "rtx4090", "--gpu", "8GiB")
    assert result.returncode == 0, result.stderr
    for part in ("Fits", "LoRA r16", "QLoRA r16", "weights", "training.micro_batch", "tok/s", "8.0 GiB", "█", "│"):
        assert part in result.stdout
    assert all(len(line) <= 200 for line in result.stdout.splitlines())


def test_given_flags_are_kept(deck: Deck, llama: Path) -> None:
    document = deck.json(
        "plan", str(llama), "--gpu", "a100-80gb", "--method", "dora", "--rank", "12", "--targets", "q_proj,v_proj",
        "--micro-batch", "3", "--max-length", "777", "--optimizer", "adamw_8bit", "--attention", "eager", "--no-checkpointing",
        "--set", "training.seed=7",
    )  # fmt: skip
    method, training = document["spec"]["method"], document["spec"]["training"]
    assert (method["kind"], method["variant"], method["rank"], method["targets"]) == (
        "lora",
        "dora",
        12,
        ["q_proj", "v_proj"],
    )
    assert (training["micro_batch"], training["max_length"], training["optimizer"]) == (3, 777, "adamw_8bit")
    assert (training["attention"], training["checkpointing"], training["seed"]) == ("eager", False, 7)


def test_flags_as_a_specification() -> None:
    spec = plan_spec("m", None, {"method": "rslora", "targets": "attention"}, [])
    assert (spec.method.kind, spec.method.variant, spec.method.targets) == ("lora", "rslora", "attention")
    assert spec.data.path == NO_DATA
    assert spec.training.checkpointing is None
    assert plan_spec("m", "d.jsonl", {"no_checkpointing": True}, []).training.checkpointing is False


@pytest.mark.parametrize("method", [*METHODS, *VARIANTS])
def test_every_method_can_be_named(method: str) -> None:
    spec = plan_spec("m", None, {"method": method}, [])
    assert (spec.method.variant or spec.method.kind) == method
    assert (spec.method.kind == "lora") == (method in ("lora", *VARIANTS))
    assert cli.build_parser().parse_args(["plan", "m", "--method", method]).method == method


def test_one_name_is_a_list_too() -> None:
    """peft takes a bare string for a regular expression of the whole path."""
    assert plan_spec("m", None, {"targets": "q_proj"}, []).method.targets == ["q_proj"]


def test_a_method_of_another_kind(deck: Deck, llama: Path) -> None:
    result = deck("plan", str(llama), "--gpu", "a100-80gb", "--method", "oft")
    assert result.returncode == 0, result.stderr
    assert "estimate" in result.stdout
    document = deck.json("plan", str(llama), "--gpu", "a100-80gb", "--method", "ia3", "--set", "objective=kto")
    assert document["spec"]["method"]["targets"] == ["k_proj", "v_proj", "down_proj"]
    assert document["spec"]["objective_options"]["beta"] == 0.1
    assert document["memory"]["trainable"] == 32 * (1024 + 1024 + 14336)
    assert {one["spec"]["method"]["kind"] for one in document["alternatives"]} <= {"ia3"}
    assert any("kto" in note for note in document["notes"])


def test_several_gpus_are_compared(deck: Deck, llama: Path) -> None:
    document = deck.json("plan", str(llama), "--gpu", "8GiB", "--gpu", "2xrtx4090")
    assert document["gpu"]["memory_gib"] == 8
    assert document["spec"]["method"]["kind"] == "qlora"
    (other,) = document["others"]
    assert (other["gpu"]["count"], other["spec"]["method"]["kind"]) == (2, "lora")


def test_what_does_not_fit_exits_3_with_the_nearest(deck: Deck, llama: Path) -> None:
    result = deck("plan", str(llama), "--gpu", "24GiB", "--method", "lora", "--micro-batch", "64", "--json")
    assert result.returncode == 3
    document = json.loads(result.stdout)
    assert document["fits"] is False
    assert document["spec"]["training"]["micro_batch"] == 64
    assert document["nearest"]["fits"] is True
    assert "The nearest that fits: LoRA r16" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_name_in_the_catalog_is_enough(deck: Deck) -> None:
    document = deck.json("plan", "SmolLM2-135M", "--gpu", "rtx4090")
    assert document["model"]["source"] in ("catalog", "hub cache")
    assert document["model"]["parameters"] == 134_515_008
    assert document["spec"]["method"]["kind"] == "full"


def test_without_a_gpu_it_says_what_it_would_need(deck: Deck, tmp_path: Path) -> None:
    directory = model(tmp_path, LLAMA)
    document = deck.json("plan", str(directory), "--set", "compute.devices=cpu")
    assert document["gpu"] is None
    assert document["fits"] is None
    assert document["memory"]["peak_gib"] > 0


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 0},
        {"hidden_size": -4096},
        {"vocab_size": "many"},
        {"num_hidden_layers": []},
        {"num_key_value_heads": 3},
        {"intermediate_size": float("nan")},
        {"hidden_size": None},
        {"text_config": "none"},
    ],
    ids=str,
)
def test_a_nonsense_config_exits_2(refused: Callable[..., str], tmp_path: Path, change: dict[str, Any]) -> None:
    assert "config.json" in refused(str(model(tmp_path, LLAMA_8B | change)), "--gpu", "rtx4090")


def test_what_is_no_model(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "config.json" in refused(str(tmp_path))
    assert "read" in refused(str(model(tmp_path, "{not json", "broken")))
    assert "no object" in refused(str(model(tmp_path, "[1]", "list")))
    assert "not found" in refused(str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--gpu", "rtx4099"], "rtx4090"),
        (["--gpu", "0xrtx4090"], "GPU"),
        (["--rank", "0"], "method.rank"),
        (["--method", "ia3", "--rank", "8"], "ia3 has no rank"),
        (["--micro-batch", "-1"], "training.micro_batch"),
        (["--set", "training.nothing=1"], "training.nothing"),
        (["--data", "/nowhere/rows.jsonl"], "/nowhere/rows.jsonl"),
    ],
)
def test_bad_flags_exit_2(refused: Callable[..., str], llama: Path, flags: list[str], says: str) -> None:
    assert says in refused(str(llama), *flags)


@pytest.mark.slow
def test_an_unknown_family_is_traced_or_refused_and_never_made_up(
    deck: Deck, refused: Callable[..., str], tmp_path: Path
) -> None:
    """transformers knows ernie4_5, the closed form does not; nobody knows the other."""
    directory = model(tmp_path, LLAMA | {"model_type": "ernie4_5"})
    document = deck.json("plan", str(directory), "--gpu", "rtx4090", "--max-length", "64")
    traced = document["exact"]
    assert traced["peak_allocated"] > traced["weights"] > 2 * 2 * 4000 * 256
    assert document["memory"]["peak_gib"] == pytest.approx(traced["peak_allocated"] / 2**30, rel=0.02, abs=0.001)
    assert document["fits"] is True
    unheard = model(tmp_path, LLAMA | {"model_type": "unheard_of"}, "unheard")
    assert "unheard_of" in refused(str(unheard), "--gpu", "rtx4090")


@pytest.mark.parametrize(
    ("flags", "published"),
    [
        (["--method", "full"], 67.46),
        (["--method", "lora", "--rank", "16", "--targets", "attention"], 24.87),
        (["--method", "qlora", "--rank", "16", "--targets", "attention"], 15.25),
    ],
)
def test_the_old_stack_gives_the_published_measurements(
    deck: Deck, tmp_path: Path, flags: list[str], published: float
) -> None:
    """Mistral-7B, 4 rows of 4096 on an A100: fms-hf-tuning's benchmark, transformers 4.48, peak allocated in GiB."""
    document = deck.json(
        "plan", str(model(tmp_path, MISTRAL)), "--gpu", "a100-80gb", "--stack", "hf448", "--micro-batch", "4",
        "--max-length", "4096", *flags,
    )  # fmt: skip
    assert document["stack"] == "hf448"
    assert document["memory"]["peak_gib"] == pytest.approx(published, rel=0.005)


def test_planning_imports_no_torch(llama: Path, tmp_path: Path) -> None:
    program = """
import json, sys
from tuiapp.__main__ import main
code = main()
print(json.dumps([code, sorted({m.partition('.')[0] for m in sys.modules})]), file=sys.stderr)
"""
    command = ["--db", str(tmp_path / "experiments.db"), "plan", str(llama), "--gpu", "rtx4090", "--json"]
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert json.loads(done.stdout)["fits"] is True
    heavy = {
        "torch",
        "transformers",
        "trl",
        "peft",
        "datasets",
        "accelerate",
        "numpy",
        "pandas",
        "textual",
        "huggingface_hub",
    }
    assert not set(modules) & heavy
