"""CTC's probability of all texts that begin with a prefix, for whole beams at once.

S. Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition", IEEE JSTSP 11(8), 2017,
algorithm 2. For a prefix g, n_t and b_t are the probabilities that the first t frames say g and that frame t is g's
last token, or blank. The prefix h = g + c begins what is said with the probability

    psi(h) = sum over t of phi_{t-1} p_t(c),    phi_t = b_t + n_t, or b_t alone where c is g's last token,

because c may come first at any frame; and psi(g, end) = b_T + n_T. The algorithm's loops over the frames are gone: psi
of all candidates is a product of matrices, and the recursions of a prefix that stays in the beam,

    n'_t = p_t(c) (n'_{t-1} + phi_{t-1}),    b'_t = p_t(blank) (b'_{t-1} + n'_{t-1}),

are linear, so that divided by the running product of their factors they are running sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# What stands for a probability of nothing in running sums, where minus infinity would make infinity less infinity.
NEVER = -1e4


@dataclass(frozen=True)
class PrefixState:
    """The prefixes of a beam: ``label`` and ``blank``, log n_t and log b_t (batch, beam, 1 + frames), float64.

    Entry 0 is before the first frame. ``last`` (batch, beam) is the last token, -1 before the first.
    """

    label: Tensor
    blank: Tensor
    last: Tensor

    def total(self) -> Tensor:
        """Log n_t + b_t, (batch, beam, 1 + frames)."""
        return torch.logaddexp(self.label, self.blank)


class CTCPrefixScorer:
    """CTC's prefix scores over a batch of utterances.

    Args:
        log_probs: (batch, frames, tokens), normalised.
        frame_lengths: (batch,) valid frames.
        blank_id: CTC's blank.
    """

    def __init__(self, log_probs: Tensor, frame_lengths: Tensor, blank_id: int) -> None:
        self.frame_lengths = frame_lengths
        self.blank_id = blank_id
        frames = log_probs.shape[1]
        valid = torch.arange(frames, device=log_probs.device) < frame_lengths[:, None]
        by_token = log_probs.mT
        # Behind the end nothing is said: what the frames there hold reaches no score.
        self._probs = (by_token.exp() * valid[:, None]).contiguous()
        self._log_probs = by_token.clamp(min=NEVER).contiguous()

    def start(self, beam_size: int) -> PrefixState:
        """The state of empty prefixes."""
        batch = len(self.frame_lengths)
        blank = F.pad(self._log_probs[:, self.blank_id].double().cumsum(-1), (1, 0))
        blank = blank[:, None].expand(batch, beam_size, -1)
        last = torch.full((batch, beam_size), -1, dtype=torch.int64, device=blank.device)
        return PrefixState(torch.full_like(blank, -torch.inf), blank, last)

    def ends(self, state: PrefixState) -> Tensor:
        """Log-probability (batch, beam) that the prefixes are all that is said."""
        return state.total().gather(2, self.frame_lengths[:, None, None].expand(*state.last.shape, 1))[..., 0]

    def extensions(self, state: PrefixState, candidates: Tensor | None = None) -> Tensor:
        """Log psi (batch, beam, candidates) of every prefix followed by each candidate token.

        ``candidates`` (batch, beam, candidates) are token numbers; None: every token. The blank gets minus infinity.
        """
        chosen, probs = None, self._probs
        if candidates is not None:
            # The prefixes of an utterance share most candidates: one product for all that are any's.
            wanted = probs.new_zeros(probs.shape[:2]).scatter_(1, candidates.flatten(1), 1.0)
            tokens = wanted.argsort(dim=1, descending=True, stable=True)[:, : int(wanted.sum(1).max())]
            places = (wanted.cumsum(1) - 1.0).long()
            chosen = places[:, None].expand(-1, candidates.shape[1], -1).gather(2, candidates)
            probs = probs.gather(1, tokens[..., None].expand(-1, -1, probs.shape[-1]))
        total = state.total()[..., :-1]
        largest = total.amax(-1, keepdim=True).clamp(min=-1e30)
        psi = ((total - largest).exp() @ probs.double().mT).log() + largest
        if chosen is not None:
            psi = psi.gather(2, chosen)
        # After the same token only a blank lets it come once more.
        blank = state.blank[..., :-1]
        largest = blank.amax(-1, keepdim=True).clamp(min=-1e30)
        repeated = self._probs.gather(1, state.last.clamp(min=0)[..., None].expand_as(blank))
        again = ((blank - largest).exp() * repeated).sum(-1, keepdim=True).log() + largest
        if candidates is None:
            candidates = torch.arange(psi.shape[-1], device=psi.device)
        psi = torch.where(candidates == state.last[..., None], again, psi)
        return psi.masked_fill(candidates == self.blank_id, -torch.inf)

    def advance(self, state: PrefixState, parents: Tensor, tokens: Tensor) -> PrefixState:
        """The state of new prefixes: those that ``parents`` (batch, beam) name, each followed by one of ``tokens``."""
        index = parents[..., None].expand(-1, -1, state.label.shape[-1])
        label, blank = state.label.gather(1, index), state.blank.gather(1, index)
        same = (state.last.gather(1, parents) == tokens)[..., None]
        phi = torch.where(same, blank, torch.logaddexp(label, blank))
        frames = self._log_probs.shape[-1]
        said = self._log_probs.gather(1, tokens[..., None].expand(-1, -1, frames))
        label = _recursion(phi, F.pad(said.double().cumsum(-1), (1, 0)))
        silence = F.pad(self._log_probs[:, None, self.blank_id].double().cumsum(-1), (1, 0))
        return PrefixState(label, _recursion(label, silence), tokens)

    def keep(self, state: PrefixState, utterances: Tensor) -> PrefixState:
        """Keep the utterances of these numbers alone, in the state and in the scorer."""
        self.frame_lengths = self.frame_lengths[utterances]
        self._probs, self._log_probs = self._probs[utterances], self._log_probs[utterances]
        return PrefixState(state.label[utterances], state.blank[utterances], state.last[utterances])


def _recursion(entering: Tensor, products: Tensor) -> Tensor:
    """Solve x_t = f_t (x_{t-1} + e_{t-1}), x_0 = 0, in logarithms along the last axis.

    ``entering`` is log e_t and ``products`` the running sum of log f_t, both (…, 1 + frames), products_0 = 0: x_t is
    the product up to t times the sum of e_s, s < t, each divided by the product up to s.
    """
    sums = (entering - products)[..., :-1].logcumsumexp(-1)
    return F.pad(products[..., 1:] + sums, (1, 0), value=-torch.inf)


def ctc_log_probability(log_probs: Tensor, tokens: list[list[int]], blank_id: int) -> list[float]:
    """CTC's log-probability of each of some token lists, of one utterance (frames, tokens); float64 inside.

    A list that needs more frames than there are has minus infinity.
    """
    if not tokens:
        return []
    frames = len(log_probs)
    if frames == 0:
        return [0.0 if not each else -float("inf") for each in tokens]
    lengths = torch.tensor([len(each) for each in tokens])
    joined = torch.tensor([number for each in tokens for number in each], dtype=torch.int64)
    repeated = log_probs.detach().cpu().double()[:, None].expand(-1, len(tokens), -1)
    losses = F.ctc_loss(repeated, joined, torch.full_like(lengths, frames), lengths, blank_id, "none")
    return [-loss for loss in losses.tolist()]
