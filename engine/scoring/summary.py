"""All rows of an evaluation, reckoned together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.scoring import wording
from engine.scoring.bootstrap import Estimate, compare, described, finite, paired, ratio
from engine.scoring.corpus import chosen, corpus_bleu, macro_f1, perplexity
from engine.scoring.kinds import label
from engine.scoring.rows import VOICES, deciding, number

Row = Mapping[str, Any]
NOTHING = "Nothing could be compared: no row has a loss or an answer of both models."


def summarise(rows: Sequence[Row], kind: str, seed: int = 0, held_out: bool | None = True) -> dict[str, Any]:
    """`scores` by name, `main` (the one that decides, None without any), `verdict` in a sentence, `kind`, and `broken`: how
    many rows of either have a loss that is no number.

    `held_out` is false for rows that were trained on (all, or those that are `seen`), None where it is not known. Rows are
    finished (engine.scoring.rows).
    """
    scores = all_scores(rows, kind, seed)
    main = deciding(scores, kind)
    seen = sum(bool(row.get("seen")) for row in rows)
    broken = {voice: sum(_broken(row, voice) for row in rows) for voice in VOICES}
    text = wording.sentence(main, scores[main], held_out, seen) + wording.by_loss(scores, main) if main else NOTHING
    return {"kind": kind, "scores": scores, "main": main, "verdict": _warned(text, broken, len(rows)), "broken": broken}


def _broken(row: Row, voice: str) -> bool:
    loss = number(_side(row, voice).get("loss"))
    return loss is not None and not finite(loss)


def _warned(text: str, broken: Mapping[str, int], rows: int) -> str:
    said = [f"The {voice} model's loss is no number on {count:,} of {rows:,} rows, which are left out."
            for voice, count in broken.items() if count]  # fmt: skip
    return " ".join([*reversed(said), text])


def all_scores(rows: Sequence[Row], kind: str, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Every score that both models have on some row, in the order in which they are shown."""
    found: dict[str, dict[str, Any]] = {}
    for name, (statistics, estimate) in _CORPUS.items():
        pairs = [(statistics(row, "base", kind), statistics(row, "tuned", kind)) for row in rows]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if known:
            base, tuned = (np.array([pair[i] for pair in known], dtype=np.float64) for i in (0, 1))
            found[name] = described(paired(base, tuned, estimate, seed), name not in wording.LOWER)
    if kind == "labels":
        found |= _f1(rows, seed)
    for name in dict.fromkeys(name for row in rows for name in _scores(row, "tuned") if name not in found):
        score = _mean(rows, name, seed)
        found |= {name: score} if score["rows"] else {}
    order = list(wording.NAMES)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def _side(row: Row, voice: str) -> Row:
    side = row.get(voice)
    return side if isinstance(side, Mapping) else {}


def _scores(row: Row, voice: str) -> Row:
    scores = _side(row, voice).get("scores")
    return scores if isinstance(scores, Mapping) else {}


def _mean(rows: Sequence[Row], name: str, seed: int) -> dict[str, Any]:
    base, tuned = ([_scores(row, voice).get(name) for row in rows] for voice in VOICES)
    score = compare(base, tuned, name not in wording.LOWER, seed)
    if name == "length":  # the nearer to the reference's the better, so what is judged is the distance from it
        off_base, off_tuned = ([abs(value - 1) if finite(value) else None for value in side] for side in (base, tuned))
        far = compare(off_base, off_tuned, False, seed)
        score |= {"verdict": far["verdict"], "best": 1.0}
    return score


def _losses(row: Row, voice: str, kind: str) -> list[float] | None:
    """The loss of all its tokens, and how many they are."""
    side = _side(row, voice)
    loss, trained = number(side.get("loss")), side.get("trained")
    if loss is None or not finite(loss):
        return None
    weight = float(trained) if finite(trained) and trained > 0 else 1.0
    return [loss * weight, weight]


def _counts(row: Row, voice: str, kind: str) -> list[float] | None:
    counts = _side(row, voice).get("counts")
    return list(map(float, counts)) if kind == "text" and counts else None


Statistics = Callable[[Row, str, str], "list[float] | None"]
_CORPUS: dict[str, tuple[Statistics, Estimate]] = {
    "loss": (_losses, ratio), "perplexity": (_losses, perplexity), "bleu": (_counts, corpus_bleu),
}  # fmt: skip


def _f1(rows: Sequence[Row], seed: int) -> dict[str, dict[str, Any]]:
    """F1 of labels is one of all rows together."""
    known = [
        row for row in rows
        if isinstance(row.get("reference"), str) and all(isinstance(_side(row, voice).get("answer"), str) for voice in VOICES)
    ]  # fmt: skip
    if not known:
        return {}
    right = [label(row["reference"]) for row in known]
    base, tuned = (chosen([label(row[voice]["answer"]) for row in known], right) for voice in VOICES)
    return {"f1": described(paired(base, tuned, macro_f1, seed), True)}
