"""A run as a script: it needs no TuneDeck, and its losses are the run's, step by step."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import Deck, Run


def start(folder: Path, *imports: str) -> dict[str, dict[int, float]]:
    """Run the script of an export in its directory, without TuneDeck's own on the way; its history by key and step."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder.parent / "cache")}
    block = (
        "import sys; sys.modules |= {'engine': None, 'tuiapp': None}; sys.argv = ['train.py']; sys.path.insert(0, '')\n"
    )
    program = block + "import runpy; runpy.run_path('train.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[int, float]] = {}
    for entry in json.loads((folder / "output" / "trainer_state.json").read_text())["log_history"]:
        for key, value in entry.items():
            found.setdefault(key, {})[entry["step"]] = value
    return found


def curve(run: Run, key: str) -> dict[int, float]:
    return {step: value for step, _, value in run.shown()["metrics"].get(key, [])}


def test_the_script_trains_as_the_run_did(reported_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "script"
    told = reported_run.deck.json("export", reported_run.id, "--to", "trl", str(folder))
    assert told["files"] == sorted(path.name for path in folder.iterdir())
    assert {"train.py", "train.jsonl", "validation.jsonl", "requirements.txt", "training_template.jinja"} <= set(
        told["files"]
    )
    assert (told["rows"], told["start"], told["notes"]) == (60, "python train.py", [])
    assert {one["key"] for one in told["not_carried"]} == {"evaluation.prompts", "report_to"}
    text = (folder / "train.py").read_text()
    assert not re.search(r"^\s*(from|import) (engine|tuiapp|tunedeck)", text, re.M)
    assert "report_to='none'" in text
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 60
    assert rows[0]["messages"][0]["content"].startswith("Say ")
    assert "torch==2." in (folder / "requirements.txt").read_text()
    found = start(folder)
    assert found["loss"] == pytest.approx(reported_run.losses(), abs=1e-5)
    assert found["eval_loss"] == pytest.approx(curve(reported_run, "eval_loss"), abs=1e-5)
    model = folder / "output" / "model"
    assert {"adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {p.name for p in model.iterdir()}
    assert "endgeneration" not in (model / "chat_template.jinja").read_text()


@pytest.mark.slow
def test_preferences_with_ids_packing_and_an_optimizer_of_its_own(deck: Deck, tiny_model: Path, tmp_path: Path) -> None:
    """ORPO is exported as token ids, with TuneDeck's trainer beside them."""
    data = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": [{"role": "user", "content": f"Say {i}"}], "chosen": f"{i} it is!", "rejected": f"No, never {i}."}
        for i in range(32)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = ["objective=orpo", "method.kind=lora", "method.variant=lora+", "training.max_steps=4", "training.micro_batch=4",
            "training.learning_rate=1e-3", "data.template=alpaca"]  # fmt: skip
    run = deck.start(tiny_model, data, *sets)
    run.wait("finished")
    told = deck.json("export", run.id, "--to", "trl", str(tmp_path / "script"))
    assert told["notes"] == ["the rows are token ids: orpo needs it"]
    assert start(tmp_path / "script")["loss"] == pytest.approx(run.losses(), abs=1e-5)


def test_other_data_than_the_run_had_is_refused(reported_run: Run, tmp_path: Path) -> None:
    rows = Path(reported_run.shown()["spec"]["data"]["path"])
    before = rows.read_text()
    rows.write_text(before + before)
    try:
        for tool in ("trl", "script", "axolotl"):
            result = reported_run.deck("export", reported_run.id, "--to", tool, str(tmp_path / "out"))
            assert result.returncode == 2
            assert "The data has changed" in result.stderr
    finally:
        rows.write_text(before)
    assert list(tmp_path.iterdir()) == []


def test_only_what_there_is_can_be_asked_for(reported_run: Run, tmp_path: Path) -> None:
    result = reported_run.deck("export", reported_run.id, "--to", "coreml", str(tmp_path / "out"))
    assert result.returncode == 2
    assert "invalid choice" in result.stderr
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    result = reported_run.deck("export", reported_run.id, "--to", "axolotl", str(blocked / "out"))
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert "Name another directory" in result.stderr
