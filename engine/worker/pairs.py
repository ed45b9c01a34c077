"""A preference pair in the columns of TRL's older trainers (ORPO, CPO)."""

from typing import Any

IGNORED = -100


def tokenized_pair(row: dict[str, Any], max_length: int) -> dict[str, Any]:
    """What their `tokenize_row` makes of text, from ids: `prompt_ids`, `chosen_ids` and `rejected_ids`; cut at the end."""
    prompt = row["prompt_ids"]
    made: dict[str, Any] = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
    for name in ("chosen", "rejected"):
        ids = (prompt + row[f"{name}_ids"])[:max_length]
        made[f"{name}_input_ids"] = ids
        made[f"{name}_attention_mask"] = [1] * len(ids)
        made[f"{name}_labels"] = ([IGNORED] * len(prompt) + ids[len(prompt) :])[:max_length]
    return made
