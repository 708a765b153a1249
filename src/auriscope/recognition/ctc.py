"""Connectionist temporal classification: the probability of a text when only its order is known, not its times.

A. Graves, S. Fernández, F. Gomez and J. Schmidhuber, "Connectionist Temporal Classification: Labelling Unsegmented
Sequence Data with Recurrent Neural Networks", ICML 2006. The network says at every frame one of the tokens or a blank;
a path of such words, one per frame, stands for the text that is left when repeats are merged and then blanks dropped
(:func:`collapse`). The text's probability is the sum over all of its paths, computed as in a hidden Markov model whose
states are the tokens with a blank before, between and after them.

:func:`ctc_loss` computes it for a batch at once with its own gradient; :func:`ctc_loss_of_paths` is the same by
counting out every path, for the tests. Training takes torch's loss, which is compiled and gives the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def collapse(path: Iterable[int], blank_id: int | None) -> list[int]:
    """Merge the repeats of a path, then drop the blanks: Graves's map B, section 3.1.

    Without a blank (None) it is the naive merge, by which nothing can be written twice in a row, and by which every
    frame, silence too, must be one of the tokens:

    >>> "".join(map(chr, collapse(b"ddinnnerr", None))), "".join(map(chr, collapse(b"dd-in-ner-", ord("-"))))
    ('diner', 'dinner')
    """
    return [token for token, _ in itertools.groupby(path) if token != blank_id]


def extended_labels(tokens: Tensor, token_lengths: Tensor, blank_id: int) -> tuple[Tensor, Tensor]:
    """Make the states of the hidden Markov model: the tokens with a blank before, between and after them.

    Shapes: ``tokens`` (batch, tokens), of which ``token_lengths`` (batch,) are valid. Returns the states' labels
    (batch, 2 tokens + 1), blanks behind the end, and whether the blank before a state may be left out (as much, bool):
    before a token that differs from the one before it, and nowhere else (Graves, equation 6). A text's last state is
    number twice its length.
    """
    batch, number = tokens.shape
    valid = torch.arange(number, device=tokens.device) < token_lengths[:, None]
    labels = tokens.new_full((batch, 2 * number + 1), blank_id)
    labels[:, 1::2] = torch.where(valid, tokens, blank_id)
    skips = torch.zeros_like(labels, dtype=torch.bool)
    skips[:, 2:] = (labels[:, 2:] != blank_id) & (labels[:, 2:] != labels[:, :-2])
    return labels, skips


def ctc_loss(
    logits: Tensor,
    tokens: Tensor,
    frame_lengths: Tensor,
    token_lengths: Tensor,
    *,
    blank_id: int = 0,
    zero_infinity: bool = False,
) -> Tensor:
    """Compute minus the log-probability of each text, with the gradient of Graves 2006.

    Args:
        logits: (batch, frames, classes) float, normalised here; log-probabilities are logits, too.
        tokens: (batch, tokens) int64, without blanks; behind an utterance's end they may be anything.
        frame_lengths: (batch,) int64, valid frames.
        token_lengths: (batch,) int64, valid tokens; 0 is a text without any.
        blank_id: class of the blank.
        zero_infinity: give 0 without a gradient for texts that do not fit into their frames. Otherwise they cost
            infinity, and their gradient is not a number, as with torch.

    Returns:
        (batch,) in nats. Equal to ``torch.nn.functional.ctc_loss(…, reduction="none")`` of the log-softmax, in values
        and gradients.
    """
    loss: Tensor = _CTC.apply(  # type: ignore[no-untyped-call]
        logits, tokens, frame_lengths, token_lengths, blank_id, zero_infinity
    )
    return loss


@torch.no_grad()
def ctc_occupancies(
    logits: Tensor, tokens: Tensor, frame_lengths: Tensor, token_lengths: Tensor, *, blank_id: int = 0
) -> Tensor:
    """Compute how likely each state is at each frame, given the text: (batch, frames, 2 tokens + 1).

    Arguments as of :func:`ctc_loss`; the states are those of :func:`extended_labels`. Over a valid frame's states they
    sum to 1; behind an utterance's end, and of a text that does not fit into its frames, they are 0. This is
    α_t(s) β_t(s) / y_t(s) over the text's probability, Graves, equation 14.
    """
    log_probs = logits.log_softmax(-1)
    labels, skips = extended_labels(tokens, token_lengths, blank_id)
    alphas = _forward_variables(log_probs, labels, skips, frame_lengths)
    total = _end(alphas, frame_lengths, token_lengths)
    return _occupancies(log_probs, labels, alphas, total, tokens, frame_lengths, token_lengths, blank_id)


class _CTC(torch.autograd.Function):
    """The sum over all paths and its derivative with respect to the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        tokens: Tensor,
        frame_lengths: Tensor,
        token_lengths: Tensor,
        blank_id: int,
        zero_infinity: bool,
    ) -> Tensor:
        log_probs = logits.log_softmax(-1)
        labels, skips = extended_labels(tokens, token_lengths, blank_id)
        alphas = _forward_variables(log_probs, labels, skips, frame_lengths)
        total = _end(alphas, frame_lengths, token_lengths)
        impossible = total.isinf()
        if ctx.needs_input_grad[0]:
            # Equation 16: the network's probability of a class, less that of being in one of its states.
            shares = _occupancies(log_probs, labels, alphas, total, tokens, frame_lengths, token_lengths, blank_id)
            gradient = log_probs.exp().scatter_add_(2, labels[:, None].expand_as(shares), -shares)
            gradient[impossible] = 0.0 if zero_infinity else torch.nan
            valid = torch.arange(logits.shape[1], device=logits.device) < frame_lengths[:, None]
            ctx.save_for_backward(torch.where(valid[..., None], gradient, 0.0))
        return torch.where(impossible, 0.0, -total) if zero_infinity else -total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (own,) = ctx.saved_tensors
        return own * gradients[0][:, None, None], None, None, None, None, None


