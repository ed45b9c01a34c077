"""The evaluation of the demo's run on SmolLM2: what it has learned is more than noise, and the report says so."""

import pytest

from engine.store import afterwards
from engine.store.connection import open_database
from tests.helpers import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_tuned_model_beats_its_base_on_rows_that_were_held_out(captain: Run) -> None:
    shown = captain.deck("eval", "captain-lora-r16", "--no-general", timeout=600)
    assert shown.returncode == 0, shown.stderr
    db = open_database(captain.deck.database)
    job = afterwards.of_run(db, captain.id, "eval")[0]
    summary, rows = job["summary"], afterwards.rows(db, captain.id, job["job"], "worst")
    db.close()
    assert summary["data"]["held_out"] is True
    assert summary["data"]["rows"] == len(rows) == 8
    for name, margin in (("loss", -1.5), ("perplexity", -5), ("chrf", 25), ("rouge_l", 0.3)):
        score = summary["scores"][name]
        assert score["verdict"] == "better", (name, score)
        low, high = sorted(abs(score[end]) for end in ("low", "high"))
        assert score["low"] * score["high"] > 0, "zero is outside of the interval"
        assert low <= abs(score["difference"]) <= high
        assert abs(score["difference"]) > abs(margin)
        assert score["difference"] * margin > 0
    metrics = captain.shown()["latest"]["eval_loss"]
    assert summary["scores"]["loss"]["tuned"] == pytest.approx(metrics["last"], abs=0.03)
    text = " ".join(shown.stdout.split())
    assert text.startswith("Better than the base: loss ")
    assert "on 8 held-out rows" in text
    assert all(row["tuned"]["answer"].startswith("Ahoy, matey!") for row in rows)
    assert not any(row["base"]["answer"].startswith("Ahoy") for row in rows)
    badness = [row["badness"] for row in rows]
    assert badness == sorted(badness, reverse=True)
