"""The Markdown of a model card: front matter, tables, escapes, and code that loads what was trained."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine import card, cli, dossier
from engine.store import runs
from engine.store.connection import open_database
from tests.engine.real_runs import copied, make_nasty
from tests.helpers import Run


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    _, db = copied(tmp_path)
    yield db
    db.close()


def front_matter(text: str) -> dict[str, Any]:
    _, matter, _ = text.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(matter)
    return found


def tables(text: str) -> list[list[list[str]]]:
    """Each table as rows of cells; every row must have as many as the first."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.strip().split("\n")]
        assert {len(row) for row in rows} == {len(rows[0])}
        found.append(rows)
    return found


class TestCard:
    def test_the_front_matter_says_what_is_known(self, db: sqlite3.Connection) -> None:
        matter = front_matter(card.card(dossier.read(db, "captain-lora-r16")))
        assert matter == {
            "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct", "base_model_relation": "adapter", "library_name": "peft",
            "license": "unknown", "pipeline_tag": "text-generation", "tags": ["tunedeck", "sft", "lora"],
        }  # fmt: skip
        full = front_matter(card.card(dossier.read(db, "captain-full")))
        assert (full["library_name"], full["base_model_relation"]) == ("transformers", "finetune")

    def test_a_path_is_no_name_on_the_hub(self, db: sqlite3.Connection) -> None:
        db.execute(
            "UPDATE runs SET spec = json_set(spec, '$.model.path', '/home/me/model', '$.data.path', 'squad/v2') WHERE name = 'captain-full'"
        )
        matter = front_matter(card.card(dossier.read(db, "captain-full")))
        assert "base_model" not in matter
        assert matter["datasets"] == ["squad/v2"]

    def test_results_limits_and_answers(self, db: sqlite3.Connection) -> None:
        d = dossier.read(db, "captain-lora-r16")
        text = card.card(d, (3.0, 2.0, 1.0))
        steps = next(rows for rows in tables(text) if rows[0][0] == "step")
        assert [row[0] for row in steps[2:]] == ["5", "10", "15", "20"]
        assert d.best is not None
        assert float(steps[-1][1]) == pytest.approx(d.best[1], abs=1e-4)
        assert "`█▅▁` 3 to 1" in text
        assert "Nobody has reviewed the model" in text
        assert "at most 256 tokens" in text
        assert "apache-2.0" in text
        assert "Ahoy, matey! The capital of Italy is Rome." in text

    def test_a_failed_run_claims_nothing(self, db: sqlite3.Connection) -> None:
        text = card.card(dossier.read(db, "captain-too-long"))
        assert "The run is failed, not finished." in text
        assert "It was not evaluated on rows that it had not seen." in text

    def test_foreign_text_is_no_markup(self, db: sqlite3.Connection) -> None:
        text = card.card(dossier.read(db, make_nasty(db, "captain-lora-r16")))
        assert len(tables(text)) >= 4
        prose = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.M | re.S)
        assert not re.search(r"(?<!\\)<", prose)
        assert not re.search(r"(?<!\\)`b", prose)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert front_matter(text)["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"

    @pytest.mark.parametrize(
        "line", ["# no heading", "- no list", "1. no list", "> no quote", "=== no line", "+ no list"]
    )
    def test_no_line_of_a_note_begins_something(self, line: str) -> None:
        escaped = card.escape(f"first\n{line}", lines=True).split("\n")[1]
        assert escaped == (line.replace("1.", "1\\.") if line[0] == "1" else f"\\{line}")

    def test_a_fence_is_longer_than_any_within(self) -> None:
        assert card.fenced("a ```` b").startswith("`````\n")

    def test_a_comparison_is_two_tables(
        self, db: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert (
            cli.main(
                [
                    "--db",
                    str(tmp_path / "experiments.db"),
                    "export",
                    "captain-lora-r2",
                    "captain-lora-r16",
                    "--to",
                    "markdown",
                    "-",
                ]
            )
            == 0
        )
        results, settings = tables(capsys.readouterr().out)
        assert results[0][1:] == ["B captain-lora-r2", "C captain-lora-r16"]
        best = next(row for row in results if row[0] == "best eval loss")
        assert best[2].endswith("(best)")
        assert ["method.rank", "2", "16"] in settings


@pytest.mark.parametrize("shape", ["card", "markdown"])
def test_the_verb_writes_it(db: sqlite3.Connection, tmp_path: Path, shape: str) -> None:
    target = tmp_path / "README.md"
    assert (
        cli.main(["--db", str(tmp_path / "experiments.db"), "export", "captain-full", "--to", shape, str(target)]) == 0
    )
    assert target.read_text() == card.card(
        dossier.read(db, "captain-full"), _spark(db, runs.find(db, "captain-full")["id"])
    )


def _spark(db: sqlite3.Connection, run_id: str) -> tuple[float, ...]:
    from engine.store import metrics

    return metrics.sparks(db, [run_id], width=30)[run_id]


@pytest.mark.slow
def test_the_code_of_the_card_loads_what_was_trained(reported_run: Run, tmp_path: Path) -> None:
    db = open_database(reported_run.deck.database)
    d = dossier.read(db, reported_run.id)
    text = card.card(d)
    assert "60 trained on, 4 held out" in text
    assert "60 rows were trained on: few; it may repeat them." in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    done = subprocess.run([sys.executable, "-c", code + "\nprint(type(model).__name__, answer.shape[0])"],
                          cwd=reported_run.directory / "model", capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith(" 1")
    assert "Peft" in done.stdout
