"""One answer against its reference."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from engine.scoring.kinds import label
from engine.scoring.parsed import NOTHING, calls_in, document, leaves

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_]+")
"""A word, or a character of a script that puts no spaces between words. For ASCII what rouge_score takes."""
SHORT = 20
"""Words of a reference up to which the F1 of its words says something."""
N = 4
LONGEST = 2000
"""Words of a text that are compared: the longest common subsequence costs their product."""


def score_answer(
    answer: str, reference: str | None, kind: str, tools: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, float]:
    """The scores that a kind of answer has (engine.scoring.kinds); without a reference those that need none.

    BLEU and chrF go from 0 to 100 as sacrebleu has them, length is a ratio, the others go from 0 to 1. `tools` are the
    descriptions of those that may be called, in OpenAI's nesting.
    """
    scores = {"repetition": repetition(answer)}
    if kind == "json":
        scores["json_valid"] = float(document(answer) is not NOTHING)
    if kind == "tools" and (tools or reference is not None):
        scores["tool_call_valid"] = tool_call_valid(answer, reference, tools)
    if reference is None:
        return scores
    scores["exact_match"] = float(same(answer, reference, kind))
    if count := len(words(reference)):
        scores["length"] = len(words(answer)) / count
    if kind == "labels":
        scores["accuracy"] = float(label(answer) == label(reference))
    if kind == "json" and document(reference) is not NOTHING:
        scores["json_fields"] = fields(document(answer), document(reference))
    if kind == "text":
        scores |= {
            "bleu": bleu(answer, reference)[0],
            "rouge_l": rouge_l(answer, reference),
            "chrf": chrf(answer, reference),
        }
        if len(words(reference)) <= SHORT:
            scores["token_f1"] = token_f1(answer, reference)
    return scores


def words(text: str) -> list[str]:
    """Its words in lower case without punctuation."""
    return WORD.findall(text.lower())


def same(answer: str, reference: str, kind: str) -> bool:
    """Whether the answer is the reference: the same text, spaces round it aside; the same value or calls where it is read."""
    if kind == "json" and (right := document(reference)) is not NOTHING:
        return fields(document(answer), right) == 1
    if kind == "tools" and (calls := calls_in(reference)):
        return calls == calls_in(answer)
    return _text(answer) == _text(reference)


def _text(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def repetition(text: str) -> float:
    """The share of its n-grams of four words that were there before (seq-rep-4 of Welleck et al., arXiv:1908.04319)."""
    found = words(text)
    grams = [tuple(found[i : i + N]) for i in range(len(found) - N + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def token_f1(answer: str, reference: str) -> float:
    """F1 of the words, in any order, as SQuAD has it (Rajpurkar et al., arXiv:1606.05250), articles kept."""
    given, right = words(answer), words(reference)
    if not given or not right:
        return float(given == right)
    return 2 * sum((Counter(given) & Counter(right)).values()) / (len(given) + len(right))


def bleu(answer: str, reference: str) -> tuple[float, list[int]]:
    """Sentence BLEU, and the counts that a corpus BLEU is reckoned from: lengths, matched and all n-grams of 1 to 4 words."""
    found = _sacrebleu("bleu", "zh" if _without_spaces(reference) else "13a").sentence_score(answer, [reference])
    return float(found.score), [found.sys_len, found.ref_len, *found.counts, *found.totals]


def chrf(answer: str, reference: str) -> float:
    """chrF2 of sacrebleu: n-grams of 1 to 6 characters."""
    return float(_sacrebleu("chrf", "").sentence_score(answer, [reference]).score)


def _without_spaces(text: str) -> bool:
    """Whether it is mostly in a script that puts no spaces between words."""
    found = words(text)
    return sum(len(word) == 1 and word >= "\u3040" for word in found) > len(found) / 2


@cache
def _sacrebleu(name: str, tokenize: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU(effective_order=True, tokenize=tokenize) if name == "bleu" else CHRF()


def rouge_l(answer: str, reference: str) -> float:
    """The F measure of ROUGE-L, without stemming."""
    return float(_rouge()(reference, answer)["rougeL"].fmeasure)


class _Words:
    """The tokenizer that RougeScorer asks for: its own drops every letter outside ASCII."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)[:LONGEST]


@cache
def _rouge() -> Callable[[str, str], Any]:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk, half a second

    score: Callable[[str, str], Any] = RougeScorer(["rougeL"], tokenizer=_Words()).score
    return score


def fields(given: Any, right: Any) -> float:
    """F1 of the values by their path: 1 if all of the reference's values are there and no others."""
    if given is NOTHING:
        return 0.0
    a, b = leaves(given), leaves(right)
    return 2 * sum(path in a and _equal(a[path], value) for path, value in b.items()) / (len(a) + len(b))


def _equal(a: Any, b: Any) -> bool:
    """1 is 1.0 but not true."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def tool_call_valid(answer: str, reference: str | None, tools: Sequence[Mapping[str, Any]] | None = None) -> float:
    """1 if the answer calls tools that there are with the arguments that they need, or calls none where none is to be called.

    Where no tools are described, the reference's calls say which there are and what they need.
    """
    given, right = calls_in(answer), calls_in(reference or "")
    if not given or (not right and reference is not None):
        return float(not given and not right)
    needed = _described(tools) if tools else {call.name: frozenset(call.arguments) for call in right}
    return float(all(call.name in needed and needed[call.name] <= call.arguments.keys() for call in given))


def _described(tools: Sequence[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """The arguments that each tool needs, by its name."""
    found = {}
    for tool in tools:
        function = tool.get("function", tool)
        parameters = function.get("parameters") or {} if isinstance(function, Mapping) else {}
        required = parameters.get("required") if isinstance(parameters, Mapping) else None
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            found[function["name"]] = frozenset(str(name) for name in required or ())
    return found
