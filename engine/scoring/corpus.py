"""Scores of many rows that are no means of rows: from sums of statistics, so that resampling them is a product of matrices."""

from collections.abc import Sequence

import numpy as np

from engine.scoring.bootstrap import Array, ratio

ORDERS = 4


def perplexity(sums: Array) -> Array:
    """exp of the loss of all tokens; sums of loss times tokens, and of tokens."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(ratio(sums)), dtype=np.float64)


def corpus_bleu(sums: Array) -> Array:
    """BLEU from 0 to 100 as sacrebleu reckons it (smoothing `exp`); sums of the counts of engine.scoring.answers.bleu."""
    given, right = sums[..., 0], sums[..., 1]
    matched, every = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    # the first order without a match counts as half a match, the second as a quarter
    halves = np.cumsum(matched == 0, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = np.where(matched > 0, matched, 0.5**halves) / every
        score = 100 * np.exp(np.minimum(0, 1 - right / given) + np.log(precisions).mean(axis=-1))
    return np.where((matched.sum(axis=-1) > 0) & (every > 0).all(axis=-1), score, 0.0)


def chosen(given: Sequence[str], right: Sequence[str]) -> Array:
    """For each row and class of the references: right, chosen, and to be chosen; (rows, classes x 3)."""
    classes = np.array(sorted(set(right)))
    a, b = np.array(given)[:, None] == classes, np.array(right)[:, None] == classes
    return np.hstack([a & b, a, b]).astype(np.float64)


def macro_f1(sums: Array) -> Array:
    """The mean over the classes of F1; a class that neither was chosen nor to be chosen does not count."""
    hit, given, right = np.split(sums, 3, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = 2 * hit / (given + right)
    counted = (given + right) > 0
    return np.asarray(
        np.where(counted, scores, 0.0).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1), dtype=np.float64
    )
