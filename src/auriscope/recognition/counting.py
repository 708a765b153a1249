"""N-grams counted and smoothed: interpolated modified Kneser-Ney.

S. Chen and J. Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", Computer Speech and Language
13(4), 1999, section 4.1.6; what a pruned n-gram loses goes to its context's weight of the shorter ones, as in K.
Heafield et al., "Scalable Modified Kneser-Ney Language Model Estimation", ACL 2013, section 3.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from auriscope.errors import AuriscopeError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_LEAST = 1e-99
"""Stands for a probability of zero; ARPA files have its logarithm, -99."""


@dataclass(frozen=True)
class Table:
    """The n-grams of one length, sorted by their context and then by their last unit.

    ``contexts`` (n-grams,) are places in the table of one unit less, ``units`` (n-grams,) the last units, ``log_probs``
    natural logarithms of P(unit | context), ``backoffs`` those of what the n-gram gives away as a context.
    """

    contexts: Ints
    units: Ints
    log_probs: Floats
    backoffs: Floats


@dataclass(frozen=True)
class _Counted:
    """As in ``Table``; ``at`` (positions,) is the n-gram that begins at each position of the text, -1 for none."""

    contexts: Ints
    units: Ints
    counts: Ints
    first: Ints
    at: Ints


def kneser_ney(
    sentences: Sequence[Sequence[int]],
    num_units: int,
    order: int,
    end: int,
    *,
    prune: Sequence[int] = (),
    never: Collection[int] = (),
) -> list[Table]:
    """Estimate a language model from sentences of unit numbers, which do not contain ``end``.

    Unit ``end`` begins and ends a sentence; its unigram is the probability of the end. ``prune`` gives for each length
    the highest count that is dropped, rising with the length, such as (0, 0, 1); unigrams are always kept. A unit that
    never occurs gets its share of the uniform distribution that the unigrams are interpolated with, but those of
    ``never``, which cannot.

    Raises ``AuriscopeError`` when there are no sentences, or too few n-grams for discounts.
    """
    thresholds = [*prune, *[prune[-1] if prune else 0] * order][:order]
    if not any(len(sentence) for sentence in sentences):
        raise AuriscopeError("a language model needs sentences to be fitted to, and there are none")
    lengths = np.array([len(sentence) + 2 for sentence in sentences])
    text = np.concatenate([np.array([end, *sentence, end], dtype=np.int64) for sentence in sentences])
    left = np.concatenate([np.arange(length, 0, -1) for length in lengths])
    starts = np.zeros(len(text), dtype=bool)
    starts[np.cumsum(lengths) - lengths] = True

    counted = [_unigrams(text, num_units)]
    for length in range(2, order + 1):
        counted.append(_longer(text, left, counted[-1], length, num_units))

    tables: list[Table] = []
    lower: Floats = np.full(num_units, 1.0 / (num_units - len(never)))
    lower[list(never)] = 0.0
    for length, grams in enumerate(counted, start=1):
        following = counted[length] if length < order else None
        adjusted = _adjusted(grams, following, starts & (length > 1))
        if following is None and length == 1:
            adjusted[end] -= len(sentences)  # the beginnings
        discounts = _discounts(adjusted)
        kept = np.ones(len(grams.units), bool) if length == 1 else grams.counts > thresholds[length - 1]
        groups = grams.contexts
        num_groups = 1 if length == 1 else len(counted[length - 2].units)
        totals = np.bincount(groups, adjusted, num_groups)
        discounted = np.where(kept, np.maximum(adjusted - discounts[np.minimum(adjusted, 3)], 0.0), 0.0)
        given = np.bincount(groups, discounted, num_groups)
        weights = np.where(totals > 0, 1.0 - given / np.maximum(totals, 1e-300), 1.0)
        if length == 1:
            probs = discounted / totals[0] + weights[0] * lower
            lower = probs
        else:
            suffixes = counted[length - 2].at[grams.first + 1]
            probs = discounted / np.maximum(totals[groups], 1e-300) + weights[groups] * lower[suffixes]
            # What the shorter n-grams give away to this length is known only now.
            tables[-1] = replace(tables[-1], backoffs=np.log(np.maximum(weights, _LEAST)))
            lower = probs
        tables.append(Table(groups, grams.units, np.log(np.maximum(probs, _LEAST)), np.zeros(len(probs))))
    return _pruned(tables, [grams.counts for grams in counted], thresholds)


def _unigrams(text: Ints, num_units: int) -> _Counted:
    first = np.zeros(num_units, dtype=np.int64)
    first[text[::-1]] = np.arange(len(text))[::-1]
    counts = np.bincount(text, minlength=num_units)
    return _Counted(np.zeros(num_units, np.int64), np.arange(num_units), counts, first, text.copy())


def _longer(text: Ints, left: Ints, shorter: _Counted, length: int, num_units: int) -> _Counted:
    places = np.flatnonzero(left >= length)
    keys = shorter.at[places] * num_units + text[places + length - 1]
    found, first, which, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    at = np.full(len(text), -1, dtype=np.int64)
    at[places] = which
    return _Counted(found // num_units, found % num_units, counts, places[first], at)


def _adjusted(grams: _Counted, following: _Counted | None, starts: NDArray[np.bool_]) -> Ints:
    """How many different units an n-gram follows; its own count if nothing can precede it, or it is the longest."""
    if following is None:
        return grams.counts.astype(np.int64)
    before = np.bincount(grams.at[following.first + 1], minlength=len(grams.units))
    return np.where(starts[grams.first], grams.counts, before).astype(np.int64)


def _discounts(counts: Ints) -> Floats:
    """What is taken off counts of 0, 1, 2 and more (Chen and Goodman, equation 26)."""
    n1, n2, n3, n4 = ((counts == number).sum() for number in (1, 2, 3, 4))
    if n1 == 0 or n2 == 0:
        # Too little text for the formula: the usual discount of absolute discounting.
        return np.array([0.0, 0.5, 0.5, 0.5])
    share = n1 / (n1 + 2.0 * n2)
    found = [1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3 if n3 else 0.5]
    return np.array([0.0, *(min(max(value, 0.05), number) for number, value in enumerate(found, start=1))])


def _pruned(tables: list[Table], counts: list[Ints], thresholds: Sequence[int]) -> list[Table]:
    kept_tables = [tables[0]]
    places = np.arange(len(tables[0].units))
    for table, number, threshold in zip(tables[1:], counts[1:], thresholds[1:], strict=True):
        kept = (number > threshold) & (places[table.contexts] >= 0)
        contexts = places[table.contexts[kept]]
        kept_tables.append(Table(contexts, table.units[kept], table.log_probs[kept], table.backoffs[kept]))
        places = np.where(kept, np.cumsum(kept) - 1, -1)
    return kept_tables
