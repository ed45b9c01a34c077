"""A judgement before it starts: which rows, how many calls and tokens, what it may cost and take."""

import math
import random
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.judging import prompts
from engine.judging.endpoint import Endpoint, address, find_address, find_key, refuse_key
from engine.judging.prompts import Pair
from engine.judging.tally import count, price
from engine.report import duration
from engine.store import afterwards

Row = dict[str, Any]
CHARACTERS = 4
"""Characters of a token, about; of some languages a token has fewer."""
REPLY = 60
"""Tokens of a verdict, about; models that think aloud use more."""
CONCURRENCY, TIMEOUT, MAX_TOKENS = 4, 120.0, 1024
LONGEST_CRITERIA = 8_000


@dataclass(frozen=True)
class Estimate:
    """`seconds` None as long as no call was made, `cost` None without prices. All but `calls` is about."""

    calls: int
    prompt: int
    completion: int
    seconds: float | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Plan:
    """A judgement as it would start: `ask` as in job.json, the pairs, and what they come to."""

    ask: Row
    pairs: list[Pair]
    estimate: Estimate
    key_from: str


def plan(db: sqlite3.Connection, run: Row, wishes: Mapping[str, Any]) -> Plan:
    """What `wishes` (url, model, criteria, eval, rows, pairwise, price_in, price_out, concurrency, timeout, max_tokens; all but
    the model may be missing) come to. Asks nobody. Raises RunError."""
    url = find_address(wishes.get("url"))
    key_from, key = find_key(url)
    job = evaluation(db, run, wishes.get("eval"))
    pairs = choose(afterwards.rows(db, run["id"], job), wishes.get("rows"))
    if not pairs:
        raise RunError("There is nothing to judge", f"{job} of {run['name']} has no rows with answers of both models.",
                       f"Evaluate it: tunedeck eval {run['id']}")  # fmt: skip
    ask = {
        "eval": job, "url": url, "model": str(wishes.get("model") or "").strip(), "criteria": criteria(wishes.get("criteria")),
        "rows": wishes.get("rows"), "pairwise": wishes.get("pairwise", True), "price_in": wishes.get("price_in"),
        "price_out": wishes.get("price_out"), "concurrency": wishes.get("concurrency") or CONCURRENCY,
        "timeout": wishes.get("timeout") or TIMEOUT, "max_tokens": wishes.get("max_tokens") or MAX_TOKENS, "keyed": bool(key),
    }  # fmt: skip
    refuse_key(key, url, ask["model"], ask["criteria"])
    return Plan(ask, pairs, estimate(pairs, ask), key_from)


def endpoint(ask: Row) -> Endpoint:
    """Who is asked, with the key of the environment. Raises RunError if it had one when it began, and has none now."""
    _, key = find_key(ask["url"])
    if ask.get("keyed") and not key:
        raise RunError("The judge's key is not there", "Keys are not stored, so whoever lets a judgement go on has to have it.",
                       "Set $TUNEDECK_JUDGE_KEY (for OpenAI $OPENAI_API_KEY), then let it go on.")  # fmt: skip
    return Endpoint(address(ask["url"]), ask["model"], key)


def evaluation(db: sqlite3.Connection, run: Row, name: str | None) -> str:
    """The evaluation that is named, else the newest finished one. Raises RunError."""
    if name:
        row = afterwards.find(db, run["id"], name)
        if row["kind"] != "eval":
            raise RunError("That is no evaluation", f"{name} is of kind {row['kind']}.", "Name one as eval-1.")
        if row["status"] in afterwards.ACTIVE:
            raise RunError("The evaluation is at work", f"{name} is {row['status']}.", "Wait for its end.")
        return str(row["job"])
    newest = afterwards.latest(db, run["id"], "eval")
    if newest is None:
        raise RunError("There is nothing to judge", f"{run['name']} has no finished evaluation.",
                       f"Evaluate it first: tunedeck eval {run['id']}")  # fmt: skip
    return str(newest["job"])


