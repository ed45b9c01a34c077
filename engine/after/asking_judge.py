"""A judgement as a form asks for it. Who is asked, and what it comes to, is said before it starts."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from engine.after.asked import Asked, Field, Values, number
from engine.after.trained import Trained
from engine.errors import RunError, TuneDeckError
from engine.store import afterwards, runs
from engine.text import clean

PATIENCE = 5.0
"""Seconds that an endpoint has to say which models it has."""
MANNERS = (("pairs", "in pairs, each in both orders"), ("scores", "alone, each with a score"))


def fields(db: sqlite3.Connection, of: Trained) -> tuple[Field, ...]:
    """Where the judge is, which model, and what it is asked; as it was the last time. The evaluation is a value of its own."""
    before: dict[str, Any] = next((job["ask"] for job in afterwards.of_run(db, of.run_id, "judge")), {})
    return (
        Field("url", "address", _address(), hint="http://localhost:8000/v1, or $TUNEDECK_JUDGE_URL"),
        Field("model", "model", str(before.get("model") or ""), hint="the only one that is there"),
        Field("manner", "answers", "pairs" if before.get("pairwise", True) else "scores", MANNERS),
        Field("rows", "rows at most", "", hint="all"),
        Field("criteria", "criteria", "", path=True, hint="the usual; a text or a text file"),
        Field("price_in", "price, read", _price(before.get("price_in")), hint="of a million tokens"),
        Field("price_out", "price, written", _price(before.get("price_out")), hint="of a million tokens"),
    )


def _address() -> str:
    """The environment's, if it can be used: what is wrong with it is said by `prepare`."""
    from engine.judging.endpoint import find_address

    try:
        return find_address(None)
    except TuneDeckError:
        return ""


def _price(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else ""


def prepare(db: sqlite3.Connection, database: Path, run: runs.Row, values: Values) -> Asked:
    """As `tunedeck judge RUN` asks for it. No call is made but, where no model is named, for the names of those that are there."""
    from engine.judging import prepare as judging
    from engine.judging.trial import only_model

    wishes = {
        "url": values.get("url") or None, "model": values.get("model", ""), "criteria": values.get("criteria"),
        "eval": values.get("eval") or None, "rows": number(values, "rows", 0) or None,
        "pairwise": values.get("manner") != "scores",
        "price_in": _number(values, "price_in"), "price_out": _number(values, "price_out"),
    }  # fmt: skip
    made = judging.plan(db, run, wishes)
    if not wishes["model"]:
        wishes["model"] = asyncio.run(only_model(judging.endpoint(made.ask), PATIENCE))
        made = judging.plan(db, run, wishes)
    missing = (
        ()
        if made.key_from
        else ("No key is sent: $TUNEDECK_JUDGE_KEY is not set, and $OPENAI_API_KEY goes to OpenAI only.",)
    )
    return Asked(made.ask, (*judging.lines(made), *missing))


def _number(values: Values, name: str) -> float | None:
    """A price. Raises RunError."""
    text = values.get(name, "").strip()
    try:
        found = float(text) if text else None
    except ValueError:
        found = -1.0
    if found is not None and not 0 <= found < 1e6:
        raise RunError(
            "That is no price", f"{clean(text, False)}.", "Give what a million tokens cost, or leave it open."
        )
    return found
