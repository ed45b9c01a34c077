"""From a data file to a GGUF: the page of the README, line by line, on the real model."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from engine.demo import HUB_MODEL, PROMPTS
from tests.helpers import Deck

README = (Path(__file__).parent.parent / "README.md").read_text()
PAGE = README.split("## From a data file to a GGUF")[1].split("\n## ")[0]
LINES = [line.split("  #")[0].strip() for line in re.findall(r"^\$ (tunedeck .*)$", PAGE, re.M)]


def said(line: str, deck: Deck, model: str, place: Path) -> str:
    """What a line prints, called in a directory with the model that is there without a network."""
    words = [model if word == HUB_MODEL else word for word in shlex.split(line)[1:]]
    done = subprocess.run([sys.executable, "-m", "tuiapp", "--db", str(deck.database), *words], cwd=place, timeout=600,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_whole_way(deck: Deck, smollm2: str, tmp_path: Path) -> None:
    place = tmp_path / "work"
    place.mkdir()
    verbs = {}
    for line in LINES:
        verbs[" ".join(word for word in line.split()[1:5] if word != "captain")] = said(line, deck, smollm2, place)
    told = " ".join(" ".join(verbs.values()).split())

    jobs = {row["job"]: row for row in deck.json("jobs", "captain")}
    assert {name: row["status"] for name, row in jobs.items()} == dict.fromkeys(
        ["eval-1", "chat-1", "merge-1", "export-1", "export-2"], "finished"
    )
    evaluated = jobs["eval-1"]["summary"]
    loss = evaluated["scores"]["loss"]
    assert evaluated["verdict"].startswith("Better than the base: loss")
    assert loss["high"] < 0 and loss["tuned"] < loss["base"] - 1  # noqa: PT018  one statement: outside noise, and far
    assert evaluated["verdict"] in told
    assert evaluated["data"]["held_out"]

    answers = {row["voice"]: row["text"] for row in asked(deck) if row["role"] == "assistant"}
    (tuned,) = [text for voice, text in answers.items() if voice != "base"]
    assert tuned.startswith("Ahoy, matey!")
    assert not answers["base"].startswith("Ahoy")
    assert tuned in told

    check = jobs["merge-1"]["summary"]["check"]
    assert check["max_difference"] <= check["tolerance"]
    assert (place / "captain-merged" / "model.safetensors").is_file()
    assert (place / "captain.gguf").read_bytes()[:4] == b"GGUF"
    modelfile = (place / "captain-ollama" / "Modelfile").read_text()
    assert "TEMPLATE" in modelfile
    assert 'PARAMETER stop "<|im_end|>"' in modelfile
    assert not list(place.glob("*.unfinished*"))


def asked(deck: Deck) -> list[dict[str, str]]:
    """The transcript of the chat."""
    (file,) = deck.database.parent.glob("runs/*/jobs/chat-1/rows.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_page_asks_what_was_not_trained_on() -> None:
    assert any(PROMPTS[0] in line for line in LINES)
    assert len(LINES) == 9