def _forward_variables(log_probs: Tensor, labels: Tensor, skips: Tensor, frame_lengths: Tensor) -> Tensor:
    """Log of α_t(s), (batch, frames, states): of all paths that are in state s at frame t, the probability so far.

    Equations 5 to 7: α_t(s) is the label's probability times the sum of α_{t-1} over s, s - 1 and, where it may be
    skipped, s - 2. Behind an utterance's end the last value stays.
    """
    batch, frames, _ = log_probs.shape
    states = labels.shape[1]
    alphas = log_probs.new_full((batch, frames, states), -torch.inf)
    bias = torch.where(skips, 0.0, -torch.inf).to(log_probs)
    # Two states that nothing ever is in stand before the first, so that s - 1 and s - 2 always exist.
    padded = log_probs.new_full((batch, states + 2), -torch.inf)
    previous = padded[:, 2:]
    for frame in range(frames):
        emission = log_probs[:, frame].gather(1, labels)
        if frame == 0:
            arrived = torch.full_like(emission, -torch.inf)
            arrived[:, :2] = 0.0
        else:
            arrived = torch.stack((previous, padded[:, 1:-1], padded[:, :-2] + bias)).logsumexp(0)
        previous.copy_(torch.where((frame < frame_lengths)[:, None], arrived + emission, previous))
        alphas[:, frame] = previous
    return alphas


def _end(alphas: Tensor, frame_lengths: Tensor, token_lengths: Tensor) -> Tensor:
    """Equation 8: the text's log-probability (batch,) is that of ending in its last token or in the blank behind it."""
    batch, frames, _ = alphas.shape
    if frames:
        final = torch.cat((torch.full_like(alphas[:, -1, :1], -torch.inf), alphas[:, -1]), 1)
        ends = torch.stack((2 * token_lengths, 2 * token_lengths + 1), 1)
        total = final.gather(1, ends).logsumexp(1)
    else:
        total = alphas.new_zeros(batch)
    # Without any frame there is one path, and it says nothing.
    nothing = torch.where(token_lengths == 0, 0.0, -torch.inf).to(alphas)
    return torch.where(frame_lengths > 0, total, nothing)


def _occupancies(
    log_probs: Tensor,
    labels: Tensor,
    alphas: Tensor,
    total: Tensor,
    tokens: Tensor,
    frame_lengths: Tensor,
    token_lengths: Tensor,
    blank_id: int,
) -> Tensor:
    """See :func:`ctc_occupancies`.

    The backward variable β (equations 9 to 11) is the forward variable of the reversed text in the reversed frames.
    """
    frames, states = log_probs.shape[1], labels.shape[1]
    times = _reversal(frame_lengths, frames)[..., None]
    backwards = tokens.gather(1, _reversal(token_lengths, tokens.shape[1]))
    reversed_labels, reversed_skips = extended_labels(backwards, token_lengths, blank_id)
    reversed_log_probs = log_probs.gather(1, times.expand_as(log_probs))
    betas = _forward_variables(reversed_log_probs, reversed_labels, reversed_skips, frame_lengths)
    betas = betas.gather(1, times.expand_as(betas))
    betas = betas.gather(2, _reversal(2 * token_lengths + 1, states)[:, None].expand_as(betas))
    emissions = log_probs.gather(2, labels[:, None].expand(-1, frames, -1))
    inside = torch.arange(states, device=labels.device) <= 2 * token_lengths[:, None]
    valid = torch.arange(frames, device=labels.device) < frame_lengths[:, None]
    # What cannot be has no share, though -inf less -inf is no number.
    there = inside[:, None] & valid[..., None] & ~emissions.isinf() & ~total.isinf()[:, None, None]
    return torch.where(there, alphas + betas - emissions - total[:, None, None], -torch.inf).exp()


def _reversal(lengths: Tensor, size: int) -> Tensor:
    """Positions (batch, size) that read the first ``lengths`` (batch,) entries backwards and leave the others."""
    positions = torch.arange(size, device=lengths.device).expand(len(lengths), -1)
    return torch.where(positions < lengths[:, None], lengths[:, None] - 1 - positions, positions)


def ctc_loss_of_paths(log_probs: Tensor, tokens: list[int], blank_id: int = 0) -> float:
    """Compute minus the log-probability of a text by adding up every path that collapses to it: slow, and obvious.

    Shape: ``log_probs`` (frames, classes) of one utterance, of which classes ** frames are counted out.

    >>> log_probs = torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log()
    >>> round(math.exp(-ctc_loss_of_paths(log_probs, [1])), 4)  # 01, 10 and 11
    0.9375
    """
    values = log_probs.double().exp().tolist()
    total = sum(
        math.prod(frame[token] for frame, token in zip(values, path, strict=True))
        for path in itertools.product(range(log_probs.shape[1]), repeat=len(values))
        if collapse(path, blank_id) == list(tokens)
    )
    return -math.log(total) if total else math.inf
