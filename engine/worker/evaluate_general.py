"""What was forgotten: the loss on general texts, and the answers to general questions, of the base and of the tuned model."""

from typing import TYPE_CHECKING, Any

from engine import scoring
from engine.after.results import Results
from engine.data.general import Asked, passages, questions
from engine.worker.evaluate_loss import Sequence, told, trained_tokens

if TYPE_CHECKING:
    from engine.worker.evaluate import Bench

FILE = "general.jsonl"
"""Beside rows.jsonl: what a continued job need not do again."""
TOKENS = 192
"""Of a general text, at most."""
ANSWER = 24
"""Tokens of an answer to a general question, at most."""
VOICES = ("base", "tuned")

Row = dict[str, Any]


def forgetting(bench: "Bench") -> Row:
    """As engine.scoring.forgetting gives it for the texts, with their `tokens`; `answers`: the share of the general questions
    that each answers rightly, the same by kind, and which questions were `lost` and `won`."""
    results = Results(bench.job.folder / FILE, "id")
    texts, asked = _texts(bench), questions()
    total = len(texts) + len(asked)
    bench.job.reporter.phase("evaluate", f"{len(texts)} general texts, {len(asked)} general questions")
    for batch in bench.batches([len(ids) for _, (ids, _) in texts], 0):
        _measure_texts(bench, results, [(f"text {i}", *texts[i]) for i in batch])
        bench.job.progress(len(results.rows), total)
    prompts = [_prompt(bench.pair.tokenizer, one.question) for one in asked]
    for batch in bench.batches(list(map(len, prompts)), ANSWER):
        _ask(bench, results, [(f"question {i}", asked[i], prompts[i]) for i in batch])
        bench.job.progress(len(results.rows), total)
    results.close()
    measured = [row for name, row in results.rows.items() if name.startswith("text")]
    answered = [row for name, row in results.rows.items() if name.startswith("question")]
    seed = bench.job.ask.get("seed") or 0
    return scoring.forgetting(measured, seed) | {
        "tokens": sum(row["base"]["trained"] for row in measured), "answers": _answers(answered, seed)
    }  # fmt: skip


def _texts(bench: "Bench") -> list[tuple[str, Sequence]]:
    """The kind and the ids of each text that has two tokens at least."""
    found = [(one.kind, list(bench.pair.tokenizer(one.text)["input_ids"])[:TOKENS]) for one in passages()]
    return [(kind, (ids, ids)) for kind, ids in found if len(ids) > 1]


def _measure_texts(bench: "Bench", results: Results, texts: list[tuple[str, str, Sequence]]) -> None:
    missing = [one for one in texts if one[0] not in results.rows]
    rows: list[Row] = [{"id": name, "kind": kind} for name, kind, _ in missing]
    for voice, model in bench.voices() if missing else ():
        losses = bench.losses(model, [sequence for _, _, sequence in missing])
        for row, loss, (_, _, sequence) in zip(rows, losses, missing, strict=True):
            tokens = trained_tokens(sequence)
            row[voice] = {"loss": told(loss / tokens), "trained": tokens}
    results.append(rows)


def _prompt(tokenizer: Any, question: str) -> list[int]:
    if not tokenizer.chat_template:
        return list(tokenizer(f"Question: {question}\nAnswer:")["input_ids"])
    turns = [{"role": "user", "content": question}]
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"])


def _ask(bench: "Bench", results: Results, asked: list[tuple[str, Asked, list[int]]]) -> None:
    missing = [one for one in asked if one[0] not in results.rows]
    rows: list[Row] = [
        {"id": name, "kind": one.kind, "question": one.question, "answers": list(one.answers)}
        for name, one, _ in missing
    ]
    for voice, model in bench.voices() if missing else ():
        said = bench.answers(model, [prompt for _, _, prompt in missing], ANSWER)
        for row, answer, (_, one, _) in zip(rows, said, missing, strict=True):
            row[voice] = {"answer": answer.text, "right": one.right(answer.text)}
    results.append(rows)


def _answers(rows: list[Row], seed: int) -> Row:
    """How many are right, with the interval of the difference, by kind, and those that only one of both knows."""
    base, tuned = ([float(row[voice]["right"]) for row in rows] for voice in VOICES)
    kinds: dict[str, Row] = {}
    for row in rows:
        of_kind = kinds.setdefault(row["kind"], {"base": 0, "tuned": 0, "rows": 0})
        for voice in VOICES:
            of_kind[voice] += row[voice]["right"]
        of_kind["rows"] += 1
    changed = [row for row in rows if row["base"]["right"] != row["tuned"]["right"]]
    return scoring.compare(base, tuned, True, seed) | {
        "kinds": kinds,
        "lost": [_told(row) for row in changed if row["base"]["right"]],
        "won": [_told(row) for row in changed if row["tuned"]["right"]],
    }


def _told(row: Row) -> Row:
    return {
        "question": row["question"], "expected": row["answers"][0],
        "base": row["base"]["answer"], "tuned": row["tuned"]["answer"],
    }  # fmt: skip
