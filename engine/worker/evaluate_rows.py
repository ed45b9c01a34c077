"""Rows to be evaluated on as a model gets them: prompts to answer, references, and the sequences whose loss counts."""

from dataclasses import dataclass
from typing import Any

from engine.after.held_out import Question
from engine.data.formats import Value, split_text
from engine.data.tokens import IGNORED, last_answer
from engine.data.turns import Turn
from engine.spec import RunSpec
from engine.worker.dataset import fit
from engine.worker.evaluate_loss import Sequence, trained_tokens
from engine.worker.preprocess import Ids, Unusable, preprocess

SHOWN = 20_000
"""Characters of a text that is kept with a row."""


@dataclass(frozen=True)
class Measured:
    """A row, ready: `prompt_ids` None for plain text, which asks nothing; no `sequences` where nothing has a loss (GRPO).

    `about` is what a result row says whatever the models answer; `columns` what reward functions get beside it.
    """

    number: int
    about: dict[str, Any]
    prompt_ids: list[int] | None
    sequences: tuple[Sequence, ...]
    columns: dict[str, Any]

    @property
    def trained(self) -> int:
        return sum(map(trained_tokens, self.sequences))


def measured(questions: tuple[Question, ...], spec: RunSpec, tokenizer: Any) -> tuple[list[Measured], dict[str, int]]:
    """The rows that can be measured as training would take them, and how many cannot, by reason."""
    values = [question.row.value for question in questions]
    whole = list(
        preprocess([dict(value) for value in values], tokenizer)
    )  # TRL adds the end token to the answers of pairs
    asked = list(preprocess([_prompt(value) for value in values], tokenizer))
    found, dropped = list[Measured](), dict[str, int]()
    for question, ids, prompt in zip(questions, whole, asked, strict=True):
        sequences, reason = _sequences(ids, spec)
        has_prompt = _asks(question.row.value)
        if not reason and has_prompt and isinstance(prompt, Unusable):
            reason = str(prompt)
        if reason:
            dropped[reason] = dropped.get(reason, 0) + 1
            continue
        prompt_ids = list(prompt["prompt_ids"]) if has_prompt and isinstance(prompt, dict) else None
        about = _about(len(found) + 1, question, prompt_ids, ids, tokenizer)
        columns = question.row.value.get("columns", {})
        found.append(Measured(about["row"], about, prompt_ids, tuple(sequences), columns))
    return found, dropped


def _sequences(ids: Ids | Unusable, spec: RunSpec) -> tuple[list[Sequence], str]:
    """What of the row training would have learned from, in its pieces; or why it would have left it out."""
    if isinstance(ids, Unusable):
        return [], str(ids)
    pieces, reason = fit(ids, spec)
    if reason or spec.objective == "grpo":
        return [], reason
    return [one for one in (_sequence(piece, spec) for piece in pieces) if one and trained_tokens(one)], ""


def _sequence(ids: Ids, spec: RunSpec) -> Sequence | None:
    """The ids and labels of a piece; of a pair the good answer's, behind the prompt."""
    if "labels" in ids:
        return ids["input_ids"], ids["labels"]
    answer = ids.get("chosen_ids", ids.get("completion_ids"))
    if answer is None:
        return None
    limit = spec.training.max_length
    return (ids["prompt_ids"] + answer)[:limit], ([IGNORED] * len(ids["prompt_ids"]) + answer)[:limit]


def _asks(value: Value) -> bool:
    return "text" not in value


def _prompt(value: Value) -> Value:
    """What is asked, alone; of plain text, which asks nothing, the text itself."""
    if not _asks(value):
        return value
    tools = {"tools": value["tools"]} if "tools" in value else {}
    if "messages" in value:
        return {"prompt": last_answer(value["messages"])[0], **tools}
    return {"prompt": value["prompt"], **tools}


def _about(number: int, question: Question, prompt_ids: list[int] | None, ids: Any, tokenizer: Any) -> dict[str, Any]:
    value = question.row.value
    about: dict[str, Any] = {"row": number, "place": question.place}
    about |= ({"seen": True} if question.seen else {}) | ({"tools": value["tools"]} if "tools" in value else {})
    if prompt_ids is None:
        return about | {"question": value["text"][:SHOWN], "messages": None, "prompt": None, "reference": None}
    prompt: list[Turn] | str = _prompt(value)["prompt"]
    turns = prompt if isinstance(prompt, list) else None
    shown = next((str(t["content"]) for t in reversed(turns) if t["role"] != "system"), "") if turns else str(prompt)
    return about | {
        "question": shown[:SHOWN],
        "messages": turns,
        "prompt": tokenizer.decode(prompt_ids)[:SHOWN],
        "reference": _reference(value, prompt_ids, ids, tokenizer),
    }


def _reference(value: Value, prompt_ids: list[int], ids: Any, tokenizer: Any) -> str | None:
    """The answer that the row has; with tool calls as the template writes them, as the model would have to."""
    if "messages" in value:
        answer: list[Turn] | str | None = last_answer(value["messages"])[1]
    else:
        answer = value.get("completion", value.get("chosen")) or value.get("columns", {}).get("answer")
    if not isinstance(answer, list):
        return None if answer is None else str(answer).strip()
    if any(turn.get("tool_calls") for turn in answer):
        rendered = (
            ids["input_ids"][len(prompt_ids) :]
            if "input_ids" in ids
            else ids.get("chosen_ids", ids.get("completion_ids"))
        )
        return str(tokenizer.decode(rendered, skip_special_tokens=True)).strip()
    return split_text({"prompt": [], "completion": answer})[1].strip()
