"""Forced alignment: when each token of a known text was said, by the likeliest of its CTC paths.

The hidden Markov model of :mod:`~auriscope.recognition.ctc`, with the maximum over paths (Viterbi) in the place of
their sum. The only loop is over frames; utterances and states go side by side. Where the decisions of all frames would
take too much memory, the scores of every so many frames are kept instead, and the decisions between two of them are
made again when the path is traced back: twice the time, for memory that grows with the square root of the frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from auriscope.recognition.ctc import extended_labels
from auriscope.recognition.words import TokenSpan, Word, words_of_spans
from auriscope.text.tokenizer import Tokenizer

MAX_DECISIONS = 64 * 2**20
"""Decisions, a byte each, that are kept at once before memory is saved."""


@dataclass(frozen=True)
class Alignment:
    """The likeliest paths of a batch of texts.

    ``paths`` (batch, frames) int64 are the tokens of every frame, the blank where nothing is said and behind the ends;
    ``log_probs`` (batch,) the paths' log-probabilities, -inf for a text that does not fit into its frames, whose path
    is all blanks. ``spans`` are the tokens of each text in order with their frames, none for one that does not fit.
    """

    paths: Tensor
    log_probs: Tensor
    spans: tuple[tuple[TokenSpan, ...], ...]


@torch.no_grad()
def ctc_align(
    log_probs: Tensor,
    tokens: Tensor,
    frame_lengths: Tensor | None = None,
    token_lengths: Tensor | None = None,
    *,
    blank_id: int = 0,
    max_decisions: int = MAX_DECISIONS,
) -> Alignment:
    """Find the likeliest path of each text.

    Args:
        log_probs: (batch, frames, classes) float, the log-softmax of CTC.
        tokens: (batch, tokens) int64, without blanks; behind an utterance's end they may be anything.
        frame_lengths: (batch,) int64, valid frames; all by default.
        token_lengths: (batch,) int64, valid tokens; all by default.
        blank_id: class of the blank.
        max_decisions: bytes for decisions. Where that is too few, only the square root of the frames' scores is kept.

    Returns:
        An :class:`Alignment`. Equal to torchaudio's ``forced_align``, for whole batches.
    """
    batch, frames, _ = log_probs.shape
    if frame_lengths is None:
        frame_lengths = torch.full((batch,), frames, device=log_probs.device)
    if token_lengths is None:
        token_lengths = torch.full((batch,), tokens.shape[1], device=log_probs.device)
    if log_probs.dtype in {torch.float16, torch.bfloat16}:
        log_probs = log_probs.float()
    labels, skips = extended_labels(tokens, token_lengths, blank_id)
    stride = frames if frames * labels.numel() <= max_decisions else math.isqrt(frames)
    states, possible = _Trellis(log_probs, labels, skips, frame_lengths).best_states(token_lengths, max(1, stride))
    valid = torch.arange(frames, device=labels.device) < frame_lengths[:, None]
    paths = torch.where(valid & possible[:, None], labels.gather(1, states), blank_id)
    each = log_probs.gather(2, paths[..., None])[..., 0]
    totals = torch.where(valid, each, 0.0).double().sum(1).to(log_probs)
    spans = tuple(
        _spans(*(row[:length] for row in rows)) if fits else ()
        for *rows, length, fits in zip(
            states.tolist(), paths.tolist(), each.exp().tolist(), frame_lengths.tolist(), possible.tolist(), strict=True
        )
    )
    return Alignment(paths, torch.where(possible, totals, -torch.inf), spans)


def word_times(
    log_probs: Tensor,
    tokens: Tensor,
    frame_lengths: Tensor | None = None,
    token_lengths: Tensor | None = None,
    *,
    tokenizer: Tokenizer,
    frame_seconds: float,
) -> list[tuple[Word, ...]]:
    """Align texts, shapes as in :func:`ctc_align`, and give the words of each with their times and confidences.

    No words for a text that does not fit into its frames. See
    :func:`~auriscope.recognition.words.words_of_spans` for what times and confidences are.
    """
    assert tokenizer.blank_id is not None
    found = ctc_align(log_probs, tokens, frame_lengths, token_lengths, blank_id=tokenizer.blank_id)
    return [words_of_spans(spans, tokenizer, frame_seconds) for spans in found.spans]


def frames_needed(tokens: Sequence[int]) -> int:
    """Count the frames that a text takes at the least: one for each token, and one between two equal ones.

    >>> frames_needed([5, 3, 3, 5]), frames_needed([])
    (5, 0)
    """
    return len(tokens) + sum(token == before for before, token in pairwise(tokens))


def _spans(states: Sequence[int], path: Sequence[int], posteriors: Sequence[float]) -> tuple[TokenSpan, ...]:
    """Cut a path into its tokens: the odd states, each for as long as it lasts."""
    spans, first = [], 0
    for frame in range(1, len(states) + 1):
        if frame == len(states) or states[frame] != states[first]:
            if states[first] % 2:
                spans.append(TokenSpan(path[first], first, frame, max(posteriors[first:frame])))
            first = frame
    return tuple(spans)


class _Trellis:
    """The best scores of all states from frame to frame, and the way back.

    Scores are (batch, 2 + states): two columns stand before the first state, so that every state has a neighbour and
    the neighbour's neighbour to come from. Decisions say how far a path came: 0 stayed, 1 from the state before, 2 over
    a blank.
    """

    def __init__(self, log_probs: Tensor, labels: Tensor, skips: Tensor, frame_lengths: Tensor) -> None:
        # A frame's scores lie side by side in memory.
        self.log_probs, self.labels, self.frame_lengths = log_probs.transpose(0, 1), labels, frame_lengths
        self.bias = torch.where(skips, 0.0, -torch.inf).to(log_probs)
        # A text may begin with its first token.
        self.bias[:, 1:2] = 0.0
        self.ragged = bool((frame_lengths < log_probs.shape[1]).any())

    def best_states(self, token_lengths: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """Trace the likeliest states (batch, frames) back, keeping the scores of every ``stride``-th frame only.

        Tells also which utterances have a path at all, (batch,) bool; the states of the others mean nothing.
        """
        frames, batch = self.log_probs.shape[:2]
        scores = self.bias.new_full((batch, 2 + self.labels.shape[1]), -torch.inf)
        scores[:, 1] = 0.0
        kept = []
        for first in range(0, frames, stride):
            kept.append(scores.clone())
            if first + stride < frames:
                self._run(scores, first, first + stride, None)
                # Near 0, where the best one now is, single precision tells small differences apart.
                scores -= scores.amax(1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
        states = torch.zeros(batch, frames, dtype=torch.int64, device=scores.device)
        state = possible = None
        while kept:
            first = stride * (len(kept) - 1)
            last = min(first + stride, frames)
            scores = kept.pop()
            decisions = torch.empty(last - first, *self.labels.shape, dtype=torch.uint8, device=scores.device)
            self._run(scores, first, last, decisions)
            if state is None:
                state, possible = self._end(scores, token_lengths)
            for frame in reversed(range(first, last)):
                states[:, frame] = state
                state = state - decisions[frame - first].gather(1, state[:, None])[:, 0]
        # Without any frame there is one path, and it says nothing.
        nothing = token_lengths == 0
        return states, nothing if possible is None else torch.where(self.frame_lengths > 0, possible, nothing)

    def _run(self, scores: Tensor, first: int, last: int, decisions: Tensor | None) -> None:
        """Go over frames ``first`` up to ``last``, changing the scores in place and writing the decisions down."""
        stayed, stepped, before = scores[:, 2:], scores[:, 1:-1], scores[:, :-2]
        for frame in range(first, last):
            skipped = before + self.bias
            nearer = torch.maximum(stayed, stepped)
            best = torch.maximum(nearer, skipped) + self.log_probs[frame].gather(1, self.labels)
            running = (frame < self.frame_lengths)[:, None] if self.ragged else None
            if decisions is not None:
                made = torch.maximum(2 * (skipped > nearer).byte(), (stepped > stayed).byte())
                decisions[frame - first] = made if running is None else made * running
            stayed.copy_(best if running is None else torch.where(running, best, stayed))
            if frame == 0:
                scores[:, 1] = -torch.inf

    def _end(self, scores: Tensor, token_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the state to end in, the last token or the blank behind it; and whether it can be reached."""
        blank = 2 * token_lengths
        in_blank, in_token = (scores.gather(1, place[:, None])[:, 0] for place in (blank + 2, blank + 1))
        state = torch.where((in_blank > in_token) | (token_lengths == 0), blank, blank - 1)
        return state, torch.maximum(in_blank, in_token) > -torch.inf
