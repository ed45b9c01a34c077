"""One call before the others, of a question of our own: does the judge answer, how fast, and does it understand what is asked?"""

from dataclasses import dataclass

from engine.errors import RunError
from engine.judging import prompts
from engine.judging.client import Client, EndpointError, short
from engine.judging.endpoint import Endpoint
from engine.judging.prepare import REPLY
from engine.judging.prompts import Pair
from engine.judging.verdicts import Score, Spent, Winner, ask

TRIES = 2
GOOD, BAD = "The capital of France is Paris.", "I like trains very much."
PAIR = Pair(0, "What is the capital of France?", GOOD, BAD, GOOD)


@dataclass(frozen=True)
class Trial:
    """`seconds` of a call and `tokens` of its reply; `text` says what came of it, and whether it is a `warning`."""

    seconds: float
    tokens: float
    text: str
    warning: bool


async def try_it(endpoint: Endpoint, in_pairs: bool, timeout: float, max_tokens: int) -> Trial:
    """Ask once (and once more if the reply is no verdict). Raises EndpointError."""
    spent = Spent()
    async with Client(endpoint, timeout, max_tokens, tries=TRIES) as client:
        if in_pairs:
            won = await ask(client, prompts.pairwise(PAIR, GOOD, BAD, prompts.CRITERIA), Winner, spent)
            right = None if won is None else won.winner == "A"
        else:
            score = await ask(client, prompts.scored(PAIR, GOOD, prompts.CRITERIA), Score, spent)
            right = None if score is None else score.score > 5
    return told(right, spent)


def told(right: bool | None, spent: Spent) -> Trial:
    """What a trial says."""
    took = spent.fastest  # of two the second: a server may load its model for the first
    text = {
        True: "its verdict was right",
        False: "its verdict was WRONG: it did not see that 'Paris' answers what the capital of France is",
        None: f"it gave NO VERDICT that can be used: {(spent.why or ['–'])[0]}",
    }[right]
    tokens = spent.completion / spent.calls if spent.completion else REPLY
    return Trial(took, tokens, f"A trial call took {took:.1f} s; {text.rstrip('.')}.", right is not True)


async def only_model(endpoint: Endpoint, timeout: float) -> str:
    """The model of an endpoint that has just one. Raises RunError with those that it has."""
    try:
        async with Client(endpoint, timeout, tries=1) as client:
            names = await client.models()
    except EndpointError as error:
        if error.fatal:
            raise
        names = []
    if len(names) == 1:
        return names[0]
    there = f"{endpoint.host} has: {short(', '.join(sorted(names)), 400)}." if names else f"{endpoint.host} does not say which it has."  # fmt: skip
    raise RunError("Which model?", there, "Name one with --model.")
