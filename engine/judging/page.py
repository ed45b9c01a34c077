"""A judgement for people: what came out, how sure that is, how fair the judge was, and where the tuned model lost."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from engine.judging.prepare import money
from engine.judging.tally import biased, count, percent
from engine.report import duration
from engine.text import clean

Row = dict[str, Any]
WIDTH = 80
LINES = 3
"""Lines of a question or an answer that are shown."""


def page(job: Row, lost: Sequence[Row], evaluated: Mapping[int, Row]) -> str:
    """The whole page. `lost`: rows of the job, the worst first; `evaluated`: their rows of the evaluation by number."""
    summary, ask = job["summary"], job["ask"]
    rows = [f"Judgement {job['job']} of {ask['eval']} by {clean(ask['model'], False)}", ""]
    rows += [*textwrap.wrap(clean(summary["verdict"], False), WIDTH), ""]
    for name, value in _table(summary):
        rows += textwrap.wrap(value, WIDTH, initial_indent=f"  {name:<14}", subsequent_indent=" " * 16)
    shown = [row for row in lost if row.get("gain") is not None and row["gain"] < 0]
    if shown:
        rows += ["", "Where the tuned model lost most:"]
    for row in shown:
        rows += ["", *_row(row, evaluated.get(row["row"], {}))]
    return "\n".join(rows)


def _table(found: Row) -> list[tuple[str, str]]:
    rate, marks = found["win_rate"], found["scores"]
    table = [("tuned wins", f"{found['wins']:,}"), ("base wins", f"{found['losses']:,}"), ("ties", f"{found['ties']:,}{_ties(found)}")]  # fmt: skip
    if rate["value"] is not None:
        sure = f"sign test p = {found['p']:.2g}"
        table.append(("win rate", f"{percent(rate['value'])}, 95 % between {percent(rate['low'])} and {percent(rate['high'])}; {sure}"))  # fmt: skip
    if marks and marks["base"] is not None:
        table.append(("scores", f"tuned {marks['tuned']:.2f}, base {marks['base']:.2f} of 10; difference {marks['difference']:+.2f}, "
                                f"95 % between {marks['low']:+.2f} and {marks['high']:+.2f}"))  # fmt: skip
    if found["place"] and found["place"]["of"]:
        verdicts, share = count(found["place"]["of"], "verdict"), percent(found["place"]["share"])
        warns = ": it judges places as much as answers" if biased(found) else ""
        table.append(("first place", f"preferred in {share} of {verdicts} (fair: 50 %){warns}"))
    if found["unusable"]:
        table.append(("unusable", f"{count(found['unusable'], 'row')}, counted nowhere"))
    if found.get("failed"):
        table.append(("not asked", f"{count(found['failed'], 'row')}: {clean(found['failure'], False)}"))
    return [*table, ("spent", _spent(found))]


def _ties(found: Row) -> str:
    parts = [f"{found['disagreed']:,} where the other order turned the verdict"] * bool(found["disagreed"])
    parts += [f"{found['same']:,} where both answered the same"] * bool(found["same"])
    return f" ({'; '.join(parts)})" if parts else ""


def _spent(found: Row) -> str:
    tokens = "tokens unknown" if found["tokens"] is None else f"{found['tokens']:,} tokens ({found['prompt_tokens']:,} in, {found['completion_tokens']:,} out)"  # fmt: skip
    some = f", {found['untold']:,} calls without a count" if found["untold"] and found["tokens"] is not None else ""
    cost = "" if found["cost"] is None else f", {money(found['cost'])} by the prices given"
    return f"{count(found['calls'], 'call')}, {tokens}{some}{cost}, {duration(max(1.0, found['seconds']))}"


def _row(row: Row, evaluated: Row) -> list[str]:
    score = "" if row["base_score"] is None else f"   base {row['base_score']:g}, tuned {row['tuned_score']:g} of 10"
    place = evaluated.get("place")
    lines = [f"  row {row['row']}{f' ({clean(str(place), False)})' if place else ''}{score}"]
    texts = [("question", evaluated.get("question")), ("reference", evaluated.get("reference"))]
    texts += [(side, (evaluated.get(side) or {}).get("answer")) for side in ("base", "tuned")]
    texts += [("judge", reason) for reason in row["reasons"]]
    for name, text in texts:
        lines += _wrapped(name, str(text)) if text else []
    return lines


def _wrapped(name: str, text: str) -> list[str]:
    found = textwrap.wrap(clean(text[:4000], keep_lines=False), WIDTH - 14, max_lines=LINES, placeholder=" …")
    return [f"    {name if i == 0 else '':<10}{line}" for i, line in enumerate(found)]
