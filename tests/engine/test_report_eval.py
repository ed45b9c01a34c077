"""The report of an evaluation: on the terminal, in the HTML page and on the model card."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import card, dossier
from engine.pages.run_page import run_page
from engine.report_eval import page
from engine.scoring import compare, finish, forgetting, summarise
from engine.store import afterwards, records, runs
from engine.text import cells
from tests.engine.real_runs import NASTY, copied
from tests.engine.test_html import Page

Row = dict[str, Any]
SHA = "ab" * 32


def rows(nasty: str = "") -> list[Row]:
    """Eight rows, the tuned model better on all but the last."""
    found = []
    for n in range(1, 9):
        right = f"Ahoy, matey! The answer is {n}. Fair winds!{nasty}"
        base = {
            "answer": f"It is {n}, as everybody knows who{nasty}",
            "loss": 2.9 + n / 50,
            "trained": 14,
            "tokens": 30,
            "stopped": False,
        }
        tuned = {
            "answer": right if n < 8 else "",
            "loss": 0.2 if n < 8 else 3.5,
            "trained": 14,
            "tokens": 14,
            "stopped": True,
        }
        row = {
            "row": n,
            "place": f"line {n}",
            "question": f"What is {n}?{nasty}",
            "messages": None,
            "prompt": "",
            "reference": right,
        }
        found.append(finish(row | {"base": base, "tuned": tuned}, "text"))
    return found


def summary(nasty: str = "", held_out: bool | None = True, step: int | None = None) -> Row:
    general = [
        {
            "kind": f"kind {n % 7}{nasty}",
            "base": {"loss": 3.0 + n / 9, "trained": 90},
            "tuned": {"loss": 3.1 + n / 8, "trained": 90},
        }
        for n in range(14)
    ]
    answers = compare([1.0] * 20, [0.0, *[1.0] * 19], True) | {
        "kinds": {}, "won": [], "lost": [{"question": f"2 + 2?{nasty}", "expected": "4", "base": "4", "tuned": f"Ahoy!{nasty}"}],
    }  # fmt: skip
    return summarise(rows(nasty), "text", held_out=held_out) | {
        "data": {"path": f"/secret/place/held{nasty}.jsonl", "rows": 8, "held_out": held_out, "sha256": SHA, "notes": [f"One row is odd.{nasty}"]},
        "forgetting": forgetting(general) | {"answers": answers}, "lm_eval": {f"arc{nasty}": {"acc": {"base": 0.25, "tuned": 0.5, "difference": 0.25}}},
        "step": step, "seconds": 75.0, "tokens_per_second": 22.4, "artifacts": [],
    }  # fmt: skip


def job(found: Row) -> Row:
    return {"job": "eval-1", "kind": "eval", "status": "finished", "ask": {}, "summary": found}


class TestTerminal:
    def test_the_verdict_comes_first_then_what_was_lost_then_the_numbers(self) -> None:
        text = page(job(summary()), rows()[-1:])
        assert text.startswith("Better than the base: loss 0.612 against 2.990 on 8 held-out rows,")
        places = [text.index(part) for part in ("It has forgotten", "General questions: 95.0 % right against 100.0 % of 20", "eval-1, 8 rows, held.jsonl",
                                                "One row is odd.", "loss *", "\nperplexity", "BLEU", "lost most", "No longer right: 2 + 2? It says: Ahoy!",
                                                "arc acc", "worst answer", "line 8 > What is 8?")]  # fmt: skip
        assert places == sorted(places)
        assert "/secret/place" not in text

    def test_the_answers_stand_below_each_other(self) -> None:
        text = page(job(summary()), rows()[-1:])
        assert "  expected Ahoy, matey! The answer is 8. Fair winds!\n" in text
        assert "  base     loss 3.060 It is 8, as everybody knows who (cut off)\n" in text
        assert text.endswith("  tuned    loss 3.500 (nothing)")

    @pytest.mark.parametrize("nasty", ["", NASTY, " wide 漢字" * 30], ids=["plain", "nasty", "wide"])
    def test_no_line_is_wider_than_the_terminal(self, nasty: str) -> None:
        found = summary(nasty)
        found["scores"]["perplexity"] |= {
            "base": 123_456.7,
            "difference": -123_456.7,
            "low": -234_567.8,
            "high": -1234.5,
        }
        text = page(job(found), rows(nasty))
        assert max(map(cells, text.split("\n"))) <= 80
        assert "\x1b" not in text
        assert "\u202e" not in text

    def test_an_evaluation_of_losses_alone_of_answers_alone_and_of_nothing(self) -> None:
        lone = [{"row": n, "question": None, "base": {"loss": 2.0 + n / 9}, "tuned": {"loss": 1.0}} for n in range(8)]
        text = page(job(summarise([finish(one, "text") for one in lone], "text")), lone[:1])
        assert "BLEU" not in text
        assert text.endswith("base     loss 2.000\n  tuned    loss 1.000")
        said = [{"row": n, "reference": "a b", "base": {"answer": "b"}, "tuned": {"answer": "a b"}} for n in range(8)]
        assert "chrF *" in page(job(summarise([finish(one, "text") for one in said], "text")))
        assert page(job(summarise([], "text"))).startswith("Nothing could be compared")
        assert page(job({})).startswith("Nothing was found out.")

    def test_a_checkpoint_is_named(self) -> None:
        assert page(job(summary(step=10))).startswith("Of the checkpoint at step 10. Better")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    _, db = copied(tmp_path)
    yield db
    db.close()


def put(db: sqlite3.Connection, name: str, nasty: str = "", **more: Any) -> str:
    """A finished evaluation and judgement of a run, and a file that was made of it."""
    run_id = str(runs.find(db, name)["id"])
    documents = {
        "eval-1": ("eval", {}, summary(nasty, **more)),
        "judge-1": ("judge", {"model": f"llama{nasty}"}, {"verdict": f"It wins 6 of 8.{nasty}"}),
    }
    for at, (made, (kind, ask, found)) in enumerate(documents.items()):
        afterwards.insert(db, run_id, {"job": made, "kind": kind, "created_at": 1e9 + at, "host": "h", "ask": ask})
        afterwards.change(db, run_id, made, status="finished", summary=found)
    afterwards.put_rows(db, run_id, "eval-1", rows(nasty))
    db.execute("INSERT OR REPLACE INTO artifacts (run_id, kind, path, bytes, time, sha256) VALUES (?, 'merged', ?, ?, 1e9, ?)",
               (run_id, f"/secret/place/merged{nasty}", 3 << 20, SHA))  # fmt: skip
    return run_id


class TestPages:
    def test_the_card_says_what_came_of_it_and_names_the_files_by_their_hash(self, db: sqlite3.Connection) -> None:
        put(db, "captain-full")
        text = card.card(dossier.read(db, "captain-full"))
        section = text[text.index("## Against the base model") : text.index("## Examples")]
        for part in ("Better than the base: loss 0.612 against 2.990", "It has forgotten", "| loss \\* | 2.990 | 0.612 |", "| arc acc | 0.250 | 0.500 |",
                     "Judged by llama: It wins 6 of 8.", "One row is odd."):  # fmt: skip
            assert part in section
        assert f"| merged | merged | 3.0 | {SHA} |" in text
        assert "/secret/place" not in text

    def test_a_run_that_nobody_evaluated_has_no_such_section(self, db: sqlite3.Connection) -> None:
        d = dossier.read(db, "captain-full")
        assert "Against the base" not in card.card(d)
        assert "Against the base" not in run_page(db, "captain-full")
        assert (d.evaluated, d.worst, d.judged) == (None, (), None)

    def test_what_was_not_held_out_is_no_evaluation_on_rows_that_it_had_not_seen(self, db: sqlite3.Connection) -> None:
        unseen = "It was not evaluated on rows that it had not seen."
        put(db, "captain-too-long", held_out=False)
        text = card.card(dossier.read(db, "captain-too-long"))
        assert unseen in text
        assert "This proves nothing" in text
        db.execute("DELETE FROM jobs")
        put(db, "captain-too-long")
        assert unseen not in card.card(dossier.read(db, "captain-too-long"))

    def test_the_page_shows_the_scores_and_the_worst_answers(self, db: sqlite3.Connection) -> None:
        put(db, "captain-lora-r16")
        d = dossier.read(db, "captain-lora-r16")
        assert d.worst[0]["row"] == 8
        text = " ".join(Page(run_page(db, "captain-lora-r16")).text.split())
        for part in ("Against the base model", "Better than the base: loss 0.612", "loss * 2.990 0.612", "line 8: What is 8?", "Judged by llama",
                     "expected", "tuned, loss 3.500", f"merged merged 3.0 {SHA}"):  # fmt: skip
            assert part in text

    def test_foreign_text_is_no_markup(self, db: sqlite3.Connection) -> None:
        run_id = put(db, "captain-lora-r16", NASTY)
        made = Page(run_page(db, run_id))
        assert not any(tag in ("img", "iframe") for tag, _ in made.tags)
        assert [tag for tag, _ in made.tags].count("script") == 1
        text = card.card(dossier.read(db, run_id))
        section = text[text.index("## Against the base model") : text.index("## Examples")]
        assert "\x1b" not in text
        assert "<img" not in section.replace("\\<img", "")

    def test_the_newest_finished_one_counts(self, db: sqlite3.Connection) -> None:
        run_id = put(db, "captain-full")
        for at, status in enumerate(("finished", "failed"), 2):
            afterwards.insert(
                db, run_id, {"job": f"eval-{at}", "kind": "eval", "created_at": 2e9 + at, "host": "h", "ask": {}}
            )
            afterwards.change(db, run_id, f"eval-{at}", status=status, summary=summary(step=10))
        d = dossier.read(db, run_id)
        assert d.evaluated is not None
        assert (d.evaluated["job"], d.worst) == ("eval-2", ())
        assert "Of the checkpoint at step 10" in card.card(d)
        assert records.artifacts(db, run_id)
