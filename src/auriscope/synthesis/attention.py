"""Whether a synthesiser has read its text: what the attention tells of words said twice, left out, or not reached.

Tacotron 2 counts such failures by ear (J. Shen et al., arXiv 1712.05884, section 3.2); here they are read off the map
of the attention, so that failed speech is never handed out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from auriscope.nn.masks import length_mask

SLACK_TOKENS = 4
"""Tokens that may be passed over, or gone back, without a syllable being lost or said twice.

Silent letters, punctuation and the end of the text are often never looked at most.
"""
_SMOOTHED_FRAMES = 5


@dataclass(frozen=True)
class AttentionReport:
    """What the attention of a batch tells, each (batch,).

    ``repeated`` is the largest number of tokens that the decoder went back, ``skipped`` the largest number of tokens in
    a row that it never looked at most, those before the first and behind the last included. ``monotonic`` and
    ``complete`` say that neither is more than ``SLACK_TOKENS``.
    """

    monotonic: Tensor
    complete: Tensor
    repeated: Tensor
    skipped: Tensor

    @property
    def ok(self) -> Tensor:
        """Whether the text was read once from its beginning to its end, (batch,) bool."""
        return self.monotonic & self.complete


def attention_report(
    attention: Tensor, token_lengths: Tensor | None = None, frame_lengths: Tensor | None = None
) -> AttentionReport:
    """Judge attentions (batch, frames, tokens), of which ``frame_lengths`` and ``token_lengths`` (batch,) are valid.

    In each frame the token that has most of the attention is where the decoder is; the median of five frames leaves
    out single frames that look elsewhere, as in pauses.
    """
    batch, frames, tokens = attention.shape
    if token_lengths is None:
        token_lengths = torch.full((batch,), tokens, device=attention.device)
    if frame_lengths is None:
        frame_lengths = torch.full((batch,), frames, device=attention.device)
    repeated, skipped = torch.zeros_like(token_lengths), torch.zeros_like(token_lengths)
    for row in range(batch):
        number = int(token_lengths[row])
        path = _smoothed(attention[row, : int(frame_lengths[row]), :number].argmax(-1))
        repeated[row] = (path.cummax(0).values - path).max()
        seen = torch.unique(torch.cat((path.new_tensor([-1, number]), path)))
        skipped[row] = (seen.diff() - 1).max()
    return AttentionReport(repeated <= SLACK_TOKENS, skipped <= SLACK_TOKENS, repeated, skipped)


def diagonality(attention: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
    """How sharp the attentions (batch, frames, tokens) are: the mean over frames of the largest weight, (batch,).

    It is 1 where every frame looks at one token only. Y. Ren et al., "FastSpeech" (arXiv 1905.09263), section 3.3, the
    focus rate.
    """
    largest = attention.amax(-1)
    if frame_lengths is None:
        return largest.mean(1)
    return (largest * length_mask(frame_lengths, attention.shape[1])).sum(1) / frame_lengths


def _smoothed(path: Tensor) -> Tensor:
    """The running median of a path (frames,); its ends stand for what is beyond them."""
    half = _SMOOTHED_FRAMES // 2
    widened = torch.cat((path[:1].expand(half), path, path[-1:].expand(half)))
    return widened.unfold(0, _SMOOTHED_FRAMES, 1).median(-1).values
