"""BERTScore of the answers, by the package bert_score, which is asked for and installed apart."""

from pathlib import Path
from typing import Any

from engine.after.results import Results
from engine.text import clean

ENGLISH = "roberta-large"
"""What bert_score takes for English."""

Row = dict[str, Any]


def add_bertscore(results: Results, model: str, device: str) -> str:
    """Add the score to every row that has an answer and a reference, and has none yet; why it could not be done, if so.

    `model` is a name that bert_score knows, a directory, or `default`.
    """
    missing = [row for row in results.rows.values() if row.get("reference") and not _has(row)]
    try:
        for voice in ("base", "tuned"):
            pairs = [(row[voice]["answer"] or "", row["reference"]) for row in missing]
            for row, score in zip(missing, _scores(pairs, model, device), strict=True):
                row[voice] |= {"scores": row[voice].get("scores", {}) | {"bertscore": score}}
    except (OSError, ValueError, KeyError, OverflowError) as error:
        return f"BERTScore could not be computed: {clean(str(error).splitlines()[0], False)[:200]}"
    results.append(missing)
    return ""


def _has(row: Row) -> bool:
    return all("bertscore" in row[voice].get("scores", {}) for voice in ("base", "tuned"))


def _scores(pairs: list[tuple[str, str]], model: str, device: str) -> list[float]:
    """The F of each answer against its reference."""
    from bert_score import score
    from bert_score.utils import model2layers
    from transformers import AutoConfig

    if not pairs:
        return []
    name = ENGLISH if model == "default" else model
    layers = (
        model2layers.get(name)
        or model2layers.get(Path(name).name)
        or AutoConfig.from_pretrained(name).num_hidden_layers
    )
    _, _, f = score([a for a, _ in pairs], [r for _, r in pairs], model_type=name, num_layers=layers, device=device)
    return [round(float(one), 6) for one in f]
