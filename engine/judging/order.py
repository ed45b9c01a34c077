"""One row judged: a pair in both orders, or its two answers one by one, as a row of the job."""

from typing import Any

from engine.judging import prompts
from engine.judging.client import Client, short
from engine.judging.prompts import Pair
from engine.judging.verdicts import Score, Spent, Winner, ask

Row = dict[str, Any]
REASON = 600
"""Characters of a reason that are kept."""


async def judge(client: Client, pair: Pair, criteria: str, in_pairs: bool) -> Row:
    """The row of rows.jsonl. Raises EndpointError; then nothing is known of the row."""
    spent = Spent()
    found = await (_pairwise(client, pair, criteria, spent) if in_pairs else _scored(client, pair, criteria, spent))
    found["reasons"] = [
        client.endpoint.mask(reason) for reason in found["reasons"]
    ]  # cleaned, they may hold it after all
    cost = {
        "calls": spent.calls,
        "prompt_tokens": spent.prompt,
        "completion_tokens": spent.completion,
        "untold": spent.untold,
        "seconds": round(spent.seconds, 3),
    }
    return {"row": pair.row, **found, **cost}


async def _pairwise(client: Client, pair: Pair, criteria: str, spent: Spent) -> Row:
    """Both orders are asked; only who wins in both has won."""
    if pair.same:
        return pair_row([], [], same=True)
    verdicts: list[Winner | None] = []
    for first, second in ((pair.base, pair.tuned), (pair.tuned, pair.base)):
        if None not in verdicts:  # half a judgement is none: the other half is not paid for
            verdicts.append(await ask(client, prompts.pairwise(pair, first, second, criteria), Winner, spent))
    return pair_row(verdicts, spent.why)


def pair_row(verdicts: list[Winner | None], why: list[str], same: bool = False) -> Row:
    """What the verdicts of both orders (base first, tuned first) say together. `said` has the winner of each order."""
    orders = ({"A": "base", "B": "tuned", "tie": "tie"}, {"A": "tuned", "B": "base", "tie": "tie"})
    said = [names[verdict.winner] for names, verdict in zip(orders, verdicts, strict=False) if verdict]
    usable = same or len(said) == 2
    agreed = same or (usable and said[0] == said[1])
    winner = ("tie" if same or not agreed else said[0]) if usable else None
    gain = {"tuned": 1.0, "base": -1.0, "tie": 0.0, None: None}[winner]
    reasons = ["Both answers are the same."] if same else [short(v.reason, REASON) for v in verdicts if v] + why
    return {
        "winner": winner, "agreed": agreed, "said": said, "same": same, "unusable": not usable,
        "base_score": None, "tuned_score": None, "reasons": reasons, "badness": None if gain is None else -gain, "gain": gain,
    }  # fmt: skip


async def _scored(client: Client, pair: Pair, criteria: str, spent: Spent) -> Row:
    """Each answer alone, so there is no order; the same answer is scored once."""
    base = await ask(client, prompts.scored(pair, pair.base, criteria), Score, spent)
    tuned = (
        base if pair.same or not base else await ask(client, prompts.scored(pair, pair.tuned, criteria), Score, spent)
    )
    return scored_row(base, tuned, spent.why, pair.same)


def scored_row(base: Score | None, tuned: Score | None, why: list[str], same: bool) -> Row:
    """What the scores of both answers say together."""
    gain = tuned.score - base.score if base and tuned else None
    winner = None if gain is None else "tuned" if gain > 0 else "base" if gain < 0 else "tie"
    return {
        "winner": winner, "agreed": gain is not None, "said": [], "same": same, "unusable": gain is None,
        "base_score": base.score if base else None, "tuned_score": tuned.score if tuned else None,
        "reasons": [short(v.reason, REASON) for v in ((base,) if same else (base, tuned)) if v] + why,
        "badness": None if not tuned or gain is None else 10.0 - tuned.score, "gain": gain,
    }  # fmt: skip