def choose(rows: Iterable[Row], most: int | None) -> list[Pair]:
    """The rows that have both answers; of more than `most` the same ones each time, chosen at random, in their order."""
    pairs = [pair for row in rows if (pair := prompts.pair_of(row))]
    if not most or most >= len(pairs):
        return pairs
    kept = sorted(random.Random(0).sample(range(len(pairs)), most))
    return [pairs[i] for i in kept]


def criteria(given: str | None) -> str:
    """The text, or what stands in the file of that name. Raises RunError."""
    text = (given or "").strip()
    if text and "\n" not in text and len(text) < 1000 and Path(text).expanduser().is_file():
        try:
            text = Path(text).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise RunError(
                "The criteria cannot be read", f"{given}: {error}.", "Give a text, or a text file."
            ) from None
    if len(text) > LONGEST_CRITERIA:
        raise RunError("The criteria are too long", f"They have {len(text):,} characters.", f"Up to {LONGEST_CRITERIA:,} are sent with each call.")  # fmt: skip
    return text or prompts.CRITERIA


def estimate(pairs: Sequence[Pair], ask: Row, reply: float = REPLY, seconds: float | None = None) -> Estimate:
    """What it comes to, with `reply` tokens of a verdict and `seconds` for a call."""
    calls, characters = 0, 0
    for pair in pairs:
        for messages in questions(pair, ask):
            calls += 1
            characters += sum(len(message["content"]) for message in messages)
    prompt, completion = math.ceil(characters / CHARACTERS), math.ceil(calls * reply)
    takes = None if seconds is None else math.ceil(calls / ask["concurrency"]) * seconds
    return Estimate(calls, prompt, completion, takes, price(prompt, completion, ask["price_in"], ask["price_out"]))


def questions(pair: Pair, ask: Row) -> list[prompts.Messages]:
    """What a pair is asked, if each reply can be used."""
    if ask["pairwise"]:
        orders = [] if pair.same else [(pair.base, pair.tuned), (pair.tuned, pair.base)]
        return [prompts.pairwise(pair, first, second, ask["criteria"]) for first, second in orders]
    answers = [pair.base] if pair.same else [pair.base, pair.tuned]
    return [prompts.scored(pair, answer, ask["criteria"]) for answer in answers]


def lines(made: Plan) -> list[str]:
    """What would be done, before anybody is asked: for people."""
    ask, about = made.ask, made.estimate
    same = sum(pair.same for pair in made.pairs)
    how = "pairs, each asked in both orders" if ask["pairwise"] else "answers, each scored alone"
    alike = f", {same:,} with the same answer by both" if same else ""
    took = "" if about.seconds is None else f", about {duration(max(1.0, about.seconds))}"
    where = made_endpoint(ask).host
    key = f"key of ${made.key_from}" if made.key_from else "no key"
    said = [
        f"Judge {ask['model'] or '–'} at {ask['url']} ({key})",
        f"{count(len(made.pairs), 'row')} of {ask['eval']}{alike}: {how}",
        f"{count(about.calls, 'call')}, about {about.prompt + about.completion:,} tokens ({about.prompt:,} in, {about.completion:,} out){took}",
        "No prices are known: --price-in and --price-out say what it costs"
        if about.cost is None
        else f"About {money(about.cost)} by the prices that were given",
        "An estimate from the length of the texts; a judge that thinks aloud uses more",
        f"The questions, the references and the answers are sent to {where}",
    ]
    if made_endpoint(ask).in_clear:
        said.append(f"Not encrypted: {ask['url']} begins with http://, so {'the key and ' * ask['keyed']}the texts can be read on the way")  # fmt: skip
    return said


def made_endpoint(ask: Row) -> Endpoint:
    """Who is asked, without the key."""
    return Endpoint(ask["url"], ask["model"])


def with_trial(made: Plan, reply: float, seconds: float) -> Plan:
    """The plan, knowing what one call took."""
    return replace(made, estimate=estimate(made.pairs, made.ask, reply, seconds))


def money(cost: float) -> str:
    """In whatever the prices were: `12.40`, `0.0031`."""
    return f"{cost:,.2f}" if cost >= 1 else f"{cost:.2g}"
