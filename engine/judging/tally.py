"""What the rows of a judgement say together. Pure: a job that went on in parts has the same summary as one that did not."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from engine.scoring.bootstrap import compare

Row = dict[str, Any]
CERTAIN = 0.05
"""Below this the sign test takes wins and losses for more than chance."""
BIASED = 0.25
"""A judge that says otherwise in the other order in more than this share of the pairs judges places, too."""
POINTS = {"tuned": 1.0, "tie": 0.5, "base": 0.0}


def summarise(
    rows: Sequence[Row], in_pairs: bool, price_in: float | None = None, price_out: float | None = None
) -> Row:
    """The summary of a judgement; prices are per million tokens."""
    usable = [row for row in rows if not row["unusable"]]
    won = Counter(row["winner"] for row in usable)
    rate = win_rate([POINTS[row["winner"]] for row in usable])
    p = sign_test(won["tuned"], won["base"])
    disagreed = sum(not row["agreed"] for row in usable)
    found: Row = {
        "pairwise": in_pairs, "rows": len(rows), "wins": won["tuned"], "losses": won["base"], "ties": won["tie"],
        "win_rate": rate, "p": p, "scores": None if in_pairs else scores(usable), "disagreed": disagreed,
        "place": place(usable) if in_pairs else None, "same": sum(row["same"] for row in usable),
        "unusable": len(rows) - len(usable), "outcome": outcome(rate, p),
    } | spent(rows, price_in, price_out)  # fmt: skip
    if found["scores"] and found["outcome"] == "noise":  # how much better counts too, not only how often
        found["outcome"] = found["scores"]["verdict"]
    return found | {"verdict": sentence(found), "artifacts": []}


def win_rate(points: Sequence[float]) -> dict[str, float | None]:
    """Share of the points that the tuned model gets, a tie being half a point, and where it lies with 95 %.

    For the interval one more win and one more loss are counted: a few rows that all agree are no certainty.
    """
    if not points:
        return {"value": None, "low": None, "high": None}
    value = sum(points) / len(points)
    more = [*points, 1.0, 0.0]
    apart = compare([0.5] * len(more), more, True)
    return {"value": value, "low": min(value, max(0.0, 0.5 + apart["low"])), "high": max(value, min(1.0, 0.5 + apart["high"]))}  # fmt: skip


def sign_test(wins: int, losses: int) -> float:
    """How likely it is that a coin falls at least so much to one side; ties say nothing."""
    n = wins + losses
    ways = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * sum(math.exp(way - n * math.log(2)) for way in ways))


def scores(usable: Sequence[Row]) -> Row:
    """The means of both models' scores, their difference and its interval."""
    return compare([row["base_score"] for row in usable], [row["tuned_score"] for row in usable], True)


def place(usable: Sequence[Row]) -> Row:
    """How often the answer that stood first was preferred, of all verdicts that preferred one. Half would be fair."""
    firsts = ("base", "tuned")
    chosen = [
        said == first for row in usable for said, first in zip(row["said"], firsts, strict=False) if said != "tie"
    ]
    return {"first": sum(chosen), "of": len(chosen), "share": sum(chosen) / len(chosen) if chosen else None}


def outcome(rate: Row, p: float) -> str:
    """Better or worse only where the interval and the sign test both say so."""
    if rate["value"] is None or p >= CERTAIN or rate["low"] <= 0.5 <= rate["high"]:
        return "noise"
    return "better" if rate["low"] > 0.5 else "worse"


def spent(rows: Sequence[Row], price_in: float | None, price_out: float | None) -> Row:
    """Calls, tokens, seconds of waiting, and the cost; tokens that the endpoint did not tell are not guessed."""
    total = {name: sum(row[name] for row in rows) for name in ("calls", "prompt_tokens", "completion_tokens", "untold")}
    known = total["calls"] > total["untold"]
    cost = price(total["prompt_tokens"], total["completion_tokens"], price_in, price_out) if known else None
    return total | {"tokens": total["prompt_tokens"] + total["completion_tokens"] if known else None, "cost": cost,
                    "seconds_asking": round(sum(row["seconds"] for row in rows), 1)}  # fmt: skip


def price(prompt: float, completion: float, price_in: float | None, price_out: float | None) -> float | None:
    """What tokens cost; None without prices."""
    if price_in is None and price_out is None:
        return None
    return (prompt * (price_in or 0.0) + completion * (price_out or 0.0)) / 1e6


def sentence(found: Row) -> str:
    """What came out, in plain words."""
    if found["win_rate"]["value"] is None:
        return f"The judge gave no verdict that can be used on {count(found['rows'], 'row')}."
    begin = {
        "better": "The judge prefers the tuned model",
        "worse": "The judge prefers the base model",
        "noise": "The judge sees no difference that is more than noise",
    }[found["outcome"]]
    numbers = (
        f"{count(found['wins'], 'win')}, {count(found['losses'], 'loss', 'losses')}, {count(found['ties'], 'tie')}"
    )
    low, high = percent(found["win_rate"]["low"]), percent(found["win_rate"]["high"])
    rate = f"win rate {percent(found['win_rate']['value'])} (95 % between {low} and {high})"
    marks = found["scores"]
    graded = f"; {marks['tuned']:.2f} of 10 against {marks['base']:.2f}" if marks else ""
    unusable = f"; {count(found['unusable'], 'row')} without a usable verdict" if found["unusable"] else ""
    place = "; it depends on the order in which it sees the answers" if biased(found) else ""
    return f"{begin}: {numbers}, {rate}{graded}{unusable}{place}."


def biased(found: Row) -> bool:
    """Whether a notable share of the verdicts turned with the order."""
    asked = found["wins"] + found["losses"] + found["ties"] - found["same"]
    return bool(asked > 0 and found["disagreed"] > BIASED * asked)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def count(number: int, one: str, more: str = "") -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"
