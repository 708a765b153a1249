"""CTC decoded frame by frame: the prefix beam search.

A. Graves, "Sequence Transduction with Recurrent Neural Networks" (arXiv 1211.3711), section 2.5, and A. Hannun et al.,
"First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs" (arXiv 1408.2873): all
paths that say the same are one hypothesis, whose probability is kept apart by whether its last frame was a blank.

A tree of prefixes in plain Python: most frames leave one or two tokens worth a look and a handful of prefixes, which is
too little work for vectors; a run of frames that hold nothing but the blank is one addition.
"""

from __future__ import annotations

import gc
from math import exp, inf, log1p
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auriscope.recognition.decoding.options import DecodingOptions
from auriscope.recognition.decoding.scorers import TextScorer


class _Prefix:
    """A text, as its last token behind a shorter text.

    ``blank`` and ``label`` are the log-probabilities of the frames so far, the last of them blank or not, ``total`` is
    of both, and ``score`` has everything else in it as well, which is ``extra``. ``next_blank`` and ``next_label`` are
    those of one frame more, being added up for frame ``frame``.
    """

    __slots__ = (
        "blank",
        "extra",
        "frame",
        "label",
        "next_blank",
        "next_label",
        "number",
        "parent",
        "score",
        "state",
        "token",
        "total",
    )

    def __init__(self, number: int, token: int, parent: _Prefix | None, extra: float, state: Any) -> None:
        self.number, self.token, self.parent, self.extra, self.state = number, token, parent, extra, state
        self.blank = self.label = self.total = self.score = -inf
        self.next_blank = self.next_label = -inf
        self.frame = -1

    def tokens(self) -> list[int]:
        found: list[int] = []
        node = self
        while node.parent is not None:
            found.append(node.token)
            node = node.parent
        return found[::-1]


_by_score = attrgetter("score")


def search_frames(
    log_probs: NDArray[Any], blank_id: int, options: DecodingOptions, scorer: TextScorer | None = None
) -> list[tuple[list[int], float]]:
    """Find the best texts of one utterance.

    Args:
        log_probs: (frames, tokens), normalised.
        blank_id: CTC's blank.
        options: see :class:`~auriscope.recognition.decoding.options.DecodingOptions`; ``ctc_weight`` is taken for 1.
        scorer: of words and hotwords, if any.

    Returns:
        At most ``options.num_best`` lists of tokens, best first, each with the score of all paths that the search kept.
        It is a little under that of all paths wherever tokens were left out.
    """
    frames = _candidates(log_probs, blank_id, options.token_min_log_prob)
    if scorer is not None and scorer.idle:
        scorer = None
    root = _Prefix(0, -1, None, 0.0, None if scorer is None else scorer.start())
    root.blank = root.total = root.score = 0.0
    beam = [root]
    tree = _Tree(log_probs.shape[1], options, scorer)
    collecting = gc.isenabled()
    # Prefixes come by the ten thousand and hold no cycles: looking for some would take longer than the search.
    gc.disable()
    try:
        for number, (blank, pairs) in enumerate(frames):
            if pairs:
                reached = _next_frame(beam, number, blank, pairs, tree)
                beam = _best(reached, options.beam_size, options.beam_margin)
                continue
            for node in beam:
                node.total = node.blank = node.total + blank
                node.score += blank
                node.label = -inf
    finally:
        if collecting:
            gc.enable()
    if scorer is not None:
        for node in beam:
            node.score += scorer.end(node.state)
    beam.sort(key=_by_score, reverse=True)
    return [(node.tokens(), node.score) for node in beam[: options.num_best]]


