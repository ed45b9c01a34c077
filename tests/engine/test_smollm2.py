"""The main job on a real pretrained model: the demo, and each method."""

import json
from pathlib import Path

import pytest

from engine import demo
from tests.helpers import Deck

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_demo_teaches_the_model_a_voice_that_it_did_not_have(deck: Deck, smollm2: str) -> None:
    result = deck("demo", "--headless", timeout=800)
    assert result.returncode == 0, result.stderr
    runs = {run["name"]: run for run in deck.json("runs")}
    assert {run["status"] for run in runs.values()} == {"finished"}
    assert len(runs) == 2
    shown = deck.json("show", "captain-lora-r16")
    losses = [value for _, _, value in shown["metrics"]["loss"]]
    assert losses[-1] < losses[0] / 3
    for prompt in demo.PROMPTS:
        answers = [s["text"] for s in shown["samples"] if s["prompt"] == prompt]
        assert not answers[0].startswith("Ahoy")
        assert answers[-1].startswith("Ahoy, matey!")
        assert f"before  {answers[0].splitlines()[0]}" in result.stdout
        assert f"after   {answers[-1]}" in result.stdout
    asked = {row["instruction"] for row in demo.rows()}
    assert not asked & set(demo.PROMPTS)


@pytest.mark.parametrize("kind", ["qlora", "full"])
def test_other_methods_learn_too(deck: Deck, smollm2: str, tmp_path: Path, kind: str) -> None:
    data = tmp_path / "captain.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in demo.rows()))
    rate = "1e-3" if kind == "qlora" else "5e-5"
    sets = ["training.max_steps=8", f"method.kind={kind}", f"training.learning_rate={rate}", "data.validation=8",
            "evaluation.every=8", "evaluation.prompts=[]", "saving.every=0", "training.max_length=256"]  # fmt: skip
    options = [part for item in sets for part in ("--set", item)]
    run = deck.json("train", "--model", smollm2, "--data", str(data), *options, timeout=600)
    assert run["status"] == "finished"
    latest = run["latest"]
    assert latest["loss"]["last"] < latest["loss"]["max"] - 0.5
    assert latest["tokens_per_second"]["last"] > 0
    assert 0.3 < latest["memory_allocated_gib"]["max"] < 16
