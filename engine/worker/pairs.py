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


def count_tokens(trainer: Any) -> None:
    """Log `num_tokens` as TRL's newer trainers do: what the model has read so far, padding apart."""
    compute, log = trainer.compute_loss, trainer.log
    trainer._total_train_tokens = 0  # as they call it

    def compute_loss(model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        if model.training:
            read = sum(int(inputs[f"{name}_attention_mask"].sum()) for name in ("chosen", "rejected"))
            trainer._total_train_tokens += read * trainer.args.world_size  # the other ranks read about as much
        return compute(model, inputs, *given, **named)

    def with_tokens(logs: dict[str, float], *given: Any) -> None:
        log(logs | ({"num_tokens": trainer._total_train_tokens} if "loss" in logs else {}), *given)

    trainer.compute_loss, trainer.log = compute_loss, with_tokens