def _candidates(log_probs: NDArray[Any], blank_id: int, least: float) -> list[tuple[float, list[tuple[int, float]]]]:
    """The log-probability of the blank and the tokens worth a look of every frame; runs of blanks are one frame."""
    if len(log_probs) == 0:
        return []
    worth = log_probs >= least
    worth[np.arange(len(log_probs)), log_probs.argmax(1)] = True
    blanks = np.where(worth[:, blank_id], log_probs[:, blank_id], -inf).tolist()
    worth[:, blank_id] = False
    rows, tokens = np.nonzero(worth)
    pairs = list(zip(tokens.tolist(), log_probs[rows, tokens].tolist(), strict=True))
    ends = np.cumsum(np.bincount(rows, minlength=len(log_probs))).tolist()
    found: list[tuple[float, list[tuple[int, float]]]] = []
    first, silence = 0, 0.0
    silent = False
    for blank, end in zip(blanks, ends, strict=True):
        if end == first:
            silence += blank
            silent = True
            continue
        if silent:
            found.append((silence, []))
            silence, silent = 0.0, False
        found.append((blank, pairs[first:end]))
        first = end
    if silent:
        found.append((silence, []))
    return found


class _Tree:
    """All prefixes that were made, by the number of the prefix before their last token and that token."""

    def __init__(self, num_tokens: int, options: DecodingOptions, scorer: TextScorer | None) -> None:
        self.num_tokens, self.beam_size = num_tokens, options.beam_size
        self.margin, self.bonus = options.beam_margin, options.length_bonus
        self.extend = None if scorer is None else scorer.extend
        gains = [0.0] * num_tokens if scorer is None else scorer.max_gains
        self.max_gains = [options.length_bonus + gain for gain in gains]
        self.prefixes: dict[int, _Prefix] = {}

    def add(self, parent: _Prefix, token: int, key: int) -> _Prefix:
        extra, state = parent.extra + self.bonus, None
        if self.extend is not None:
            gain, state = self.extend(parent.state, token)
            extra += gain
        child = _Prefix(len(self.prefixes) + 1, token, parent, extra, state)
        self.prefixes[key] = child
        return child


def _next_frame(
    beam: list[_Prefix], frame: int, blank: float, pairs: list[tuple[int, float]], tree: _Tree
) -> list[_Prefix]:
    """Let every prefix of the beam, best first, say each candidate of a frame; the prefixes reached, scored."""
    reached: list[_Prefix] = []
    find, margin, most = tree.prefixes.get, tree.margin, tree.max_gains
    # What will be under this is dropped after the frame, so it is not made: so good are prefixes that say nothing new.
    floor = beam[0].score + blank - margin
    if len(beam) == tree.beam_size:
        floor = max(floor, beam[-1].score + blank)
    for node in beam:
        if node.frame != frame:
            node.frame, node.next_blank, node.next_label = frame, -inf, -inf
            reached.append(node)
        total, last = node.total, node.token
        if blank > -inf:
            node.next_blank = total + blank
        room = floor - node.extra
        first_key = node.number * tree.num_tokens
        for token, log_prob in pairs:
            if token == last:
                said = node.label + log_prob
                if said > node.next_label:
                    node.next_label = said + log1p(exp(node.next_label - said))
                elif said > -inf:
                    node.next_label += log1p(exp(said - node.next_label))
                said = node.blank + log_prob
            else:
                said = total + log_prob
            child = find(first_key + token)
            if child is None:
                if said + most[token] < room or said == -inf:
                    continue
                child = tree.add(node, token, first_key + token)
            if child.frame != frame:
                child.frame, child.next_blank, child.next_label = frame, -inf, said
                reached.append(child)
            elif said > child.next_label:
                child.next_label = said + log1p(exp(child.next_label - said))
            elif said > -inf:
                child.next_label += log1p(exp(said - child.next_label))
            if node is beam[0] and said + child.extra - margin > floor:
                floor = said + child.extra - margin
                room = floor - node.extra
    for node in reached:
        one, other = node.next_blank, node.next_label
        node.blank, node.label = one, other
        if one > other:
            node.total = one if other == -inf else one + log1p(exp(other - one))
        else:
            node.total = other if one == -inf else other + log1p(exp(one - other))
        node.score = node.total + node.extra
    return reached


def _best(prefixes: list[_Prefix], number: int, margin: float) -> list[_Prefix]:
    """The best ``number`` of the prefixes, best first, that are within ``margin`` of the best."""
    prefixes.sort(key=_by_score, reverse=True)
    least = prefixes[0].score - margin
    del prefixes[number:]
    while prefixes[-1].score < least:
        prefixes.pop()
    return prefixes
